"""The language of conditions, in which rules say what instances they are about.

A condition is one entry of a TOML table: what is looked at, and what is wanted of it.

    Modality = ["CT", "MR"]                     any of these; * and ? stand for what they always do
    SeriesNumber = { from = 1, to = 99 }        numbers, dates, times, ages and text have an order
    SeriesDescription = { regex = "(?i)scout" } a pattern that occurs in the value
    BodyPartExamined = { not = "HEAD" }         holds also where the attribute is absent
    "(0018,0022)" = { present = false }         absent, or empty
    calling_ae_title = "CT_1"                   the names in `_FACTS` are no attributes
    time = "18:00-06:00"                        when it was received, by this machine's clock

All conditions of a table must hold; so must all parts of one condition. Of an attribute with
several values any one may match. Used for routing and for prefetching alike; pure.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple

from engine.dictionary.elements import SOP_CLASS_UID, find_element
from engine.dictionary.matching import Matcher
from engine.dictionary.suggestion import suggestion
from engine.errors import OperatorError
from engine.limits import condition_verdicts_max, rule_conditions_max
from engine.rules import comparisons
from engine.rules.comparisons import ComparisonKind

RECEIVING_TABLES: Final = ("storage_scp", "prefetch_scp", "secured_scp")
_WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_PARTS: Final = ("is", "not", "from", "to", "regex", "present")


class Subject(NamedTuple):
    """What conditions look at: one instance, and how it came."""

    values: Mapping[int, str]  # tag -> decoded text, several values parted by backslashes
    sop_class_uid: str
    calling_ae_title: str
    called_ae_title: str
    receiving_table: str  # one of RECEIVING_TABLES
    received: datetime  # by this machine's clock


class Judgement(NamedTuple):
    """What one condition says of a subject, for people."""

    key: str
    wanted: str
    found: str
    holds: bool


class Condition(NamedTuple):
    """One compiled entry."""

    key: str
    wanted: str
    found: Callable[[Subject], str]
    holds: Callable[[str], bool]
    tag: int | None = None  # of the attribute that is looked at
    vr: str = ""


class Conditions:
    """A compiled table."""

    def __init__(self, conditions: list[Condition]) -> None:
        self._conditions = conditions
        self._tests = [(condition.found, condition.holds) for condition in conditions]
        self.keys: Final = frozenset(condition.key for condition in conditions)
        # {tag: VR} of the attributes that are looked at.
        self.elements: Final = {
            condition.tag: condition.vr for condition in conditions if condition.tag is not None
        }
        self.tags: Final = frozenset(self.elements)

    def matches(self, subject: Subject) -> bool:
        """Whether all conditions hold."""
        return all(holds(found(subject)) for found, holds in self._tests)

    def explain(self, subject: Subject) -> list[Judgement]:
        """Every condition by itself, in the order of the file."""
        verdicts = []
        for condition in self._conditions:
            found = condition.found(subject)
            holds = condition.holds(found)
            verdicts.append(Judgement(condition.key, condition.wanted, found, holds))
        return verdicts


def compile_conditions(table: Mapping[str, object], where: str) -> Conditions:
    """OperatorError names the first condition that is wrong; `where` is the path of the table."""
    if len(table) > rule_conditions_max:
        raise OperatorError(f"has more than {rule_conditions_max} conditions", where)
    return Conditions([_compile_one(key, wanted, where) for key, wanted in table.items()])


def faults_of(table: Mapping[str, object], where: str) -> list[OperatorError]:
    """All that is wrong with a table, not only the first of it."""
    faults: dict[tuple[str, str], OperatorError] = {}
    for portion in (table, *_portions(table)):
        try:
            compile_conditions(portion, where)
        except OperatorError as error:
            faults.setdefault((error.where, error.text), error)
    return [*faults.values()]


def _portions(table: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """Each condition by itself, then each part of it, and each value of a list."""
    for key, wanted in table.items():
        yield {key: wanted}
        parts = wanted if isinstance(wanted, dict) and key not in _FACTS else {}
        yield from ({key: {part: value}} for part, value in parts.items())
        for part, values in (*parts.items(), ("", wanted)):
            for value in values if isinstance(values, list) else ():
                yield {key: {part: [value]} if part else [value]}


def _compile_one(key: str, wanted: object, where: str) -> Condition:
    """One entry of a table."""
    try:
        fact = _FACTS.get(key)
        if fact is not None:
            found, test = fact.found, fact.test(wanted)
            return Condition(key, wanted_text(wanted), found, _remembered(test))
        try:
            element = find_element(key)
        except ValueError as problem:
            raise ValueError(f"{problem}{suggestion(key, _FACTS)}") from problem
        test = _attribute_test(comparisons.kind_of(element.vr), wanted)
    except ValueError as problem:
        plain = key.replace("_", "a").isalnum() and key.isascii()
        raise OperatorError(str(problem), f"{where}.{key if plain else ascii(key)}") from problem
    found = _sop_class if element.tag == SOP_CLASS_UID else _value_of(element.tag)
    return Condition(key, wanted_text(wanted), found, _remembered(test), element.tag, element.vr)


def wanted_text(wanted: object) -> str:
    """What a condition wants, nearly as it was written."""
    if isinstance(wanted, dict):
        pairs = (f"{part} = {wanted_text(value)}" for part, value in wanted.items())
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(wanted, list):
        return f"[{', '.join(map(wanted_text, wanted))}]"
    if isinstance(wanted, bool):
        return "true" if wanted else "false"
    return f'"{wanted}"' if isinstance(wanted, str) else str(wanted)


def _remembered(test: Matcher) -> Matcher:
    """The instances of a series have the same values again and again."""
    return lru_cache(maxsize=condition_verdicts_max)(test)


# --- attributes ----------------------------------------------------------------------------------
def _value_of(tag: int) -> Callable[[Subject], str]:
    return lambda subject: subject.values.get(tag, "")


def _sop_class(subject: Subject) -> str:
    return subject.sop_class_uid


def _attribute_test(kind: ComparisonKind, wanted: object) -> Matcher:
    """What is wanted of an attribute, as a predicate over its whole value."""
    if not isinstance(wanted, dict):
        wanted = {"is": wanted}
    unknown = next((part for part in wanted if part not in _PARTS), None)
    if unknown is not None or not wanted:
        raise ValueError(
            f"takes {', '.join(_PARTS)}, not {unknown!r}"
            if wanted
            else "says nothing; leave it out"
        )
    some: list[Matcher] = []  # each must hold for one of the values
    none: list[Matcher] = []  # and each of these for no one
    if "is" in wanted:
        some.append(comparisons.one_of(kind, wanted["is"]))
    if "regex" in wanted:
        some.append(comparisons.regular(wanted["regex"]))
    if "from" in wanted or "to" in wanted:
        some.append(comparisons.within(kind, wanted.get("from"), wanted.get("to")))
    if "not" in wanted:
        none.append(comparisons.one_of(kind, wanted["not"]))
    present = wanted.get("present")
    if present is not None and not isinstance(present, bool):
        raise ValueError("present is true or false")
    if present is False and some:
        raise ValueError("cannot be absent and have a value at once")
    is_listed = kind.is_listed

    def test(text: str) -> bool:
        values = [part for part in (text.split("\\") if is_listed else [text]) if part.strip(" \0")]
        if present is not None and bool(values) != present:
            return False
        return all(any(map(matches, values)) for matches in some) and not any(
            any(map(matches, values)) for matches in none
        )

    return test


# --- what is no attribute ------------------------------------------------------------------------
class _Fact(NamedTuple):
    """Something known of an instance besides its attributes."""

    found: Callable[[Subject], str]
    test: Callable[[object], Matcher]


def _title_test(wanted: object) -> Matcher:
    return _attribute_test(comparisons.kind_of("AE"), wanted)


def _table_test(wanted: object) -> Matcher:
    """The table of the storage AE that received it; no pattern, so that no typing error hides."""
    chosen: set[str] = set()
    for table in wanted if isinstance(wanted, list) else [wanted]:
        if table not in RECEIVING_TABLES:
            raise ValueError(f"{table!r} is none of {', '.join(RECEIVING_TABLES)}")
        chosen.add(table)
    return chosen.__contains__


def _time_test(wanted: object) -> Matcher:
    """One span of the day or several; one that ends before it begins goes over midnight."""
    spans = []
    for span in wanted if isinstance(wanted, list) else [wanted]:
        first, dash, last = str(span).partition("-")
        begins, ends = _clock(first), _clock(last)
        if not dash or begins is None or ends is None or begins == ends:
            raise ValueError(f"{span!r} is no span of the day; right would be 18:00-06:00")
        spans.append((begins, ends))
    if not spans:
        raise ValueError("lists no span of the day")

    def test(now: str) -> bool:
        return any(
            begins <= now < ends if begins < ends else now >= begins or now < ends
            for begins, ends in spans
        )

    return test


def _clock(text: str) -> str | None:
    """`18:00` as it compares, None when it is no time of day."""
    try:
        moment = datetime.strptime(text.strip(), "%H:%M")
    except ValueError:
        return "24:00" if text.strip() == "24:00" else None
    return moment.strftime("%H:%M")


def _weekdays_test(wanted: object) -> Matcher:
    """Days by three letters, and spans of them: ["mon-fri", "sun"]."""
    chosen: set[str] = set()
    for span in wanted if isinstance(wanted, list) else [wanted]:
        first, dash, last = str(span).lower().partition("-")
        last = last if dash else first
        if first not in _WEEKDAYS or last not in _WEEKDAYS:
            raise ValueError(
                f"{span!r} is no day; right would be {', '.join(_WEEKDAYS)} or mon-fri"
            )
        begins, ends = _WEEKDAYS.index(first), _WEEKDAYS.index(last)
        count = (ends - begins) % len(_WEEKDAYS) + 1
        chosen |= {_WEEKDAYS[(begins + step) % len(_WEEKDAYS)] for step in range(count)}
    if not chosen:
        raise ValueError("lists no day")
    return chosen.__contains__


_FACTS: Final[dict[str, _Fact]] = {
    "calling_ae_title": _Fact(lambda subject: subject.calling_ae_title, _title_test),
    "called_ae_title": _Fact(lambda subject: subject.called_ae_title, _title_test),
    "receiving_ae": _Fact(lambda subject: subject.receiving_table, _table_test),
    "time": _Fact(lambda subject: subject.received.strftime("%H:%M"), _time_test),
    "weekdays": _Fact(lambda subject: _WEEKDAYS[subject.received.weekday()], _weekdays_test),
}
