"""The indexer's process loop, over a real journal, index and counters: keeps up, recovers, ends."""

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.files.tree import StoreTree
from engine.index.environment import open_index_reader
from engine.index.writer import IndexWriter, WriterBusyError
from engine.telemetry.counters import CounterSegment
from engine.telemetry.metrics import Counter, Gauge
from engine.verify.repair import Action, await_result, leave_request
from tests.rigs.indexer_box import LARGE, Box
from workers.frame.records_in_hand import RecordsOnPage
from workers.frame.spec import IndexerSpec, JournalSpec
from workers.indexer import Indexer


class FakeLog:
    def __init__(self) -> None:
        self.events: list[str] = []

    def info(self, event: str, **_: object) -> None:
        self.events.append(event)

    warning = error = debug = info


class FakeChild:
    """What workers/frame/child.py gives, without its letterbox."""

    def __init__(self, data: Path, reserve_bytes: int = 0) -> None:
        self.segment = CounterSegment.create(4)
        own = self.segment.claim("indexer", "indexer")
        self.receiver = self.segment.block(self.segment.claim("scp", "receiver"))
        self.counters = self.segment.block(own)
        self.doorbell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.log = FakeLog()
        self.draining = asyncio.Event()
        self.drain_deadline = float("inf")
        self.is_ready = asyncio.Event()
        self.spec = IndexerSpec(
            name="indexer",
            role="indexer",
            module="workers.indexer",
            cores=(),
            counters_descriptor=self.segment.descriptor,
            counters_block=own,
            counters_blocks={},
            data_directory=str(data),
            log_level="info",
            version="0",
            doorbell_descriptor=self.doorbell,
            durability="sync",
            reserve_bytes=reserve_bytes,
            journals=(JournalSpec("scp", str(data / "journal" / "scp"), 1),),
        )

    def ready(self) -> None:
        self.is_ready.set()

    def ring(self, durable: int) -> None:
        self.receiver.set(Gauge.JOURNAL_DURABLE_SEQUENCE, durable)
        os.eventfd_write(self.doorbell, 1)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path, ("scp", "abandoned"))
    made.writer.close()
    made.spools["abandoned"].spool.close()  # its receiver has left
    yield made
    made.close()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def live(box: Box, story: Callable[[FakeChild], Any], **more: int) -> FakeChild:
    """Run the role while `story` happens around it; it must drain by itself afterwards."""

    async def both() -> FakeChild:
        child = FakeChild(box.data, **more)
        work = asyncio.create_task(Indexer(child).run())  # type: ignore[arg-type]
        await asyncio.wait(
            [work, asyncio.create_task(child.is_ready.wait())], return_when="FIRST_COMPLETED"
        )
        await story(child)
        child.draining.set()
        await asyncio.wait_for(work, 5)
        return child

    return asyncio.run(both())


def instances(box: Box) -> int:
    reader = open_index_reader(box.data)
    with reader.view() as view:
        count = view.count("instances")
    reader.close()
    return count


def test_it_follows_the_doorbell_and_ends_with_a_checkpoint(box: Box) -> None:
    box.store("1.1", size=LARGE)
    box.spools["abandoned"].open()
    box.store("1.2", "abandoned")
    box.spools["abandoned"].spool.close()

    async def story(child: FakeChild) -> None:
        child.ring(1)
        await until(lambda: child.receiver.get(Gauge.JOURNAL_APPLIED_SEQUENCE) == 1)
        child.ring(box.store("1.3"))
        child.ring(box.store("1.3"))
        await until(lambda: child.receiver.get(Gauge.JOURNAL_APPLIED_SEQUENCE) == 3)
        child.ring(box.store("1.4"))

    child = live(box, story)
    assert child.counters.get(Counter.INDEXED_INSTANCES) == 5
    assert child.counters.get(Counter.INDEX_REPLACED_BY_SAME) == 1
    assert child.counters.get(Counter.INDEX_CHECKPOINTS) >= 1
    assert child.counters.get(Gauge.DISK_FREE_BYTES) > 0
    assert child.counters.get(Gauge.DISK_LOW) == 0
    assert instances(box) == 4
    assert box.spools["scp"].instances_under_way() == []
    assert child.log.events == ["instance_replaced"]


def test_a_journal_whose_receiver_is_leaving_keeps_no_other_waiting(box: Box) -> None:
    """It is no longer configured; what its receiver still adds is taken in when it has ended."""
    box.spools["abandoned"].open()
    box.store("1.2", "abandoned")

    async def story(child: FakeChild) -> None:
        started = asyncio.get_running_loop().time()
        child.ring(box.store("1.1"))
        await until(lambda: child.counters.get(Counter.INDEXED_INSTANCES) == 2)
        assert asyncio.get_running_loop().time() - started < 3, "the lock is waited for 5 s"
        box.store("1.3", "abandoned")
        box.spools["abandoned"].spool.close()
        await until(lambda: child.counters.get(Counter.INDEXED_INSTANCES) == 3)

    child = live(box, story)
    assert child.log.events == ["journal_busy"]
    assert instances(box) == 3


def test_a_fault_is_published_told_once_and_survived(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, broken = StoreTree.place, True

    def place_or_fail(tree: StoreTree, source: str, relative: str) -> None:
        if broken:
            raise OSError(errno.ENOSPC, "No space left on device")
        place(tree, source, relative)

    monkeypatch.setattr(StoreTree, "place", place_or_fail)

    async def story(child: FakeChild) -> None:
        nonlocal broken
        child.ring(box.store("1.1", size=LARGE))
        await until(lambda: child.counters.get(Gauge.INDEX_FAULT) == errno.ENOSPC)
        await until(lambda: child.counters.get(Counter.INDEX_ERRORS) > 2)
        broken = False
        await until(lambda: child.receiver.get(Gauge.JOURNAL_APPLIED_SEQUENCE) == 1)
        await until(lambda: child.counters.get(Gauge.INDEX_FAULT) == 0)

    child = live(box, story)
    assert child.log.events == ["index_fault", "index_recovered"]
    assert instances(box) == 1


def test_an_error_of_the_index_opens_it_anew(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    import lmdb

    commit, failures = IndexWriter.commit, 2

    def commit_or_fail(writer: IndexWriter, work: Any) -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            raise lmdb.Error("mdb_txn_commit: Input/output error")
        return commit(writer, work)

    monkeypatch.setattr(IndexWriter, "commit", commit_or_fail)

    async def story(child: FakeChild) -> None:
        child.ring(box.store("1.1"))
        await until(lambda: child.counters.get(Gauge.INDEX_FAULT) == errno.EIO)
        await until(lambda: child.receiver.get(Gauge.JOURNAL_APPLIED_SEQUENCE) == 1)

    child = live(box, story)
    assert child.log.events == ["index_fault", "index_recovered"]
    assert instances(box) == 1


def test_a_damaged_index_is_told_with_the_way_on(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no record is blamed for it: what was in hand is taken in by the next index."""
    import lmdb

    def damaged(*_: object) -> None:
        raise lmdb.CorruptedError("mdb_put: MDB_CORRUPTED: Located page was wrong type")

    monkeypatch.setattr(IndexWriter, "commit", damaged)

    async def story(child: FakeChild) -> None:
        child.drain_deadline = 0.0  # it will not come to an end by itself
        child.ring(box.store("1.1"))
        await until(lambda: child.counters.get(Gauge.INDEX_CUT) == 1)
        assert child.counters.get(Gauge.INDEX_FAULT) == errno.EIO

    live(box, story)
    page = RecordsOnPage(box.data / "run" / "indexer.inhand")
    assert page.blamed is None


def test_a_low_disk_is_told(box: Box) -> None:
    async def story(child: FakeChild) -> None:
        await until(lambda: child.counters.get(Gauge.DISK_LOW) == 1)

    live(box, story, reserve_bytes=1 << 62)


def test_repairs_are_taken_up(box: Box) -> None:
    async def story(child: FakeChild) -> None:
        request = leave_request(box.data, [Action("adopt", "no path")])
        outcomes = await asyncio.to_thread(await_result, request, 5)
        assert [outcome.done for outcome in outcomes] == [False]

    live(box, story)


def test_a_second_writer_waits_and_then_gives_up(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    from workers import indexer

    monkeypatch.setattr(indexer, "_writer_wait_s", 0.3)
    other = IndexWriter(box.data)

    async def alone() -> None:
        await Indexer(FakeChild(box.data)).run()  # type: ignore[arg-type]

    with pytest.raises(WriterBusyError):
        asyncio.run(alone())
    other.close()
