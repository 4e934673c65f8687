"""Where the frames of compressed pixel data lie (PS3.5 A.4), in a buffer that holds the file.

A frame is lent as a view; only one that was cut into several fragments is copied. Nothing in the
file is trusted: a length that leads outside, a nesting that is too deep, a table that does not fit
is a LocalError with the byte where it was seen. Each step moves on by a header at least, so that
the work is bounded by the file.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from engine import limits
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
# Several times what the longest runs have; their places take 50 MB of memory.
_fragments_max: Final = 256 * limits.KIB
# One frame of several fragments is copied; no image in use is nearly as large.
_joined_bytes_max: Final = 512 * limits.MIB

Span = tuple[int, int]  # where it begins, where it ends


@dataclass(frozen=True, slots=True)
class PixelData:
    """What the data set says of its frames; `start` is where their items begin. 0: not said."""

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
        behind = _skip(data, start, vr, length, explicit=True, depth=0)
        if tag in _SHAPE and length == 2:
            shape[_SHAPE[tag]] = int.from_bytes(data[start:behind], "little")
        elif tag == _NUMBER_OF_FRAMES:
            shape["frames"] = _number(bytes(data[start : min(behind, start + 16)]))
        at = behind
    return None


def frames_of(data: memoryview, pixel_data: PixelData) -> Iterator[bytes | memoryview]:
    """Each frame's compressed bytes. LocalError before the first one when they cannot be told
    apart; NotImplementedError, and no more frames, when one is too large to be put together."""
    table, *fragments = fragment_spans(data, pixel_data.start)
    offsets = bytes(data[table[0] : table[1]])
    for group in group_frames(
        offsets, fragments, pixel_data.frames, lambda span: bytes(data[span[0] : span[1]][-3:])
    ):
        yield _joined(data, group)


def group_frames(
    offsets: bytes, fragments: Sequence[Span], count: int, last_bytes: Callable[[Span], bytes]
) -> list[list[Span]]:
    """The fragments of each of `count` frames, or LocalError. `offsets` is the basic offset table;
    `last_bytes` gives three bytes or more of a fragment's end."""
    if not fragments:
        raise LocalError("pixel data have no fragment")
    if offsets:
        groups = _by_table(offsets, fragments)
    elif count == 1:
        groups = [list(fragments)]
    elif len(fragments) == count:
        groups = [[fragment] for fragment in fragments]
    else:
        groups = _by_end_of_image(fragments, last_bytes)
    if len(groups) != count:
        raise LocalError(f"{len(groups)} frames are there, the data set says {count}")
    return groups


def fragment_spans(data: memoryview, start: int) -> list[Span]:
    """Where the items' values lie, that of the offset table first."""
    spans: list[Span] = []
    at = start
    while True:
        tag, _, length, begin = _header(data, at, explicit=False)
        if tag == _SEQUENCE_END and spans:
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
    """Without a table a frame ends with the fragment that ends with the marker EOI."""
    groups: list[list[Span]] = [[]]
    for fragment in fragments:
        groups[-1].append(fragment)
        if last_bytes(fragment).rstrip(b"\0").endswith(_END_OF_IMAGE):
            groups.append([])
    return [group for group in groups if group]


def _joined(data: memoryview, spans: Sequence[Span]) -> bytes | memoryview:
    if len(spans) == 1:
        begin, end = spans[0]
        return data[begin:end]
    if sum(end - begin for begin, end in spans) > _joined_bytes_max:
        raise NotImplementedError(f"a frame of more than {_joined_bytes_max} bytes in fragments")
    return b"".join(data[begin:end] for begin, end in spans)


def _number(value: bytes) -> int:
    text = value.strip(b" \0")
    if not text.isdigit() or int(text) == 0:
        raise LocalError("the number of frames is no number")
    return int(text)


# --- what is passed over ---------------------------------------------------------------------
def _header(data: memoryview, at: int, explicit: bool) -> tuple[int, bytes, int, int]:
    """(tag, VR, length, where the value begins) of the element or item at `at`."""
    if len(data) - at < 8:
        raise LocalError(f"the data set is cut off at byte {at}")
    group, element, length = _PLAIN.unpack_from(data, at)
    tag = group << 16 | element
    if not explicit or group == 0xFFFE:
        return tag, b"", length, at + 8
    _, _, vr, length = _SHORT.unpack_from(data, at)
    if vr not in LONG_VRS:
        if not (vr.isalpha() and vr.isupper()):
            raise LocalError(f"the data set has no VR at byte {at}")
        return tag, vr, length, at + 8
    if len(data) - at < 12:
        raise LocalError(f"the data set is cut off at byte {at}")
    return tag, vr, int.from_bytes(data[at + 8 : at + 12], "little"), at + 12


def _skip(data: memoryview, start: int, vr: bytes, length: int, explicit: bool, depth: int) -> int:
    """Where the next element begins."""
    if length == _UNDEFINED:
        # PS3.5 6.2.2: a sequence of unknown VR is in implicit VR inside.
        return _skip_items(data, start, explicit and vr != b"UN", depth + 1)
    if length > len(data) - start:
        raise LocalError(f"the data set is cut off: {length} bytes at byte {start}")
    return start + length


def _skip_items(data: memoryview, at: int, explicit: bool, depth: int) -> int:
    if depth > limits.sequence_depth_max:
        raise LocalError(f"sequences are nested too deep at byte {at}")
    while True:
        tag, _, length, start = _header(data, at, explicit=False)
        if tag == _SEQUENCE_END:
            return start
        if tag != _ITEM:
            raise LocalError(f"a sequence is broken at byte {at}")
        if length == _UNDEFINED:
            at = _skip_elements(data, start, explicit, depth)
        else:
            at = _skip(data, start, b"", length, explicit, depth)


def _skip_elements(data: memoryview, at: int, explicit: bool, depth: int) -> int:
    while True:
        tag, vr, length, start = _header(data, at, explicit)
        if tag == _ITEM_END:
            return start
        at = _skip(data, start, vr, length, explicit, depth)
