"""The character sets of DICOM: their code sets and escapes, and what (0008,0005) declares.

PS3.3 C.12.1.1.2, tables C.12-2 to C.12-5. A peer chooses among these and none else: a codec's name
of Python's, such as `unicode_escape`, declares nothing. The spellings are those seen in practice.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple


class CodeSet(NamedTuple):
    """One registered set of characters. `right`: it is designated as G1, bytes 80 to FF."""

    number: int
    escape: bytes
    right: bool
    width: int
    codec: str
    lead: bytes = b""  # what `codec` has ahead of each character of this set


class Term(NamedTuple):
    """A defined term: what it declares as G0 and G1, where it is the first one."""

    left: CodeSet
    right: CodeSet | None
    also: CodeSet | None = None  # reached by an escape sequence only


class Declared(NamedTuple):
    """What a value of (0008,0005) declares. `alone`: the codec of a set without code extensions."""

    alone: str
    left: CodeSet
    right: CodeSet | None
    sets: tuple[CodeSet, ...]
    first: int  # the number of the first term
    unknown: bool  # a term of it means nothing

    @property
    def is_default(self) -> bool:
        """Whether it is ISO_IR 6, said or not."""
        return not self.alone and not self.unknown and self.sets == (ASCII,)


ASCII: Final = CodeSet(6, b"\x1b(B", False, 1, "ascii")
ROMAJI: Final = CodeSet(14, b"\x1b(J", False, 1, "ascii")
_KATAKANA: Final = CodeSet(13, b"\x1b)I", True, 1, "shift_jis")
_KANJI: Final = CodeSet(87, b"\x1b$B", False, 2, "euc_jp")
_MORE_KANJI: Final = CodeSet(159, b"\x1b$(D", False, 2, "euc_jp", b"\x8f")
_KOREAN: Final = CodeSet(149, b"\x1b$)C", True, 2, "euc_kr")
_CHINESE: Final = CodeSet(58, b"\x1b$)A", True, 2, "gb2312")
_LATIN: Final = tuple(
    CodeSet(number, b"\x1b-" + final, True, 1, codec)
    for number, final, codec in (
        (100, b"A", "iso8859-1"),
        (101, b"B", "iso8859-2"),
        (109, b"C", "iso8859-3"),
        (110, b"D", "iso8859-4"),
        (144, b"L", "iso8859-5"),
        (127, b"G", "iso8859-6"),
        (126, b"F", "iso8859-7"),
        (138, b"H", "iso8859-8"),
        (148, b"M", "iso8859-9"),
        (166, b"T", "tis-620"),
        (203, b"b", "iso8859-15"),
    )
)
_TERMS: Final = {
    6: Term(ASCII, None),
    13: Term(ROMAJI, _KATAKANA),
    **{one.number: Term(ASCII, one) for one in (*_LATIN, _KOREAN, _CHINESE)},
    87: Term(ASCII, None, _KANJI),
    159: Term(ASCII, None, _MORE_KANJI),
}
# The kanji of 1978 are told by a sequence of their own, and are those of 1983 but for a few.
BY_ESCAPE: Final = {
    one.escape: one
    for one in (ASCII, ROMAJI, _KATAKANA, _KANJI, _MORE_KANJI, _KOREAN, _CHINESE, *_LATIN)
} | {b"\x1b$@": _KANJI}
_ALONE: Final = {
    **dict.fromkeys(("ISO_IR 192", "ISO 2022 IR 192", "UTF8", "UTF-8"), "utf-8"),
    "GB18030": "gb18030",
    **dict.fromkeys(("GBK", "ISO 2022 GBK"), "gbk"),
}
_NUMBERED: Final = re.compile(r"(ISO[ _-]?2022[ _-])?(?:ISO[ _-]?)?(?:IR[ _-]?)?(\d+)")
EXTENSION_TERMS: Final = {
    f"ISO 2022 IR {number}": number for number in _TERMS if number != ASCII.number
}
ALONE_TERMS: Final = ("ISO_IR 192", "GB18030", "GBK")


@lru_cache(maxsize=256)
def declared_by(character_set: bytes) -> Declared:
    """What a value of (0008,0005) declares; a term that means nothing stands for ISO_IR 6."""
    left, right, first = ASCII, None, ASCII.number
    sets = [ASCII]
    unknown = False
    for position, raw_term in enumerate(character_set.split(b"\\")):
        alone, number = _meaning(raw_term.decode("latin-1").strip(" \0").upper())
        if alone and position == 0:
            return Declared(alone, left, right, (), first, b"\\" in character_set)
        if number is None:
            unknown = True
            continue
        term = _TERMS[number]
        if position == 0:
            left, right, first = term.left, term.right, number
        sets += [one for one in (term.left, term.right, term.also) if one is not None]
    return Declared("", left, right, tuple(dict.fromkeys(sets)), first, unknown)


def _meaning(term: str) -> tuple[str, int | None]:
    """(codec of a set that stands alone, number of one that does not); ("", None): no term."""
    term = re.sub(r"^ISO[ _-]?IR[ _-]?192$", "ISO_IR 192", term)
    if term in _ALONE:
        return _ALONE[term], None
    if not term:
        return "", ASCII.number
    numbered = _NUMBERED.fullmatch(term)
    number = int(numbered[2]) if numbered and len(numbered[2]) < 4 else None
    return "", number if number in _TERMS else None
