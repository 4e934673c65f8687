"""Ports that nobody listens on, and waiting until something is so."""

import itertools
import os
import socket
import time
from collections.abc import Callable
from typing import Any

# Below what systems give to connections by themselves (32768 and up on Linux), so that no other
# test's connection takes one before its service listens. Each process of a run has its own part.
_part = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16


_ports = itertools.cycle(range(12_000 + 1200 * _part, 13_200 + 1200 * _part))


def free_ports(count: int) -> list[int]:
    """Loopback ports nobody listens on at this moment, and nobody else is given soon."""
    found: list[int] = []
    for port in itertools.islice(_ports, 1200):
        if len(found) == count:
            break
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue  # somebody listens there
        found.append(port)
    assert len(found) == count, "no port is free"
    return found


def within(seconds: float) -> float:
    """So long it may take here and now: more where more wants to run than there are processors."""
    return seconds * max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))


def eventually(condition: Callable[[], Any], wait_s: float = 5.0, what: str = "") -> Any:
    """The first true value of `condition` within the time; a failure after it."""
    begun = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() - begun > within(wait_s):
            raise AssertionError(f"not within {wait_s} s: {what or condition}")
        time.sleep(0.02)
