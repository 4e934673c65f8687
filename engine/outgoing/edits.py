"""Corrected elements, put where they belong while a data set passes by.

They replace what is there, wherever it is, or come in tag order where there is nothing. A
correction without content empties an element and makes none. `correct()` is the whole way of a data
set that keeps its transfer syntax: it is copied in ranges around what changes.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from engine.dictionary.attributes import ISSUER_OF_PATIENT_ID, SPECIFIC_CHARACTER_SET
from engine.dictionary.code_sets import declared_by
from engine.errors import LocalError
from engine.outgoing.elements import header
from engine.outgoing.original_attributes import (
    ORIGINAL_ATTRIBUTES,
    PIXEL_DATA,
    OriginalItems,
    Originals,
    look_back,
    original_items,
)
from engine.outgoing.pieces import FileRange, Piece
from engine.outgoing.reader import ITEM_END, UNDEFINED, DataSetReader
from engine.outgoing.text import Element, encode_corrections
from engine.outgoing.transcoding import in_other_set

# Retired, and a lie as soon as anything has another length (PS3.5 7.2, PS3.6).
LENGTH_TO_END: Final = 0x00080001
_character_set_bytes_max: Final = 1024
_DEFAULT_SET: Final = b"ISO_IR 6"  # said aloud only where another one is around it


class Edits:
    """What has to be put in, in the order of tags. `appended` goes behind the items of a sequence
    that is there: it stands at `appended_at`, and -1 is nowhere."""

    def __init__(
        self,
        elements: Mapping[int, Element],
        explicit: bool,
        marks: frozenset[int] = frozenset(),
        sequences: frozenset[int] = frozenset(),
        mark: bytes = b"",
        originals: OriginalItems | None = None,
    ) -> None:
        """`marks`: where the values of items begin, in the sequences of these tags, that are given
        the element `mark`."""
        elements = dict(elements)
        self.appended, self.appended_at = originals, -1
        if originals is not None and originals.sequence is not None:
            self.appended_at = originals.sequence.at
        elif originals is not None:
            elements[ORIGINAL_ATTRIBUTES] = (b"SQ", originals.encoded(explicit))
        self._waiting = sorted(elements.items(), reverse=True)
        self._explicit = explicit
        self.tags = frozenset(elements)
        self.marks = marks
        self.mark = mark
        ours = frozenset() if originals is None else frozenset((ORIGINAL_ATTRIBUTES,))
        self.groups = frozenset(tag >> 16 for tag in self.tags | ours)
        # Of the data set's own elements: those that are not just passed on.
        self.stops = self.tags | ours | sequences
        self.next_tag = self._waiting[-1][0] if self._waiting else UNDEFINED

    def due(self, tag: int) -> bytes:
        """What belongs ahead of the element `tag`, or in its place."""
        written = bytearray()
        while self._waiting and self._waiting[-1][0] <= tag:
            own, (vr, value) = self._waiting.pop()
            if value or own == tag:
                written += header(own, vr, len(value), self._explicit) + value
        self.next_tag = self._waiting[-1][0] if self._waiting else UNDEFINED
        return bytes(written)


def edits_for(
    reader: DataSetReader,
    corrections: Mapping[int, str],
    explicit: bool,
    explicit_out: bool,
    start: int | None = None,
    allowed: Iterable[str] = (),
    originals: Originals | None = None,
) -> Edits:
    """The corrections in the character set of the data set that the reader reads, or in one that
    the statement or `allowed` names; `start`: where its own elements begin. With `originals`, what
    they replace is told as well."""
    if not corrections:
        return Edits({}, explicit_out)
    character_set = b""
    at = begin = reader.start if start is None else start
    while at < reader.end:
        tag, vr, length, value = reader.header(at, explicit)
        if tag >= SPECIFIC_CHARACTER_SET:
            if tag == SPECIFIC_CHARACTER_SET and length != UNDEFINED:
                character_set = reader.value(value, min(length, _character_set_bytes_max))
            break
        at = reader.skip(value, vr, length, explicit)
    own = character_set.rstrip(b" \0")
    encoded = encode_corrections(corrections, own, allowed)
    told = None
    if originals is not None:
        sought = {*corrections, ISSUER_OF_PATIENT_ID}
        before = look_back(reader, explicit, begin, sought)
        told = original_items(originals, before, corrections, encoded, own) or None
    if SPECIFIC_CHARACTER_SET in encoded:
        declared = declared_by(encoded[SPECIFIC_CHARACTER_SET][1])
        if declared.alone:
            other = in_other_set(reader, explicit, begin, declared_by(own), declared)
            former = character_set or _DEFAULT_SET
            mark = header(SPECIFIC_CHARACTER_SET, b"CS", len(former), explicit_out) + former
            edits = other.texts | encoded
            return Edits(edits, explicit_out, other.marks, other.sequences, mark, told)
    return Edits(encoded, explicit_out, originals=told)


def correct(
    reader: DataSetReader, explicit: bool, edits: Edits, start: int | None = None
) -> Iterator[Piece]:
    """The data set with its edits, in the transfer syntax that it has. What is ahead of `start`
    goes as it came.

    Every element is looked at: one that is out of order, or there twice, is replaced as well. What
    nobody can read behind the pixel data goes as it came.
    """
    kept = reader.start
    at = kept if start is None else start
    end = reader.end
    frames_passed = False
    tag = 0
    while at < end:
        try:
            tag, vr, length, value = reader.header(at, explicit)
            if tag == ITEM_END:
                end = reader.end_of_data_set(at)
                break
            if tag == PIXEL_DATA and length == UNDEFINED:
                following = reader.fragments(value)[1]
            else:
                following = reader.skip(value, vr, length, explicit)
        except LocalError:
            if frames_passed or tag >= PIXEL_DATA:
                break
            raise
        # A group length does not survive a change in its group.
        counts = tag & 0xFFFF == 0 and tag >> 16 in edits.groups
        grows = at == edits.appended_at
        goes = counts or tag in edits.tags or tag == LENGTH_TO_END or grows
        if tag >= edits.next_tag or goes:
            if at > kept:
                yield FileRange(kept, at - kept)
            written = edits.due(tag)
            if written:
                yield written
            if grows and edits.appended is not None:
                yield from edits.appended.behind_theirs(explicit)
            kept = following if goes else at
        frames_passed |= tag >= PIXEL_DATA
        at = following
    if end > kept:
        yield FileRange(kept, end - kept)
    written = edits.due(UNDEFINED)
    if written:
        yield written
