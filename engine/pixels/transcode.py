"""Compressed frames to samples: what a peer that takes no compressed image is sent is made here.

JPEG Lossless goes through the native decoder; what that one is not made for (JPEG Baseline and
Extended, subsampled lossless) through pylibjpeg-libjpeg, which nothing else imports: it is GPL v3.
Promises as many samples as expected or a LocalError, and never the first part of a stream that
was cut off; libjpeg itself fills up what is missing and says nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.errors import LocalError
from native import _core

# Process 14 with any selection value, and with selection value 1 (PS3.5 10.2 and A.4.1).
JPEG_LOSSLESS: Final = frozenset({"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"})
JPEG_LOSSY: Final = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})
END_OF_IMAGE: Final = b"\xff\xd9"

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


def decode_frames(
    frames: Sequence[Frame], transfer_syntax: str, shape: Shape, threads: int = 1
) -> bytearray:
    """The frames' samples one behind the other: colour by pixel, little endian, `bits_allocated`
    bits each. `threads` bounds the processors used."""
    if transfer_syntax not in JPEG_LOSSLESS | JPEG_LOSSY:
        raise LocalError(f"transfer syntax {transfer_syntax} is not decoded")
    # A bit holds at most one lossless sample, or 64 lossy ones with quartered chroma: a few bytes
    # cannot ask for gigabytes.
    held = sum(len(frame) for frame in frames)
    samples_held = held * 8 * 64
    if len(frames) * shape.rows * shape.columns * shape.samples > samples_held:
        raise LocalError(f"{held} bytes cannot hold {len(frames)} such frames")
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
        samples = _decode_by_libjpeg(bytes(frame), shape, index + 1)
        decoded[index * shape.frame_bytes : (index + 1) * shape.frame_bytes] = samples
    return decoded


def _decode_by_libjpeg(frame: bytes, shape: Shape, number: int) -> bytes:
    """One frame; its header is compared before libjpeg makes room for what that claims."""
    # Imported with the first such frame: most processes that import this module never see one.
    import numpy
    from libjpeg.utils import decode, get_parameters

    if not frame.rstrip(b"\0").endswith(END_OF_IMAGE):
        raise LocalError(f"pixel data: frame {number} has no end")
    try:
        header = get_parameters(frame)
        said = (header["rows"], header["columns"], header["nr_components"])
        if said != (shape.rows, shape.columns, shape.samples):
            raise LocalError(f"pixel data: frame {number} is of {said} rows, columns, components")
        samples: Any = decode(frame)
    except (RuntimeError, ValueError) as error:
        raise LocalError(f"pixel data: frame {number}: {error}") from error
    if samples.dtype.itemsize * 8 > shape.bits_allocated:
        raise LocalError(f"pixel data: frame {number} has more than {shape.bits_allocated} bits")
    widened = samples.astype(numpy.dtype(f"<u{shape.bits_allocated // 8}"), copy=False)
    return bytes(widened.tobytes())
