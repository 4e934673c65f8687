"""The text of a data set that goes out in another character set than it came in.

A correction may need one that is no superset of the data set's own, such as ISO_IR 192 in place of
ISO_IR 100. Then every text of the data set itself is written anew. A text inside a sequence stays
as it is: an item of that sequence that has other than ASCII, and no character set of its own, is
given the one that the data set had (PS3.3 C.12.1.1.2: it is for the item and what is inside).
"""

from typing import Final, NamedTuple

from engine import limits
from engine.dictionary.attributes import SPECIFIC_CHARACTER_SET
from engine.dictionary.character_sets import decode, encode
from engine.dictionary.code_sets import Declared
from engine.dictionary.vr import UNKNOWN, standard_vr
from engine.errors import LocalError
from engine.outgoing.reader import (
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    DataSetReader,
    broken_sequence,
    shown,
    too_deep,
)
from engine.outgoing.text import CHARACTER_SET_VRS, Element

_PIXEL_GROUP: Final = 0x7FE0
_piece_bytes: Final = 16 * limits.KIB


class OtherSet(NamedTuple):
    """What has to change for it."""

    texts: dict[int, Element]  # of the data set itself, by tag
    marks: frozenset[int]  # where the values of items begin that are told the former set
    sequences: frozenset[int]  # the tags of the data set that those are in


class _Level:
    """A data set, a sequence or an item that is being gone through."""

    __slots__ = ("declares", "end", "explicit", "items", "start", "tag")

    def __init__(
        self, tag: int, start: int, end: int, explicit: bool, items: bool, declares: bool
    ) -> None:
        self.tag = tag
        self.start = start
        self.end = end
        self.explicit = explicit
        self.items = items
        self.declares = declares  # a character set of its own, or what it is in does


def in_other_set(
    reader: DataSetReader, explicit: bool, start: int, own: Declared, other: Declared
) -> OtherSet:
    """Each text of the data set that has other bytes in the other set, and the items that have one.

    LocalError names the element that cannot be written in it.
    """
    found: dict[int, Element] = {}
    marks: set[int] = set()
    sequences: set[int] = set()
    levels = [_Level(0, start, reader.end, explicit, False, False)]
    at, left = start, limits.transcoded_bytes_max
    while levels:
        level = levels[-1]
        if at >= min(level.end, reader.end):
            levels.pop()
            continue
        tag, vr, length, value = reader.header(at, level.explicit and not level.items)
        at = value + (0 if length == UNDEFINED else length)
        if tag in (ITEM_END, SEQUENCE_END):
            levels.pop()
            at = value
        elif level.items and tag != ITEM:
            raise broken_sequence(tag, value)
        elif level.items:
            levels.append(_inside(level, tag, value, length, False))
            at = value
        elif tag >> 16 == _PIXEL_GROUP and len(levels) == 1:
            break
        else:
            vr = _vr_of(tag, vr, length)
            if vr == b"SQ" or length == UNDEFINED:
                inner = _inside(level, tag, value, length, True)
                inner.explicit &= vr != UNKNOWN
                levels.append(inner)
                at = value
            elif tag == SPECIFIC_CHARACTER_SET:
                level.declares = len(levels) > 1
            elif vr in CHARACTER_SET_VRS and not level.declares:
                if len(levels) > 1:
                    if not _is_plain(reader, value, length):
                        if level.explicit != explicit:
                            raise _stays(tag, value, "it stands in a sequence of unknown VR")
                        marks.add(levels[2].start)
                        sequences.add(levels[1].tag)
                else:
                    text = _other(reader, (tag, vr, value, length), own, other)
                    if text is not None:
                        found[tag] = (vr, text)
                        left -= len(text)
            if left < 0 or len(marks) > limits.marked_items_max:
                raise _stays(tag, at, f"there are more than {limits.transcoded_bytes_max} bytes")
        if len(levels) > 2 * limits.sequence_depth_max:
            raise too_deep(tag, at)
    return OtherSet(found, frozenset(marks), frozenset(sequences))


def _inside(level: _Level, tag: int, start: int, length: int, items: bool) -> _Level:
    end = level.end if length == UNDEFINED else start + length
    return _Level(tag, start, end, level.explicit, items, level.declares)


def _is_plain(reader: DataSetReader, start: int, length: int) -> bool:
    """Whether it is the same in every character set; looked at a piece at a time."""
    for at in range(start, start + length, _piece_bytes):
        piece = reader.value(at, min(_piece_bytes, start + length - at))
        if not piece.isascii() or b"\x1b" in piece:
            return False
    return True


def _vr_of(tag: int, vr: bytes, length: int) -> bytes:
    if vr:
        return vr
    if tag & 0x10000:
        return b"SQ" if length == UNDEFINED else UNKNOWN
    return standard_vr(tag)


def _other(
    reader: DataSetReader, element: tuple[int, bytes, int, int], own: Declared, other: Declared
) -> bytes | None:
    """The value in the other set; None: it has the same bytes there."""
    tag, vr, start, length = element
    if length > limits.transcoded_bytes_max:
        raise _stays(tag, start, f"it is longer than {limits.transcoded_bytes_max} bytes")
    raw = reader.value(start, length)
    if raw.isascii() and b"\x1b" not in raw:
        return None
    text, damaged = decode(raw, own, vr.decode("ascii"))
    if damaged:
        raise _stays(tag, start, "its bytes are not in the character set of the data set")
    try:
        value = encode(text, other, vr.decode("ascii"))
    except UnicodeError as error:
        raise _stays(tag, start, "it cannot be said in the other one") from error
    return value + b" " * (len(value) & 1)


def _stays(tag: int, at: int, why: str) -> LocalError:
    return LocalError(
        f"a correction needs another character set, in which {shown(tag)} at byte {at} cannot be "
        f"written: {why}"
    )
