"""A connection that was paused goes on by itself: it may hold bytes that no new byte will wake."""

import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine import limits
from engine.errors import LocalError
from engine.upper_layer.negotiation import AcceptorPolicy
from native import _core
from tests.material import wire
from tests.rigs.receptions import ReceptionBox
from workers.receiver.connection import Connection
from workers.receiver.receiver import Receiver
from workers.receiver.transport import Transport


class Counters:
    def add(self, *_: object) -> None: ...


class SlowTransport(Transport):
    """Takes nothing of what is sent until it is told to."""

    taking = False

    def send(self, data: bytes | bytearray) -> int:
        return super().send(data) if self.taking else 0


def receiver(loop: asyncio.AbstractEventLoop, box: ReceptionBox, lines: list[str]) -> Receiver:
    """What a connection needs of one, around a real reception."""
    connections: dict[int, Connection] = {}

    def turn() -> None:
        _, _, notices, _ = box.reception.turn()
        for kind, key, what in notices:
            assert kind == _core.NOTICE_RECEIVED
            connections[key].take_received(what)

    loop.add_reader(box.reception.descriptor, turn)
    parts: dict[str, Any] = {
        "loop": loop,
        "policy": AcceptorPolicy("SCP_AE", (), (), (), {}),
        "spec": SimpleNamespace(application_timeout_s=5, idle_timeout_s=300, message_timeout_s=60),
        "has_room": lambda *_: True,
        "retire": lambda _: None,
        "counters": Counters(),
        "spool": box.spools.spool,
        "reception": box.reception,
        "connections": connections,
        "child": SimpleNamespace(
            log=SimpleNamespace(note=lambda _level, event, _fields: lines.append(event))
        ),
        "leave": lambda _: None,
    }
    return cast(Receiver, SimpleNamespace(**parts))


def test_what_was_read_before_a_pause_is_seen_to_behind_it(tmp_path: Path) -> None:
    """The peer's last word lies in the socket already when the answer ahead of it goes out."""
    lines: list[str] = []

    async def scene(box: ReceptionBox) -> list[bool]:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        around = receiver(loop, box, lines)
        transport = SlowTransport(ours)
        connection = Connection(around, transport, "192.0.2.1", "1-1")
        cast(Any, around).connections[connection.key] = connection
        connection.queue(b"answer")
        theirs.sendall(wire.pdu(wire.RELEASE_RQ, b"\0" * 4))
        await asyncio.sleep(0.05)
        before = bool(lines)
        transport.taking = True
        await asyncio.sleep(0.05)
        seen = [before, bool(lines), theirs.recv(6) == b"answer"]
        connection.close()
        theirs.close()
        loop.remove_reader(box.reception.descriptor)
        return seen

    box = ReceptionBox(tmp_path)
    assert asyncio.run(scene(box)) == [False, True, True]
    box.close()


def test_a_peer_that_takes_no_answer_is_given_up_in_time(tmp_path: Path) -> None:
    """Its own time limit counts, not the one for idle peers."""

    async def scene(box: ReceptionBox) -> float | None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        connection = Connection(receiver(loop, box, []), SlowTransport(ours), "192.0.2.1", "1-1")
        connection._timer = loop.call_later(1000, lambda: None)
        connection.queue(b"answer")
        when = connection._timer.when() - loop.time()
        connection.close()
        theirs.close()
        loop.remove_reader(box.reception.descriptor)
        return when

    box = ReceptionBox(tmp_path)
    left = asyncio.run(scene(box))
    assert left is not None
    assert left <= limits.send_timeout_s
    box.close()


def test_a_peer_that_takes_no_answer_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its time is over, whatever else may still come from it."""
    monkeypatch.setattr(limits, "send_timeout_s", 0.05)
    lines: list[str] = []

    async def scene(box: ReceptionBox) -> bool:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        connection = Connection(receiver(loop, box, lines), SlowTransport(ours), "192.0.2.1", "1-1")
        connection.queue(b"answer")
        until = loop.time() + 3
        while not connection.closed and loop.time() < until:
            await asyncio.sleep(0.01)
        left = connection.closed
        connection.close()
        theirs.close()
        loop.remove_reader(box.reception.descriptor)
        return left

    box = ReceptionBox(tmp_path)
    assert asyncio.run(scene(box))
    assert "peer_does_not_read" in lines
    box.close()


def test_regular_stores_end_with_the_disks_space() -> None:
    """They ask nobody, so they are told, in every beat, by what the other way would say."""
    told: list[bool] = []
    around = SimpleNamespace(
        spool=SimpleNamespace(admit=told.append, settle=lambda: False),
        refusal=lambda: LocalError("Storage is nearly full"),
        loop=SimpleNamespace(call_later=lambda _seconds, _call: None),
        _doorbell_due=False,
        _refresh_admission=None,
    )
    Receiver._refresh_admission(cast(Receiver, around))
    around.refusal = lambda: None
    Receiver._refresh_admission(cast(Receiver, around))
    assert told == [False, True]
