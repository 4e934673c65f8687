"""Readers wait, within bounds, for what was acknowledged before they asked."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.index.freshness import catch_up
from engine.telemetry.counters import CounterBlock, CounterSegment
from engine.telemetry.metrics import Gauge, ProcessState
from workers.supervision.data import write_run_file


@pytest.fixture
def block(tmp_path: Path) -> Iterator[CounterBlock]:
    """The counters of a receiver of a service that seems to run on `tmp_path`."""
    segment = CounterSegment.create(2)
    (tmp_path / "run").mkdir()
    write_run_file(tmp_path / "run", segment, time.time(), "0")
    block = segment.block(segment.claim("scp", "receiver"))
    block.set(Gauge.STATE, ProcessState.READY)
    yield block
    os.close(segment.descriptor)


def test_nothing_to_wait_for_without_a_service(tmp_path: Path) -> None:
    assert catch_up(tmp_path, 0)


def test_it_waits_until_the_index_is_there(block: CounterBlock, tmp_path: Path) -> None:
    assert catch_up(tmp_path, 0)
    block.set(Gauge.JOURNAL_ACKNOWLEDGED_SEQUENCE, 7)
    block.set(Gauge.JOURNAL_APPLIED_SEQUENCE, 6)
    assert not catch_up(tmp_path, 0.02)
    later = threading.Timer(0.1, block.set, (Gauge.JOURNAL_APPLIED_SEQUENCE, 7))
    later.start()
    assert catch_up(tmp_path, 5)
    later.join()


def test_what_comes_later_is_not_waited_for(block: CounterBlock, tmp_path: Path) -> None:
    block.set(Gauge.JOURNAL_ACKNOWLEDGED_SEQUENCE, 1)

    def go_on() -> None:
        for sequence in range(1, 50):
            block.set(Gauge.JOURNAL_ACKNOWLEDGED_SEQUENCE, sequence + 10)
            block.set(Gauge.JOURNAL_APPLIED_SEQUENCE, sequence)
            time.sleep(0.005)

    busy = threading.Thread(target=go_on)
    busy.start()
    assert catch_up(tmp_path, 5)
    busy.join()


def test_what_a_receiver_will_find_in_its_journal_is_waited_for(
    block: CounterBlock, tmp_path: Path
) -> None:
    """After a crash a reader may ask before the receiver knows what its predecessor took."""
    for state in (ProcessState.ABSENT, ProcessState.STARTING):
        block.set(Gauge.STATE, state)
        assert not catch_up(tmp_path, 0.02)
    block.set(Gauge.JOURNAL_ACKNOWLEDGED_SEQUENCE, 3)
    block.set(Gauge.STATE, ProcessState.READY)
    assert not catch_up(tmp_path, 0.02)
    block.set(Gauge.JOURNAL_APPLIED_SEQUENCE, 3)
    assert catch_up(tmp_path, 0)
    block.set(Gauge.STATE, ProcessState.STARTING)
    assert catch_up(tmp_path, 0), "a replacement knows what was acknowledged before it"


def test_a_receiver_that_has_taken_nothing(block: CounterBlock, tmp_path: Path) -> None:
    block.set(Gauge.STATE, ProcessState.STARTING)
    later = threading.Timer(0.1, block.set, (Gauge.STATE, ProcessState.READY))
    later.start()
    assert catch_up(tmp_path, 5)
    later.join()
