"""Encapsulated images made native while they are sent: a portion of frames at a time is decoded.

`Frames` are given out whole: a sender that can has each of them decoded and sent natively; any
other takes the samples from decoded().

The samples come out of the decoder colour by pixel and fully sampled. Where the data set says that
the planes are apart they are put apart. YBR_FULL_422, which means halved chroma in a native image,
becomes YBR_FULL. Every other attribute of the image stays what it is. LocalError when the frames
and the data set do not agree, before the first sample is given if that can be seen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from engine import limits
from engine.errors import LocalError
from engine.outgoing.oddities import Oddity
from engine.outgoing.reader import DataSetReader
from engine.pixels.encapsulated import TAIL_BYTES, Span, group_frames, number_of_frames
from engine.pixels.transcode import (
    JPEG_LOSSLESS,
    OtherDecoder,
    Shape,
    decode_frames,
    no_other,
)

# Decoded at a time, or one frame if that is larger: enough that a call of the decoder is worth it,
# little enough for all associations together.
_portion_bytes: Final = 8 * limits.MIB
_native_bytes_max: Final = 0xFFFFFFFE  # PS3.5 7.1.2: a length of 32 bits, not the undefined one
_PIXEL_DATA: Final = 0x7FE00010

_SAMPLES: Final = 0x00280002
_PLANAR_CONFIGURATION: Final = 0x00280006
_NUMBER_OF_FRAMES: Final = 0x00280008
_ROWS: Final = 0x00280010
_COLUMNS: Final = 0x00280011
_BITS_ALLOCATED: Final = 0x00280100
_PHOTOMETRIC_INTERPRETATION: Final = 0x00280004
_HALVED: Final = b"YBR_FULL_422"
_WHOLE: Final = b"YBR_FULL"


def placed(reason: str, at: int) -> LocalError:
    """What is wrong with pixel data, and where they are."""
    return LocalError(f"{reason}; pixel data (7fe0,0010) at byte {at}")


class PixelDecoder:
    """For one data set in one compressed transfer syntax. `threads` bounds the processors used,
    `other` decodes what is not JPEG Lossless of the usual kind."""

    def __init__(self, transfer_syntax: str, threads: int, other: OtherDecoder = no_other) -> None:
        self.transfer_syntax = transfer_syntax
        self.threads = threads
        self.other = other

    def interpretation(self, value: bytes) -> bytes:
        """The Photometric Interpretation of what was decoded."""
        return _WHOLE if value.rstrip(b" \0") == _HALVED else value

    def check_native(self, kept: Mapping[int, bytes], at: int) -> None:
        """A native image among compressed ones: interpretation() must not have touched it."""
        if kept.get(_PHOTOMETRIC_INTERPRETATION, b"").rstrip(b" \0") == _HALVED:
            raise placed("an icon with halved chroma, native in a compressed data set", at)

    def frames(self, reader: DataSetReader, at: int, kept: Mapping[int, bytes]) -> "Frames":
        """The frames whose items begin at `at`. `kept` has the image's attributes as they lie."""
        samples = _number(kept, _SAMPLES, 1)
        bits = _number(kept, _BITS_ALLOCATED, 0)
        shape = Shape(_number(kept, _ROWS, 0), _number(kept, _COLUMNS, 0), samples, bits)
        if bits not in (8, 16) or not shape.frame_bytes:
            raise placed(
                f"an image of {shape.rows} rows, {shape.columns} columns, {samples} samples of "
                f"{bits} bits is not decoded",
                at,
            )
        said = number_of_frames(kept.get(_NUMBER_OF_FRAMES, b"1"))
        if said is None:
            reader.oddities.note(Oddity.FRAME_COUNT, _NUMBER_OF_FRAMES, at)
        count = said or 1
        if (
            shape.frame_bytes > limits.decoded_frame_bytes_max
            or count * shape.frame_bytes > _native_bytes_max
        ):
            raise placed(f"{count} frames of {shape.frame_bytes} bytes are too large decoded", at)
        (table, *fragments), behind = reader.fragments(at)
        if not fragments:
            raise LocalError(f"pixel data (7fe0,0010) have no fragment at byte {at}")
        # One entry more than there can be is enough to see that a table is too long.
        try:
            grouped = group_frames(
                reader.value(table[0], min(table[1] - table[0], 4 * len(fragments) + 4)),
                fragments,
                said,
                lambda span: reader.value(
                    max(span[0], span[1] - TAIL_BYTES), min(TAIL_BYTES, span[1] - span[0])
                ),
            )
        except LocalError as error:
            raise placed(error.comment, at) from error.__cause__
        if grouped.ignores_table:
            reader.oddities.note(Oddity.OFFSET_TABLE, _PIXEL_DATA, table[0])
        if grouped.drops_empty:
            reader.oddities.note(Oddity.EMPTY_FRAGMENT, _PIXEL_DATA, fragments[-1][0])
        by_plane = samples > 1 and _number(kept, _PLANAR_CONFIGURATION, 0) == 1
        return Frames(self, reader, shape, grouped.frames, at, behind, by_plane)


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of one image, found but not decoded yet."""

    decoder: PixelDecoder
    reader: DataSetReader
    shape: Shape
    groups: Sequence[Sequence[Span]]
    start: int  # where their items begin
    behind: int  # where the element behind the pixel data begins
    by_plane: bool

    @property
    def length(self) -> int:
        """Of the native value, in bytes."""
        native = len(self.groups) * self.shape.frame_bytes
        return native + (native & 1)

    @property
    def vr(self) -> bytes:
        """PS3.5 A.2: OW above 8 bits."""
        return b"OW" if self.shape.bits_allocated > 8 else b"OB"

    @property
    def is_plain(self) -> bool:
        """Whether each frame's samples are what the native decoder makes of JPEG Lossless."""
        return self.decoder.transfer_syntax in JPEG_LOSSLESS and not self.by_plane

    def spans(self, number: int) -> Sequence[Span]:
        """Where the frame of this number, from 0, lies in the file."""
        spans = self.groups[number]
        # A lossless sample takes at most twice its bits; stuffing and tables come on top.
        if sum(end - begin for begin, end in spans) > 3 * self.shape.frame_bytes + limits.MIB:
            raise placed("a compressed frame is larger than any of this size can be", spans[0][0])
        return spans

    @property
    def padding(self) -> bytes:
        """What stands behind the last frame."""
        return bytes(len(self.groups) * self.shape.frame_bytes & 1)

    def decoded(self, first: int = 0) -> Iterator[bytes | bytearray]:
        """The native value from the frame of this number on, in portions."""
        count = max(1, _portion_bytes // self.shape.frame_bytes)
        for begin in range(first, len(self.groups), count):
            end = min(begin + count, len(self.groups))
            frames = [self._compressed(number) for number in range(begin, end)]
            try:
                decoded = decode_frames(
                    frames,
                    self.decoder.transfer_syntax,
                    self.shape,
                    self.decoder.threads,
                    self.decoder.other,
                )
            except MemoryError as error:
                raise placed("not enough memory to decode the image", self.start) from error
            except LocalError as error:
                # The cause tells a disk or a system that failed from a frame that is broken.
                raise placed(error.comment, self.start) from error.__cause__
            yield self._planes(decoded, len(frames)) if self.by_plane else decoded
        if self.padding:
            yield self.padding

    def _compressed(self, number: int) -> bytes:
        spans = self.spans(number)
        if len(spans) == 1:
            begin, end = spans[0]
            return self.reader.value(begin, end - begin)
        return b"".join(self.reader.value(begin, end - begin) for begin, end in spans)

    def _planes(self, decoded: bytearray, frames: int) -> bytes:
        """Each frame's samples plane by plane."""
        import numpy

        shape = self.shape
        samples = numpy.frombuffer(decoded, numpy.dtype(f"<u{shape.bits_allocated // 8}"))
        pixels = samples.reshape(frames, shape.rows * shape.columns, shape.samples)
        return pixels.transpose(0, 2, 1).tobytes()


def _number(kept: Mapping[int, bytes], tag: int, default: int) -> int:
    value = kept.get(tag, b"")
    return int.from_bytes(value[:2], "little") if len(value) >= 2 else default
