"""The instances a load is made of: synthetic, without any patient, whole in what a scanner sends.

Promises: the same name gives the same bytes in every run. Three placeholders of nine digits stand
wherever the instance, its series and its study are numbered; the sender writes over them, so every
instance that arrives is a distinct one.
"""

from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import numpy
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
    MRImageStorage,
)

from benchmarks.lossless_jpeg import encode

INSTANCE_DIGITS: Final = "987654321"
SERIES_DIGITS: Final = "987654322"
STUDY_DIGITS: Final = "987654323"
# Valid UIDs under the root of UUIDs (PS3.5 B.2) that no UUID generator hands out: too small.
_ROOT: Final = "2.25.4711"

NAMES: Final = ("ct", "mr", "tiny", "enhanced", "jpeg")


@dataclass(frozen=True, slots=True)
class Instance:
    """A data set ready to be cut into PDUs. `pixel_bytes` > 0: it ends with the header of Pixel
    Data, and so many bytes of any content are to follow."""

    name: str
    sop_class: str
    sop_instance: str
    transfer_syntax: str
    data: bytes
    pixel_bytes: int = 0

    @property
    def payload_bytes(self) -> int:
        return len(self.data) + self.pixel_bytes


def _body(rows: int, columns: int) -> NDArray[Any]:
    """An ellipse of tissue in air with a scanner's noise, 12 bits."""
    random = numpy.random.default_rng(4711)
    y, x = numpy.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    inside = (x / 0.8) ** 2 + (y / 0.6) ** 2 < 1
    image = numpy.where(inside, 1064.0 + 60 * numpy.cos(9 * x) * numpy.sin(7 * y), 24.0)
    return numpy.clip(image + random.normal(0, 8, image.shape), 0, 4095).astype("<u2")


def _header(sop_class: str, modality: str, rows: int, columns: int, run: int) -> Dataset:
    """What every image of ours carries: patient, study, series, geometry, pixel description."""
    data = Dataset()
    root = f"{_ROOT}.{run}"
    data.SpecificCharacterSet = "ISO_IR 100"
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.SOPClassUID = sop_class
    data.SOPInstanceUID = f"{root}.1.{INSTANCE_DIGITS}"
    data.StudyDate = data.SeriesDate = data.AcquisitionDate = data.ContentDate = "20240229"
    data.StudyTime = data.SeriesTime = data.AcquisitionTime = data.ContentTime = "101112"
    data.AccessionNumber = ""
    data.Modality = modality
    data.Manufacturer = "LOAD GENERATOR"
    data.InstitutionName = "BENCHMARK"
    data.ReferringPhysicianName = ""
    data.StudyDescription = "LOAD"
    data.SeriesDescription = f"LOAD {modality}"
    data.PatientName = "LOAD^GENERATED"
    data.PatientID = f"LOAD-{STUDY_DIGITS}"
    data.PatientBirthDate = ""
    data.PatientSex = "O"
    data.StudyInstanceUID = f"{root}.3.{STUDY_DIGITS}"
    data.SeriesInstanceUID = f"{root}.2.{SERIES_DIGITS}"
    data.FrameOfReferenceUID = f"{root}.4.{SERIES_DIGITS}"
    data.StudyID = "1"
    data.SeriesNumber = 1
    data.InstanceNumber = 1
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.Rows, data.Columns = rows, columns
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelRepresentation = 0
    return data


def _slice(data: Dataset) -> Dataset:
    """What a single slice adds."""
    data.SliceThickness = "1.25"
    data.ImagePositionPatient = ["-180", "-180", "100"]
    data.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    data.PixelSpacing = ["0.7", "0.7"]
    data.WindowCenter, data.WindowWidth = "40", "400"
    data.RescaleIntercept, data.RescaleSlope = "-1024", "1"
    return data


def _encoded(data: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, data)
    return bytes(buffer.getvalue())


def _single(
    name: str, sop_class: str, modality: str, rows: int, columns: int, run: int
) -> Instance:
    data = _slice(_header(sop_class, modality, rows, columns, run))
    syntax = str(ExplicitVRLittleEndian)
    if name == "jpeg":
        syntax = str(JPEGLosslessSV1)
        data.PixelData = encapsulate([encode(_body(rows, columns), 12)])
        data["PixelData"].is_undefined_length = True
        data["PixelData"].VR = "OB"
    else:
        data.PixelData = _body(rows, columns).tobytes()
        data["PixelData"].VR = "OW"
    return Instance(name, sop_class, str(data.SOPInstanceUID), syntax, _encoded(data))


def _enhanced(frames: int, run: int) -> Instance:
    """A multiframe of 512 x 512; its pixels are not made here, they follow while it is sent."""
    data = _header(str(EnhancedCTImageStorage), "CT", 512, 512, run)
    data.NumberOfFrames = frames
    shared, measures = Dataset(), Dataset()
    measures.SliceThickness, measures.PixelSpacing = "1.25", ["0.7", "0.7"]
    shared.PixelMeasuresSequence = [measures]
    data.SharedFunctionalGroupsSequence = [shared]
    items = []
    for frame in range(frames):
        item, position, content = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = ["-180", "-180", f"{frame * 1.25:.2f}"]
        content.StackID, content.InStackPositionNumber = "1", frame + 1
        item.PlanePositionSequence, item.FrameContentSequence = [position], [content]
        items.append(item)
    data.PerFrameFunctionalGroupsSequence = items
    pixel_bytes = frames * 512 * 512 * 2
    header = BytesIO()
    header.write(b"\xe0\x7f\x10\x00OW\x00\x00" + pixel_bytes.to_bytes(4, "little"))
    return Instance(
        "enhanced",
        str(EnhancedCTImageStorage),
        str(data.SOPInstanceUID),
        str(ExplicitVRLittleEndian),
        _encoded(data) + header.getvalue(),
        pixel_bytes,
    )


def make(name: str, run: int, enhanced_frames: int = 400) -> Instance:
    """The instance of that name; `run` becomes a part of its UIDs."""
    if name == "ct":
        return _single(name, str(CTImageStorage), "CT", 512, 512, run)
    if name == "mr":
        return _single(name, str(MRImageStorage), "MR", 256, 256, run)
    if name == "tiny":
        return _single(name, str(MRImageStorage), "MR", 62, 64, run)
    if name == "jpeg":
        return _single(name, str(CTImageStorage), "CT", 512, 512, run)
    if name == "enhanced":
        return _enhanced(enhanced_frames, run)
    raise ValueError(f"no instance is called {name!r}; there are {', '.join(NAMES)}")
