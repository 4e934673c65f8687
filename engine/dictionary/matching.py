"""Attribute matching as PS3.4 C.2.2.2 has it, and the normal forms that the index compares.

Pure: text in, predicates and keys out. Names fold case, width and accents in each of their three
component groups; everything else is compared as it was sent, without its padding, since Patient
IDs and accession numbers differ by case. Wildcards in names are matched on the folded form
(C.2.2.2.4 leaves that to the implementation).
"""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from engine.errors import OperatorError

Matcher = Callable[[str], bool]

_VOICED_MARKS: Final = "\u3099\u309a"  # (han)dakuten: without them da would become ta
_DATE: Final = re.compile(r"\d{8}")
_TIME: Final = re.compile(r"(\d{2})(?:(\d{2})(?:(\d{2})(?:\.(\d{1,6}))?)?)?")


# --- normal forms ------------------------------------------------------------------------------
def strip_marks(text: str) -> str:
    """Without accents, but with the marks that make another kana."""
    kept = [
        character
        for character in unicodedata.normalize("NFKD", text)
        if not unicodedata.combining(character) or character in _VOICED_MARKS
    ]
    return unicodedata.normalize("NFC", "".join(kept))


@lru_cache(maxsize=65536)
def pn_groups(name: str) -> tuple[str, str, str]:
    """The (alphabetic, ideographic, phonetic) groups of a name as they are compared; "" if absent.

    Groups are cut before NFKC, which turns a full-width equals sign into a real one.
    """
    groups = [*name.split("="), "", "", ""][:3]
    alphabetic, ideographic, phonetic = (_fold_group(group) for group in groups)
    return alphabetic, ideographic, phonetic


def _fold_group(group: str) -> str:
    components = [" ".join(part.split()) for part in group.rstrip("\0").split("^")]
    while components and not components[-1]:
        components.pop()
    folded = unicodedata.normalize("NFKC", "^".join(components)).casefold()
    return strip_marks(folded)


def pid(value: str) -> str:
    """A Patient ID as it is compared: case counts."""
    return unicodedata.normalize("NFC", value.strip(" \0"))


def plain(value: str) -> str:
    """Any other text as it is compared."""
    return unicodedata.normalize("NFC", value.strip(" \0"))


def date_key(value: str) -> str:
    """A date as eight digits, "" when it is none. The dots of ACR-NEMA are still seen."""
    digits = value.strip(" \0").replace(".", "")
    return digits if _DATE.fullmatch(digits) else ""


def time_key(value: str) -> str:
    """A time as twelve digits (to the microsecond), "" when it is none."""
    return time_bounds(value)[0]


def time_bounds(value: str) -> tuple[str, str]:
    """The first and the last microsecond that a time of limited precision may mean."""
    found = _TIME.fullmatch(value.strip(" \0").replace(":", ""))
    if found is None:
        return "", ""
    hours, minutes, seconds, fraction = found.groups()
    low = hours + (minutes or "00") + (seconds or "00") + (fraction or "").ljust(6, "0")
    high = hours + (minutes or "59") + (seconds or "59") + (fraction or "").ljust(6, "9")
    return low, high


def number_key(value: str) -> int | None:
    """An integer string as a number, None when it is none."""
    try:
        return int(value.strip(" \0"))
    except ValueError:
        return None


# --- matching ------------------------------------------------------------------------------------
def has_wildcard(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern


def literal_prefix(pattern: str) -> str:
    """What precedes the first wildcard."""
    return re.split(r"[*?]", pattern, maxsplit=1)[0]


def _wildcard_matcher(pattern: str) -> Matcher:
    """Each literal between two stars is taken at its first place: there is no backtracking, so
    that no pattern, however many stars it has, takes for ever."""
    first, *others = (
        re.compile("".join("." if c == "?" else re.escape(c) for c in segment), re.DOTALL)
        for segment in pattern.split("*")
    )
    if not others:
        return lambda value: first.fullmatch(value) is not None
    last_length = len(pattern) - pattern.rindex("*") - 1

    def matches(value: str) -> bool:
        begun = first.match(value)
        if begun is None:
            return False
        position, end = begun.end(), len(value) - last_length
        for segment in others[:-1]:
            found = segment.search(value, position)
            if found is None:
                return False
            position = found.end()
        return position <= end and others[-1].fullmatch(value, end) is not None

    return matches


def text_matcher(pattern: str) -> Matcher:
    """Single value and wildcard matching; case counts."""
    wanted = plain(pattern)
    if not has_wildcard(wanted):
        return lambda value: plain(value) == wanted
    matches = _wildcard_matcher(wanted)
    return lambda value: matches(plain(value))


def list_matcher(pattern: str) -> Matcher:
    """As text_matcher(), any of several values parted by backslashes, against any value."""
    matchers = [text_matcher(part) for part in pattern.split("\\")]
    return lambda value: any(match(v) for v in value.split("\\") for match in matchers)


def uid_matcher(pattern: str) -> Matcher:
    """List of UID matching (C.2.2.2.2); a wildcard is allowed for people, not used on the wire."""
    if has_wildcard(pattern):
        return list_matcher(pattern)
    wanted = frozenset(part.strip(" \0") for part in pattern.split("\\"))
    return lambda value: value in wanted


def name_matcher(pattern: str) -> Matcher:
    """A pattern without "=" may match any of the three groups; with it, group by group.

    Components left out at the end are empty ones: "Doe^*" matches "Doe".
    """
    groups = pn_groups(pattern)
    if "=" not in pattern:
        match = _group_matcher(groups[0])
        return lambda value: any(match(group) for group in pn_groups(value) if group)
    wanted = [(i, _group_matcher(group)) for i, group in enumerate(groups) if group]
    return lambda value: all(match(pn_groups(value)[i]) for i, match in wanted)


def _group_matcher(group: str) -> Matcher:
    if not has_wildcard(group):
        return lambda value: value == group
    if group.endswith("^*") and not has_wildcard(group[:-2]):
        family = group[:-2]
        return lambda value: value == family or value.startswith(family + "^")
    return _wildcard_matcher(group)


def date_bounds(pattern: str) -> tuple[str, str]:
    """The first and the last day of a date or a range of dates, both included."""
    low, dash, high = pattern.strip().partition("-")
    first, last = date_key(low), date_key(high) if dash else date_key(low)
    if (low and not first) or (high and not last) or not (first or last):
        raise OperatorError(f"{pattern!r} is no date; right would be 20240131 or 20240101-20240131")
    return first or "00000000", last or "99999999"


def date_matcher(pattern: str) -> Matcher:
    """Single date and range matching (C.2.2.2.5). An absent date is in no range."""
    first, last = date_bounds(pattern)
    return lambda value: first <= date_key(value) <= last


def time_matcher(pattern: str) -> Matcher:
    """Single time and range matching; a time without seconds means the whole minute."""
    low, dash, high = pattern.strip().partition("-")
    first, end_of_first = time_bounds(low)
    last = time_bounds(high)[1] if dash else end_of_first
    if (low and not first) or (high and not last) or not (first or last):
        raise OperatorError(f"{pattern!r} is no time; right would be 1030 or 103000-1145")
    last = last or "9" * 12
    return lambda value: first <= time_key(value) <= last and time_key(value) != ""


def number_matcher(pattern: str) -> Matcher:
    """Integers compare as numbers: "1" matches "01"."""
    wanted = {number_key(part) for part in pattern.split("\\")}
    if None in wanted:
        raise OperatorError(f"{pattern!r} is no whole number")
    return lambda value: number_key(value) in wanted


_BY_VR: Final[dict[str, Callable[[str], Matcher]]] = {
    "PN": name_matcher,
    "UI": uid_matcher,
    "DA": date_matcher,
    "TM": time_matcher,
    "IS": number_matcher,
    "US": number_matcher,
    "CS": list_matcher,
}


def matcher(vr: str, pattern: str) -> Matcher | None:
    """The predicate for a key of this VR; None for universal matching (an empty key, or stars)."""
    if not pattern.strip(" \0*"):
        return None
    return _BY_VR.get(vr, text_matcher)(pattern)
