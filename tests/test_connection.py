"""A connection that was paused goes on by itself: it may hold bytes that no new byte will wake."""

import asyncio
import socket
from types import SimpleNamespace
from typing import Any, cast

from engine.negotiation import AcceptorPolicy
from native import _core
from workers.connection import Connection
from workers.receiver import Receiver
from workers.transport import Transport


class SilentIntake:
    """Stands for an intake that has all it will ever get; counts how often it is asked."""

    received_bytes = 0
    pdata_pdus_oversized = 0

    def __init__(self, answers: list[int]) -> None:
        self.answers = answers
        self.asked = 0

    def receive(self, _descriptor: int, _budget: int) -> int:
        self.asked += 1
        return self.answers.pop(0) if self.answers else _core.RECEIVED_AGAIN

    def reveal_store(self) -> None:
        return None


class Counters:
    def add(self, *_: object) -> None: ...


def receiver(loop: asyncio.AbstractEventLoop) -> Receiver:
    parts: dict[str, Any] = {
        "loop": loop,
        "policy": AcceptorPolicy("SCP_AE", (), (), (), {}),
        "spec": SimpleNamespace(application_timeout_s=5, idle_timeout_s=300),
        "has_room": lambda: True,
        "counters": Counters(),
        "spool": SimpleNamespace(unflushed=False),
        "leave": lambda _: None,
    }
    return cast(Receiver, SimpleNamespace(**parts))


def test_room_in_the_ring_is_used_though_the_socket_is_silent() -> None:
    async def scene() -> list[int]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        connection = Connection(receiver(loop), Transport(ours), "192.0.2.1", "1-1")
        intake = SilentIntake([_core.RECEIVED_FULL])
        connection._intake = cast(_core.Intake, intake)
        theirs.send(b"x")  # wakes the reader once; it is never read, so it is taken away here
        await asyncio.sleep(0.05)
        asked = [intake.asked]
        ours.recv(1)
        connection.space()
        await asyncio.sleep(0.05)
        asked.append(intake.asked)
        connection.close()
        theirs.close()
        return asked

    assert asyncio.run(scene()) == [1, 2]
