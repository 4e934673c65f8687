"""A reception over a temporary spool, and peers on socket pairs that send regular stores."""

import array
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.association.store_lane import permit_stores
from engine.telemetry.counters import CounterBlock
from engine.telemetry.metrics import BLOCK_BYTES, Counter, Gauge
from engine.upper_layer.negotiation import AcceptedAssociation, AcceptedContext
from native import _core
from tests.material import wire
from tests.material.waiting import within
from tests.rigs.spools import SpoolBox, new_cutter, pdv
from workers.receiver.reception import reception_of

CONTEXT = 3
AGREED = AcceptedAssociation(
    calling_ae_title="CALLER",
    called_ae_title="SCP_AE",
    contexts={CONTEXT: AcceptedContext(wire.CT_IMAGE, wire.EXPLICIT)},
    refused=(),
    verification_only=False,
    peer_maximum_length=16378,
    peer_implementation_class="",
    peer_implementation_version="",
)


class ReceptionBox:
    """A spool, its counters, its reception; what turns brought is gathered. A turn looks once at
    what there is to do."""

    def __init__(self, directory: Path, **more: Any) -> None:
        self.spools = SpoolBox(directory, **{"durable": False, **more})
        self.spool = self.spools.spool
        self.spool.admit(True)
        words = array.array("Q", bytes(BLOCK_BYTES))
        self.counters = CounterBlock(memoryview(words))
        self.reception = reception_of(self.spool, self.counters, turn_us=0)
        self.notices: list[tuple[int, int, Any]] = []
        self.lines: list[bytes] = []
        self.stored = 0

    def close(self) -> None:
        self.spools.close()

    def count(self, item: Counter | Gauge) -> int:
        return self.counters.get(item)

    def is_due(self, seconds: float = 0.0) -> bool:
        """Whether a turn is, within this time."""
        return bool(select.select([self.reception.descriptor], [], [], seconds)[0])

    def turn(self) -> list[tuple[int, int, Any]]:
        """One turn; its notices."""
        stored, _, notices, lines = self.reception.turn()
        self.stored += stored
        self.notices += notices
        self.lines += lines
        return notices

    def turn_until(self, done: Callable[[], bool], seconds: float = 10.0) -> None:
        """Turns as the event loop would take them, until what is awaited has come."""
        begun = time.monotonic()
        while not done():
            late = time.monotonic() - begun > within(seconds)
            assert not late, f"it never came; notices: {self.notices}"
            if self.is_due(0.05):
                self.turn()


class Caller:
    """A peer whose association stands, on slot `slot`; both ends of its connection."""

    def __init__(self, box: ReceptionBox, slot: int) -> None:
        self.box = box
        self.slot = slot
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.cutter = new_cutter()
        self.inlet = _core.Inlet(box.reception, self.cutter, self.ours.fileno())
        self.inlet.attach(slot)
        permit_stores(self.cutter, AGREED, "192.0.2.7")

    @property
    def notices(self) -> list[tuple[int, Any]]:
        """What was told of it."""
        return [(kind, what) for kind, key, what in self.box.notices if key == self.inlet.key]

    def send_store(self, uid: str, data_set: bytes = b"d" * 5000, message_id: int = 1) -> None:
        self.theirs.sendall(store(uid, data_set, message_id))

    def answers(self) -> bytes:
        """What has come back until now."""
        self.theirs.setblocking(False)
        try:
            return self.theirs.recv(1 << 20)
        except BlockingIOError:
            return b""
        finally:
            self.theirs.setblocking(True)

    def close(self) -> None:
        self.inlet.leave()
        self.ours.close()
        self.theirs.close()


def store(uid: str, data_set: bytes, message_id: int = 1) -> bytes:
    """A regular C-STORE-RQ with its data set, in PDUs of the size we advertise."""
    command = wire.store_command(wire.CT_IMAGE, uid, message_id)
    step = 16378 - 6
    pieces = [data_set[at : at + step] for at in range(0, len(data_set), step)] or [b""]
    last = len(pieces) - 1
    return wire.pdu(wire.P_DATA, pdv(CONTEXT, 3, command)) + b"".join(
        wire.pdu(wire.P_DATA, pdv(CONTEXT, 2 if index == last else 0, piece))
        for index, piece in enumerate(pieces)
    )
