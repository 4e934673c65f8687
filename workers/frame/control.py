"""The letterbox between supervisor and child, and the messages that go through it.

A SOCK_SEQPACKET pair: one packet is one message, bounded, JSON, whole or not at all. The end of the
stream tells each side that the other is gone; nothing else does, so no process is ever left behind.
"""

import socket
from typing import Final

import msgspec

from engine import limits
from workers.frame.spec import AnySpec

# Room for a few of the largest messages, so that sending never has to wait.
_buffer_bytes: Final = 4 * limits.letter_bytes_max


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """To the child, first: who it is."""

    spec: AnySpec


class Change(msgspec.Struct, frozen=True, tag="change"):
    """To the child: a reload; only changeable fields differ."""

    spec: AnySpec


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """To the child: take nothing new, finish within these seconds, end."""

    seconds: float


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """From the child: it does its work now."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """From the child, last: why it cannot start or go on."""

    text: str


class Gone(msgspec.Struct, frozen=True):
    """Stands for the end of the stream: the other side lives no more."""


ToChild = Begin | Change | Drain
ToSupervisor = Ready | Failed

_to_child: Final = msgspec.json.Decoder(ToChild)
_to_supervisor: Final = msgspec.json.Decoder(ToSupervisor)


class Letterbox:
    """One end. Neither sending nor receiving ever waits."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _buffer_bytes)
        self._connection = connection

    @classmethod
    def pair(cls) -> tuple["Letterbox", socket.socket]:
        """(the supervisor's end, the child's socket to be inherited)."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    @property
    def descriptor(self) -> int:
        return self._connection.fileno()

    def send(self, message: ToChild | ToSupervisor) -> bool:
        """False: the other end is gone, or takes nothing any more."""
        packet = msgspec.json.encode(message)
        if len(packet) > limits.letter_bytes_max:
            raise ValueError(f"a message of {len(packet)} bytes exceeds {limits.letter_bytes_max}")
        try:
            return self._connection.send(packet, socket.MSG_NOSIGNAL) == len(packet)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return False

    def _receive(self) -> bytes | None:
        """A packet; empty at the end; None when there is nothing now."""
        try:
            return self._connection.recv(limits.letter_bytes_max)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return b""

    def receive_order(self) -> ToChild | Gone | None:
        """The child's: the next message, None when there is none now."""
        packet = self._receive()
        if packet is None:
            return None
        return _to_child.decode(packet) if packet else Gone()

    def receive_report(self) -> ToSupervisor | Gone | None:
        """The supervisor's, likewise."""
        packet = self._receive()
        if packet is None:
            return None
        return _to_supervisor.decode(packet) if packet else Gone()

    def close(self) -> None:
        self._connection.close()
