"""Listening sockets: bound by the supervisor, inherited by workers, closed only when not wanted.

An address of "" means every interface, IPv4 and IPv6, as two sockets: so a worker sees an IPv4 peer
as such, and lists of allowed hosts mean what they say.
"""

import errno
import socket
import time

from engine import limits
from workers.supervision.binding import bind_problem

_retry_s = 0.1


def listen(name: str, address: str, port: int, patience_s: float = 0.0) -> list[socket.socket]:
    """Bound and listening sockets; OperatorError says what stands in the way.

    `patience_s`: how long workers of a killed predecessor may still hold the port."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return _listen_once(address, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                raise bind_problem(name, address, port, error) from error
        time.sleep(_retry_s)


def _listen_once(address: str, port: int) -> list[socket.socket]:
    if address:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [_bind(family, address, port)]
    first = _bind(socket.AF_INET, "0.0.0.0", port)
    try:
        return [first, _bind(socket.AF_INET6, "::", port)]
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            return [first]  # a machine without IPv6
        first.close()
        raise


def _bind(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(limits.listen_backlog)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


class Listeners:
    """The sockets held, by (address, port)."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], list[socket.socket]] = {}

    def open(
        self, wanted: dict[tuple[str, int], str], patience_s: float = 0.0
    ) -> set[tuple[str, int]]:
        """Bind what is not held yet, all or none; which were new. Values are names to report."""
        fresh: dict[tuple[str, int], list[socket.socket]] = {}
        try:
            for place, name in wanted.items():
                if place not in self._held:
                    fresh[place] = listen(name, *place, patience_s)
        except BaseException:
            _close(fresh)
            raise
        self._held |= fresh
        return set(fresh)

    def places(self) -> list[tuple[str, int]]:
        """(address, port) of each that is held."""
        return sorted(self._held)

    def descriptors(self, place: tuple[str, int]) -> tuple[int, ...]:
        return tuple(listener.fileno() for listener in self._held[place])

    def keep_only(self, wanted: set[tuple[str, int]]) -> None:
        _close({place: self._held.pop(place) for place in set(self._held) - wanted})

    def close(self) -> None:
        self.keep_only(set())


def _close(listeners: dict[tuple[str, int], list[socket.socket]]) -> None:
    for group in listeners.values():
        for listener in group:
            listener.close()
