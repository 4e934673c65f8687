"""The items of association PDUs, and the one that is a world of its own: user information.

`engine.upper_layer.pdus` cuts PDUs with what is here. Sub-items of unknown type are skipped (PS3.8
9.3.1), extended negotiation among them; of a user identity only its type is kept, for its secrets
concern nobody here.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from engine import limits
from engine.dictionary import uids
from engine.errors import AbortReason, PeerError, invalid

_ITEM: Final = struct.Struct(">BxH")
_LENGTH: Final = struct.Struct(">I")
_PAIR: Final = struct.Struct(">HH")


@dataclass(frozen=True, slots=True)
class RoleSelection:
    """PS3.7 D.3.3.4, of the association's requestor."""

    sop_class: str
    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class UserInformation:
    """PS3.7 annex D.3.3. `maximum_length` 0: no limit."""

    maximum_length: int = limits.pdu_bytes_advertised
    implementation_class: str = uids.implementation_class
    implementation_version: str = uids.implementation_version
    asynchronous_window: tuple[int, int] | None = None  # (invoked, performed)
    roles: tuple[RoleSelection, ...] = ()
    identity_type: int | None = None  # that a user identity came, and which; never its content


def repeated(text: str) -> PeerError:
    """A part that may come once came again."""
    return PeerError(f"{text} is repeated", AbortReason.UNEXPECTED_PARAMETER)


def cut_items(data: bytes, start: int, where: str) -> Iterator[tuple[int, bytes]]:
    """Cut a run of items that must end where `data` ends."""
    end = len(data)
    while start < end:
        if end - start < 4:
            raise invalid(f"{end - start} stray bytes in {where}")
        kind, length = _ITEM.unpack_from(data, start)
        start += 4
        if length > end - start:
            raise invalid(f"item {kind:02X}H of {length} bytes overruns {where}")
        yield kind, data[start : start + length]
        start += length


def uid_text(value: bytes, where: str) -> str:
    """A UID, of any characters; not too long."""
    # PS3.8 annex F forbids padding; some devices pad all the same, as in a data set.
    text = value.rstrip(b"\0")
    if len(text) > limits.uid_characters_max:
        raise invalid(f"{where} has {len(text)} characters")
    return text.decode("latin-1")


def padded_text(field: bytes) -> str:
    """A title without leading and trailing spaces, of any characters."""
    # Devices that pad with NUL exist and mean the same.
    return field.rstrip(b" \0").lstrip(b" ").decode("latin-1")


def item(kind: int, value: bytes) -> bytes:
    """An item or sub-item."""
    return _ITEM.pack(kind, len(value)) + value


def decode_user_information(data: bytes) -> UserInformation:
    """The content of a user-information item, or PeerError."""
    parts: dict[int, bytes] = {}
    roles: dict[str, RoleSelection] = {}
    for kind, value in cut_items(data, 0, "user information"):
        if kind == 0x54:
            role = _role(value)
            if role.sop_class in roles:
                raise repeated("role selection of one SOP class")
            roles[role.sop_class] = role
        elif kind in (0x51, 0x52, 0x53, 0x55, 0x58):
            if kind in parts:
                raise repeated(f"user information sub-item {kind:02X}H")
            parts[kind] = value
    # A peer that names no maximum length, or no implementation, loses nothing by it.
    return UserInformation(
        maximum_length=_maximum_length(parts[0x51]) if 0x51 in parts else 0,
        implementation_class=uid_text(parts.get(0x52, b""), "implementation class UID"),
        implementation_version=padded_text(parts.get(0x55, b"")[:16]),
        asynchronous_window=_window(parts[0x53]) if 0x53 in parts else None,
        roles=tuple(roles.values()),
        identity_type=_identity_type(parts[0x58]) if 0x58 in parts else None,
    )


def _maximum_length(value: bytes) -> int:
    if len(value) != 4:
        raise invalid("maximum length sub-item is not of 4 bytes")
    maximum = int.from_bytes(value, "big")
    # Six bytes of PDV header and two of payload: below, no fragment can ever be sent.
    if 0 < maximum < limits.pdu_bytes_useful_min:
        raise invalid(f"maximum length {maximum} leaves no room for a fragment")
    return maximum


def _window(value: bytes) -> tuple[int, int]:
    if len(value) != 4:
        raise invalid("asynchronous operations window is not of 4 bytes")
    invoked, performed = _PAIR.unpack(value)
    return invoked, performed


def _role(value: bytes) -> RoleSelection:
    length = int.from_bytes(value[:2], "big")
    if len(value) < 4 or len(value) != length + 4:
        raise invalid("role selection sub-item has a wrong length")
    if value[-2] > 1 or value[-1] > 1:
        raise invalid("role selection is neither 0 nor 1")
    return RoleSelection(uid_text(value[2:-2], "role selection"), bool(value[-2]), bool(value[-1]))


def _identity_type(value: bytes) -> int:
    """PS3.7 D.3.3.7.1: type, response requested, two fields with their lengths."""
    primary = int.from_bytes(value[2:4], "big")
    secondary = int.from_bytes(value[4 + primary : 6 + primary], "big")
    if len(value) < 6 or len(value) != 6 + primary + secondary:
        raise invalid("user identity sub-item has a wrong length")
    return value[0]


def encode_user_information(user: UserInformation) -> bytes:
    """A user-information item. A user identity is never sent."""
    parts = [
        item(0x51, _LENGTH.pack(user.maximum_length)),
        item(0x52, user.implementation_class.encode("ascii")),
    ]
    if user.asynchronous_window is not None:
        parts.append(item(0x53, _PAIR.pack(*user.asynchronous_window)))
    for role in user.roles:
        name = role.sop_class.encode("ascii")
        value = len(name).to_bytes(2, "big") + name + bytes((role.scu, role.scp))
        parts.append(item(0x54, value))
    parts.append(item(0x55, user.implementation_version.encode("ascii")))
    return item(0x50, b"".join(parts))
