"""A scripted DICOM peer on a raw socket: sends any bytes, whole or dripped, and reads answers.

`Peer` is one connection. `Sender` stores instance after instance and begins anew after an abort,
for crash and load tests: it keeps what was acknowledged, and nothing else is promised to it.
"""

import hashlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

from tests.material import wire

Address = tuple[str, int]


class PeerClosedError(Exception):
    """The other side closed the connection where an answer was expected."""


class Peer:
    """One connection. Every wait has the time-out given."""

    def __init__(self, address: Address, timeout: float = 10.0) -> None:
        self.socket = socket.create_connection(address, timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.contexts: dict[int, tuple[int, str]] = {}
        self.message = 0

    def __enter__(self) -> "Peer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the transport, saying nothing."""
        self.socket.close()

    def send(self, data: bytes, step: int = 0, pause: float = 0.0) -> None:
        """Send all at once, or `step` bytes a packet; a peer that hung up is no error here."""
        try:
            if not step:
                self.socket.sendall(data)
                return
            for at in range(0, len(data), step):
                self.socket.sendall(data[at : at + step])
                if pause:
                    time.sleep(pause)
        except (BrokenPipeError, ConnectionResetError):
            return  # what it answered, if anything, is read next

    def _read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise PeerClosedError(f"closed after {len(data)} of {count} bytes")
            data += piece
        return bytes(data)

    def receive(self) -> wire.Pdu | None:
        """The next PDU; None when the other side closed instead."""
        try:
            kind, _, length = struct.unpack(">BBI", self._read(6))
            return wire.Pdu(kind, self._read(length))
        except (PeerClosedError, ConnectionResetError):
            return None

    def receive_command(self) -> dict[int, bytes]:
        """The next DIMSE message's command elements."""
        payload = b""
        while True:
            answer = self.receive()
            if answer is None:
                raise PeerClosedError("closed where a response was expected")
            if answer.kind != wire.P_DATA:
                raise PeerClosedError(f"PDU {answer.kind} {answer.body[:4].hex()} for a response")
            body = answer.body
            while body:
                length, _, flags = struct.unpack_from(">IBB", body)
                payload += body[6 : 4 + length]
                body = body[4 + length :]
                if flags & 2:
                    return wire.parse_command(payload)

    def associate(self, request: bytes | None = None, step: int = 0) -> wire.Pdu:
        """Open an association; the answer is kept in `contexts` when it is an accept."""
        self.send(request or wire.associate_request(wire.storage_contexts()), step)
        answer = self.receive()
        if answer is None:
            raise PeerClosedError("closed instead of answering A-ASSOCIATE-RQ")
        if answer.kind == wire.ASSOCIATE_AC:
            self.contexts = wire.accepted_contexts(answer.body)
        return answer

    def context_for(self, sop_class: str, syntax: str) -> int:
        """The context of `wire.storage_contexts` for this pair."""
        for number, proposed in enumerate(wire.storage_contexts()):
            identifier = 2 * number + 1
            if wire.item(0x30, sop_class.encode()) in proposed and (
                self.contexts.get(identifier, (9, ""))[1] == syntax
            ):
                return identifier
        raise AssertionError(f"{sop_class} with {syntax} was not accepted")

    def echo(self) -> int:
        """C-ECHO; the status."""
        self.message += 1
        context = self.context_for(wire.VERIFICATION, wire.IMPLICIT)
        self.send(wire.p_data(context, wire.echo_command(self.message), command=True))
        return struct.unpack("<H", self.receive_command()[0x0900])[0]

    def store(
        self,
        sop_class: str,
        sop_instance: str,
        data_set: bytes | Iterable[bytes],
        syntax: str = wire.EXPLICIT,
    ) -> int:
        """C-STORE; the status."""
        status, _ = self.store_with_comment(sop_class, sop_instance, data_set, syntax)
        return status

    def store_with_comment(
        self,
        sop_class: str,
        sop_instance: str,
        data_set: bytes | Iterable[bytes],
        syntax: str = wire.EXPLICIT,
    ) -> tuple[int, str]:
        """C-STORE; the status and the error comment."""
        self.message = self.message % 65535 + 1
        context = self.context_for(sop_class, syntax)
        command = wire.store_command(sop_class, sop_instance, self.message)
        head = wire.p_data(context, command, command=True)
        if isinstance(data_set, bytes):
            self.socket.sendall(head + wire.p_data(context, data_set, command=False))
        else:
            self.socket.sendall(head)
            for pdus in fragments(context, data_set):
                self.socket.sendall(pdus)
        answer = self.receive_command()
        assert struct.unpack("<H", answer[0x0120])[0] == self.message
        comment = answer.get(0x0902, b"").decode("ascii").strip()
        return struct.unpack("<H", answer[0x0900])[0], comment

    def release(self) -> bool:
        """Ask for release; whether it was granted and the connection then closed."""
        self.send(wire.pdu(wire.RELEASE_RQ, bytes(4)))
        answer = self.receive()
        return answer is not None and answer.kind == wire.RELEASE_RP


def fragments(context: int, pieces: Iterable[bytes], maximum: int = 16378) -> Iterator[bytes]:
    """A data set given in pieces as P-DATA-TF PDUs, the last one flagged; memory of one piece."""
    held: bytes | None = None
    for piece in pieces:
        if held is not None:
            yield _pdus(context, held, maximum, last=False)
        held = piece
    yield _pdus(context, held or b"", maximum, last=True)


def _pdus(context: int, payload: bytes, maximum: int, last: bool) -> bytes:
    size = maximum - 6
    starts = range(0, max(len(payload), 1), size)
    final = starts[-1]
    return b"".join(
        wire.pdu(
            wire.P_DATA,
            wire.pdv(context, payload[at : at + size], 2 if last and at == final else 0),
        )
        for at in starts
    )


class Sender(threading.Thread):
    """Stores instances `make(number)` for the numbers given until all are acknowledged.

    `acknowledged` maps a SOP instance UID to its data set's SHA-256; `refused` counts failures
    answered by a status; `interrupted` counts associations that broke.
    """

    def __init__(
        self,
        address: Address,
        numbers: Iterable[int],
        make: Callable[[int], tuple[str, bytes]],
        deadline: float,
        per_association: int = 200,
        connect: "Callable[[Address, float], Peer]" = Peer,
    ) -> None:
        super().__init__(daemon=True)
        self.connect = connect
        self.address = address
        self.waiting = list(numbers)[::-1]
        self.make = make
        self.deadline = time.monotonic() + deadline
        self.per_association = per_association
        self.acknowledged: dict[str, str] = {}
        self.refused = 0
        self.interrupted = 0
        self.stopping = threading.Event()
        self.failure = ""

    def run(self) -> None:
        """Until all are acknowledged, stopped, out of time, or one got an answer it must not."""
        while self.waiting and not self.stopping.is_set() and not self.failure:
            if time.monotonic() > self.deadline:
                self.failure = f"{len(self.waiting)} instances still unacknowledged"
                return
            self._one_association()

    def _one_association(self) -> None:
        try:
            with self.connect(self.address, 15.0) as peer:
                if peer.associate().kind != wire.ASSOCIATE_AC:
                    time.sleep(0.02)
                    return
                for _ in range(self.per_association):
                    if not self.waiting or self.failure or self.stopping.is_set():
                        break
                    self._one_instance(peer)
                peer.release()
        except (OSError, PeerClosedError):
            self.interrupted += 1
            time.sleep(0.01 + random.random() * 0.02)

    def _one_instance(self, peer: Peer) -> None:
        uid, data_set = self.make(self.waiting[-1])
        status = peer.store(wire.CT_IMAGE, uid, data_set)
        if status == 0:
            self.acknowledged[uid] = hashlib.sha256(data_set).hexdigest()
            self.waiting.pop()
        elif status == 0x0110:
            self.refused += 1
            time.sleep(0.02)
        else:
            self.failure = f"{uid}: status {status:04x}"
