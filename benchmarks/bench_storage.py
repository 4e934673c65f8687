"""Guards the way to the disk: instances through ring, file writer and journal, one at a time."""

import os
from collections.abc import Iterator
from pathlib import Path
from select import select

import pytest

from benchmarks.conftest import Guard
from benchmarks.instances import make
from benchmarks.load_wire import image_of
from native import _core
from tests.rigs.spools import HEAD, SpoolBox, new_cutter


def store(box: SpoolBox, stream: bytes) -> None:
    """One instance from the wire to its completion."""
    spool = box.spool
    cutter = new_cutter()
    cutter.attach(spool, 0)
    code = cutter.feed(stream)
    while True:
        while code == _core.RECEIVED_EVENT:
            event = cutter.next_event()
            assert event is not None
            if event[0] == _core.EVENT_COMMAND:
                spool.begin(0, HEAD, b"prologue", True)
                cutter.expect_data(event[1])
            code = cutter.feed(b"")
        spool.flush()
        assert select([spool.completion_descriptor], [], [], 10)[0], "no completion came"
        for kind, _, error, _, _ in spool.completions():
            if kind != _core.COMPLETION_SPACE:
                assert (kind, error) == (_core.COMPLETION_STORED, 0)
                return
        code = cutter.feed(b"")


@pytest.fixture(autouse=True)
def one_core() -> Iterator[None]:
    """As a worker has it: waking a thread on another core takes longer than storing."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("name", "durable", "calibration"),
    [
        ("ct", True, "disk"),
        ("tiny", True, "disk"),
        ("ct", False, "copy"),
        ("tiny", False, "copy"),
    ],
)
def test_store(guard: Guard, tmp_path: Path, name: str, durable: bool, calibration: str) -> None:
    """A durable one is compared with a synced write of 512 KiB, another with a copy in memory."""
    image = image_of(make(name, 1), 1, 16378)
    stream = image.head + image.tail
    box = SpoolBox(tmp_path / "spool", slots=1, durable=durable, segment_bytes=64 << 20)
    stored = 0

    def store_one() -> None:
        nonlocal stored
        store(box, stream)
        stored += 1

    try:
        guard(store_one, calibration, rounds=30)
        # Those acknowledged by their seals get their records in a moment, or now.
        box.spool.close()
        assert _core.journal_last_sequence(str(box.journal)) == stored
    finally:
        box.close()
