"""Nobody can make a healthy service look dead on its HTTP port."""

import socket
import time
import urllib.request
from contextlib import ExitStack, suppress

import pytest

from engine import limits
from tests.material.waiting import eventually, within
from tests.rigs.gateway import Gateway

pytestmark = pytest.mark.process
_HALF_A_HEADER = b"GET /metrics HTTP/1.1\r\nHost: stats\r\nX-Slow: "


def _connect(gateway: Gateway) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", gateway.stats_port), 5)
    connection.settimeout(30)
    return connection


def _live(gateway: Gateway) -> tuple[int, float]:
    began = time.monotonic()
    url = f"http://127.0.0.1:{gateway.stats_port}/livez"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.status, time.monotonic() - began


@pytest.mark.parametrize("said", [b"", b"G", _HALF_A_HEADER, b"GET /metrics HTTP/1.1\r\n\r\n" * 50])
def test_health_is_answered_whoever_holds_connections(gateway: Gateway, said: bytes) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(_connect(gateway)) for _ in range(200)]
        for connection in held:
            try:
                connection.sendall(said)
            except OSError:
                continue  # it was closed to make room
        for _ in range(20):
            status, seconds = _live(gateway)
            assert status == 200
            assert seconds < within(1)
        assert len(gateway.metrics()) > 50


@pytest.mark.parametrize("said", [b"", _HALF_A_HEADER])
def test_who_does_not_finish_a_header_is_closed(gateway: Gateway, said: bytes) -> None:
    with _connect(gateway) as connection:
        began = time.monotonic()
        connection.sendall(said)
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""
        seconds = time.monotonic() - began
    assert limits.stats_header_s - 1 < seconds < within(limits.stats_header_s + 3)


def test_who_drips_a_header_is_closed_all_the_same(gateway: Gateway) -> None:
    with _connect(gateway) as connection:
        began = time.monotonic()
        connection.sendall(_HALF_A_HEADER)

        def closed() -> bool:
            try:
                connection.sendall(b"x")
            except OSError:
                return True
            time.sleep(0.2)
            return False

        eventually(closed, limits.stats_header_s + 5, "closed while it drips")
        assert time.monotonic() - began < within(limits.stats_header_s + 3)


def test_a_scraper_keeps_its_connection_over_many_requests(gateway: Gateway) -> None:
    with _connect(gateway) as connection:
        stream = connection.makefile("rb")
        for _ in range(5):
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: stats\r\n\r\n")
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            length = 0
            while (line := stream.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            assert b"true" in stream.read(length)
