"""The head of a DICOM file (PS3.10 section 7.1): written for what is received, read from any file.

The preamble is always zeros, never a copy of anything: a peer's 128 bytes could make the file a
program (a "polyglot"). Reading is bounded by the bytes it is given and trusts no length in them;
LocalError when they are not the head of a DICOM file.
"""

import re
import struct
from dataclasses import dataclass
from typing import Final

from engine.dictionary import uids
from engine.dictionary.vr import LONG_VRS
from engine.errors import LocalError

_PREAMBLE: Final = bytes(128) + b"DICM"
_SHORT: Final = struct.Struct("<HH2sH")
_LONG: Final = struct.Struct("<HH2sHI")
_UID: Final = re.compile(rb"[0-9.]{0,64}")


def _text(element: int, vr: bytes, text: str, pad: bytes) -> bytes:
    value = text.encode("ascii")
    if len(value) & 1:
        value += pad
    return _SHORT.pack(2, element, vr, len(value)) + value


_VERSION: Final = _LONG.pack(2, 0x0001, b"OB", 0, 2) + b"\0\1"
_IMPLEMENTATION: Final = _text(0x0012, b"UI", uids.implementation_class, b"\0") + _text(
    0x0013, b"SH", uids.implementation_version, b" "
)


def part10_head(
    sop_class: str, sop_instance: str, transfer_syntax: str, source_ae_title: str
) -> bytes:
    """Preamble, prefix and file meta information; the data set follows as it is."""
    elements = b"".join(
        (
            _VERSION,
            _text(0x0002, b"UI", sop_class, b"\0"),
            _text(0x0003, b"UI", sop_instance, b"\0"),
            _text(0x0010, b"UI", transfer_syntax, b"\0"),
            _IMPLEMENTATION,
            _text(0x0016, b"AE", source_ae_title, b" ") if source_ae_title else b"",
        )
    )
    group_length = _SHORT.pack(2, 0x0000, b"UL", 4) + len(elements).to_bytes(4, "little")
    return _PREAMBLE + group_length + elements


@dataclass(frozen=True, slots=True)
class Part10Head:
    """What a file says of itself. A field that is missing is empty."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    source_ae_title: str
    data_set_offset: int


def read_part10_head(data: bytes) -> Part10Head:
    """The head of a file whose first bytes are `data`; it has to lie in them as a whole.

    The end of the file meta information is where its elements end. Its group length is not
    looked at: files in which it lies are common, and a good one says nothing more.
    """
    if data[128:132] != b"DICM":
        raise LocalError("not a DICOM file: no DICM prefix")
    values: dict[int, bytes] = {}
    at = 132
    before = -1
    while data[at : at + 2] == b"\2\0":
        element, at, value = _element(data, at)
        if element <= before:
            raise LocalError("file meta information is out of order")
        before = element
        values[element] = value
    if not values:
        raise LocalError("no file meta information")
    title = values.get(0x0016, b"").strip(b" \0")
    return Part10Head(
        sop_class=_uid(values.get(0x0002, b"")),
        sop_instance=_uid(values.get(0x0003, b"")),
        transfer_syntax=_uid(values.get(0x0010, b"")),
        source_ae_title=title[:16].decode("ascii", "replace"),
        data_set_offset=at,
    )


def _element(data: bytes, at: int) -> tuple[int, int, bytes]:
    """(element, where the next one begins, value)."""
    if len(data) - at < 8:
        raise LocalError("file meta information is cut off")
    _, element, vr, length = _SHORT.unpack_from(data, at)
    start = at + 8
    if vr in LONG_VRS:
        if len(data) - at < 12:
            raise LocalError("file meta information is cut off")
        length = _LONG.unpack_from(data, at)[4]
        start = at + 12
    elif not (vr.isalpha() and vr.isupper()):
        raise LocalError("file meta information is not explicit VR")
    if length > len(data) - start:
        raise LocalError("file meta information is cut off")
    return element, start + length, data[start : start + length]


def _uid(value: bytes) -> str:
    text = value.rstrip(b"\0 ")
    if not _UID.fullmatch(text):
        raise LocalError("file meta information has a malformed UID")
    return text.decode("ascii")
