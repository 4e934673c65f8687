"""DIMSE, the requestor's side (PS3.7): writes requests, reads what answers them.

The requests have no optional element: priority is always medium, and a C-STORE of ours never
answers a C-MOVE. A response is read leniently where nothing depends on it: its UIDs, its
sub-operation counts, its comment, a data set type that says nothing new. It is read strictly where
the next byte does: its kind, the message it answers, its status.
"""

import struct
from enum import Enum
from typing import Final, NamedTuple

from engine.dictionary import uids
from engine.dimse.command_set import broken
from engine.dimse.commands import (
    NO_DATA_SET,
    RESPONSE_BIT,
    CommandField,
    encode_elements,
    encode_pdus,
    uid_value,
)

_US: Final = struct.Struct("<H")
_MEDIUM: Final = _US.pack(0)
_DATA_SET: Final = _US.pack(0x0001)  # any value but 0101H says that a data set follows
_NO_DATA_SET: Final = _US.pack(NO_DATA_SET)
message_id_max: Final = 0xFFFF


class Message(NamedTuple):
    """One message as it came. `data` None: without a data set."""

    context_id: int
    elements: dict[int, bytes]
    data: bytes | None


# --- requests ------------------------------------------------------------------------------------


def _request(field: CommandField, message_id: int, sop_class: str, data_set: bool) -> bytes:
    elements = {
        0x0002: uid_value(sop_class),
        0x0100: _US.pack(field),
        0x0110: _US.pack(message_id),
        0x0800: _DATA_SET if data_set else _NO_DATA_SET,
    }
    if field is not CommandField.C_ECHO:
        elements[0x0700] = _MEDIUM
    return encode_elements(elements)


def encode_echo_request(message_id: int) -> bytes:
    """A C-ECHO-RQ command set."""
    return _request(CommandField.C_ECHO, message_id, uids.verification, data_set=False)


def encode_store_request(message_id: int, sop_class: str, sop_instance: str) -> bytes:
    """A C-STORE-RQ command set; a data set follows it."""
    return encode_elements(
        {
            0x0002: uid_value(sop_class),
            0x0100: _US.pack(CommandField.C_STORE),
            0x0110: _US.pack(message_id),
            0x0700: _MEDIUM,
            0x0800: _DATA_SET,
            0x1000: uid_value(sop_instance),
        }
    )


def encode_find_request(message_id: int, sop_class: str) -> bytes:
    """A C-FIND-RQ command set; the identifier follows it."""
    return _request(CommandField.C_FIND, message_id, sop_class, data_set=True)


def encode_move_request(message_id: int, sop_class: str, destination: str) -> bytes:
    """A C-MOVE-RQ command set; the identifier follows it. `destination` is an AE title."""
    title = destination.encode("ascii")
    return encode_elements(
        {
            0x0002: uid_value(sop_class),
            0x0100: _US.pack(CommandField.C_MOVE),
            0x0110: _US.pack(message_id),
            0x0600: title + b" " * (len(title) & 1),
            0x0700: _MEDIUM,
            0x0800: _DATA_SET,
        }
    )


def encode_cancel_request(message_id: int) -> bytes:
    """A C-CANCEL-RQ command set for the C-FIND or C-MOVE of that message ID."""
    return encode_elements(
        {
            0x0100: _US.pack(CommandField.C_CANCEL),
            0x0120: _US.pack(message_id),
            0x0800: _NO_DATA_SET,
        }
    )


def encode_message(
    context_id: int, command_set: bytes, data_set: bytes | None, pdu_bytes_max: int
) -> bytes:
    """A message with a small data set, or none, as P-DATA-TF PDUs, to be sent in one write."""
    pdus = encode_pdus(context_id, command_set, pdu_bytes_max)
    if data_set is None:
        return pdus
    return pdus + encode_pdus(context_id, data_set, pdu_bytes_max, command=False)


# --- responses -----------------------------------------------------------------------------------


class StatusClass(Enum):
    """What a status says, whatever the service (PS3.7 annex C)."""

    SUCCESS = "success"
    WARNING = "warning"
    PENDING = "pending"
    CANCEL = "cancel"
    FAILURE = "failure"


def outcome_of(status: int) -> StatusClass:
    """PS3.7 annex C: 0001, 0107, 0116 and Bxxx are warnings; what is not named is a failure."""
    if status == 0:
        return StatusClass.SUCCESS
    if status in (0xFF00, 0xFF01):
        return StatusClass.PENDING
    if status == 0xFE00:
        return StatusClass.CANCEL
    if status & 0xF000 == 0xB000 or status in (0x0001, 0x0107, 0x0116):
        return StatusClass.WARNING
    return StatusClass.FAILURE


# PS3.7 annex C and PS3.4 tables B.2-1, C.4-1, C.4-2; those of one hundred hexadecimal numbers
# last.
_WORDS: Final = {
    0x0000: "success",
    0x0001: "requested optional attributes are not supported",
    0x0107: "attribute list error",
    0x0110: "processing failure",
    0x0116: "attribute value out of range",
    0x0117: "invalid SOP instance",
    0x0122: "SOP class not supported",
    0x0124: "not authorized",
    0x0210: "duplicate invocation",
    0x0211: "unrecognized operation",
    0x0212: "mistyped argument",
    0xA701: "out of resources: unable to calculate the number of matches",
    0xA702: "out of resources: unable to perform sub-operations",
    0xA801: "move destination unknown",
    0xB000: "coercion of data elements, or sub-operations failed",
    0xB006: "elements discarded",
    0xB007: "data set does not match SOP class (warning)",
    0xFE00: "cancelled",
    0xFF00: "pending",
    0xFF01: "pending: optional keys are not supported",
}
_RANGES: Final = {
    0xA7: "out of resources",
    0xA9: "data set does not match SOP class",
    0xC0: "unable to process",
}


def status_words(status: int) -> str:
    """A status for people: its number and, where the standard has them, its words."""
    words = _WORDS.get(status) or _RANGES.get(status >> 8)
    if words is None:
        words = "unable to process" if status >> 12 == 0xC else outcome_of(status).value
    return f"{status:04X} {words}"


class Response:
    """A response's fields. `comment` is the peer's own text; counts are None where it sent none."""

    __slots__ = (
        "_elements",
        "command_field",
        "context_id",
        "data",
        "message_id",
        "status",
    )

    def __init__(self, message: Message) -> None:
        """PeerError when it is no response, or lacks what every response has."""
        elements = message.elements
        field = _number(elements, 0x0100)
        if not field & RESPONSE_BIT:
            raise broken(f"request {field:04X}H where a response was due")
        self.command_field = field & ~RESPONSE_BIT
        self.message_id = _number(elements, 0x0120)
        self.status = _number(elements, 0x0900)
        self.context_id = message.context_id
        self.data = message.data
        self._elements = elements

    @property
    def outcome(self) -> StatusClass:
        """What the status says."""
        return outcome_of(self.status)

    @property
    def comment(self) -> str:
        """(0000,0902), as it came: to be escaped where it is shown."""
        return self._elements.get(0x0902, b"").rstrip(b"\0 ").decode("latin-1")

    @property
    def remaining(self) -> int | None:
        """Sub-operations that are still to come."""
        return self._count(0x1020)

    @property
    def completed(self) -> int | None:
        """Sub-operations that succeeded."""
        return self._count(0x1021)

    @property
    def failed(self) -> int | None:
        """Sub-operations that failed."""
        return self._count(0x1022)

    @property
    def warnings(self) -> int | None:
        """Sub-operations that succeeded with a warning."""
        return self._count(0x1023)

    def _count(self, element: int) -> int | None:
        value = self._elements.get(element)
        return None if value is None or len(value) != 2 else value[0] | value[1] << 8

    def check_answers(self, field: CommandField, message_id: int) -> None:
        """PeerError if it answers another request: with one outstanding there is no other."""
        if self.command_field != field or self.message_id != message_id:
            raise broken(
                f"response {self.command_field | RESPONSE_BIT:04X}H to message {self.message_id} "
                f"where {field | RESPONSE_BIT:04X}H to message {message_id} was due"
            )


def _number(elements: dict[int, bytes], element: int) -> int:
    value = elements.get(element)
    if value is None or len(value) != 2:
        raise broken(f"response has no good element (0000,{element:04X})")
    return value[0] | value[1] << 8


def data_set_follows(elements: dict[int, bytes]) -> tuple[bool, bool]:
    """(whether a data set follows a command set, whether its type (0000,0800) is odd).

    Only what answers a C-FIND or ends a C-MOVE may have one (PS3.7 9.1.1 to 9.1.5). With any other
    response of ours a type that is missing, or is that of the request given back, promises nothing.
    PeerError when nobody knows whether a data set comes.
    """
    field = _number(elements, 0x0100)
    declared = None
    if len(elements.get(0x0800, b"")) == 2:
        declared = _number(elements, 0x0800) != NO_DATA_SET
    if field not in _ANSWERS:
        return _number(elements, 0x0800) != NO_DATA_SET, False
    pending = outcome_of(_number(elements, 0x0900)) is StatusClass.PENDING
    if (field, pending) not in _WITH_DATA_SET:
        return False, declared is not False
    if declared is None:
        return field == _FIND_RESPONSE, True
    return declared, False


_FIND_RESPONSE: Final = CommandField.C_FIND | RESPONSE_BIT
_MOVE_RESPONSE: Final = CommandField.C_MOVE | RESPONSE_BIT
_ANSWERS: Final = (
    CommandField.C_STORE | RESPONSE_BIT,
    CommandField.C_ECHO | RESPONSE_BIT,
    _FIND_RESPONSE,
    _MOVE_RESPONSE,
)
# With whether the status is pending: a match has its identifier, a retrieval that ended may list
# the instances that failed.
_WITH_DATA_SET: Final = ((_FIND_RESPONSE, True), (_MOVE_RESPONSE, False))
