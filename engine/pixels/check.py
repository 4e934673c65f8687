"""Whether stored images can be decoded: every frame is, and nothing of it is kept.

JPEG Lossless is validated by the native decoder line by line. The kinds that it is not made for are
decoded in full by the other decoder, if that takes no more memory than is allowed here. A frame
that neither of them may look at is counted as unchecked, never as good.
"""

import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from engine import limits
from engine.errors import LocalError
from engine.files.part10 import read_part10_head
from engine.pixels.encapsulated import PixelData, find_pixel_data, frames_of
from engine.pixels.transcode import (
    JPEG_LOSSLESS,
    OtherDecoder,
    Shape,
    decode_frames,
    no_other,
)
from native import _core

_head_bytes_max: Final = limits.MIB  # the file meta information lies far within
_decoded_bytes_max: Final = 256 * limits.MIB  # of one frame; mammograms take 60


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of one image. `fault` names the first broken frame and why; empty: none is."""

    frames: int = 0
    frames_unchecked: int = 0
    fault: str = ""


def check_file(descriptor: int, transfer_syntax: str, other: OtherDecoder = no_other) -> Checked:
    """All frames of the file.

    It is mapped, not read: whoever calls has read it before, so that what the disk cannot read is
    an error there and not a signal here.
    """
    size = os.fstat(descriptor).st_size
    if size == 0:
        return Checked(fault="an empty file")
    # Not closed by hand: a frame that failed is still a view of it. It goes with the last of them.
    return check_image(
        memoryview(mmap.mmap(descriptor, size, prot=mmap.PROT_READ)), transfer_syntax, other
    )


def check_image(data: memoryview, transfer_syntax: str, other: OtherDecoder = no_other) -> Checked:
    """All frames of the file that `data` holds. `other` decodes what the native decoder refuses."""
    count = unchecked = broken = 0
    fault = ""
    try:
        head = read_part10_head(bytes(data[:_head_bytes_max]))
        pixel_data = find_pixel_data(data, head.data_set_offset)
    except LocalError as error:
        return Checked(fault=error.comment)
    if pixel_data is None:
        return Checked()
    try:
        for frame in frames_of(data, pixel_data):
            count += 1
            try:
                _check_frame(frame, pixel_data, transfer_syntax, other)
            except NotImplementedError:
                unchecked += 1
            except LocalError as error:
                broken += 1
                fault = fault or f"frame {count} of {pixel_data.frames or 1}: {error.comment}"
    except NotImplementedError:
        unchecked += (pixel_data.frames or 1) - count
        count = pixel_data.frames or 1
    except LocalError as error:
        return Checked(count, unchecked, error.comment)
    if broken > 1:
        fault += f"; {broken} frames are broken"
    return Checked(count, unchecked, fault)


def _check_frame(
    frame: bytes | memoryview, pixel_data: PixelData, transfer_syntax: str, other: OtherDecoder
) -> None:
    try:
        rows, columns, components, precision, _, outside = _core.jpeg_lossless_validate(frame)
    except NotImplementedError:
        _decode(frame, pixel_data, transfer_syntax, other)
        return
    except ValueError as error:
        raise LocalError(str(error)) from error
    said = (pixel_data.rows, pixel_data.columns, pixel_data.samples)
    if (rows, columns, components) != said:
        raise LocalError(
            f"{rows} rows, {columns} columns, {components} components; the data set says "
            f"{said[0]}, {said[1]}, {said[2]}"
        )
    if precision > pixel_data.bits_allocated:
        raise LocalError(f"{precision} bits, {pixel_data.bits_allocated} are allocated")
    if outside:
        raise LocalError(f"{outside} samples lie outside its {precision} bits")


def _decode(
    frame: bytes | memoryview, pixel_data: PixelData, transfer_syntax: str, other: OtherDecoder
) -> None:
    shape = Shape(
        pixel_data.rows, pixel_data.columns, pixel_data.samples, pixel_data.bits_allocated
    )
    if shape.bits_allocated not in (8, 16) or shape.frame_bytes > _decoded_bytes_max:
        raise NotImplementedError("an image of another kind, or too large")
    decode_frames([frame], transfer_syntax, shape, other=other)


def image_checks(other: OtherDecoder) -> dict[str, Callable[[int], Checked]]:
    """By transfer syntax: what engine/verify/verify.py calls with a file's descriptor."""
    return {
        transfer_syntax: partial(check_file, transfer_syntax=transfer_syntax, other=other)
        for transfer_syntax in JPEG_LOSSLESS
    }
