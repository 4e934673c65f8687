"""DIMSE command sets (PS3.7): reads requests, writes responses, cuts them into P-DATA-TF PDUs.

What a defect costs the peer is decided by one question: is it certain what the message is, and
what comes after it? If so it is answered; if not, the association is aborted (A-ABORT source 0).

| defect | answer |
|---|---|
| group length missing or wrong; a value of odd length; a UID padded with blanks | read, and told |
| element beyond group 0000, out of order, or repeated | A-ABORT |
| element reaching beyond the end | A-ABORT |
| no command field, message ID, or data set type, or one that is not of two bytes | A-ABORT |
| a response, to one that asked nothing | A-ABORT |
| C-ECHO-RQ or C-CANCEL-RQ that announces a data set | A-ABORT: nobody knows whether one comes |
| C-STORE-RQ that announces no data set | 0110, at once |
| C-STORE-RQ with a SOP class missing, ill-formed, or not that of its context | 0110, data dropped |
| C-STORE-RQ with a SOP instance UID missing, ill-formed, or too long | 0110, data dropped |
| C-ECHO-RQ with another SOP class than Verification | 0122 |
| any other operation, or one that its context does not know | 0211, its data set dropped |
| C-CANCEL-RQ | ignored: nothing here can be cancelled |
| elements without a meaning here, priority among them | skipped |

A UID is well formed if it begins with a digit and has nothing but digits and dots: leading zeros
occur in the wild and are harmless, the rest is not.
"""

import re
import struct
from enum import IntEnum
from typing import Final

from engine import limits
from engine.dimse.command_set import broken, decode_command_set

_ELEMENT: Final = struct.Struct("<HHI")
_FIRST: Final = struct.Struct("<HHII")
_US: Final = struct.Struct("<H")
# Group length, command field, message ID responded to, data set type, status as they stand in a
# row in every response; the UIDs stand before and behind.
_RESPONSE: Final = struct.Struct("<HHIHHHIHHHIHHHIH")
_PDV: Final = struct.Struct(">BxIIBB")

_UID: Final = re.compile(rb"[0-9][0-9.]{0,63}")
_PADDING: Final = b"\0 "
NO_DATA_SET: Final = 0x0101


class CommandField(IntEnum):
    """PS3.7 E.1. Requests only; a response has the highest bit set."""

    C_STORE = 0x0001
    C_FIND = 0x0020
    C_MOVE = 0x0021
    C_ECHO = 0x0030
    C_CANCEL = 0x0FFF


RESPONSE_BIT: Final = 0x8000


class Status(IntEnum):
    """PS3.7 annex C: those that are ever sent."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    UNRECOGNIZED_OPERATION = 0x0211


class Request:
    """A request's fields. `sop_class` and `sop_instance` are empty when missing or ill-formed."""

    __slots__ = (
        "command_field",
        "has_data_set",
        "message_id",
        "oddities",
        "sop_class",
        "sop_instance",
    )

    def __init__(self, command_set: bytes) -> None:
        """PeerError when the message cannot be understood, or is a response."""
        elements, self.oddities = decode_command_set(command_set)
        field = _number(elements, 0x0100)
        if field & RESPONSE_BIT:
            raise broken(f"response {field:04X}H to no request")
        self.command_field = field
        self.has_data_set = _number(elements, 0x0800) != NO_DATA_SET
        # C-CANCEL-RQ alone has no message ID of its own.
        self.message_id = 0 if field == CommandField.C_CANCEL else _number(elements, 0x0110)
        self.sop_class = _uid(elements.get(0x0002))
        self.sop_instance = _uid(elements.get(0x1000))
        if self.has_data_set and field in (CommandField.C_ECHO, CommandField.C_CANCEL):
            raise broken(f"request {field:04X}H announces a data set")


def _number(elements: dict[int, bytes], element: int) -> int:
    value = elements.get(element)
    if value is None:
        raise broken(f"command element (0000,{element:04X}) is missing")
    if len(value) != 2:
        raise broken(f"command element (0000,{element:04X}) has {len(value)} bytes")
    return value[0] | value[1] << 8


def _uid(value: bytes | None) -> str:
    if value is None:
        return ""
    text = value.rstrip(_PADDING)
    return text.decode("ascii") if _UID.fullmatch(text) else ""


def store_refusal(request: Request, abstract_syntax: str) -> str:
    """Why a C-STORE-RQ cannot be carried out, as an error comment; empty: it can."""
    if request.sop_class != abstract_syntax:
        return "SOP class is not that of the presentation context"
    if not request.sop_instance:
        return "SOP instance UID is missing or malformed"
    if not request.has_data_set:
        return "C-STORE without a data set"
    return ""


# --- encoding ------------------------------------------------------------------------------------


def encode_elements(elements: dict[int, bytes]) -> bytes:
    """A command set: the group length, then the elements in the order of their numbers."""
    parts = []
    for element in sorted(elements):
        value = elements[element]
        parts.append(_ELEMENT.pack(0, element, len(value)))
        parts.append(value)
    body = b"".join(parts)
    return _FIRST.pack(0, 0, 4, len(body)) + body


def _uid_element(element: int, uid: str) -> bytes:
    if not uid:
        return b""
    value = uid_value(uid)
    return _ELEMENT.pack(0, element, len(value)) + value


def uid_value(uid: str) -> bytes:
    """A UID padded to even length."""
    value = uid.encode("ascii")
    return value + b"\0" if len(value) & 1 else value


def response_sop_class(sop_class: str) -> bytes:
    """The element with which a response gives back the request's SOP class."""
    return _uid_element(0x0002, sop_class)


def _comment_element(comment: str) -> bytes:
    """(0000,0902), VR LO: at most 64 characters, no control character, no backslash."""
    text = "".join(
        character if character.isascii() and character.isprintable() else "?"
        for character in comment.replace("\\", "/")
    )
    value = text.strip()[: limits.error_comment_characters_max].encode("ascii")
    if not value:
        return b""
    if len(value) & 1:
        value += b" "
    return _ELEMENT.pack(0, 0x0902, len(value)) + value


def encode_response(request: Request, status: int, comment: str = "") -> bytes:
    """The command set that answers `request`. Its UIDs are given back if they were well formed."""
    before = _uid_element(0x0002, request.sop_class)
    behind = _comment_element(comment) if comment else b""
    if request.command_field == CommandField.C_STORE:
        behind += _uid_element(0x1000, request.sop_instance)
    middle = _RESPONSE.pack(
        *(0, 0x0100, 2, request.command_field | RESPONSE_BIT),
        *(0, 0x0120, 2, request.message_id),
        *(0, 0x0800, 2, NO_DATA_SET),
        *(0, 0x0900, 2, status),
    )
    length = len(before) + len(middle) + len(behind)
    return b"".join((_FIRST.pack(0, 0, 4, length), before, middle, behind))


def encode_pdus(
    context_id: int, payload: bytes, peer_max_pdu: int, *, command: bool = True
) -> bytes:
    """A command set, or a small data set, as P-DATA-TF PDUs, to be sent in one write.

    No PDU is longer than the peer's maximum (0: no limit) or than ours.
    """
    maximum = limits.pdu_bytes_advertised
    if 0 < peer_max_pdu < maximum:
        maximum = peer_max_pdu
    size = (maximum - 6) & ~1  # fragments are of even length (PS3.8 annex E.1)
    kind = 1 if command else 0
    if len(payload) <= size:
        length = len(payload)
        return _PDV.pack(4, length + 6, length + 2, context_id, kind | 2) + payload
    parts = []
    for at in range(0, len(payload), size):
        piece = payload[at : at + size]
        flags = kind | 2 if at + size >= len(payload) else kind
        parts.append(_PDV.pack(4, len(piece) + 6, len(piece) + 2, context_id, flags))
        parts.append(piece)
    return b"".join(parts)
