"""P-DATA-TF PDUs to whole messages, where we asked: command set, and data set if there is one.

Both are bounded, for what answers a request of ours is small; instances come in elsewhere
(`native/src/reception/pdu_cutter.cpp`). Whatever breaks PS3.8 annex E or the order of PS3.7 is a
PeerError. A data set that a response did not announce as it should is dropped if it comes. What was
odd in command sets is kept for the log.
"""

import struct
from collections.abc import Container
from typing import Final

from engine import limits
from engine.dimse.command_set import CommandOddity, broken, decode_command_set
from engine.dimse.requests import Message, data_set_follows
from engine.errors import PeerError, invalid

_PDV: Final = struct.Struct(">IBB")
_COMMAND: Final = 1  # PS3.8 E.2; the other bits are not looked at, as it says there
_LAST: Final = 2


class MessageReader:
    """Puts the messages of one association together. One message at a time is in parts.

    `oddities`: of all command sets so far."""

    __slots__ = ("_context_id", "_dropped_bytes", "_elements", "_parts", "_unsure_of", "oddities")

    def __init__(self) -> None:
        self._context_id = 0  # 0: no message has begun
        self._parts = bytearray()
        self._elements: dict[int, bytes] | None = None  # of a command whose data set is due
        self._unsure_of = 0  # the context of a response that may still have a data set
        self._dropped_bytes = 0
        self.oddities: frozenset[CommandOddity] = frozenset()

    @property
    def midway(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._context_id != 0

    def feed(self, body: bytes, contexts: Container[int]) -> list[Message]:
        """The messages that end in this PDU's body. `contexts`: those that may be used."""
        messages: list[Message] = []
        end = len(body)
        at = 0
        while end - at >= 6:
            length, context_id, flags = _PDV.unpack_from(body, at)
            if length < 2 or length > end - at - 4:
                raise invalid(f"fragment of {length} bytes in a P-DATA-TF PDU of {end}")
            if context_id not in contexts:
                raise invalid(f"message in presentation context {context_id}, which is not in use")
            fragment = body[at + 6 : at + 4 + length]
            at += 4 + length
            message = self._take(context_id, flags, fragment)
            if message is not None:
                messages.append(message)
        if at != end or not end:
            raise invalid(f"{end - at} bytes of a P-DATA-TF PDU are no fragment")
        return messages

    def _take(self, context_id: int, flags: int, fragment: bytes) -> Message | None:
        if self._context_id == 0:
            if context_id == self._unsure_of and not flags & _COMMAND:
                self._drop(flags, fragment)
                return None
            self._context_id = context_id
            self._unsure_of = 0
        elif self._context_id != context_id:
            raise broken("two messages are mixed")
        if flags & _COMMAND:
            return self._take_command(flags, fragment)
        if self._elements is None:
            raise broken("a data set came where a command was due")
        self._keep(fragment, limits.identifier_bytes_max, "data set")
        return self._whole(bytes(self._parts)) if flags & _LAST else None

    def _take_command(self, flags: int, fragment: bytes) -> Message | None:
        if self._elements is not None:
            raise broken("a command came where a data set was due")
        self._keep(fragment, limits.command_bytes_max, "command set")
        if not flags & _LAST:
            return None
        self._elements, oddities = decode_command_set(bytes(self._parts))
        self._parts.clear()
        follows, odd = data_set_follows(self._elements)
        self.oddities |= oddities
        if odd:
            self.oddities |= {CommandOddity.DATA_SET_TYPE}
        if follows:
            return None
        self._unsure_of, self._dropped_bytes = (self._context_id if odd else 0), 0
        return self._whole(None)

    def _drop(self, flags: int, fragment: bytes) -> None:
        """A data set of a response that had said nothing of it, or should have none."""
        self._dropped_bytes += len(fragment)
        if self._dropped_bytes > limits.identifier_bytes_max:
            raise _too_long("data set", limits.identifier_bytes_max)
        if flags & _LAST:
            self._unsure_of = 0

    def _keep(self, fragment: bytes, most: int, name: str) -> None:
        if len(self._parts) + len(fragment) > most:
            raise _too_long(name, most)
        self._parts += fragment

    def _whole(self, data: bytes | None) -> Message:
        assert self._elements is not None, "a message ends behind its command"
        message = Message(self._context_id, self._elements, data)
        self._context_id = 0
        self._elements = None
        self._parts.clear()
        return message


def _too_long(name: str, most: int) -> PeerError:
    return broken(f"a {name} of more than {most} bytes where we asked")
