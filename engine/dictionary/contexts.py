"""The presentation contexts a storage AE accepts by default, and those it may be told to accept.

Tables 4.2-24 and 4.2-65 of the conformance statement are here as data. The transfer syntaxes
listed are all that the product can store *and* index: those whose data set is little endian and
not deflated. The configuration refuses any other, with the reason.
"""

from typing import Final

from engine.dictionary.sop_classes import STORAGE_SOP_CLASSES
from engine.dictionary.uids import (
    explicit_vr_little_endian,
    implicit_vr_little_endian,
    verification,
)

_jpeg_lossless_sv1: Final = "1.2.840.10008.1.2.4.70"

TRANSFER_SYNTAX_NAMES: Final[dict[str, str]] = {
    implicit_vr_little_endian: "Implicit VR Little Endian",
    explicit_vr_little_endian: "Explicit VR Little Endian",
    "1.2.840.10008.1.2.1.98": "Encapsulated Uncompressed Explicit VR Little Endian",
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.51": "JPEG Extended",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless",
    _jpeg_lossless_sv1: "JPEG Lossless SV1",
    "1.2.840.10008.1.2.4.80": "JPEG-LS Lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS Near Lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 Lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.92": "JPEG 2000 Multi-component Lossless",
    "1.2.840.10008.1.2.4.93": "JPEG 2000 Multi-component",
    "1.2.840.10008.1.2.4.100": "MPEG2 Main Profile Main Level",
    "1.2.840.10008.1.2.4.100.1": "Fragmentable MPEG2 Main Profile Main Level",
    "1.2.840.10008.1.2.4.101": "MPEG2 Main Profile High Level",
    "1.2.840.10008.1.2.4.101.1": "Fragmentable MPEG2 Main Profile High Level",
    "1.2.840.10008.1.2.4.102": "MPEG-4 High Profile 4.1",
    "1.2.840.10008.1.2.4.102.1": "Fragmentable MPEG-4 High Profile 4.1",
    "1.2.840.10008.1.2.4.103": "MPEG-4 BD-compatible High Profile 4.1",
    "1.2.840.10008.1.2.4.103.1": "Fragmentable MPEG-4 BD-compatible High Profile 4.1",
    "1.2.840.10008.1.2.4.104": "MPEG-4 High Profile 4.2 for 2D Video",
    "1.2.840.10008.1.2.4.104.1": "Fragmentable MPEG-4 High Profile 4.2 for 2D Video",
    "1.2.840.10008.1.2.4.105": "MPEG-4 High Profile 4.2 for 3D Video",
    "1.2.840.10008.1.2.4.105.1": "Fragmentable MPEG-4 High Profile 4.2 for 3D Video",
    "1.2.840.10008.1.2.4.106": "MPEG-4 Stereo High Profile 4.2",
    "1.2.840.10008.1.2.4.106.1": "Fragmentable MPEG-4 Stereo High Profile 4.2",
    "1.2.840.10008.1.2.4.107": "HEVC/H.265 Main Profile 5.1",
    "1.2.840.10008.1.2.4.108": "HEVC/H.265 Main 10 Profile 5.1",
    "1.2.840.10008.1.2.4.201": "High-Throughput JPEG 2000 Lossless",
    "1.2.840.10008.1.2.4.202": "High-Throughput JPEG 2000 RPCL Lossless",
    "1.2.840.10008.1.2.4.203": "High-Throughput JPEG 2000",
    "1.2.840.10008.1.2.5": "RLE Lossless",
}

# Known, and refused: the reader of the configuration is told why.
TRANSFER_SYNTAXES_REFUSED: Final[dict[str, str]] = {
    "1.2.840.10008.1.2.1.99": "Deflated Explicit VR Little Endian can be stored but not indexed",
    "1.2.840.10008.1.2.2": "Explicit VR Big Endian (retired) can be stored but not indexed",
}

SOP_CLASS_NAMES: Final[dict[str, str]] = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.4": "MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image Storage",
    verification: "Verification",
}

IMAGE_SYNTAXES: Final = (
    implicit_vr_little_endian,
    explicit_vr_little_endian,
    _jpeg_lossless_sv1,
)
# Tables 4.2-24 and 4.2-65: (abstract syntax, transfer syntaxes).
DEFAULT_CONTEXTS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("1.2.840.10008.5.1.4.1.1.2", IMAGE_SYNTAXES),
    ("1.2.840.10008.5.1.4.1.1.4", IMAGE_SYNTAXES),
    ("1.2.840.10008.5.1.4.1.1.2.1", IMAGE_SYNTAXES),
    ("1.2.840.10008.5.1.4.1.1.7", (implicit_vr_little_endian,)),
    (verification, (implicit_vr_little_endian,)),
)

# DICOM's own UIDs that name a storage SOP class begin so (PS3.4 annex B.5 and the non-patient
# objects of annex GG); its services (FIND, MOVE, commitment ...) are not for a storage AE.
STORAGE_PREFIXES: Final = (
    "1.2.840.10008.5.1.4.1.1.",
    "1.2.840.10008.5.1.4.34.7",
    "1.2.840.10008.5.1.4.34.10",
    "1.2.840.10008.5.1.4.38.1",
    "1.2.840.10008.5.1.4.39.1",
    "1.2.840.10008.5.1.4.43.1",
    "1.2.840.10008.5.1.4.44.1",
    "1.2.840.10008.5.1.4.45.1",
)
# Under the first of these prefixes, and yet queries.
STORAGE_EXCEPTIONS: Final = (
    "1.2.840.10008.5.1.4.1.1.200.4",
    "1.2.840.10008.5.1.4.1.1.200.5",
    "1.2.840.10008.5.1.4.1.1.200.6",
    "1.2.840.10008.5.1.4.1.1.201.2",
    "1.2.840.10008.5.1.4.1.1.201.3",
    "1.2.840.10008.5.1.4.1.1.201.4",
    "1.2.840.10008.5.1.4.1.1.201.5",
    "1.2.840.10008.5.1.4.1.1.201.6",
)


def uid_with_name(uid: str) -> str:
    """For people: a UID behind its name, where the standard has one."""
    name = STORAGE_SOP_CLASSES.get(uid) or syntax_name(uid)
    return f"{name} ({uid})" if name else uid


def syntax_name(uid: str) -> str:
    """The name people use for a SOP class or transfer syntax; empty for one not in the tables."""
    return SOP_CLASS_NAMES.get(uid) or TRANSFER_SYNTAX_NAMES.get(uid, "")
