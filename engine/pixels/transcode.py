"""Compressed frames to samples: what a peer that takes no compressed image is sent is made here.

JPEG Lossless goes through the native decoder; what that one is not made for (JPEG Baseline and
Extended, subsampled lossless) through a decoder that the caller gives. That one is libjpeg in a
process of its own (`workers/decoding`), which alone can be held to a time and a size.
Promises as many samples as expected or a LocalError, and never the first part of a stream that
was cut off; libjpeg itself fills up what is missing and says nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from engine import limits
from engine.errors import LocalError
from engine.pixels.encapsulated import TAIL_BYTES, ends_image
from engine.pixels.frame_header import check_frame_header
from native import _core

# Process 14 with any selection value, and with selection value 1 (PS3.5 10.2 and A.4.1).
JPEG_LOSSLESS: Final = frozenset({"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"})
JPEG_LOSSY: Final = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})

Frame = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Shape:
    """What the data set says about each frame."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int

    @property
    def frame_bytes(self) -> int:
        """The bytes of one decoded frame."""
        return self.rows * self.columns * self.samples * (self.bits_allocated // 8)


# One frame's samples, as decode_frames() gives them, or a LocalError that says why not.
OtherDecoder = Callable[[bytes, Shape], bytes]


def no_other(frame: bytes, shape: Shape) -> bytes:
    """In place of another decoder, where there is none."""
    del frame, shape
    raise LocalError("is of a kind that is not decoded here")


def decode_frames(
    frames: Sequence[Frame],
    transfer_syntax: str,
    shape: Shape,
    threads: int = 1,
    other: OtherDecoder = no_other,
) -> bytearray:
    """The frames' samples one behind the other: colour by pixel, little endian, `bits_allocated`
    bits each. `threads` bounds the processors used; `other` is for what is not decoded here."""
    if transfer_syntax not in JPEG_LOSSLESS | JPEG_LOSSY:
        raise LocalError(f"transfer syntax {transfer_syntax} is not decoded")
    # A bit holds at most one lossless sample, or 64 lossy ones with quartered chroma: a few bytes
    # cannot ask for gigabytes.
    held = sum(len(frame) for frame in frames)
    samples_held = held * 8 * 64
    if len(frames) * shape.rows * shape.columns * shape.samples > samples_held:
        raise LocalError(f"{held} bytes cannot hold {len(frames)} such frames")
    if shape.frame_bytes > limits.decoded_frame_bytes_max:
        raise LocalError(f"a frame of {shape.frame_bytes} bytes is too large decoded")
    decoded = bytearray(len(frames) * shape.frame_bytes)
    if transfer_syntax in JPEG_LOSSLESS:
        try:
            _core.jpeg_lossless_decode_frames(
                frames,
                decoded,
                shape.rows,
                shape.columns,
                shape.samples,
                shape.bits_allocated,
                threads,
            )
        except NotImplementedError:
            pass  # a rarer kind of lossless JPEG: below
        except ValueError as error:
            raise LocalError(f"pixel data: {error}") from error
        else:
            return decoded
    for index, frame in enumerate(frames):
        samples = _decode_by_other(bytes(frame), shape, index + 1, other)
        decoded[index * shape.frame_bytes : (index + 1) * shape.frame_bytes] = samples
    return decoded


def _decode_by_other(frame: bytes, shape: Shape, number: int, other: OtherDecoder) -> bytes:
    """One frame; what its header plainly says is looked at first."""
    if not ends_image(frame[-TAIL_BYTES:]):
        raise LocalError(f"pixel data: frame {number} has no end")
    try:
        check_frame_header(frame, shape.rows, shape.columns, shape.samples)
        samples = other(frame, shape)
    except LocalError as error:
        # The cause tells a disk or a system that failed from a frame that is broken.
        raise LocalError(f"pixel data: frame {number}: {error.comment}") from error.__cause__
    if len(samples) != shape.frame_bytes:
        raise LocalError(f"pixel data: frame {number}: {len(samples)} bytes of samples")
    return samples
