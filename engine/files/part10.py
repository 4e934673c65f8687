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
_VRS: Final = LONG_VRS | {b"UI", b"SH", b"AE", b"UL", b"LO", b"ST", b"CS"}
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

    The file meta information ends where its group length says, if an element ends there that can
    be the last one: what follows may be elements of group 0002 that came in the data set. Files
    whose group length lies are common, so that otherwise it ends where its elements end.
    """
    if data[128:132] != b"DICM":
        raise LocalError("not a DICOM file: no DICM prefix")
    values: dict[int, bytes] = {}
    at = 132
    before = -1
    end = 0  # as the group length says; 0: it says nothing
    while data[at : at + 2] == b"\2\0":
        if at == end and _may_end(values, data, at):
            break
        element, at, value = _element(data, at)
        if element <= before:
            raise LocalError("file meta information is out of order")
        before = element
        values[element] = value
        if element == 0 and len(value) == 4:
            end = at + int.from_bytes(value, "little")
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


def _may_end(values: dict[int, bytes], data: bytes, at: int) -> bool:
    """Whether the file meta information can end at `at`, ahead of one more element of group 0002.

    Ours always ends where it says. In a file of another writer an element that continues it in
    order belongs to it, as pydicom and DCMTK have it: the group length was too short.
    """
    if 0x0010 not in values:
        return False
    if _uid(values.get(0x0012, b"")) == uids.implementation_class:
        return True
    element = int.from_bytes(data[at + 2 : at + 4], "little")
    return element <= max(values) or data[at + 4 : at + 6] not in _VRS


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
