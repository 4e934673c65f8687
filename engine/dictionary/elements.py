"""Data elements as rules name them, by keyword or by tag, and their values as text.

The index's own attributes are known without pydicom, whose dictionary is loaded at the first name
that is none of them. Values come as the native tag scanner cut them out of a little-endian data
set.
"""

import re
import zlib
from collections.abc import Iterable, Mapping
from struct import Struct
from typing import Final, NamedTuple

from engine.dictionary import attributes
from engine.dictionary.suggestion import suggestion
from engine.dictionary.uids import is_explicit_vr
from engine.limits import attribute_bytes_max, attributes_bytes_max, sequence_depth_max
from native import _core

SOP_CLASS_UID: Final = 0x00080016
_PIXEL_GROUP: Final = 0x7FE0
_TAG: Final = re.compile(r"\(?([0-9A-Fa-f]{4}),\s?([0-9A-Fa-f]{4})\)?")
# VRs whose values rules can compare, besides the numbers below.
TEXT_VRS: Final = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI"}
    | {"UR", "UT"}
)
# PS3.5 6.1.2.3: those that Specific Character Set is for.
_CHARACTER_SET_VRS: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
BINARY_VRS: Final = {
    "US": Struct("<H"),
    "SS": Struct("<h"),
    "UL": Struct("<L"),
    "SL": Struct("<l"),
    "UV": Struct("<Q"),
    "SV": Struct("<q"),
    "FL": Struct("<f"),
    "FD": Struct("<d"),
}


class Element(NamedTuple):
    """A data element that can be asked for: its tag, and the VR its value is read by."""

    tag: int
    vr: str


def find_element(name: str) -> Element:
    """By keyword, or as "(gggg,eeee)"; ValueError says why it cannot be asked for."""
    if name in attributes.BY_KEYWORD:
        known = attributes.BY_KEYWORD[name]
        return Element(known.tag, known.vr)
    from pydicom.datadict import dictionary_VR, keyword_dict

    written = _TAG.fullmatch(name)
    if written is not None:
        tag = int(written[1] + written[2], 16)
    elif name in keyword_dict:
        tag = keyword_dict[name]
    else:
        raise ValueError(
            "is neither a keyword of the DICOM dictionary nor a tag such as (0018,0015)"
            + suggestion(name, [*attributes.BY_KEYWORD, *keyword_dict])
        )
    group = tag >> 16
    if group <= 0x0002 or group >= _PIXEL_GROUP:
        raise ValueError("stands outside the part of the data set that rules can look at")
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        vr = "LO"  # private: text, as nearly all private elements that people ask for are
    vr = vr.split(" or ")[0]
    if vr not in TEXT_VRS and vr not in BINARY_VRS:
        raise ValueError(f"has VR {vr}, whose value no condition can compare")
    return Element(tag, vr)


def extra_tags(tags: Iterable[int]) -> tuple[int, ...]:
    """Those of the tags that the index does not keep anyway, in the scanner's order."""
    return tuple(sorted(set(tags) - attributes.BY_TAG.keys() - {SOP_CLASS_UID}))


def identity_of(tags: Iterable[int]) -> int:
    """A number that tells one set of extra tags from another; 0: there are none."""
    packed = b"".join(tag.to_bytes(4, "big") for tag in sorted(tags))
    return zlib.crc32(packed) if packed else 0


def _single(number: float) -> str:
    """The shortest text of a number of single precision: 0.1, not 0.10000000149011612."""
    packing = BINARY_VRS["FL"]
    texts = (f"{number:.{digits}g}" for digits in (7, 8, 9))
    return next(
        (text for text in texts if packing.unpack(packing.pack(float(text)))[0] == number), ""
    )


def element_text(vr: str, raw: bytes, character_set: bytes) -> str:
    """A raw value as text, several values parted by backslashes."""
    packing = BINARY_VRS.get(vr)
    if packing is not None:
        whole = len(raw) - len(raw) % packing.size
        numbers = (number for (number,) in packing.iter_unpack(raw[:whole]))
        return "\\".join(_single(number) if vr == "FL" else str(number) for number in numbers)
    if vr in _CHARACTER_SET_VRS:
        return attributes.decode_text(raw, character_set, vr)[0]
    return raw.decode("latin-1").strip(" \0")


def scan_row(data: bytes, transfer_syntax: str, tags: Iterable[int]) -> bytes:
    """The row of these tags in the beginning of a data set, as the receivers cut it out.

    A malformed data set tells what stands before the fault.
    """
    row, _ = _core.scan_tags(
        data,
        is_explicit_vr(transfer_syntax),
        sorted(tags),
        attribute_bytes_max,
        attributes_bytes_max,
        sequence_depth_max,
    )
    return row


def texts_of(
    elements: Iterable[tuple[int, bytes]], vrs: Mapping[int, str], character_set: bytes
) -> dict[int, str]:
    """{tag: text} of raw values, by the VRs that rules read them by."""
    return {tag: element_text(vrs[tag], raw, character_set) for tag, raw in elements if tag in vrs}
