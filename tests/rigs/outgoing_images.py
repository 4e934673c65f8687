"""Stored images with compressed frames, as files to be sent."""

from pathlib import Path

import pydicom
from pydicom.encaps import encapsulate

from tests.material import samples

JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"


def image(directory: Path, frames: list[bytes], shape: tuple[int, ...], **values: object) -> Path:
    """A file of encapsulated frames of 8 or 16 bits; `shape`: rows, columns, samples, bits."""
    made = pydicom.dcmread(samples.original("CT_small.dcm"))
    made.Rows, made.Columns, made.SamplesPerPixel, made.BitsAllocated = shape
    made.NumberOfFrames = len(frames)
    made.PixelData = encapsulate(frames)
    made["PixelData"].VR = "OB"
    for keyword, value in values.items():
        setattr(made, keyword, value)
    made.file_meta.TransferSyntaxUID = JPEG_LOSSLESS
    path = directory / "image.dcm"
    made.save_as(path)
    return path
