"""The outbox between processes: one that enqueues with instances, others that send and are killed.

The map begins far too small, so that it grows in one process while the others read and write.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from engine.outbox.outbox import Outbox
from engine.outbox.records import State
from engine.outbox.writer import OutboxWriter
from tests.rigs.outbox_tables import check_tables

DESTINATIONS = ("PACS", "Archive")
INSTANCES = 1200

_INDEXER = """
import sys, time
from pathlib import Path
import engine.index.environment
engine.index.environment.index_map_bytes_initial = 1 << 18
from engine.index.writer import IndexWriter
from engine.outbox.outbox import Outbox
from tests.rigs.index_entries import make_entry
from tests.rigs.outbox_deliveries import new
writer = IndexWriter(Path(sys.argv[1]))
for first in range(0, int(sys.argv[2]), 8):
    def work(batch):
        for number in range(first, first + 8):
            study = f"1.{number // 50}"
            batch.put_instance(make_entry(f"9.{number}", f"{study}.1", study))
            for destination in sys.argv[3:]:
                Outbox.within(batch).enqueue(new(f"9.{number}", study, destination), number)
    writer.commit(work)
    time.sleep(0.02)
"""

_SENDER = """
import random, sys, time
from pathlib import Path
import engine.index.environment
engine.index.environment.index_map_bytes_initial = 1 << 18
from engine.outbox.outbox import Outbox
from engine.outbox.writer import OutboxWriter
writer = OutboxWriter(Path(sys.argv[1]))
writer.commit(Outbox.return_leases)
while True:
    leased = []
    for destination in sys.argv[2:]:
        leased += writer.commit(lambda outbox: outbox.lease(destination, 20, time.time_ns()))
    for delivery in leased:
        print(delivery.destination, delivery.sop_instance_uid, flush=True)
    def end(outbox):
        for delivery in leased:
            if delivery.attempts == 0 and delivery.number % 5 == 0:
                outbox.attempt_failed(delivery.number, 1, "no", -1, time.time_ns() + 10**6)
            elif delivery.number % 100 == 1:
                outbox.attempt_failed(delivery.number, 1, "never", 0xA900, None)
            else:
                outbox.delivered(delivery.number, time.time_ns())
    writer.commit(end)
    if not leased:
        time.sleep(0.002)
"""


def start(program: str, *arguments: str, output: Path) -> subprocess.Popen[bytes]:
    with output.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdout=file,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )


def test_nothing_is_lost_however_often_the_sender_is_killed(tmp_path: Path) -> None:
    chance = random.Random(4)
    data, sent = tmp_path / "data", tmp_path / "sent"
    data.mkdir()
    count = str(INSTANCES)
    indexer = start(_INDEXER, str(data), count, *DESTINATIONS, output=tmp_path / "indexer")
    deadline = time.monotonic() + 60
    kills = 0
    while indexer.poll() is None:
        before = sent.stat().st_size if sent.exists() else 0
        sender = start(_SENDER, str(data), *DESTINATIONS, output=sent)
        while indexer.poll() is None and sent.stat().st_size == before:
            assert sender.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.1))
        sender.send_signal(signal.SIGKILL)
        sender.wait()
        kills += 1
    assert indexer.returncode == 0
    assert kills >= 5
    assert (data / "index" / "data.mdb").stat().st_size > 4 << 18, "the map has grown meanwhile"
    sender = start(_SENDER, str(data), *DESTINATIONS, output=sent)
    writer = OutboxWriter(data)
    try:
        while _unfinished(writer):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        sender.kill()
        sender.wait()
    writer.commit(Outbox.return_leases)
    with writer.view() as outbox:
        check_tables(outbox)
        counts = outbox.counts()
        for destination in DESTINATIONS:
            failed = counts.get((destination, State.FAILED), 0)
            assert counts[destination, State.DELIVERED] + failed == INSTANCES
        failures = list(outbox.deliveries(State.FAILED))
        assert len(failures) == 2 * INSTANCES // 100
        assert {delivery.reason for delivery in failures} == {"never"}
    tried = {line for line in sent.read_text().splitlines() if line.count(" ") == 1}
    for destination in DESTINATIONS:
        assert {f"{destination} 9.{number}" for number in range(INSTANCES)} <= tried
    writer.close()


def _unfinished(writer: OutboxWriter) -> int:
    with writer.view() as outbox:
        return sum(
            count
            for (_, state), count in outbox.counts().items()
            if state in (State.WAITING, State.SENDING, State.RETRYING)
        )
