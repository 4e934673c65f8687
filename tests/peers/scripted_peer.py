"""A scripted DICOM acceptor on a loopback port: a peer that we ask, good or bad in every way.

    with ScriptedPeer(Scp(statuses=[0xA700, 0])) as peer:         # each C-STORE its status
    with ScriptedPeer(rejecting(1, 1, 7), Scp()) as peer:          # first connection, all others
    with ScriptedPeer(lambda link: link.send(b"nonsense")) as peer:  # any bytes at all

A script is called with a `Link` (one connection) in a thread of its own; when it returns the
connection is closed. Ready scripts are in `tests.peers.peer_scripts`: `Scp` (a service with faults
to be switched on), `rejecting`, `aborting`, `silent`, `closing`. What arrived is in `peer.stored`,
`peer.commands`, `peer.associations`, `peer.open_most`. A link speaks `tests.material.wire`, a codec
foreign to the engine's.
"""

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

from tests.material import wire

# Proposed context (identifier, abstract syntax, transfer syntaxes) -> (result, transfer syntax);
# None: it is not answered at all.
Decide = Callable[[int, str, list[str]], tuple[int, str] | None]


def accept_first(_: int, __: str, syntaxes: list[str]) -> tuple[int, str]:
    """Everything, in the first transfer syntax proposed."""
    return 0, syntaxes[0]


def accept_only(*accepted: str) -> Decide:
    """The first transfer syntax that is one of these; otherwise result 4."""

    def decide(_: int, __: str, syntaxes: list[str]) -> tuple[int, str]:
        common = [syntax for syntax in syntaxes if syntax in accepted]
        return (0, common[0]) if common else (4, wire.IMPLICIT)

    return decide


class Request(NamedTuple):
    """A message as it came."""

    context: int
    command: dict[int, bytes]
    data: bytes | None

    @property
    def field(self) -> int:
        """The command field."""
        return int.from_bytes(self.command[0x0100], "little")

    @property
    def message(self) -> int:
        """The message ID."""
        return int.from_bytes(self.command[0x0110], "little")

    def text(self, tag: int) -> str:
        """A UID or title of the command."""
        return self.command.get(tag, b"").rstrip(b"\0 ").decode("ascii")


@dataclass
class Stored:
    """An instance that came whole."""

    sop_class: str
    transfer_syntax: str
    data: bytes
    calling: str
    called: str


class Gone(Exception):  # noqa: N818 - it ends a script, and is no error
    """The other side closed, or aborted (`pdu`)."""

    def __init__(self, pdu: wire.Pdu | None = None) -> None:
        super().__init__("the requestor is gone")
        self.pdu = pdu


class Link:
    """One connection, as its script sees it."""

    def __init__(self, peer: "ScriptedPeer", connection: socket.socket) -> None:
        self.peer = peer
        self.socket = connection
        self.request: wire.Pdu | None = None  # the A-ASSOCIATE-RQ
        self.contexts: dict[int, tuple[str, str]] = {}  # accepted: abstract, transfer syntax
        self.last = 0  # the kind of the PDU that came last
        self.received = bytearray()  # all bytes that came, in order
        self.under_way: Request | None = None  # a command whose data set is still coming
        self.encode = wire.joined  # a response's elements to its command set

    # --- bytes and PDUs --------------------------------------------------------------------------

    def read(self, count: int) -> bytes:
        """So many bytes; Gone when they do not come."""
        data = bytearray()
        while len(data) < count:
            try:
                piece = self.socket.recv(count - len(data))
            except ConnectionError:
                piece = b""
            if not piece:
                raise Gone
            data += piece
        self.received += data
        return bytes(data)

    def receive(self) -> wire.Pdu:
        """The next PDU; Gone at the end of the connection."""
        kind, _, length = struct.unpack(">BBI", self.read(6))
        self.last = kind
        return wire.Pdu(kind, self.read(length))

    def send(self, data: bytes, step: int = 0, pause: float = 0.0) -> None:
        """All at once, or `step` bytes a packet with pauses; Gone when nobody takes it."""
        try:
            for at in range(0, len(data), step or max(1, len(data))):
                self.socket.sendall(data[at : at + (step or len(data))])
                if pause:
                    time.sleep(pause)
        except ConnectionError:
            raise Gone from None

    def abort(self, source: int = 0, reason: int = 0) -> None:
        """A-ABORT."""
        self.send(wire.pdu(wire.ABORT, bytes((0, 0, source, reason))))

    def reset(self) -> None:
        """Close with a reset: nothing that is unread arrives any more."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def hang(self) -> None:
        """Say nothing until the other side, or the test, ends."""
        with contextlib.suppress(Gone):
            while True:
                self.read(1)

    # --- association -----------------------------------------------------------------------------

    def associate(
        self, decide: Decide = accept_first, maximum: int | None = 16384, *more: bytes
    ) -> None:
        """Read the A-ASSOCIATE-RQ and accept it; `more` are sub-items of user information."""
        self.request = request = self.receive()
        assert request.kind == wire.ASSOCIATE_RQ, f"PDU {request.kind} first"
        self.send(self.acceptance(decide, maximum, *more))
        self.peer.count_association(self)

    def acceptance(self, decide: Decide, maximum: int | None = 16384, *more: bytes) -> bytes:
        """The A-ASSOCIATE-AC to `request`."""
        assert self.request is not None
        body = self.request.body
        answers = []
        for identifier, abstract, syntaxes in proposed_contexts(body):
            decision = decide(identifier, abstract, syntaxes)
            if decision is None:
                continue
            answers.append(answered_context(identifier, *decision))
            if decision[0] == 0:
                self.contexts[identifier] = (abstract, decision[1])
        return associate_accept(answers, body[4:68], wire.user_information(maximum, *more))

    @property
    def titles(self) -> tuple[str, str]:
        """(called, calling)."""
        assert self.request is not None
        body = self.request.body
        return body[4:20].decode().strip(), body[20:36].decode().strip()

    def release(self) -> None:
        """Grant the release that has been asked for."""
        self.peer.count_end(self)  # before whoever asked may open the next one
        self.send(wire.pdu(wire.RELEASE_RP, bytes(4)))

    # --- messages --------------------------------------------------------------------------------

    def message(self, watch: Callable[[int], None] | None = None) -> Request | None:
        """The next message; None: a release was asked for. `watch` hears the data set grow."""
        parts = {1: bytearray(), 0: bytearray()}
        while True:
            pdu = self.receive()
            if pdu.kind == wire.RELEASE_RQ:
                return None
            if pdu.kind != wire.P_DATA:
                raise Gone(pdu)
            body = pdu.body
            while body:
                length, context, flags = struct.unpack_from(">IBB", body)
                parts[flags & 1] += body[6 : 4 + length]
                body = body[4 + length :]
                if watch is not None and not flags & 1:
                    watch(len(parts[0]))
                if not flags & 2:
                    continue
                request = Request(context, wire.parse_command(bytes(parts[1])), None)
                if not flags & 1:
                    return request._replace(data=bytes(parts[0]))
                if request.command[0x0800] == wire.us(wire.NO_DATA_SET):
                    return request
                self.under_way = request

    def respond(
        self,
        request: Request,
        status: int,
        data: bytes | None = None,
        more: dict[int, bytes] | None = None,
    ) -> None:
        """A response; `more` are further command elements, or others in their place."""
        self.send(response(request, status, data, more, self.encode))


Script = Callable[[Link], None]


def response(
    request: Request,
    status: int,
    data: bytes | None = None,
    more: dict[int, bytes] | None = None,
    encode: Callable[[dict[int, bytes]], bytes] = wire.joined,
) -> bytes:
    """A response as PDUs."""
    elements = {
        0x0002: request.command.get(0x0002, b""),
        0x0100: wire.us(request.field | 0x8000),
        0x0120: wire.us(request.message),
        0x0800: wire.us(wire.NO_DATA_SET if data is None else 1),
        0x0900: wire.us(status),
        **(more or {}),
    }
    pdus = wire.p_data(request.context, encode(elements), command=True)
    if data is not None:
        pdus += wire.p_data(request.context, data, command=False)
    return pdus


def proposed_contexts(body: bytes) -> list[tuple[int, str, list[str]]]:
    """Of an A-ASSOCIATE-RQ's body: (identifier, abstract syntax, transfer syntaxes)."""
    found = []
    for kind, value in wire.items(body[68:]):
        if kind == 0x20:
            inner = wire.items(value[4:])
            abstract = next(text.decode() for kind, text in inner if kind == 0x30)
            syntaxes = [text.decode() for kind, text in inner if kind == 0x40]
            found.append((value[0], abstract, syntaxes))
    return found


def answered_context(identifier: int, result: int, syntax: str) -> bytes:
    """An answered presentation context."""
    return wire.item(
        0x21, struct.pack(">BBBB", identifier, 0, result, 0) + wire.item(0x40, syntax.encode())
    )


def associate_accept(
    contexts: Iterable[bytes], titles: bytes = bytes(64), user: bytes | None = None
) -> bytes:
    """A whole A-ASSOCIATE-AC."""
    parts = [struct.pack(">HH", 1, 0), titles, wire.item(0x10, wire.APPLICATION_CONTEXT.encode())]
    return wire.pdu(
        wire.ASSOCIATE_AC,
        b"".join([*parts, *contexts, wire.user_information() if user is None else user]),
    )


class ScriptedPeer:
    """Listens until its `with` block ends. The n-th connection gets the n-th script, all further
    ones the last. `tls`: a server-side context. `open_most`: how many associations there were at
    once at most."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.scripts = scripts
        self.listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.address: tuple[str, int] = self.listener.getsockname()
        self.port = self.address[1]
        self.tls = tls
        self.links: list[Link] = []
        self.stored: dict[str, Stored] = {}
        self.commands: list[Request] = []
        self.associations = 0
        self.open_most = 0
        self.failures: list[str] = []  # of scripts: a test looks that there are none
        self._open: set[Link] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> "ScriptedPeer":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # close() alone does not wake a thread that waits in accept().
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for link in list(self.links):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(link.socket, socket.SHUT_RDWR)
        self._thread.join(5)
        assert kind is not None or not self.failures, self.failures

    def count_association(self, link: Link) -> None:
        """One was accepted; it counts until its release is granted or its connection ends."""
        with self._lock:
            self.associations += 1
            self._open.add(link)
            self.open_most = max(self.open_most, len(self._open))

    def count_end(self, link: Link) -> None:
        """An association is over, if there was one."""
        with self._lock:
            self._open.discard(link)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(self, connection)
            script = self.scripts[min(len(self.links), len(self.scripts) - 1)]
            self.links.append(link)
            threading.Thread(target=self._run, args=(script, link), daemon=True).start()

    def _run(self, script: Script, link: Link) -> None:
        try:
            if self.tls is not None:
                link.socket = self.tls.wrap_socket(link.socket, server_side=True)
            script(link)
        except (Gone, OSError):
            pass  # the other side left, which is for the test to judge
        except Exception as error:
            self.failures.append(repr(error))
            raise
        finally:
            self.count_end(link)
            link.socket.close()
