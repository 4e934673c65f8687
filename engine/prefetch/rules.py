"""Prefetch rules: what an instance that arrives makes us ask an archive for.

Pure. The question is made whole at the trigger (patient, days, modalities, bounds), so that the job
carries it; the way to an answer is in engine/prefetch/retrieval.py. What an archive would take for
more than one patient, or for a pattern, is never asked.
"""

import calendar
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from types import MappingProxyType
from typing import Final, NamedTuple

from engine.dictionary import attributes, matching
from engine.dimse.identifiers import UNSAYABLE, character_set_for
from engine.prefetch.jobs import Trigger
from engine.prefetch.records import Ask
from engine.rules.conditions import Conditions, Judgement, Subject, compile_conditions
from engine.rules.routing import PREFETCH, RECEIVING
from engine.settings.prefetch import Prefetch
from engine.settings.values import PERIOD

_SECOND_NS: Final = 1_000_000_000
# Single value matching alone is what table 4.2-45 has for a Patient ID.
_PATTERNS: Final = "*?\\"


class _Rule(NamedTuple):
    settings: Prefetch
    conditions: Conditions


class Explanation(NamedTuple):
    """What one rule says of a subject. `refusal`: it matches, and nothing can be asked; `ask`: what
    would be; `spoken`: the character sets that the archive takes beyond the statement's."""

    rule: Prefetch
    matches: bool
    verdicts: list[Judgement]
    refusal: str
    ask: Ask | None
    spoken: tuple[str, ...] = ()


class PrefetchRules:
    """All prefetch rules of a configuration, compiled. `tags` are what conditions look at."""

    def __init__(self, rules: Sequence[Prefetch]) -> None:
        """OperatorError for conditions that are none."""
        self._rules = [
            _Rule(rule, compile_conditions(rule.when, f"prefetch[{index}].when"))
            for index, rule in enumerate(rules)
        ]
        tags = (rule.conditions.tags for rule in self._rules)
        self.tags: Final = frozenset[int]().union(*tags)
        # {tag: VR} of the attributes that are looked at.
        self.elements: Final[dict[int, str]] = {}
        for rule in self._rules:
            self.elements.update(rule.conditions.elements)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def triggered(
        self, subject: Subject, sop_instance_uid: str, character_set: str
    ) -> Iterator[Trigger]:
        """What this instance makes us ask; nothing if it came by a prefetch itself."""
        if subject.receiving_table == PREFETCH:
            return
        for settings, conditions in self._rules:
            if conditions.matches(subject):
                yield Trigger(
                    settings.name,
                    ask_for(settings, subject, character_set),
                    sop_instance_uid,
                    subject.calling_ae_title,
                    settings.quiet_s * _SECOND_NS,
                    settings.wait_at_most_s * _SECOND_NS,
                    settings.repeat_after_s * _SECOND_NS,
                    refusal_of(subject),
                )

    def explain(
        self,
        subject: Subject,
        character_set: str = "",
        spoken: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    ) -> list[Explanation]:
        """Every rule with every condition, and what those that match would ask. `spoken`: by
        archive, the character sets it takes beyond the statement's."""
        explanations = []
        for settings, conditions in self._rules:
            verdicts = conditions.explain(subject)
            if subject.receiving_table == PREFETCH:
                verdicts.insert(0, Judgement(RECEIVING, f'not "{PREFETCH}"', PREFETCH, False))
            matches = all(verdict.holds for verdict in verdicts)
            refusal = refusal_of(subject) if matches else ""
            asks = matches and not refusal
            ask = ask_for(settings, subject, character_set) if asks else None
            allowed = spoken.get(settings.archive, ())
            if ask and not can_be_asked(ask, allowed):
                refusal, ask = UNSAYABLE, None
            explanations.append(Explanation(settings, matches, verdicts, refusal, ask, allowed))
        return explanations


def ask_for(settings: Prefetch, subject: Subject, character_set: str) -> Ask:
    """The question of a rule about an instance."""
    values = subject.values
    return Ask(
        settings.archive,
        settings.level,
        matching.pid(values.get(attributes.PATIENT_ID, "")),
        character_set,
        _days(settings, subject),
        settings.modalities,
        settings.series_modalities,
        settings.at_most,
        values.get(attributes.STUDY_INSTANCE_UID, ""),
        tuple(dict.fromkeys(settings.to)),
    )


def refusal_of(subject: Subject) -> str:
    """Why nothing can be asked about an instance; "": it can."""
    patient_id = matching.pid(subject.values.get(attributes.PATIENT_ID, ""))
    if not patient_id:
        return "the instance has no Patient ID: nobody's studies can be asked for"
    if "\ufffd" in patient_id:
        return "the Patient ID cannot be read in its character set: it would be another patient's"
    if any(character in patient_id for character in _PATTERNS):
        return "the Patient ID holds *, ? or a backslash: an archive would take it for a pattern"
    return ""


def can_be_asked(ask: Ask, allowed: Iterable[str]) -> bool:
    """Whether there is a character set that has its Patient ID; `allowed`: what the archive takes
    beyond the statement's."""
    return character_set_for(ask.patient_id, ask.character_set, allowed) is not None


def period_before(period: str, day: date) -> date:
    """The day that lies a period ("90 days", "18 months", "5 years") before another."""
    found = PERIOD.fullmatch(period)
    assert found is not None, "the configuration was checked"
    count, unit = int(found[1]), found[2]
    if unit == "day":
        return day - timedelta(days=min(count, day.toordinal() - 1))
    months = day.year * 12 + day.month - 1 - count * (12 if unit == "year" else 1)
    year, month = max(months // 12, date.min.year), months % 12 + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def _days(settings: Prefetch, subject: Subject) -> str:
    """The range of days, up to the study's own; "": any. A study without a date is today's."""
    if not settings.within:
        return ""
    text = matching.date_key(subject.values.get(attributes.STUDY_DATE, ""))
    try:
        last = date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        last = subject.received.date()
    first = period_before(settings.within, last)
    return f"{_written(first)}-{_written(last)}"


def _written(day: date) -> str:
    return f"{day.year:04}{day.month:02}{day.day:02}"
