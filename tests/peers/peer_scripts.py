"""What a `tests.peers.scripted_peer.ScriptedPeer` does with a connection: a service, and its
failings."""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.material import wire
from tests.peers.scripted_peer import Decide, Gone, Link, Request, Script, Stored, accept_first


def rejecting(result: int, source: int, reason: int) -> Script:
    """A-ASSOCIATE-RJ to whatever is asked."""

    def script(link: Link) -> None:
        link.request = link.receive()
        link.send(wire.pdu(wire.ASSOCIATE_RJ, bytes((0, result, source, reason))))
        link.hang()

    return script


def aborting(source: int = 2, reason: int = 0) -> Script:
    """A-ABORT in place of an answer to the A-ASSOCIATE-RQ."""

    def script(link: Link) -> None:
        link.request = link.receive()
        link.abort(source, reason)
        link.hang()

    return script


def silent(link: Link) -> None:
    """Takes the connection and never says a word."""
    link.hang()


def closing(link: Link) -> None:
    """Closes where an answer to the A-ASSOCIATE-RQ was due."""
    link.receive()


@dataclass
class Scp:
    """A service of every class, well-behaved until told otherwise.

    `statuses`: of C-STORE, in turn over all associations, the last one again and again.
    `matches`: for each C-FIND what its responses are, (status, identifier or None), in the order
    given; a callable decides by the request. `moves`: likewise, (status, further elements).
    `fault`: what happens to a C-STORE after `fault_bytes` of its data set, or (None) once it is
    whole and before its response: "abort", "close", "reset", "hang", or "early" (A700 at once,
    the rest of the data set is not read). `fault_after` counts the C-STOREs that go well before.
    `slow_s` is waited before each response, and then for `go_on`.
    """

    statuses: Sequence[int] = (0,)
    matches: (
        Sequence[tuple[int, bytes | None]] | Callable[[Request], Iterable[tuple[int, bytes | None]]]
    ) = ((0, None),)
    moves: (
        Sequence[tuple[int, dict[int, bytes]]]
        | Callable[[Request], Iterable[tuple[int, dict[int, bytes]]]]
    ) = ((0, {}),)
    decide: Decide = accept_first
    maximum: int | None = 16384
    fault: str = ""
    fault_bytes: int | None = None
    fault_after: int = 0
    slow_s: float = 0.0
    go_on: threading.Event | None = None
    release_fault: str = ""  # "close", "hang", "collide"
    comment: bytes = b""
    encode: Callable[[dict[int, bytes]], bytes] = wire.joined  # of a response's command set
    _stores: int = field(default=0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __call__(self, link: Link) -> None:
        """The script."""
        link.associate(self.decide, self.maximum)
        link.encode = self.encode
        while True:
            request = link.message(lambda size: self._watch(link, size))
            if request is None:
                self._release(link)
                return
            link.peer.commands.append(request)
            if self.slow_s:
                time.sleep(self.slow_s)
            if self.go_on is not None:
                self.go_on.wait(60)
            if request.field == wire.C_STORE_RQ:
                self._store(link, request)
            elif request.field == wire.C_FIND_RQ:
                matches = self.matches(request) if callable(self.matches) else self.matches
                for status, identifier in matches:
                    link.respond(request, status, identifier)
            elif request.field == 0x0021:
                moves = self.moves(request) if callable(self.moves) else self.moves
                for status, more in moves:
                    link.respond(request, status, None, more)
            elif request.field != wire.C_CANCEL_RQ:
                link.respond(request, self.statuses[-1])

    def _watch(self, link: Link, size: int) -> None:
        if self.fault and self.fault_bytes is not None and size > self.fault_bytes:
            with self._lock:
                due = self._stores >= self.fault_after
            if due:
                self._break(link)

    def _break(self, link: Link) -> None:
        if self.fault == "abort":
            link.abort(2, 6)
            link.hang()
        elif self.fault == "reset":
            link.reset()
        elif self.fault == "hang":
            link.hang()
        elif self.fault == "early":
            assert link.under_way is not None
            link.respond(link.under_way, 0xA700)
            link.hang()
        raise Gone

    def _store(self, link: Link, request: Request) -> None:
        assert request.data is not None
        with self._lock:
            number = self._stores
            self._stores += 1
        if self.fault and self.fault_bytes is None and number >= self.fault_after:
            self._break(link)
        status = self.statuses[min(number, len(self.statuses) - 1)]
        called, calling = link.titles
        if status == 0 or status & 0xF000 == 0xB000:
            sop_class, syntax = link.contexts[request.context]
            link.peer.stored[request.text(0x1000)] = Stored(
                sop_class, syntax, request.data, calling, called
            )
        more = {0x1000: request.command[0x1000]}
        if self.comment:
            more[0x0902] = self.comment
        link.respond(request, status, None, more)

    def _release(self, link: Link) -> None:
        if self.release_fault == "hang":
            link.hang()
        elif self.release_fault == "collide":
            link.send(wire.pdu(wire.RELEASE_RQ, bytes(4)))
            assert link.receive().kind == wire.RELEASE_RP
            link.release()
        elif self.release_fault != "close":
            link.release()


@contextmanager
def full_listener() -> Iterator[int]:
    """A port whose backlog is full, so that connects are not answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as holders:
        for _ in range(4):
            holder = holders.enter_context(socket.socket())
            holder.setblocking(False)
            holder.connect_ex(full.getsockname())
        yield full.getsockname()[1]
