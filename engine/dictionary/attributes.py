"""The attributes the index keeps: their table, and the decoding of one instance's row of them.

The receiver cuts raw values out of the passing data set; here they become text, once, in the
indexer. A broken character set never stops an instance: what cannot be decoded is shown with
replacement characters, and the result says so.
"""

from collections.abc import Iterator
from enum import IntEnum
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

from engine.dictionary.character_sets import decode
from engine.dictionary.code_sets import declared_by


class Level(IntEnum):
    """Whose attribute it is, in the Study Root model with the patient told apart."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    INSTANCE = 3


class Attribute(NamedTuple):
    """One wanted attribute. `vr` is the one it is matched and decoded by."""

    tag: int
    keyword: str
    vr: str
    level: Level


SPECIFIC_CHARACTER_SET: Final = 0x00080005
STUDY_INSTANCE_UID: Final = 0x0020000D
SERIES_INSTANCE_UID: Final = 0x0020000E
PATIENT_NAME: Final = 0x00100010
PATIENT_ID: Final = 0x00100020
ISSUER_OF_PATIENT_ID: Final = 0x00100021
STUDY_DATE: Final = 0x00080020
STUDY_TIME: Final = 0x00080030
ACCESSION_NUMBER: Final = 0x00080050
MODALITY: Final = 0x00080060
SERIES_NUMBER: Final = 0x00200011
INSTANCE_NUMBER: Final = 0x00200013

# The query keys of tables 4.2-43 to 4.2-48, and what worklists and rules usually ask for.
ATTRIBUTES: Final = (
    Attribute(SPECIFIC_CHARACTER_SET, "SpecificCharacterSet", "CS", Level.SERIES),
    Attribute(0x00080008, "ImageType", "CS", Level.INSTANCE),
    Attribute(STUDY_DATE, "StudyDate", "DA", Level.STUDY),
    Attribute(0x00080021, "SeriesDate", "DA", Level.SERIES),
    Attribute(0x00080022, "AcquisitionDate", "DA", Level.INSTANCE),
    Attribute(0x00080023, "ContentDate", "DA", Level.INSTANCE),
    Attribute(STUDY_TIME, "StudyTime", "TM", Level.STUDY),
    Attribute(0x00080031, "SeriesTime", "TM", Level.SERIES),
    Attribute(0x00080032, "AcquisitionTime", "TM", Level.INSTANCE),
    Attribute(0x00080033, "ContentTime", "TM", Level.INSTANCE),
    Attribute(ACCESSION_NUMBER, "AccessionNumber", "SH", Level.STUDY),
    Attribute(MODALITY, "Modality", "CS", Level.SERIES),
    Attribute(0x00080070, "Manufacturer", "LO", Level.SERIES),
    Attribute(0x00080080, "InstitutionName", "LO", Level.SERIES),
    Attribute(0x00080090, "ReferringPhysicianName", "PN", Level.STUDY),
    Attribute(0x00081010, "StationName", "SH", Level.SERIES),
    Attribute(0x00081030, "StudyDescription", "LO", Level.STUDY),
    Attribute(0x0008103E, "SeriesDescription", "LO", Level.SERIES),
    Attribute(0x00081090, "ManufacturerModelName", "LO", Level.SERIES),
    Attribute(PATIENT_NAME, "PatientName", "PN", Level.PATIENT),
    Attribute(PATIENT_ID, "PatientID", "LO", Level.PATIENT),
    Attribute(ISSUER_OF_PATIENT_ID, "IssuerOfPatientID", "LO", Level.PATIENT),
    Attribute(0x00100030, "PatientBirthDate", "DA", Level.PATIENT),
    Attribute(0x00100040, "PatientSex", "CS", Level.PATIENT),
    Attribute(0x00101010, "PatientAge", "AS", Level.STUDY),
    Attribute(0x00180015, "BodyPartExamined", "CS", Level.SERIES),
    Attribute(0x00181030, "ProtocolName", "LO", Level.SERIES),
    Attribute(STUDY_INSTANCE_UID, "StudyInstanceUID", "UI", Level.STUDY),
    Attribute(SERIES_INSTANCE_UID, "SeriesInstanceUID", "UI", Level.SERIES),
    Attribute(0x00200010, "StudyID", "SH", Level.STUDY),
    Attribute(SERIES_NUMBER, "SeriesNumber", "IS", Level.SERIES),
    Attribute(0x00200012, "AcquisitionNumber", "IS", Level.INSTANCE),
    Attribute(INSTANCE_NUMBER, "InstanceNumber", "IS", Level.INSTANCE),
    Attribute(0x00280008, "NumberOfFrames", "IS", Level.INSTANCE),
    Attribute(0x00280010, "Rows", "US", Level.INSTANCE),
    Attribute(0x00280011, "Columns", "US", Level.INSTANCE),
)

BY_TAG: Final = {attribute.tag: attribute for attribute in ATTRIBUTES}
BY_KEYWORD: Final = {attribute.keyword: attribute for attribute in ATTRIBUTES}
# What the native tag scanner is told to cut out, in the order it meets them.
WANTED_TAGS: Final = tuple(sorted(BY_TAG))

_INSTANCE_TAGS: Final = frozenset(a.tag for a in ATTRIBUTES if a.level is Level.INSTANCE)
_UPPER_TAGS: Final = frozenset(BY_TAG) - _INSTANCE_TAGS
_HEADER: Final = Struct("<HHH")
# VRs to which Specific Character Set applies (PS3.5 6.1.2.3), of those in the table.
_CHARACTER_SET_VRS: Final = frozenset({"LO", "SH", "PN"})


class DecodedHead(NamedTuple):
    """The upper levels of one instance, decoded: {tag: text} for each, empty values left out."""

    patient: dict[int, str]
    study: dict[int, str]
    series: dict[int, str]
    character_set: bytes
    character_set_broken: bool


def read_row(row: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, raw value) of each element of a row {u16 group, u16 element, u16 length, bytes}."""
    offset, end = 0, len(row)
    while offset < end:
        group, element, length = _HEADER.unpack_from(row, offset)
        offset += 6 + length
        assert offset <= end, "a row is covered by its record's checksum"
        yield group << 16 | element, row[offset - length : offset]


def write_row(values: dict[int, bytes]) -> bytes:
    """The inverse of read_row()."""
    return b"".join(
        _HEADER.pack(tag >> 16, tag & 0xFFFF, len(value)) + value
        for tag, value in sorted(values.items())
    )


class SplitRow(NamedTuple):
    """A row taken apart.

    `upper` is the patient, study and series part. It is the same, byte for byte, for all instances
    of a series, so it serves as the key under which everything that follows from it is remembered.
    `extra` are elements that only rules ask for: the index keeps none of them.
    """

    upper: bytes
    instance: list[tuple[int, bytes]]
    extra: list[tuple[int, bytes]]


def split_row(row: bytes) -> SplitRow:
    """A row of elements, by what they are for."""
    unpack, upper_tags, instance_tags = _HEADER.unpack_from, _UPPER_TAGS, _INSTANCE_TAGS
    upper: list[bytes] = []
    instance: list[tuple[int, bytes]] = []
    extra: list[tuple[int, bytes]] = []
    offset, end, upper_from = 0, len(row), 0
    while offset < end:
        group, element, length = unpack(row, offset)
        following = offset + 6 + length
        tag = group << 16 | element
        if tag not in upper_tags:
            if upper_from < offset:
                upper.append(row[upper_from:offset])
            upper_from = following
            others = instance if tag in instance_tags else extra
            others.append((tag, row[offset + 6 : following]))
        offset = following
    assert offset == end, "a row is covered by its record's checksum"
    if upper_from < end:
        upper.append(row[upper_from:])
    return SplitRow(b"".join(upper), instance, extra)


@lru_cache(maxsize=1024)
def decode_head(upper: bytes) -> DecodedHead:
    """Decode what split_row() gave as its first part. The result is shared: never change it."""
    values = dict(read_row(upper))
    character_set = values.get(SPECIFIC_CHARACTER_SET, b"")
    levels: tuple[dict[int, str], dict[int, str], dict[int, str]] = ({}, {}, {})
    broken = False
    for tag, raw in values.items():
        attribute = BY_TAG.get(tag)
        if attribute is None or attribute.level is Level.INSTANCE:
            continue
        text, damaged = decode_value(attribute, raw, character_set)
        broken |= damaged
        if text:
            levels[attribute.level][tag] = text
    return DecodedHead(*levels, character_set, broken)


def decode_instance(elements: list[tuple[int, bytes]]) -> dict[int, str]:
    """{tag: text} of what split_row() gave as its second part, empty values left out.

    None of these has a VR that the character set touches.
    """
    decoded: dict[int, str] = {}
    for tag, raw in elements:
        text = _decode_plain(BY_TAG[tag].vr, raw)
        if text:
            decoded[tag] = text
    return decoded


def decode_value(attribute: Attribute, raw: bytes, character_set: bytes) -> tuple[str, bool]:
    """(text, damaged): `damaged` when the character set did not explain all of the bytes."""
    if attribute.vr in _CHARACTER_SET_VRS:
        return decode_text(raw, character_set, attribute.vr)
    return _decode_plain(attribute.vr, raw), False


@lru_cache(maxsize=65536)
def _decode_plain(vr: str, raw: bytes) -> str:
    """Values of the default repertoire. 8-bit characters, which are illegal here, stay visible."""
    if vr == "US":
        # A second value (there is none in these attributes) would be a malformed one.
        return str(int.from_bytes(raw[:2], "little")) if len(raw) >= 2 else ""
    return raw.decode("latin-1").strip(" \0")


@lru_cache(maxsize=65536)
def decode_text(raw: bytes, character_set: bytes, vr: str) -> tuple[str, bool]:
    """Decode a value under (0008,0005). Cached, since names and descriptions repeat endlessly."""
    if raw.isascii() and b"\x1b" not in raw:
        text, damaged = raw.decode("ascii"), False
    elif character_set.strip(b" \0") == b"ISO_IR 100" and b"\x1b" not in raw:
        text, damaged = raw.decode("latin-1"), False
    else:
        text, damaged = decode(raw, declared_by(character_set), vr)
    return text.rstrip(" \0"), damaged
