"""Part-10 files with encapsulated frames, made by hand."""

import io
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
    SecondaryCaptureImageStorage,
)

from tests.material.jpeg_encoder import Form, encode, picture

JPEG_LOSSLESS = str(JPEGLosslessSV1)


ROWS, COLUMNS = 9, 14


def stream(seed: int, predictor: int = 1) -> bytes:
    image = picture(ROWS, COLUMNS, 1, 12, seed)
    return encode(image, Form(12, predictor))


def write_colour(path: Path, pixels: NDArray[Any]) -> None:
    """An RGB image of 8 bits, not compressed: for DCMTK to encode."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = UID("1.2.3")
    data.Rows, data.Columns, data.SamplesPerPixel = pixels.shape
    data.PlanarConfiguration, data.PixelRepresentation = 0, 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PhotometricInterpretation = 7, "RGB"
    data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)


def file_of(pixel_data: bytes, frames: int, samples: int = 1) -> bytes:
    """A file with these encapsulated pixel data, and with traps ahead of them."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    data.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.2")
    data.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    data.SOPInstanceUID = "1.2.3"
    # Pixel data that are not the image's, compressed and not, and a row count.
    small = Dataset()
    small.Rows = 3
    small.add_new(0x7FE00010, "OB", encapsulate([b"\xff\xd8\xff\xd9"]))
    small["PixelData"].is_undefined_length = True
    plain = Dataset()
    plain.add_new(0x7FE00010, "OB", b"\1\2")
    data.IconImageSequence = Sequence([small, plain])
    data["IconImageSequence"].is_undefined_length = True
    small.is_undefined_length_sequence_item = True
    data.add_new(0x00091001, "UN", b"\xfe\xff\x00\xe0" * 4)
    data.SamplesPerPixel = samples
    data.NumberOfFrames = frames
    data.Rows, data.Columns, data.BitsAllocated = ROWS, COLUMNS, 16
    data.add_new(0x7FE00010, "OB", pixel_data)
    data["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
