"""The idle time-out counts from the peer's last byte, or from our answer; whichever way a store was
begun, and whatever of it the protocol core has heard when the timer fires."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine import limits
from engine.dictionary.contexts import DEFAULT_CONTEXTS
from engine.errors import LocalError
from engine.upper_layer.negotiation import AcceptorPolicy
from native import _core
from tests.material import wire
from tests.rigs.receptions import ReceptionBox, store
from workers.receiver.connection import Connection
from workers.receiver.host import Host
from workers.receiver.transport import Transport

IDLE = 6.0
MESSAGE = 4.0
LONG = 100_000


class Clock:
    """The event loop as a connection sees it: timers fire when the test says so."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.due: tuple[float, Callable[[], None]] | None = None

    def time(self) -> float:
        return time.monotonic() + self.ahead

    def call_at(self, when: float, call: Callable[[], None]) -> Any:
        self.due = when, call
        return SimpleNamespace(when=lambda: when, cancel=lambda: None)

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_: None


class Line:
    """An association that stands, its peer, and its clock."""

    def __init__(self, directory: Path, native: bool) -> None:
        self.box = ReceptionBox(directory)
        self.box.spool.admit(native)
        self.clock = Clock()
        self.events: list[str] = []
        ours, self.peer = socket.socketpair()
        ours.setblocking(False)
        parts: dict[str, Any] = {
            "loop": self.clock,
            "policy": AcceptorPolicy("SCP_AE", (), (), (), dict(DEFAULT_CONTEXTS)),
            "spec": SimpleNamespace(
                application_timeout_s=5,
                idle_timeout_s=IDLE,
                message_timeout_s=MESSAGE,
                log_instances=False,
            ),
            "has_room": lambda *_: True,
            "retire": lambda _: None,
            "establish": lambda _: 0,
            "leave": lambda _: None,
            "refusal": lambda: None,
            "extra_tags": 0,
            "now_ns": time.time_ns,
            "counters": self.box.counters,
            "spool": self.box.spool,
            "reception": self.box.reception,
            "child": SimpleNamespace(
                log=SimpleNamespace(
                    note=lambda _level, event, _fields: self.events.append(event),
                    pieces=lambda *_: (b"", b""),
                )
            ),
        }
        host = cast(Host, SimpleNamespace(**parts))
        self.connection = Connection(host, Transport(ours), "192.0.2.1", "1-1")
        self.peer.sendall(wire.associate_request(wire.storage_contexts()))
        self.turns_until(lambda: "association_accepted" in self.events)
        self.peer.recv(1 << 16)

    def turns_until(self, done: Callable[[], bool]) -> None:
        def told() -> bool:
            for kind, _, what in self.box.notices:
                if kind == _core.NOTICE_RECEIVED:
                    self.connection.take_received(what)
                elif kind == _core.NOTICE_STORED:
                    self.connection.stored(what)
            self.box.notices.clear()
            if self.box.spool.unflushed:
                self.box.spool.flush()
            return done()

        self.box.turn_until(told)

    def say(self, data: bytes) -> None:
        """The peer sends it; it has been read."""
        before = self.connection._cutter.received_bytes
        self.peer.sendall(data)
        self.turns_until(lambda: self.connection._cutter.received_bytes == before + len(data))

    def timer_fires(self, ahead: float) -> None:
        """So long after now."""
        self.clock.ahead = ahead
        self.connection._timer = None
        self.connection._timer_fired()

    def close(self) -> None:
        self.connection.close()
        self.peer.close()
        self.box.close()


@pytest.fixture(params=[True, False], ids=["begun natively", "begun by the core"])
def line(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path, request.param)
    yield made
    made.close()


def test_a_store_that_stops_coming_has_one_idle_time(line: Line) -> None:
    """Not a second one because the core hears of it only when the first is over."""
    line.say(store("1.2.3", b"d" * LONG)[: LONG // 2])
    line.timer_fires(IDLE - 0.5)
    assert "idle_expired" not in line.events
    line.timer_fires(IDLE)
    assert line.events[-2:] == ["idle_expired", "association_aborted"]
    assert line.peer.recv(100)[0] == wire.ABORT


def test_a_message_that_drips_has_a_time_of_its_own(line: Line) -> None:
    """Each byte moves the idle time, none that of the message; more of it do by their number."""
    began = time.monotonic()
    line.say(store("1.2.3", b"d" * LONG)[: LONG // 2])
    since, came = line.connection._inlet.message
    assert began <= since <= time.monotonic()
    assert LONG // 2 - 200 < came <= LONG // 2
    line.connection._association.touch(began + 1000 * MESSAGE)  # a byte came just now
    allowed = MESSAGE + came / limits.message_bytes_per_s_min
    line.timer_fires(allowed - 1)
    assert "message_expired" not in line.events
    line.timer_fires(allowed + 1)
    assert line.events[-2:] == ["message_expired", "association_aborted"]
    assert line.peer.recv(100)[0] == wire.ABORT


def test_the_timer_looks_for_a_message_that_began_meanwhile(line: Line) -> None:
    """The core hears of a regular store only when it asks."""
    assert line.clock.due is not None
    assert line.clock.due[0] <= time.monotonic() + min(IDLE, MESSAGE)


def test_what_an_association_is_good_for(line: Line) -> None:
    inlet = line.connection._inlet
    assert inlet.progress == (0.0, 0, 0)
    assert inlet.message == (0.0, 0)
    began = time.monotonic()
    line.say(store("1.2.3", b"d" * LONG)[: LONG // 2])
    progress, data_bytes, stored = inlet.progress
    assert progress >= began
    assert limits.slot_progress_bytes < data_bytes < LONG // 2
    assert stored == 0
    line.say(store("1.2.3", b"d" * LONG)[LONG // 2 :])
    line.turns_until(lambda: line.box.stored == 1)
    assert inlet.progress[1:] == (LONG, 1)
    assert inlet.progress[0] > progress
    assert inlet.message == (0.0, 0)
    line.say(wire.pdu(wire.P_DATA, b"")[:3])
    assert inlet.message[1] == 3
    assert inlet.progress[1:] == (LONG, 1), "no progress"


def test_a_disk_that_fails_meanwhile_does_not_prolong_it(line: Line) -> None:
    line.say(store("1.2.3", b"d" * LONG)[: LONG // 2])
    line.clock.ahead = IDLE - 1
    line.connection.failed(LocalError("Storage is full"))
    line.timer_fires(IDLE)
    assert "idle_expired" in line.events


def test_who_waits_for_us_is_not_idle_and_then_has_the_whole_time(line: Line) -> None:
    line.peer.sendall(store("1.2.3", b"d" * 5000))
    line.turns_until(lambda: line.box.stored == 1)
    line.timer_fires(0.0)
    deadline = line.connection._association.deadline
    assert deadline is not None
    assert deadline - time.monotonic() > IDLE - 2
    assert "idle_expired" not in line.events


def test_a_commit_that_takes_long_is_not_the_peers(tmp_path: Path) -> None:
    """The data set is whole, its answer is due: nobody is idle, though the core has not heard."""
    line = Line(tmp_path, native=True)
    line.peer.sendall(store("1.2.3", b"d" * 5000))
    line.box.turn()  # read, handed over; what came of it is seen to in the next turn
    assert line.connection._inlet.progress[0] > 0, "it is we who are slow"
    line.timer_fires(10 * IDLE)
    assert "idle_expired" not in line.events
    line.clock.ahead = 0.0
    line.turns_until(lambda: line.box.stored == 1)
    assert line.peer.recv(100)[0] == wire.P_DATA
    line.close()


def test_an_answer_that_went_out_natively_counts(tmp_path: Path) -> None:
    line = Line(tmp_path, native=True)
    line.peer.sendall(store("1.2.3", b"d" * 5000))
    line.box.turn()
    read = line.connection._inlet.quiet_since
    line.turns_until(lambda: line.box.stored == 1)
    assert line.connection._inlet.quiet_since > read
    line.close()
