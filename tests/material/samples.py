"""Real DICOM files of every accepted SOP class and transfer syntax, and clones with new UIDs.

The originals are looked up in pydicom and pydicom-data; what no package holds is made from them
with DCMTK's tools. Nothing is kept in the repository.
"""

import functools
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.data import get_charset_files, get_testdata_file
from pydicom.uid import generate_uid

from tests.material import wire

TOOLS = Path("/usr/bin")


@dataclass(frozen=True)
class Sample:
    """One file: how it is called, where it lies, what it is."""

    name: str
    path: Path
    sop_class: str
    syntax: str
    sop_instance: str


# name -> (source file, DCMTK tool and options that make it; none: taken as it is)
_RECIPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "ct-explicit": ("CT_small.dcm", ()),
    "ct-implicit": ("CT_small.dcm", ("dcmconv", "+ti")),
    "ct-jpeg-lossless": ("CT_small.dcm", ("dcmcjpeg", "+e1")),
    "mr-explicit": ("MR_small.dcm", ()),
    "mr-implicit": ("MR_small_implicit.dcm", ()),
    "mr-jpeg-lossless": ("MR_small.dcm", ("dcmcjpeg", "+e1")),
    "enhanced-ct-explicit": ("eCT_Supplemental.dcm", ()),
    "enhanced-ct-implicit": ("eCT_Supplemental.dcm", ("dcmconv", "+ti")),
    "enhanced-ct-jpeg-lossless": ("eCT_Supplemental.dcm", ("dcmcjpeg", "+e1")),
    "secondary-capture-implicit": ("SC_rgb.dcm", ("dcmconv", "+ti")),
    "secondary-capture-odd-size": ("SC_rgb_small_odd.dcm", ("dcmconv", "+ti")),
    # A real lossless JPEG of 16 bits: Secondary Capture is accepted uncompressed only.
    "secondary-capture-decoded": ("JPEG-LL.dcm", ("dcmdjpeg", "+ti")),
}

# Character sets (0008,0005): default, ISO_IR 100, ISO 2022 IR 87 and beyond.
_CHARACTER_SETS = (
    *("chrFren.dcm", "chrGerm.dcm", "chrH31.dcm", "chrH32.dcm", "chrRuss.dcm", "chrArab.dcm"),
    *("chrGreek.dcm", "chrHbrw.dcm", "chrI2.dcm", "chrX1.dcm", "chrX2.dcm"),
)

PAIRS = {
    (sop_class, syntax)
    for sop_class in (wire.CT_IMAGE, wire.MR_IMAGE, wire.ENHANCED_CT)
    for syntax in (wire.IMPLICIT, wire.EXPLICIT, wire.JPEG_LOSSLESS)
} | {(wire.SECONDARY_CAPTURE, wire.IMPLICIT)}


@functools.cache
def directory() -> Path:
    """Where derived files lie for this run of the tests; removed at its end."""
    holder = tempfile.TemporaryDirectory(prefix="samples-")
    _KEPT.append(holder)
    return Path(holder.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def original(name: str) -> Path:
    """A file of pydicom or pydicom-data, never fetched from a network."""
    found = get_testdata_file(name, download=False) or next(iter(get_charset_files(name)), None)
    assert isinstance(found, str), f"{name}: not in pydicom nor pydicom-data"
    return Path(found)


def available() -> bool:
    """Whether DCMTK's tools are there to make the derived files."""
    return all((TOOLS / tool).exists() for tool in ("dcmconv", "dcmcjpeg", "dcmdjpeg"))


def _described(name: str, path: Path) -> Sample:
    meta = pydicom.filereader.read_file_meta_info(path)
    return Sample(
        name,
        path,
        str(meta.MediaStorageSOPClassUID),
        str(meta.TransferSyntaxUID),
        str(meta.MediaStorageSOPInstanceUID),
    )


@functools.cache
def sample(name: str) -> Sample:
    """One of the recipes, made on first use, with a UID of its own."""
    source, recipe = _RECIPES[name]
    path = directory() / f"{name}.dcm"
    if recipe:
        tool, *options = recipe
        command = [str(TOOLS / tool), *options, str(original(source)), str(path)]
        subprocess.run(command, check=True, capture_output=True)
    else:
        shutil.copyfile(original(source), path)
    _give_new_uid(path)
    return _described(name, path)


@functools.cache
def every_sample() -> tuple[Sample, ...]:
    """All recipes; together they cover every accepted pair of class and transfer syntax."""
    return tuple(sample(name) for name in _RECIPES)


@functools.cache
def character_set_samples() -> tuple[Sample, ...]:
    """Small Secondary Captures whose patient names are in other character sets."""
    return tuple(_character_set_sample(name) for name in _CHARACTER_SETS)


def _character_set_sample(name: str) -> Sample:
    path = directory() / f"characters-{name}"
    data_set = pydicom.dcmread(original(name))
    data_set.file_meta.MediaStorageSOPClassUID = wire.SECONDARY_CAPTURE
    data_set.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data_set.SOPClassUID = wire.SECONDARY_CAPTURE
    data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID
    data_set.file_meta.TransferSyntaxUID = wire.IMPLICIT
    data_set.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=True)
    return _described(name, path)


def clone(source: Sample, path: Path) -> Sample:
    """A copy with a SOP instance UID of its own, everything else untouched."""
    shutil.copyfile(source.path, path)
    _give_new_uid(path)
    return _described(source.name, path)


def _give_new_uid(path: Path) -> None:
    """Replace the UID by one of the same length, in the bytes: nothing is encoded anew."""
    content = path.read_bytes()
    old = str(pydicom.filereader.read_file_meta_info(path).MediaStorageSOPInstanceUID).encode()
    new = generate_uid()
    while len(new) < len(old):
        new += "7"
    path.write_bytes(
        content.replace(old, new[: len(old)].rstrip(".").ljust(len(old), "1").encode())
    )
