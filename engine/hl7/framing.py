"""MLLP: bytes from a connection become messages (HL7 Transport Specification, MLLP release 1).

A block is VT, the message, FS, CR. Some senders leave the CR out, or put line ends between blocks:
both are taken. A VT inside a block means that its sender gave it up and began anew.
"""

from typing import Final, NamedTuple

from engine.errors import PeerError
from engine.limits import hl7_message_bytes_max, hl7_stray_bytes_max

START: Final = 0x0B
END: Final = 0x1C
_BETWEEN: Final = b"\r\n\t \0"


class Block(NamedTuple):
    """One message's bytes. `cut`: the sender began anew before it had ended it."""

    content: bytes
    cut: bool = False


class Framer:
    """The bytes of one connection, in whatever pieces they come."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._looked = 0  # up to here there is no END
        self._stray = 0
        self._open = False

    @property
    def is_open(self) -> bool:
        """Whether a block has begun and not ended."""
        return self._open

    def feed(self, received: bytes) -> list[Block]:
        """The blocks that are complete now. PeerError: this is no MLLP, or a block is too long."""
        self._held += received
        blocks = []
        while block := self._next():
            blocks.append(block)
        return blocks

    def _next(self) -> Block | None:
        if not self._open and not self._begin():
            return None
        end = self._held.find(END, self._looked)
        again = self._held.find(START, self._looked, end if end >= 0 else len(self._held))
        if again >= 0:
            content = bytes(self._held[:again])
            self._forget(again + 1)
            return Block(content, cut=True)
        if end < 0:
            self._looked = len(self._held)
            self._check_length(self._looked)
            return None
        self._check_length(end)
        content = bytes(self._held[:end])
        self._forget(end + 1)
        self._open = False
        return Block(content)

    def _begin(self) -> bool:
        """Whether a block begins; what stands before it is passed over."""
        start = self._held.find(START)
        passed = self._held if start < 0 else self._held[:start]
        self._stray += len(passed.strip(_BETWEEN))
        if self._stray > 0 and start < 0 and self._stray > hl7_stray_bytes_max:
            raise PeerError("what comes is no MLLP: no block begins")
        if start < 0:
            self._forget(len(self._held))
            return False
        if self._stray > hl7_stray_bytes_max:
            raise PeerError("what comes is no MLLP: too much stands between blocks")
        self._forget(start + 1)
        self._open, self._stray = True, 0
        return True

    def _forget(self, count: int) -> None:
        del self._held[:count]
        self._looked = 0

    def _check_length(self, length: int) -> None:
        if length > hl7_message_bytes_max:
            raise PeerError(f"a message is longer than {hl7_message_bytes_max} bytes")


def framed(content: bytes) -> bytes:
    """A message as a block."""
    return bytes((START,)) + content + bytes((END, 0x0D))
