"""The log: valid lines of ASCII, a reader that may be slow, faults that are kept."""

import asyncio
import json
import os
import re
import socket
import time
from pathlib import Path

import pytest

from engine import limits
from engine.telemetry.logs import Log
from tests.material.waiting import within

HOSTILE = "A\x1b[2J\r\n\x00\x7f\x9b\u202e\u2028\ud800\U0001f600"


def _read_all(descriptor: int) -> bytes:
    os.set_blocking(descriptor, False)
    pieces = []
    while True:
        try:
            piece = os.read(descriptor, 1 << 20)
        except BlockingIOError:
            break
        if not piece:
            break
        pieces.append(piece)
    return b"".join(pieces)


@pytest.fixture
def pipe() -> tuple[int, int]:
    return os.pipe()


def test_a_line_has_its_fields(pipe: tuple[int, int]) -> None:
    log = Log("info", pipe[1], process="storage_scp")
    log.info("instance_stored", association="1-2", bytes=5, seconds=0.25)
    log.note("debug", "unwanted", {})
    log.note("warning", "odd", {"calling_ae": "CT1"})
    first, second = map(json.loads, _read_all(pipe[0]).splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first.pop("ts"))
    assert first == {
        "level": "info",
        "event": "instance_stored",
        "process": "storage_scp",
        "association": "1-2",
        "bytes": 5,
        "seconds": 0.25,
    }
    assert (second["level"], second["calling_ae"]) == ("warning", "CT1")


@pytest.mark.parametrize(
    "value",
    [HOSTILE, HOSTILE * 1000, "x" * 100_000, b"\xff\x1b", 2**80, float("nan"), None, [HOSTILE], {}],
)
def test_any_value_becomes_one_line_of_printable_ascii(
    pipe: tuple[int, int], value: object
) -> None:
    log = Log("info", pipe[1], process="p")
    log.warning("event", calling_ae=value, peer="10.0.0.1")
    written = _read_all(pipe[0])
    assert written.endswith(b"\n")
    assert len(written) <= limits.log_line_bytes_max
    assert all(0x20 <= byte < 0x7F for byte in written[:-1])
    assert json.loads(written)["event"] == "event"


def test_many_hostile_fields_are_cut_to_a_line(pipe: tuple[int, int]) -> None:
    Log("info", pipe[1]).error("event", **{f"field{n}": HOSTILE * 30 for n in range(50)})
    line = _read_all(pipe[0])
    assert len(line) <= limits.log_line_bytes_max
    assert json.loads(line)["cut"] is True


def test_lines_of_a_turn_are_written_together(pipe: tuple[int, int]) -> None:
    log = Log("info", pipe[1])

    async def turn() -> None:
        log.attach(asyncio.get_running_loop())
        for number in range(100):
            log.info("event", number=number)
        assert _read_all(pipe[0]) == b""
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        lines = _read_all(pipe[0]).splitlines()
        assert [json.loads(line)["number"] for line in lines] == list(range(100))

    asyncio.run(turn())


def test_a_slow_reader_never_blocks_and_costs_no_fault(pipe: tuple[int, int]) -> None:
    log = Log("info", pipe[1])
    start = time.monotonic()
    count = 20_000
    for number in range(count):
        log.info("stored", number=number)
        if number % 100 == 0:
            log.error("fault", number=number)
    assert time.monotonic() - start < within(5)
    assert 0 < log.dropped < count
    read = b""
    while not log.flush():
        read += _read_all(pipe[0])
    log.info("after")
    read += _read_all(pipe[0])
    lines = [json.loads(line) for line in read.splitlines()]
    faults = [line["number"] for line in lines if line["event"] == "fault"]
    assert faults == list(range(0, count, 100)), "every fault, in order"
    told = sum(line["lines"] for line in lines if line["event"] == "log_lines_dropped")
    stored = sum(line["event"] == "stored" for line in lines)
    assert told == log.dropped == count - stored
    assert lines[-1]["event"] == "after"


def test_the_descriptor_others_share_stays_blocking(pipe: tuple[int, int]) -> None:
    Log("info", pipe[1]).info("event")
    assert os.get_blocking(pipe[1])


def test_files_and_sockets_are_written_too(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY)
    Log("info", descriptor).info("first")
    Log("info", descriptor).info("second")
    events = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    assert events == ["first", "second"]
    ours, theirs = socket.socketpair()
    log = Log("info", theirs.fileno())
    for number in range(20_000):
        log.error("event", number=number)
    read = b""
    ours.setblocking(False)
    while True:
        flushed = log.flush()
        try:
            read += ours.recv(1 << 20)
        except BlockingIOError:
            if flushed:
                break
    numbers = [json.loads(line)["number"] for line in read.splitlines()]
    assert numbers == list(range(20_000)), "a partly taken line is completed"


def test_a_reader_that_is_gone_stops_nobody(pipe: tuple[int, int]) -> None:
    log = Log("info", pipe[1])
    os.close(pipe[0])
    log.error("event")
    assert log.flush()
    log.close()
