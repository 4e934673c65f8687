"""The shared segment: what one process writes another reads, across deaths and versions."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.errors import OperatorError
from engine.telemetry import metrics
from engine.telemetry.counters import CounterSegment, open_counters, read_run_file
from engine.telemetry.metrics import BLOCK_BYTES, Counter, Gauge, Histogram, ProcessState
from tests.rigs.gateway import ROOT


def test_numbers_of_one_block_stay_in_it() -> None:
    segment = CounterSegment.create(blocks=3)
    first, second = (segment.block(segment.claim(name, "receiver", "AE")) for name in "ab")
    for number, item in enumerate((*Counter, *Gauge), start=1):
        if isinstance(item, Counter):
            first.add(item, number)
        else:
            first.set(item, number)
    for number, item in enumerate((*Counter, *Gauge), start=1):
        assert first.get(item) == number
        assert second.get(item) == 0
    for histogram in Histogram:
        assert sum(first.observed(histogram)[0]) == 0, "no slot is used twice"
    assert segment.head(0).name == "a"
    assert segment.head(0).ae_title == "AE"


def test_histograms_count_into_the_right_bucket() -> None:
    block = CounterSegment.create(blocks=1).block(0)
    bounds = Histogram.STORE_DURATION.bounds
    for seconds in (0.0, bounds[0], bounds[0] * 1.001, bounds[-1] + 1):
        block.observe(Histogram.STORE_DURATION, seconds)
    counts, total = block.observed(Histogram.STORE_DURATION)
    assert counts[0] == 2, "a bucket includes its bound"
    assert counts[1] == 1
    assert counts[-1] == 1
    assert len(counts) == len(bounds) + 1
    assert total == pytest.approx(bounds[0] * 2.001 + bounds[-1] + 1, rel=1e-6)


def test_slots_do_not_overlap_and_fit() -> None:
    spans = [(int(item), 1) for item in (*Counter, *Gauge)]
    spans += [(int(item), len(item.bounds) + 2) for item in Histogram]
    used = [slot for start, count in spans for slot in range(start, start + count)]
    assert len(used) == len(set(used))
    assert min(used) == metrics.HEADER_SLOTS
    assert (max(used) + 1) * 8 <= BLOCK_BYTES
    assert BLOCK_BYTES % 128 == 0


def test_a_successor_goes_on_counting() -> None:
    segment = CounterSegment.create(blocks=2)
    index = segment.claim("a", "receiver")
    block = segment.block(index)
    block.begin(1)
    block.add(Counter.STORED_INSTANCES, 7)
    block.set(Gauge.ASSOCIATIONS_ACTIVE, 3)
    block.set(Gauge.JOURNAL_DURABLE_SEQUENCE, 9)
    assert segment.claim("a", "receiver") == index
    segment.note_restart(index)
    block.begin(2)
    assert block.get(Counter.STORED_INSTANCES) == 7
    assert block.get(Gauge.ASSOCIATIONS_ACTIVE) == 0, "they ended with their process"
    assert block.get(Gauge.JOURNAL_DURABLE_SEQUENCE) == 9, "what is durable stays so"
    assert block.get(Gauge.STATE) == ProcessState.STARTING
    assert segment.head(index).restarts == 1


def test_no_room_is_said() -> None:
    segment = CounterSegment.create(blocks=1)
    segment.claim("a", "receiver")
    with pytest.raises(OperatorError, match="restart it"):
        segment.claim("b", "receiver")
    with pytest.raises(IndexError):
        segment.block(1)


def test_an_attached_reader_cannot_write() -> None:
    segment = CounterSegment.create(blocks=1)
    reader = CounterSegment.attach(segment.descriptor)
    segment.block(0).add(Counter.CONNECTIONS)
    assert reader.block(0).get(Counter.CONNECTIONS) == 1
    with pytest.raises(TypeError):
        reader.block(0).add(Counter.CONNECTIONS)


def test_another_layout_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    segment = CounterSegment.create(blocks=1)
    monkeypatch.setattr("engine.telemetry.counters.table_digest", lambda: b"x" * 16)
    with pytest.raises(OperatorError, match="another table"):
        CounterSegment.attach(segment.descriptor)


@pytest.mark.parametrize("content", [b"", b"x" * 64, b"x" * 4096])
def test_what_is_no_segment_is_refused(content: bytes) -> None:
    descriptor = os.memfd_create("other")
    os.write(descriptor, content)
    with pytest.raises(OperatorError, match="no segment of counters"):
        CounterSegment.attach(descriptor)
    os.close(descriptor)


_writer = """
import os, sys, time
from engine.telemetry.counters import CounterSegment
from engine.telemetry.metrics import Counter
segment = CounterSegment.attach(int(sys.argv[1]), writable=True)
block = segment.block(0)
block.begin(os.getpid())
for _ in range(1000):
    block.add(Counter.STORED_BYTES, 5)
os.kill(os.getpid(), 9)
"""


def test_values_survive_the_writers_death() -> None:
    segment = CounterSegment.create(blocks=1)
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-c", _writer, str(segment.descriptor)],
            cwd=ROOT,
            pass_fds=[segment.descriptor],
            check=False,
        )
    assert segment.block(0).get(Counter.STORED_BYTES) == 10_000


def _run_file(directory: Path, pid: int, descriptor: int) -> None:
    (directory / "run").mkdir(exist_ok=True)
    content = {"pid": pid, "counters_descriptor": descriptor, "started": 0.0, "version": "1"}
    (directory / "run" / "supervisor.json").write_text(json.dumps(content))


def test_readers_find_the_running_service(tmp_path: Path) -> None:
    assert open_counters(tmp_path) is None, "no run file"
    segment = CounterSegment.create(blocks=1)
    _run_file(tmp_path, os.getpid(), segment.descriptor)
    segment.block(0).add(Counter.CONNECTIONS, 3)
    found = open_counters(tmp_path)
    assert found is not None
    assert found.block(0).get(Counter.CONNECTIONS) == 3
    # The pid belongs to another program now, or to nobody.
    _run_file(tmp_path, os.getpid(), 0)
    assert open_counters(tmp_path) is None
    _run_file(tmp_path, 2**22 + 1, 5)
    assert open_counters(tmp_path) is None
    (tmp_path / "run" / "supervisor.json").write_text('{"pid": "x"}')
    with pytest.raises(OperatorError, match="damaged"):
        read_run_file(tmp_path)


def test_adding_is_cheap() -> None:
    block = CounterSegment.create(blocks=1).block(0)
    stored = Counter.STORED_BYTES
    rounds = 20_000
    best = 1.0
    for _ in range(10):
        start = time.perf_counter()
        for _ in range(rounds):
            block.add(stored, 5)
        best = min(best, (time.perf_counter() - start) / rounds)
    # 0.09 us where it was written; the bound only finds what is of another order.
    assert best < 1e-6
