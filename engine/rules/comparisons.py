"""What a condition may compare a value with, by the kind of value: text, name, number, date ...

Each kind knows how one wanted value becomes a predicate and how values are put in order. What the
operator wrote is checked here; ValueError says what would be right. What a peer sent is never
complained about: a value that is none of its kind matches nothing.
"""

import math
import re
from collections.abc import Callable
from datetime import date
from typing import Final, NamedTuple

from engine.dictionary import matching
from engine.dictionary.matching import Matcher
from engine.errors import OperatorError
from engine.limits import condition_values_max
from engine.rules.patterns import Pattern

_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_AGE: Final = re.compile(r"(\d{3})([DWMY])", re.ASCII)
_MOMENT: Final = re.compile(r"(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d(?:\.\d{1,6})?)?([+-]\d{4})?")
_UID: Final = re.compile(r"[0-9.*?]+")
# Of a year, in days; so that 012M and 001Y are the same age.
_AGE_DAYS: Final = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25}

Key = str | float
Bounds = tuple[Key, Key]


class ComparisonKind(NamedTuple):
    """One kind of value: its name in messages, equality, and order if it has any.

    `bounds` gives the least and the greatest that a value of limited precision may mean, None when
    it is no value of this kind. `doubt` says of a wanted value that has the right form why there
    can be none such, "" if there can.
    """

    words: str
    single: Callable[[str], Matcher]
    bounds: Callable[[str], Bounds | None] | None
    is_listed: bool = True  # whether backslashes part values
    doubt: Callable[[str], str] = lambda _: ""


def number(text: str) -> Key | None:
    """A number, as IS, DS and our own decoding of binary values write it."""
    stripped = text.strip(" \0")
    if len(stripped) > 64 or not _NUMBER.fullmatch(stripped):
        return None
    value = float(stripped)
    whole = int(stripped) if stripped.lstrip("+-").isdigit() else value
    return whole if math.isfinite(value) else None


def _number_bounds(text: str) -> Bounds | None:
    value = number(text)
    return None if value is None else (value, value)


def _date_bounds(text: str) -> Bounds | None:
    key = matching.date_key(text)
    return (key, key) if key else None


def _time_bounds(text: str) -> Bounds | None:
    low, high = matching.time_bounds(text)
    return (low, high) if low else None


def _age_bounds(text: str) -> Bounds | None:
    found = _AGE.fullmatch(text.strip(" \0"))
    if found is None:
        return None
    days = round(int(found[1]) * _AGE_DAYS[found[2]], 3)
    return days, days


def _moment_bounds(text: str) -> Bounds | None:
    """DT; its offset from UTC is not heeded, since few devices write one."""
    found = _MOMENT.fullmatch(text.strip(" \0"))
    if found is None:
        return None
    given = "".join(part for part in found.groups()[:6] if part).replace(".", "")
    return given.ljust(20, "0"), given.ljust(20, "9")


def _day_doubt(text: str) -> str:
    """Of a date or a range of dates."""
    return _first_doubt(text.split("-"), _impossible_day)


def _time_doubt(text: str) -> str:
    """Of a time or a range of times."""
    return _first_doubt(text.split("-"), _impossible_time)


def _moment_doubt(text: str) -> str:
    """Of a date and time, as far as it is said; PS3.5 6.2 has offsets from -1200 to +1400."""
    found = _MOMENT.fullmatch(text.strip(" \0"))
    if found is None:
        return ""
    year, month, day, *clock, offset = found.groups()
    why = _impossible_day(f"{year}{month or '01'}{day or '01'}")
    why = why or _impossible_time("".join(part or "" for part in clock))
    if offset is not None and not -1200 <= int(offset) <= 1400:
        why = why or "no offset from UTC"
    return f"{text!r} is {why}" if why else ""


def _first_doubt(parts: list[str], impossible: Callable[[str], str]) -> str:
    doubts = ((part.strip(), impossible(part)) for part in parts)
    return next((f"{part!r} is {why}" for part, why in doubts if why), "")


def _impossible_day(text: str) -> str:
    day = matching.date_key(text)
    try:
        if day:
            date(int(day[:4]), int(day[4:6]), int(day[6:]))
    except ValueError as error:
        return f"no day of the calendar: {error}"
    return ""


def _impossible_time(text: str) -> str:
    """A minute with a leap second has 60."""
    first = matching.time_bounds(text)[0]
    if first and (first[:2] > "23" or first[2:4] > "59" or first[4:6] > "60"):
        return "no time of day: 000000 is the first, 235960 the last"
    return ""


def _text_bounds(text: str) -> Bounds | None:
    key = matching.plain(text)
    return (key, key) if key else None


def _equal_by(bounds: Callable[[str], Bounds | None], right: str) -> Callable[[str], Matcher]:
    """Equality of values that have an order: one lies within what the other may mean."""

    def single(wanted: str) -> Matcher:
        between = bounds(wanted)
        if between is None:
            raise ValueError(f"{wanted!r} is none; right would be {right}")
        low, high = between

        def matches(value: str) -> bool:
            found = bounds(value)
            return found is not None and low <= found[0] <= high  # type: ignore[operator]

        return matches

    return single


def _checked(matcher: Callable[[str], Matcher]) -> Callable[[str], Matcher]:
    """One of engine/dictionary/matching.py's; what it says of a wanted value is for the operator as
    well."""

    def single(wanted: str) -> Matcher:
        try:
            return matcher(wanted)
        except OperatorError as error:
            raise ValueError(error.text) from error

    return single


def _uid(wanted: str) -> Matcher:
    if not _UID.fullmatch(wanted):
        raise ValueError(f"{wanted!r} is no UID; names do not stand for UIDs here")
    return matching.uid_matcher(wanted)


_NUMBERS: Final = ComparisonKind("a number", _equal_by(_number_bounds, "42 or 0.5"), _number_bounds)
_TEXT: Final = ComparisonKind("text", matching.text_matcher, _text_bounds)
_LONG_TEXT: Final = _TEXT._replace(is_listed=False)
_KINDS: Final = {
    "PN": ComparisonKind("a name", matching.name_matcher, None),
    "UI": ComparisonKind("a UID", _uid, None),
    "DA": ComparisonKind("a date", _checked(matching.date_matcher), _date_bounds, doubt=_day_doubt),
    "TM": ComparisonKind(
        "a time", _checked(matching.time_matcher), _time_bounds, doubt=_time_doubt
    ),
    "DT": ComparisonKind(
        "a date and time",
        _equal_by(_moment_bounds, "20240131"),
        _moment_bounds,
        doubt=_moment_doubt,
    ),
    "AS": ComparisonKind("an age", _equal_by(_age_bounds, "045Y or 006M"), _age_bounds),
    "LT": _LONG_TEXT,
    "ST": _LONG_TEXT,
    "UT": _LONG_TEXT,
    "UR": _LONG_TEXT,
} | dict.fromkeys(("IS", "DS", "US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"), _NUMBERS)


def kind_of(vr: str) -> ComparisonKind:
    """By value representation; what is not listed is text."""
    return _KINDS.get(vr, _TEXT)


def one_of(kind: ComparisonKind, wanted: object) -> Matcher:
    """A value, or a list of which any may be the one."""
    if not isinstance(wanted, list):
        return kind.single(_written(kind, wanted))
    if not wanted or len(wanted) > condition_values_max:
        raise ValueError(f"must list 1 to {condition_values_max} values")
    texts = [_written(kind, each) for each in wanted]
    if kind in (_TEXT, _LONG_TEXT) and not any(map(matching.has_wildcard, texts)):
        plain = frozenset(map(matching.plain, texts))
        return lambda value: matching.plain(value) in plain
    matchers = [kind.single(text) for text in texts]
    return lambda value: any(matches(value) for matches in matchers)


def within(kind: ComparisonKind, first: object, last: object) -> Matcher:
    """From `first` to `last`, both included; None: no bound."""
    bounds = kind.bounds
    if bounds is None:
        raise ValueError(f"{kind.words} has no order, so there is nothing from ... to ...")
    low = None if first is None else _bounds_of(kind, first)[0]
    high = None if last is None else _bounds_of(kind, last)[1]
    if low is not None and high is not None and low > high:  # type: ignore[operator]
        raise ValueError(f"the range is reversed: from {first!s} is after to {last!s}")

    def matches(value: str) -> bool:
        found = bounds(value)
        if found is None:
            return False
        key = found[0]
        return (low is None or low <= key) and (  # type: ignore[operator]
            high is None or key <= high  # type: ignore[operator]
        )

    return matches


def _bounds_of(kind: ComparisonKind, wanted: object) -> Bounds:
    assert kind.bounds is not None
    found = kind.bounds(_written(kind, wanted))
    if found is None:
        raise ValueError(f"{wanted!r} is not {kind.words}")
    return found


def regular(wanted: object) -> Matcher:
    """A regular expression that occurs in the value."""
    if not isinstance(wanted, str) or not wanted:
        raise ValueError("must be a regular expression in quotes")
    return Pattern(wanted).occurs_in


def _written(kind: ComparisonKind, wanted: object) -> str:
    """A wanted value as text."""
    if isinstance(wanted, bool) or not isinstance(wanted, str | int | float):
        raise ValueError(f"{wanted!r} is not {kind.words}")
    if isinstance(wanted, float) and not math.isfinite(wanted):
        raise ValueError(f"{wanted} is not {kind.words}")
    text = str(wanted)
    if not text.strip(" \0*"):
        raise ValueError(
            "an empty value or a star alone says nothing; write { present = true }, or false"
        )
    if kind.is_listed and "\\" in text:
        raise ValueError("has a backslash, which parts values; write a list")
    if doubt := kind.doubt(text):
        raise ValueError(doubt)
    return text
