"""What corrected elements said before, told in the data set: the Original Attributes Sequence.

PS3.3 C.12.1.1.9: each occasion has an item with the earlier values, when, by which system and why
they were replaced. What was absent or empty stands there without a value, and so does what is no
value of its kind. Patient ID comes with its issuer, changed or not. Items that are there stay, ours
come behind them. The earlier values keep the bytes they have: where the data set goes out in
another character set than it came in, they declare their own. What a correction left as it was is
not told.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from engine.dictionary.attributes import (
    ISSUER_OF_PATIENT_ID,
    PATIENT_ID,
    SPECIFIC_CHARACTER_SET,
)
from engine.dictionary.character_sets import decode
from engine.dictionary.code_sets import declared_by
from engine.dictionary.vr import UNKNOWN
from engine.index.occasions import Occasion
from engine.limits import original_value_bytes_max
from engine.outgoing.elements import Written, header, item
from engine.outgoing.pieces import FileRange, Piece
from engine.outgoing.reader import (
    ITEM,
    SEQUENCE_END,
    UNDEFINED,
    DataSetReader,
    broken_sequence,
)
from engine.outgoing.text import Element

ORIGINAL_ATTRIBUTES: Final = 0x04000561
PIXEL_DATA: Final = 0x7FE00010

_MODIFIED_ATTRIBUTES: Final = 0x04000550
_MODIFICATION_TIME: Final = 0x04000562
_MODIFYING_SYSTEM: Final = 0x04000563
_SOURCE: Final = 0x04000564
_REASON: Final = 0x04000565
# Of two reasons that the standard has, a message's is a reconciliation "against a master patient
# index", the user's that a value was wrong.
_CORRECTED: Final = b"CORRECT "
_COERCED: Final = b"COERCE"


class Originals(NamedTuple):
    """What there is to tell besides the values: which system corrects, and the occasions."""

    modifying_system: str
    occasions: tuple[Occasion, ...]
    source: str = ""  # the AE that the instance came from


class Sequence(NamedTuple):
    """One that a data set has: its VR, where its element begins, its items begin and end."""

    at: int
    vr: bytes
    start: int
    end: int


class Before(NamedTuple):
    """What a data set says, of the elements that were looked for. `sequence` None: it has none, or
    none with items."""

    values: dict[int, bytes]
    sequence: Sequence | None


def look_back(reader: DataSetReader, explicit: bool, start: int, tags: Collection[int]) -> Before:
    """What there was: every element up to the pixel data is looked at, as they may be out of order.
    Of several of one tag the first one counts."""
    values: dict[int, bytes] = {}
    sequence = None
    at = start
    while at < reader.end:
        tag, vr, length, begin = reader.header(at, explicit)
        if tag >= PIXEL_DATA:
            break
        if tag in tags and tag not in values:
            is_value = vr != b"SQ" and length <= original_value_bytes_max
            values[tag] = reader.value(begin, length) if is_value else b""
        elif tag == ORIGINAL_ATTRIBUTES and sequence is None:
            end = _end_of_items(reader, vr, length, begin, explicit)
            if end > begin:
                sequence = Sequence(at, vr, begin, end)
        at = reader.skip(begin, vr, length, explicit)
    return Before(values, sequence)


def _end_of_items(reader: DataSetReader, vr: bytes, length: int, start: int, explicit: bool) -> int:
    """Where the items of a sequence end, ahead of its delimiter; `start`: there are none."""
    if vr not in (b"SQ", UNKNOWN, b""):
        return start
    at, inside = start, explicit and vr != UNKNOWN  # PS3.5 6.2.2
    end = reader.end if length == UNDEFINED else start + length
    while end - at >= 8:
        tag, _, item_length, behind = reader.header(at, explicit=False)
        if tag == SEQUENCE_END or (tag != ITEM and at == start):
            break
        if tag != ITEM:
            raise broken_sequence(tag, at)
        at = reader.skip_item(behind, item_length, inside)
    return at


class OriginalItem(NamedTuple):
    """The earlier values of one occasion, and its circumstances."""

    earlier: list[Written]
    circumstances: list[Written]

    def encoded(self, explicit: bool) -> bytes:
        """As it goes out."""
        modified = (_MODIFIED_ATTRIBUTES, b"SQ", item(self.earlier, explicit))
        return item([modified, *self.circumstances], explicit)


class OriginalItems:
    """Our items for one data set, and the sequence that they belong to."""

    def __init__(self, items: list[OriginalItem], before: Before) -> None:
        self._items = items
        self.sequence = before.sequence

    def __bool__(self) -> bool:
        return bool(self._items)

    def encoded(self, explicit: bool) -> bytes:
        """All of them, one behind the other."""
        return b"".join(each.encoded(explicit) for each in self._items)

    def behind_theirs(self, explicit: bool) -> Iterator[Piece]:
        """The sequence that is there as it lies, and ours in it."""
        assert self.sequence is not None
        _, vr, start, end = self.sequence
        yield header(ORIGINAL_ATTRIBUTES, vr or b"SQ", UNDEFINED, explicit)
        yield FileRange(start, end - start)
        ours = self.encoded(explicit and vr != UNKNOWN)
        yield ours + header(SEQUENCE_END, b"", 0, False)


def original_items(
    originals: Originals,
    before: Before,
    corrections: Mapping[int, str],
    encoded: Mapping[int, Element],
    own_set: bytes,
) -> OriginalItems:
    """For a data set that said `before` and is sent with `corrections`, which are `encoded`;
    `own_set`: the (0008,0005) that it has."""
    changed = {
        tag
        for tag, text in corrections.items()
        if not _says(before.values.get(tag, b""), own_set, encoded[tag][0], text)
    }
    items = []
    for occasion in sorted(originals.occasions):
        vrs = {tag: encoded[tag][0] for tag in occasion.tags & changed}
        if not vrs:
            continue
        if PATIENT_ID in vrs:
            vrs[ISSUER_OF_PATIENT_ID] = b"LO"
        earlier = [(tag, vr, _padded(before.values.get(tag, b""), vr)) for tag, vr in vrs.items()]
        if SPECIFIC_CHARACTER_SET in encoded:
            earlier.append((SPECIFIC_CHARACTER_SET, b"CS", _padded(own_set, b"CS")))
        items.append(OriginalItem(earlier, _circumstances(originals, occasion)))
    return OriginalItems(items, before)


def _says(raw: bytes, own_set: bytes, vr: bytes, text: str) -> bool:
    """Whether a value was the corrected one already."""
    said, damaged = decode(raw.strip(b" \0"), declared_by(own_set), vr.decode("ascii"))
    return said == text and not damaged


def _circumstances(originals: Originals, occasion: Occasion) -> list[Written]:
    seconds, rest_ns = divmod(occasion.when_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%S")
    texts = (
        (_MODIFICATION_TIME, b"DT", f"{moment}.{rest_ns // 1000:06}+0000"),
        (_MODIFYING_SYSTEM, b"LO", originals.modifying_system),
        (_SOURCE, b"LO", originals.source),
    )
    reason = _CORRECTED if occasion.by_user else _COERCED
    return [
        *((tag, vr, _padded(_plain(text), vr)) for tag, vr, text in texts),
        (_REASON, b"CS", reason),
    ]


def _plain(text: str) -> bytes:
    """A value of every character set; none where the text is no such."""
    return (
        text.encode("ascii") if text.isascii() and text.isprintable() and "\\" not in text else b""
    )


def _padded(value: bytes, vr: bytes) -> bytes:
    if len(value) & 1:
        value += b"\0" if vr == b"UI" else b" "
    return value
