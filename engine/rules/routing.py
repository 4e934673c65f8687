"""Routing rules: which received instances are sent to which remote AEs, and why.

Pure. Every rule that matches applies; a remote AE named by several gets an instance once, for the
first of them. What arrives at `prefetch_scp` was asked for by us and is routed only by rules that
say so with a condition on `receiving_ae`: otherwise each prior study would go on to wherever new
studies go.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from engine.rules.conditions import Conditions, Judgement, Subject, compile_conditions
from engine.settings.send import Rule

RECEIVING: Final = "receiving_ae"
PREFETCH: Final = "prefetch_scp"


class Explanation(NamedTuple):
    """What one rule says of a subject."""

    rule: Rule
    matches: bool
    verdicts: list[Judgement]


class _Compiled(NamedTuple):
    rule: Rule
    conditions: Conditions
    takes_prefetched: bool


class Rules:
    """All rules of a configuration, compiled."""

    def __init__(self, compiled: list[_Compiled]) -> None:
        self._compiled = compiled
        # {tag: VR} of the attributes that any rule looks at.
        self.elements: Final[dict[int, str]] = {}
        for each in compiled:
            self.elements.update(each.conditions.elements)
        self.tags: Final = frozenset(self.elements)

    @classmethod
    def compile(cls, rules: Iterable[Rule]) -> "Rules":
        """OperatorError names the first condition that is wrong."""
        compiled = []
        for index, rule in enumerate(rules):
            conditions = compile_conditions(rule.when, f"rules[{index}].when")
            compiled.append(_Compiled(rule, conditions, RECEIVING in conditions.keys))
        return cls(compiled)

    def __bool__(self) -> bool:
        return bool(self._compiled)

    def destinations(self, subject: Subject) -> list[tuple[str, str]]:
        """(remote AE, name of the rule) of each destination, in the order of the rules."""
        found: dict[str, str] = {}
        prefetched = subject.receiving_table == PREFETCH
        for rule, conditions, takes_prefetched in self._compiled:
            if prefetched and not takes_prefetched:
                continue
            if conditions.matches(subject):
                for remote in rule.to:
                    found.setdefault(remote, rule.name)
        return list(found.items())

    def explain(self, subject: Subject) -> list[Explanation]:
        """Every rule with every condition, also of those that do not match."""
        explanations = []
        for rule, conditions, takes_prefetched in self._compiled:
            verdicts = conditions.explain(subject)
            if subject.receiving_table == PREFETCH and not takes_prefetched:
                wanted = f'not "{PREFETCH}", unless the rule names it'
                verdicts.insert(0, Judgement(RECEIVING, wanted, PREFETCH, False))
            matches = all(verdict.holds for verdict in verdicts)
            explanations.append(Explanation(rule, matches, verdicts))
        return explanations
