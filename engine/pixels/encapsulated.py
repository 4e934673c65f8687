"""Where the frames of compressed pixel data lie (PS3.5 A.4), in a buffer that holds the file.

A frame is lent as a view; only one that was cut into several fragments is copied. Nothing in the
file is trusted: a length that leads outside, a nesting that is too deep, a table that does not fit
is a LocalError with the byte where it was seen. Each step moves on by a header at least, so that
the work is bounded by the file.
"""

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from engine import limits
from engine.dictionary.headers import NO_VR, Form, form_of, may_follow
from engine.dictionary.vr import LONG_VRS
from engine.errors import LocalError

_SHORT: Final = struct.Struct("<HH2sH")
_PLAIN: Final = struct.Struct("<HHI")  # items and implicit VR
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_PIXEL_DATA: Final = 0x7FE00010
_NUMBER_OF_FRAMES: Final = 0x00280008
_SHAPE: Final = {
    0x00280002: "samples",
    0x00280010: "rows",
    0x00280011: "columns",
    0x00280100: "bits_allocated",
}
_END_OF_IMAGE: Final = b"\xff\xd9"
TAIL_BYTES: Final = 16  # of a fragment: EOI and its padding
# An integer string (PS3.5 6.2); some writers make a decimal one of it.
_NUMBER: Final = re.compile(rb"\+?([0-9]{1,12})(?:\.0*)?")
# Several times what the longest runs have; their places take 50 MB of memory.
_fragments_max: Final = 256 * limits.KIB
# One frame of several fragments is copied; no image in use is nearly as large.
_joined_bytes_max: Final = 512 * limits.MIB

Span = tuple[int, int]  # where it begins, where it ends


@dataclass(frozen=True, slots=True)
class PixelData:
    """What the data set says of its frames; `start` is where their items begin. 0: not said, or
    nothing usable."""

    start: int
    frames: int = 1
    samples: int = 0
    rows: int = 0
    columns: int = 0
    bits_allocated: int = 0


def find_pixel_data(data: memoryview, offset: int) -> PixelData | None:
    """The pixel data of the data set that begins at `offset`, None when it has none.

    LocalError when they are not in fragments, or what comes before is malformed.
    """
    shape: dict[str, int] = {}
    at = offset
    while at < len(data):
        tag, vr, length, start = _header(data, at, explicit=True)
        if tag == _PIXEL_DATA:
            if length != _UNDEFINED:
                raise LocalError("pixel data are not in fragments")
            return PixelData(start, **shape)
        if tag > _PIXEL_DATA:
            return None
        behind = _skip(data, start, vr, length)
        if tag in _SHAPE and length == 2:
            shape[_SHAPE[tag]] = int.from_bytes(data[start:behind], "little")
        elif tag == _NUMBER_OF_FRAMES:
            shape["frames"] = number_of_frames(bytes(data[start : min(behind, start + 16)])) or 0
        at = behind
    return None


def number_of_frames(value: bytes) -> int | None:
    """Number of Frames; None where it is empty, 0 or no number, which pydicom and DCMTK take for
    one frame."""
    found = _NUMBER.fullmatch(value.strip(b" \0"))
    return int(found[1]) or None if found else None


def frames_of(data: memoryview, pixel_data: PixelData) -> Iterator[bytes | memoryview]:
    """Each frame's compressed bytes. LocalError before the first one when they cannot be told
    apart; NotImplementedError, and no more frames, when one is too large to be put together."""
    table, *fragments = fragment_spans(data, pixel_data.start)
    offsets = bytes(data[table[0] : min(table[1], table[0] + 4 * len(fragments) + 4)])
    for group in group_frames(
        offsets,
        fragments,
        pixel_data.frames or None,
        lambda span: bytes(data[max(span[0], span[1] - TAIL_BYTES) : span[1]]),
    ).frames:
        yield _joined(data, group)


class Grouped(NamedTuple):
    """The fragments of each frame, and what was odd about them."""

    frames: list[list[Span]]
    ignores_table: bool = False
    drops_empty: bool = False


def group_frames(
    offsets: bytes,
    fragments: Sequence[Span],
    count: int | None,
    last_bytes: Callable[[Span], bytes],
) -> Grouped:
    """The fragments of each of `count` frames (None: not said, so one), or LocalError. `offsets` is
    the basic offset table; `last_bytes` gives the last TAIL_BYTES of a fragment.

    A table that leads nowhere or counts wrongly is not needed where the fragments tell the frames
    apart themselves; an empty fragment behind the last one belongs to none.
    """
    filled = list(fragments)
    while len(filled) > 1 and filled[-1][0] == filled[-1][1]:
        filled.pop()
    if not filled:
        raise LocalError("pixel data have no fragment")
    drops = len(filled) < len(fragments)
    said = "" if not offsets else "the offset table does not count them"
    if offsets:
        try:
            groups = _by_table(offsets, filled)
        except LocalError as error:
            said = error.comment
        else:
            if len(groups) == (count or 1):
                return Grouped(groups, drops_empty=drops)
    if count is not None and len(filled) == count:
        groups = [[fragment] for fragment in filled]
    elif count == 1:
        groups = [filled]
    else:
        groups = _by_end_of_image(filled, last_bytes)
    if len(groups) != (count or 1):
        reason = f"{len(groups)} frames are there, the data set says {count or 'nothing'}"
        raise LocalError(f"{reason}; {said}" if said else reason)
    return Grouped(groups, bool(offsets), drops)


def ends_image(tail: bytes) -> bool:
    """Whether the marker EOI ends these bytes, or one byte or a run of usual padding is behind it.
    PS3.5 A.4 wants 00; others write FF or a blank."""
    return _END_OF_IMAGE in (tail[-3:-1], tail.rstrip(b"\0\xff ")[-2:])


def fragment_spans(data: memoryview, start: int) -> list[Span]:
    """Where the items' values lie, that of the offset table first."""
    spans: list[Span] = []
    at = start
    while True:
        tag, _, length, begin = _header(data, at, explicit=False)
        if tag == _SEQUENCE_END and spans:  # whatever its length says
            return spans
        if tag != _ITEM or length > len(data) - begin:
            raise LocalError(f"pixel data are broken or cut off at byte {at}")
        if len(spans) > _fragments_max:
            raise LocalError(f"pixel data have more than {_fragments_max} fragments")
        at = begin + length
        spans.append((begin, at))


def _by_table(table: bytes, fragments: Sequence[Span]) -> list[list[Span]]:
    """The basic offset table counts from the first fragment's header."""
    if len(table) % 4:
        raise LocalError("the offset table is no row of 32-bit numbers")
    starts = struct.unpack(f"<{len(table) // 4}I", table)
    if starts[0] != 0 or any(a >= b for a, b in pairwise(starts)):
        raise LocalError("the offset table is not in order")
    wanted = set(starts)
    origin = fragments[0][0]
    groups: list[list[Span]] = []
    for fragment in fragments:
        if fragment[0] - origin in wanted:
            groups.append([])
        groups[-1].append(fragment)
    if len(groups) != len(starts):
        raise LocalError("the offset table leads between fragments")
    return groups


def _by_end_of_image(
    fragments: Sequence[Span], last_bytes: Callable[[Span], bytes]
) -> list[list[Span]]:
    """Without a table a frame ends with the fragment that ends with the marker EOI, of which the
    fragment before may have the first byte."""
    groups: list[list[Span]] = [[]]
    tail = b""
    for fragment in fragments:
        if len(groups) > 1 and not groups[-1] and _is_padding(fragment, last_bytes):
            groups[-2].append(fragment)
            continue
        groups[-1].append(fragment)
        tail = (tail + last_bytes(fragment))[-TAIL_BYTES:]
        if ends_image(tail):
            groups.append([])
            tail = b""
    return [group for group in groups if group]


def _is_padding(fragment: Span, last_bytes: Callable[[Span], bytes]) -> bool:
    return fragment[1] - fragment[0] <= TAIL_BYTES and not last_bytes(fragment).strip(b"\0\xff ")


def _joined(data: memoryview, spans: Sequence[Span]) -> bytes | memoryview:
    if len(spans) == 1:
        begin, end = spans[0]
        return data[begin:end]
    if sum(end - begin for begin, end in spans) > _joined_bytes_max:
        raise NotImplementedError(f"a frame of more than {_joined_bytes_max} bytes in fragments")
    return b"".join(data[begin:end] for begin, end in spans)


# --- what is passed over ---------------------------------------------------------------------
def _header(data: memoryview, at: int, explicit: bool) -> tuple[int, bytes, int, int]:
    """(tag, VR, length, where the value begins) of the element or item at `at`."""
    if len(data) - at < 8:
        raise LocalError(f"the data set is cut off at byte {at}")
    group, element, length = _PLAIN.unpack_from(data, at)
    tag = group << 16 | element
    if not explicit or group == 0xFFFE:
        return tag, b"", length, at + 8
    _, _, vr, short = _SHORT.unpack_from(data, at)
    form = form_of(vr, short)
    if vr not in LONG_VRS and ((vr == NO_VR and short) or form is Form.LONG):
        following = bytes(data[at + 8 + short : at + 14 + short])
        if len(following) == 6 and may_follow(tag, following):
            form = Form.SHORT
    if form is Form.SHORT:
        return tag, vr, short, at + 8
    if form is Form.IMPLICIT:
        return tag, b"", length, at + 8
    if len(data) - at < 12:
        raise LocalError(f"the data set is cut off at byte {at}")
    return tag, vr, int.from_bytes(data[at + 8 : at + 12], "little"), at + 12


def _skip(data: memoryview, start: int, vr: bytes, length: int) -> int:
    """Where the next element begins, of a data set in explicit VR."""
    if length != _UNDEFINED:
        if length > len(data) - start:
            raise LocalError(f"the data set is cut off: {length} bytes at byte {start}")
        return start + length
    # (explicit inside, whether items are next); PS3.5 6.2.2: of unknown VR is implicit inside.
    levels = [(vr != b"UN", True)]
    at = start
    while levels:
        if len(levels) > 2 * limits.sequence_depth_max:
            raise LocalError(f"sequences are nested too deep at byte {at}")
        inside, items = levels[-1]
        tag, vr, length, begin = _header(data, at, inside and not items)
        if tag == (_SEQUENCE_END if items else _ITEM_END):
            levels.pop()
            at = begin
        elif items and tag != _ITEM:
            raise LocalError(f"a sequence is broken at byte {at}")
        elif length == _UNDEFINED:
            levels.append((inside, False) if items else (inside and vr != b"UN", True))
            at = begin
        else:
            at = _skip(data, begin, b"", length)
    return at
