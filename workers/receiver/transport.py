"""What carries a connection's bytes: a socket as it is, or a TLS session upon one.

The connection and its protocol core do not know which. Neither kind ever waits. A secured one that
broke stays open for a moment when it is closed, without a key and without an association, so that
the peer can read the alert that says why.
"""

import asyncio
import errno
import socket
from contextlib import suppress
from typing import Final

from engine import limits
from native import _core

_discard_bytes: Final = 64 * limits.KIB

# What the kernel says of a connection, not of us (native/src/base/byte_stream.hpp, which has a test
# for both). Any other error of a socket is a fault of ours.
CONNECTION_LOSSES: Final = frozenset(
    (
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.EPIPE,
        errno.ENOTCONN,
        errno.ETIMEDOUT,
        errno.EPROTO,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENETRESET,
    )
)
_MEMORY_SHORT: Final = (errno.ENOMEM, errno.ENOBUFS)  # the kernel's; it passes


class ConnectionLostError(Exception):
    """The peer is gone, or the network between."""


def judge_failure(error: OSError) -> None:
    """Raise what it means; nothing where there is only nothing to do now."""
    if isinstance(error, BlockingIOError) or error.errno in _MEMORY_SHORT:
        return
    if error.errno in CONNECTION_LOSSES:
        raise ConnectionLostError from error
    raise error


class Transport:
    """A plain socket. `source` is what a cutter reads from."""

    source: int | _core.TlsSession

    def __init__(self, connection: socket.socket) -> None:
        self.descriptor = connection.fileno()
        self.source = self.descriptor
        self._socket = connection

    @property
    def fault(self) -> tuple[str, str]:
        """What broke it, (kind, text); a plain socket does not break, it ends."""
        return "", ""

    def send(self, data: bytes | bytearray) -> int:
        """How many bytes were taken; 0: none now. ConnectionLostError: the peer is gone."""
        try:
            return self._socket.send(data, socket.MSG_NOSIGNAL)
        except OSError as error:
            judge_failure(error)
            return 0

    def drop_input(self) -> int:
        """Read and forget what is there: `_core.RECEIVED_AGAIN`, `_BUDGET` or `_END`, as from an
        cutter."""
        for _ in range(limits.receive_bytes_per_turn // _discard_bytes):
            try:
                if not self._socket.recv(_discard_bytes):
                    return _core.RECEIVED_END
            except OSError as error:
                try:
                    judge_failure(error)
                except ConnectionLostError:
                    return _core.RECEIVED_END
                return _core.RECEIVED_AGAIN
        return _core.RECEIVED_BUDGET

    def widen(self) -> None:
        """The peer has an association: it may have more of our memory from now on."""

    def say_end(self) -> None:
        """The peer hears the end of the stream behind what was sent."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            with suppress(ConnectionLostError):  # already gone; the reader finds the end
                judge_failure(error)

    def close(self) -> None:
        """At once. The caller watches the descriptor no more."""
        self._socket.close()


class SecuredTransport(Transport):
    """A TLS session, the server's side, and the socket below it."""

    def __init__(
        self, connection: socket.socket, session: _core.TlsSession, farewells: "Farewells"
    ) -> None:
        super().__init__(connection)
        self.session = session
        self.source = session
        self._farewells = farewells

    @property
    def fault(self) -> tuple[str, str]:
        return self.session.fault

    def send(self, data: bytes | bytearray) -> int:
        try:
            return self.session.send(data)
        except OSError as error:
            judge_failure(error)
            return 0

    def widen(self) -> None:
        self.session.widen()

    def say_end(self) -> None:
        self.session.say_end()
        super().say_end()

    def close(self) -> None:
        kind, _ = self.session.fault
        if kind in ("", "closed", "not_tls"):
            self.session.say_end()
            super().close()
        else:
            self._farewells.take(self._socket)


class Farewells:
    """Sockets that are closed as soon as the peer has, or a second later.

    Closed at once, with bytes of the peer's still unread, TCP would answer with a reset, and the
    alert on its way would be thrown away before the peer has read it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timers: dict[Transport, asyncio.TimerHandle] = {}

    def take(self, connection: socket.socket) -> None:
        """Say the end and close later; at once if there are too many already."""
        transport = Transport(connection)
        if len(self._timers) >= limits.connections_pending_max:
            transport.close()
            return
        transport.say_end()
        self._timers[transport] = self._loop.call_later(limits.tls_linger_s, self._end, transport)
        self._loop.add_reader(transport.descriptor, self._readable, transport)

    def _readable(self, transport: Transport) -> None:
        # Who still sends a turn's worth has read no alert and will not.
        if transport.drop_input() != _core.RECEIVED_AGAIN:
            self._end(transport)

    def _end(self, transport: Transport) -> None:
        self._timers.pop(transport).cancel()
        self._loop.remove_reader(transport.descriptor)
        transport.close()

    def close(self) -> None:
        """All of them, now."""
        for transport in list(self._timers):
            self._end(transport)
