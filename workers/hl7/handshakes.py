"""Connections over TLS until they are secured: so many at a time, each for so long.

A connection that has not shown what it is costs a socket and OpenSSL's state. Over the bound the
one that has been at it for longest is closed, so that silent ones keep nobody out. Hosts that are
not allowed are closed before anything is read of them.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterable
from typing import Final, Protocol

from engine import limits

# accept(2): there is no room now. It is asked again, as asyncio's server does.
_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
# The peer is gone already, or its network is: Linux tells it of the new connection, accept(2).
_GONE: Final = (
    *(errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.ENOPROTOOPT),
    *(errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH),
)
_again_s: Final = 1.0


class Door(Protocol):
    """What the process decides of who knocks."""

    def may_knock(self, peer: str) -> bool:
        """Whether this host is let in at all."""

    def crowded_out(self, peer: str) -> None:
        """A handshake was ended for another one."""

    def failed(self, peer: str, why: str) -> None:
        """A handshake came to nothing."""

    def watch(self, task: "asyncio.Task[None]") -> None:
        """A fault of ours in it ends the process."""


class Handshakes:
    """Accepts on sockets of its own (they are closed with it) and secures what comes."""

    def __init__(
        self,
        door: Door,
        context: ssl.SSLContext,
        sockets: Iterable[socket.socket],
        connect: Callable[[], asyncio.Protocol],
    ) -> None:
        self._door = door
        self._context = context
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._pending: dict[asyncio.Task[None], str] = {}  # the oldest first; their peers
        self._accepting = [self._watched(self._accept(listener)) for listener in sockets]

    @property
    def pending(self) -> int:
        """How many are not secured yet."""
        return len(self._pending)

    def close(self) -> None:
        """Accept no more. What has begun a handshake may end it."""
        for task in self._accepting:
            task.cancel()

    def abandon(self) -> None:
        """End the handshakes that are under way, too."""
        for task in list(self._pending):
            task.cancel()

    def _watched(self, work: Coroutine[None, None, None]) -> "asyncio.Task[None]":
        task = self._loop.create_task(work)
        self._door.watch(task)
        return task

    async def _accept(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        with listener:
            while True:
                try:
                    accepted, address = await self._loop.sock_accept(listener)
                except OSError as error:
                    if error.errno in _NO_ROOM:
                        await asyncio.sleep(_again_s)
                    elif error.errno not in _GONE:
                        raise
                    continue
                self._take(accepted, str(address[0]).removeprefix("::ffff:"))

    def _take(self, accepted: socket.socket, peer: str) -> None:
        if not self._door.may_knock(peer):
            accepted.close()
            return
        if len(self._pending) >= limits.hl7_handshakes_max:
            oldest = next(iter(self._pending))
            self._door.crowded_out(self._pending.pop(oldest))
            oldest.cancel()
        task = self._watched(self._secure(accepted, peer))
        self._pending[task] = peer
        task.add_done_callback(lambda done: self._pending.pop(done, None))

    async def _secure(self, accepted: socket.socket, peer: str) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._connect,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=limits.tls_handshake_s,
            )
        except OSError as error:  # ssl.SSLError is one
            self._door.failed(peer, f"the TLS handshake failed: {_words(error)}")


def _words(error: OSError) -> str:
    """OpenSSL's reason, a constant of its own; never what a peer sent."""
    reason = getattr(error, "reason", None)
    return str(reason) if reason else type(error).__name__
