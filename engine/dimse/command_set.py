"""A command set's bytes to its elements (PS3.7 6.3.1), as real peers write them.

Read as they are meant, because nothing depends on them: a group length that is missing or wrong
(the last fragment says where a command set ends), values that nobody padded to even length, UIDs
padded with blanks. DCMTK and pynetdicom read these alike. Each is told as an oddity, so that
whoever looks for the cause of a peer's trouble finds it. What leaves it open where an element ends,
or which of two values is meant, is a PeerError.
"""

import struct
from enum import StrEnum
from typing import Final, NamedTuple

from engine.errors import AbortReason, AbortSource, PeerError

_ELEMENT: Final = struct.Struct("<HHI")
_GROUP_LENGTH: Final = struct.Struct("<I")
_UIDS: Final = (0x0002, 0x0003, 0x1000, 0x1001)  # affected and requested, class and instance


class CommandOddity(StrEnum):
    """The label of its counter."""

    GROUP_LENGTH = "group_length"
    ODD_LENGTH = "odd_length"
    BLANK_PADDING = "blank_padding"
    DATA_SET_TYPE = "data_set_type"


_WORDS: Final = {
    CommandOddity.GROUP_LENGTH: "no group length, or a wrong one",
    CommandOddity.ODD_LENGTH: "a value of odd length",
    CommandOddity.BLANK_PADDING: "a UID padded with blanks",
    CommandOddity.DATA_SET_TYPE: "no data set type, or one that such a response cannot have",
}


def oddity_fields(oddity: CommandOddity) -> dict[str, str]:
    """For the log line `command_odd`: what was odd in a peer's command sets, none of its values."""
    return {"kind": oddity.value, "text": _WORDS[oddity]}


class CommandSet(NamedTuple):
    """Element number -> value, without the group length."""

    elements: dict[int, bytes]
    oddities: frozenset[CommandOddity]


_NOTHING_ODD: Final = frozenset[CommandOddity]()


def broken(text: str) -> PeerError:
    """A message that cannot be understood: the service user's A-ABORT."""
    return PeerError(text, AbortReason.NOT_SPECIFIED, AbortSource.SERVICE_USER)


def decode_command_set(data: bytes) -> CommandSet:
    """The elements of a whole command set; or PeerError."""
    elements: dict[int, bytes] = {}
    odd_length = False
    unpack = _ELEMENT.unpack_from
    end = len(data)
    at, before = 0, -1
    while at < end:
        if end - at < _ELEMENT.size:
            raise broken(f"{end - at} stray bytes in command set")
        group, element, length = unpack(data, at)
        at += _ELEMENT.size
        if group != 0 or element <= before:
            raise broken(f"command element ({group:04X},{element:04X}) is out of place")
        if length > end - at:
            raise broken(f"command element (0000,{element:04X}) of length {length}")
        odd_length = odd_length or length & 1 == 1
        elements[element] = data[at : at + length]
        at += length
        before = element
    if not elements:
        raise broken("command set of 0 bytes")
    oddities = _NOTHING_ODD
    # The group length counts what stands behind it.
    if elements.pop(0, b"") != _GROUP_LENGTH.pack(max(0, end - 12)):
        oddities |= {CommandOddity.GROUP_LENGTH}
    if odd_length:
        oddities |= {CommandOddity.ODD_LENGTH}
    if any(elements.get(uid, b"").endswith(b" ") for uid in _UIDS):
        oddities |= {CommandOddity.BLANK_PADDING}
    return CommandSet(elements, oddities)
