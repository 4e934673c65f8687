"""A data set in another transfer syntax, element by element while it is sent.

Explicit and Implicit VR Little Endian are turned into each other, and encapsulated images into
native ones (engine/outgoing/pixels.py decodes). Values, private elements and unknown ones stay what
they are; sequences and items get an undefined length, since their own is known only afterwards.
Group lengths, which are retired, are left out. Depth and memory are bounded: large values are
passed on as ranges of the file. Runs of plain explicit elements are written natively; here is what
needs a decision, and what is said of a broken data set.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from engine import limits
from engine.dictionary.attributes import SPECIFIC_CHARACTER_SET
from engine.dictionary.vr import UNKNOWN, VALUE_BYTES, private_vr, standard_vr
from engine.errors import LocalError
from engine.outgoing.edits import LENGTH_TO_END, Edits
from engine.outgoing.elements import header
from engine.outgoing.oddities import Oddity
from engine.outgoing.original_attributes import PIXEL_DATA
from engine.outgoing.pieces import COPIED_BYTES_MAX, FileRange, Piece, PieceWriter
from engine.outgoing.pixels import Frames, PixelDecoder
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
from native import _core

_BITS_ALLOCATED: Final = 0x00280100
_PIXEL_REPRESENTATION: Final = 0x00280103
_PHOTOMETRIC_INTERPRETATION: Final = 0x00280004
_LUT_DESCRIPTOR: Final = 0x00283002
_WAVEFORM_BITS_ALLOCATED: Final = 0x54001004
# Kept of each data set and item, since other elements are read or decoded by them.
_KEPT: Final = frozenset(
    {
        0x00280002,  # Samples per Pixel
        _PHOTOMETRIC_INTERPRETATION,
        0x00280006,  # Planar Configuration
        0x00280008,  # Number of Frames
        0x00280010,  # Rows
        0x00280011,  # Columns
        _BITS_ALLOCATED,
        _PIXEL_REPRESENTATION,
        _LUT_DESCRIPTOR,
        _WAVEFORM_BITS_ALLOCATED,
    }
)
_KEPT_BYTES_MAX: Final = 64
_OFFSET_TABLES: Final = frozenset({0x7FE00001, 0x7FE00002, 0x7FE00003})  # of encapsulated frames
# Runs are tried natively down to here. Each try may look at a whole window, so what is nested
# deeper to no purpose would cost a window for each few bytes.
_RUN_DEPTH_MAX: Final = 128
_ITEM_BYTES: Final = b"\xfe\xff\x00\xe0"
_SEQUENCE_END_BYTES: Final = b"\xfe\xff\xdd\xe0"
_OPEN: Final = 1 << 62  # the end of what a delimiter ends: no file reaches it
_CREATOR_BYTES_MAX: Final = 256  # LO: 64 characters


@lru_cache(maxsize=64)
def _runs_of(explicit_out: bool, decodes: bool, stops: frozenset[int]) -> _core.ElementRun:
    return _core.ElementRun(
        explicit_out,
        decodes,
        COPIED_BYTES_MAX,
        [*_KEPT],
        [*stops],
        limits.sequence_depth_max,
    )


class _Level:
    """A data set, a sequence, or an item that is being gone through."""

    __slots__ = ("creators", "end", "items", "kept", "mark", "tag")

    def __init__(self, tag: int, end: int, items: bool) -> None:
        self.tag = tag
        self.mark = b""  # an element that it is given, in its place
        self.end = end
        self.items = items  # a sequence: items are next, not elements
        self.kept: dict[int, bytes] = {}
        self.creators: dict[int, str] = {}  # of private blocks, by the upper 24 bits of their tags


class Reencoder:
    """One passage through one data set."""

    def __init__(
        self,
        reader: DataSetReader,
        explicit: bool,
        explicit_out: bool,
        edits: Edits,
        decoder: PixelDecoder | None,
        start: int | None = None,
        stays: bool = False,
    ) -> None:
        """`decoder` None: nothing is decoded. `start`: where the data set's own elements begin, if
        elements of group 0002 are ahead of them. `stays`: in its transfer syntax."""
        self._stays = stays
        self._reader = reader
        self._explicit = explicit
        self._explicit_out = explicit_out
        self._edits = edits
        self._decoder = decoder
        self._writer = PieceWriter()
        self._levels = [_Level(0, reader.end, items=False)]
        self._at = self._start = reader.start if start is None else start
        self._surveyed = False
        self._grows = False  # the sequence that is open, by our items
        self._runs: _core.ElementRun | None = None
        if explicit:
            self._runs = _runs_of(explicit_out, decoder is not None, edits.stops)

    def pieces(self) -> Iterator[Piece | Frames]:
        """The whole data set. LocalError where it is broken, after what came before."""
        writer = self._writer
        while self._levels:
            level = self._levels[-1]
            if self._at >= level.end:
                self._close(level)
            elif level.items:
                self._item(level)
            else:
                frames = self._element(level)
                if frames is not None:
                    yield from writer.rest()
                    yield frames
            if writer.due:
                yield from writer.ready()
        writer.put(self._edits.due(UNDEFINED))
        yield from writer.rest()

    # --- the ends of what is open -----------------------------------------------------------------
    def _close(self, level: _Level) -> None:
        if self._at > level.end:
            raise LocalError(f"what is in {shown(level.tag)} is longer than it at byte {self._at}")
        self._leave(level)

    def _leave(self, level: _Level) -> None:
        self._writer.put(level.mark)
        self._levels.pop()
        if self._grows and len(self._levels) == 1 and self._edits.appended is not None:
            self._grows = False
            self._writer.put(self._edits.appended.encoded(self._explicit_out))
        if self._levels:
            self._writer.put(header(SEQUENCE_END if level.items else ITEM_END, b"", 0, False))

    def _enter(self, tag: int, start: int, length: int, items: bool) -> None:
        if len(self._levels) > 2 * limits.sequence_depth_max:
            raise too_deep(tag, start)
        end = _OPEN if length == UNDEFINED else start + length
        if end != _OPEN and end > self._levels[-1].end:
            around = shown(self._levels[-1].tag)
            raise LocalError(
                f"{shown(tag)} is longer than {around}, which it is in, at byte {start}"
            )
        self._levels.append(_Level(tag, end, items))
        self._at = start

    def _item(self, sequence: _Level) -> None:
        at = self._at
        tag, _, length, start = self._reader.header(at, explicit=False)
        if tag == SEQUENCE_END:
            self._delimited(sequence, tag, length, at)
        elif tag != ITEM:
            raise broken_sequence(tag, at)
        elif length == 0:
            self._writer.put(header(ITEM, b"", 0, False))
            self._at = start
        else:
            self._writer.put(header(ITEM, b"", UNDEFINED, False))
            self._enter(ITEM, start, length, items=False)
            if start in self._edits.marks:
                self._levels[-1].mark = self._edits.mark

    def _delimited(self, level: _Level, tag: int, length: int, at: int) -> None:
        """A delimiter ends what it stands in, as it does for DCMTK and pydicom, even where that has
        a length of its own."""
        if level.end != _OPEN:
            self._reader.oddities.note(Oddity.DELIMITER, tag, at)
        self._leave(level)
        self._at = self._reader.behind_delimiter(tag, length, at)

    # --- elements ---------------------------------------------------------------------------------
    def _element(self, level: _Level) -> Frames | None:
        """Pass on the elements that are next: some, or one. Frames to be decoded are given back."""
        at = self._at
        if self._runs is not None and len(self._levels) <= _RUN_DEPTH_MAX and not level.mark:
            self._at, written, kept = self._reader.run(
                at, level.end, self._runs, len(self._levels), self._edits.next_tag
            )
            if self._at > at:
                if written:
                    self._writer.put(written)
                level.kept.update(kept)
                return None
        tag, vr, length, start = self._reader.header(at, self._explicit)
        if tag >> 16 == 0xFFFE:
            if tag == ITEM_END and len(self._levels) == 1:
                self._reader.end_of_data_set(at)
                self._levels.pop()
                return None
            if tag != ITEM_END:
                raise LocalError(f"a delimiter without anything to end at byte {at}: {shown(tag)}")
            self._delimited(level, tag, length, at)
            return None
        if len(self._levels) == 1 and tag >= self._edits.next_tag:
            self._writer.put(self._edits.due(tag))
        if tag & 0xFFFF == 0 or self._goes(tag):
            self._at = self._reader.skip(start, vr, length, self._explicit)
            return None
        if level.mark and tag > SPECIFIC_CHARACTER_SET:
            self._writer.put(level.mark)
            level.mark = b""
        if at == self._edits.appended_at:
            self._grows = vr != UNKNOWN
            if vr == UNKNOWN and self._edits.appended is not None:
                for piece in self._edits.appended.behind_theirs(self._explicit_out):
                    self._writer.pass_on(piece)
                self._at = self._reader.skip(start, vr, length, self._explicit)
                return None
        if self._stays and tag == PIXEL_DATA and length == UNDEFINED:
            self._as_it_is(at, start, vr)
            return None
        if self._decoder is not None and tag == PIXEL_DATA:
            return self._pixel_data(level, start, length)
        is_looked_up = not vr
        if is_looked_up:
            vr = self._looked_up(level, tag, length, start)
        if vr == b"SQ" and length not in (0, UNDEFINED):
            # A private one that is broken inside is so only for those whose dictionary has it.
            private = is_looked_up and tag & 0x10000
            whole = not private or self._reader.holds_items(start, start + length, self._explicit)
            if not whole or not self._has_items(start, length):
                self._reader.oddities.note(Oddity.SEQUENCE_VALUE, tag, at)
                vr = UNKNOWN
        self._sized(level, tag, vr, length, start)
        return None

    def _goes(self, tag: int) -> bool:
        """Whether the element is left out, or replaced."""
        if len(self._levels) == 1 and (tag in self._edits.tags or tag == LENGTH_TO_END):
            return True
        return self._decoder is not None and tag in _OFFSET_TABLES

    def _sized(self, level: _Level, tag: int, vr: bytes, length: int, start: int) -> None:
        """Header and value of an element whose VR is known."""
        writer = self._writer
        if vr == b"SQ" and length:
            if tag == PIXEL_DATA:
                raise LocalError(
                    f"pixel data (7fe0,0010) of undefined length, uncompressed, at byte {start}"
                )
            writer.put(header(tag, vr, UNDEFINED, self._explicit_out))
            self._enter(tag, start, length, items=True)
            return
        if length == UNDEFINED:
            self._unknown_sequence(tag, vr, start)
            return
        self._at = following = start + length
        if following > level.end:
            raise LocalError(f"{shown(tag)} is longer than its item at byte {start}")
        if length > COPIED_BYTES_MAX:
            writer.put(header(tag, vr, length, self._explicit_out))
            writer.pass_on(FileRange(start, length))
            return
        value = self._reader.value(start, length)
        if tag in _KEPT:
            level.kept[tag] = value[:_KEPT_BYTES_MAX]
            if self._decoder is not None and tag == _PHOTOMETRIC_INTERPRETATION:
                value = self._decoder.interpretation(value)
                length = len(value)
        writer.put(header(tag, vr, length, self._explicit_out) + value)

    def _unknown_sequence(self, tag: int, vr: bytes, start: int) -> None:
        """Of VR UN and undefined length: in implicit VR inside, whatever is outside (PS3.5 6.2.2),
        so it is the same either way."""
        if vr != UNKNOWN:
            raise LocalError(f"{shown(tag)} of undefined length is no sequence at byte {start}")
        self._at = self._reader.skip(start, vr, UNDEFINED, self._explicit)
        self._writer.put(header(tag, vr, UNDEFINED, self._explicit_out))
        self._writer.pass_on(FileRange(start, self._at - start))

    def _as_it_is(self, at: int, start: int, vr: bytes) -> None:
        """Fragments, in a data set that stays in its transfer syntax."""
        self._at = self._reader.skip(start, vr, UNDEFINED, self._explicit)
        self._writer.pass_on(FileRange(at, self._at - at))

    def _pixel_data(self, level: _Level, start: int, length: int) -> Frames | None:
        assert self._decoder is not None
        if length != UNDEFINED:
            if len(self._levels) == 1:
                raise LocalError(f"the pixel data (7fe0,0010) are not in fragments at byte {start}")
            self._decoder.check_native(
                level.kept, start
            )  # an icon may be native in any transfer syntax
            self._sized(level, PIXEL_DATA, b"OW", length, start)
            return None
        frames = self._decoder.frames(self._reader, start, level.kept)
        self._at = frames.behind
        self._writer.put(header(PIXEL_DATA, frames.vr, frames.length, self._explicit_out))
        return frames

    # --- VRs that are not in the data set ---------------------------------------------------------
    def _looked_up(self, level: _Level, tag: int, length: int, start: int) -> bytes:
        if tag & 0x10000:
            vr = self._private(level, tag, length, start)
        else:
            vr = standard_vr(tag)
            if len(vr) > 2:
                vr = self._decided(tag, vr, level)
        return b"SQ" if length == UNDEFINED else vr

    def _has_items(self, start: int, length: int) -> bool:
        """Whether a sequence's value is one. Text in its place is sent as UN, of which nobody
        expects items."""
        if length < 8:
            return False
        value = self._reader.value(start, 4)
        return value in (_ITEM_BYTES, _SEQUENCE_END_BYTES)

    def _private(self, level: _Level, tag: int, length: int, start: int) -> bytes:
        """By the creator that reserved the block in this very data set or item (PS3.5 7.8.1)."""
        element = tag & 0xFFFF
        if 0x10 <= element <= 0xFF:
            if length <= _CREATOR_BYTES_MAX:
                creator = self._reader.value(start, length).decode("latin-1").strip(" \0")
                level.creators[tag >> 16 << 8 | element] = creator
            return b"LO"
        creator = level.creators.get(tag >> 8, "")
        vr = private_vr(tag, creator) if creator else UNKNOWN
        if length % VALUE_BYTES.get(vr, 1):
            return UNKNOWN
        return vr

    def _decided(self, tag: int, choice: bytes, level: _Level) -> bytes:
        """Of a VR that the dictionary leaves open."""
        if choice == b"US or OW":  # LUT Data: OW but for a table of a single entry
            return b"US" if level.kept.get(_LUT_DESCRIPTOR, b"")[:2] == b"\1\0" else b"OW"
        if choice.startswith(b"US or SS"):
            return b"SS" if self._is_signed(tag) else b"US"
        if choice != b"OB or OW":  # delimiters, which the dictionary gives the VR "NONE"
            return UNKNOWN
        # Either is right, the bytes are the same; PS3.5 A.2 wants OW above 8 bits.
        deciding = _WAVEFORM_BITS_ALLOCATED if tag >> 16 == 0x5400 else _BITS_ALLOCATED
        bits = level.kept.get(deciding, b"")
        return b"OB" if bits and int.from_bytes(bits[:2], "little") <= 8 else b"OW"

    def _is_signed(self, tag: int) -> bool:
        """Pixel Representation, of the nearest data set around that has one."""
        for level in reversed(self._levels):
            if _PIXEL_REPRESENTATION in level.kept:
                return level.kept[_PIXEL_REPRESENTATION][:2] == b"\1\0"
        if not self._surveyed:
            self._survey()
            return self._is_signed(tag)
        return False

    def _survey(self) -> None:
        """Look ahead for it: elements of lower groups may depend on it, too."""
        self._surveyed = True
        at = self._start
        while at < self._reader.end:
            tag, vr, length, start = self._reader.header(at, self._explicit)
            if tag >= _PIXEL_REPRESENTATION:
                if tag == _PIXEL_REPRESENTATION and length == 2:
                    self._levels[0].kept[tag] = self._reader.value(start, length)
                return
            at = self._reader.skip(start, vr, length, self._explicit)
