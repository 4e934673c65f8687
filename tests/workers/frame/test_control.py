"""The letterbox: whole messages or none, bounds, and the end of the other side."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from engine import limits
from engine.telemetry.counters import CounterSegment
from engine.telemetry.metrics import Counter, Gauge
from tests.rigs.gateway import ROOT
from workers.frame.child import EXIT_BOOT, EXIT_ORPHANED
from workers.frame.control import Begin, Change, Drain, Failed, Gone, Letterbox, Ready
from workers.frame.spec import ContextSpec, IndexerSpec, JournalSpec, ReceiverSpec, may_change_to
from workers.supervision.data import find_leftovers

COMMON = {
    "cores": (0,),
    "counters_descriptor": 5,
    "counters_block": 2,
    "counters_blocks": {"a": 1},
    "data_directory": "/d",
    "log_level": "info",
    "version": "1",
}
INDEXER = IndexerSpec(
    name="indexer",
    role="indexer",
    module="workers.indexer",
    doorbell_descriptor=7,
    durability="sync",
    reserve_bytes=1,
    journals=(JournalSpec("a", "/j", 1),),
    **COMMON,
)
RECEIVER = ReceiverSpec(
    name="storage_scp",
    role="receiver",
    module="workers.receiver.receiver",
    listen_descriptors=(8, 9),
    port=104,
    ring_descriptor=6,
    ring_slots=7,
    ring_bytes=4096,
    doorbell_descriptor=7,
    indexer_block=1,
    journal_directory="/j",
    incoming_directory="/i",
    durability="sync",
    reserve_bytes=1,
    out_of_resources_status=0xA700,
    ae_title="SCP_AE",
    called_ae_titles=(),
    calling_ae_titles=("Ä\x00",),
    allowed_hosts=("10.0.0.0/8",),
    contexts=(ContextSpec("1.2", ("1.2.840.10008.1.2",)),),
    association_limit=5,
    verification_limit=5,
    host_limit=0,
    known_peers=(),
    application_timeout_s=5,
    idle_timeout_s=300,
    message_timeout_s=60,
    log_instances=True,
    **COMMON,
)


@pytest.fixture
def pair() -> tuple[Letterbox, Letterbox]:
    ours, theirs = Letterbox.pair()
    return ours, Letterbox(theirs)


def test_messages_arrive_whole_and_in_order(pair: tuple[Letterbox, Letterbox]) -> None:
    ours, theirs = pair
    messages = [Begin(RECEIVER), Begin(INDEXER), Change(RECEIVER), Drain(2.5)]
    assert all(ours.send(message) for message in messages)
    assert [theirs.receive_order() for _ in messages] == messages
    assert theirs.receive_order() is None
    theirs.send(Ready())
    theirs.send(Failed("why"))
    assert [ours.receive_report(), ours.receive_report()] == [Ready(), Failed("why")]


def test_the_end_is_seen_after_the_last_message(pair: tuple[Letterbox, Letterbox]) -> None:
    ours, theirs = pair
    theirs.send(Ready())
    theirs.close()
    assert ours.receive_report() == Ready()
    assert ours.receive_report() == Gone()
    assert not ours.send(Drain(1))


def test_a_reader_that_sleeps_never_blocks_the_writer(pair: tuple[Letterbox, Letterbox]) -> None:
    ours, _theirs = pair
    sent = 0
    while ours.send(Drain(1)):
        sent += 1
        assert sent < 1_000_000
    assert sent > 10


def test_a_message_has_a_bound(pair: tuple[Letterbox, Letterbox]) -> None:
    ours, _ = pair
    with pytest.raises(ValueError, match="exceeds"):
        ours.send(Failed("x" * limits.letter_bytes_max))
    assert ours.send(Failed("x" * (limits.letter_bytes_max - 100)))


def test_what_a_running_process_can_take() -> None:
    import msgspec

    replace = msgspec.structs.replace
    assert may_change_to(RECEIVER, replace(RECEIVER, ae_title="NEW", contexts=()))
    assert may_change_to(RECEIVER, replace(RECEIVER, log_level="debug", idle_timeout_s=1))
    assert not may_change_to(RECEIVER, replace(RECEIVER, ring_bytes=8192))
    assert not may_change_to(RECEIVER, replace(RECEIVER, durability="os"))
    assert not may_change_to(RECEIVER, replace(RECEIVER, cores=(1,)))
    assert may_change_to(INDEXER, replace(INDEXER, journals=()))
    assert not may_change_to(INDEXER, RECEIVER)


def _start_child(connection: socket.socket, *descriptors: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "workers", "--control", str(connection.fileno())],
        cwd=ROOT,
        pass_fds=[connection.fileno(), *descriptors],
        stderr=subprocess.PIPE,
    )


def _spec(segment: CounterSegment, bell: int, data: Path, **changes: object) -> IndexerSpec:
    import msgspec

    (data / "run").mkdir(exist_ok=True)
    return msgspec.structs.replace(
        INDEXER,
        module="tests.rigs.fake_role",
        cores=(),
        counters_descriptor=segment.descriptor,
        counters_block=segment.claim("indexer", "indexer"),
        doorbell_descriptor=bell,
        data_directory=str(data),
        **changes,
    )


def test_a_child_lives_by_its_letterbox(tmp_path: Path) -> None:
    segment = CounterSegment.create(blocks=1)
    bell = os.eventfd(0)
    spec = _spec(segment, bell, tmp_path, log_level="debug")
    ours, theirs = Letterbox.pair()
    child = _start_child(theirs, segment.descriptor, bell)
    theirs.close()
    ours.send(Begin(spec))
    assert _next(ours) == Ready()
    assert segment.block(0).get(Gauge.PID) == child.pid
    first = segment.block(0).get(Gauge.HEARTBEAT)
    ours.send(Drain(1.0))
    assert child.wait(5) == 0
    assert segment.block(0).get(Gauge.HEARTBEAT) >= first
    assert segment.block(0).get(Counter.LOG_LINES_DROPPED) == 0


def test_a_child_whose_supervisor_is_gone_ends(tmp_path: Path) -> None:
    segment = CounterSegment.create(blocks=1)
    bell = os.eventfd(0)
    ours, theirs = Letterbox.pair()
    child = _start_child(theirs, segment.descriptor, bell)
    theirs.close()
    ours.send(Begin(_spec(segment, bell, tmp_path)))
    assert _next(ours) == Ready()
    ours.close()
    assert child.wait(5) == EXIT_ORPHANED
    assert child.stderr is not None
    assert b"supervisor_gone" in child.stderr.read()


def test_two_children_never_do_the_same_work(tmp_path: Path) -> None:
    segment = CounterSegment.create(blocks=1)
    bell = os.eventfd(0)
    boxes, children = [], []
    for _ in range(2):
        ours, theirs = Letterbox.pair()
        children.append(_start_child(theirs, segment.descriptor, bell))
        theirs.close()
        ours.send(Begin(_spec(segment, bell, tmp_path)))
        boxes.append(ours)
        first = _next(ours)
    assert first == Failed("indexer: its predecessor has not ended yet")
    assert children[1].wait(5) == EXIT_BOOT
    assert find_leftovers(tmp_path / "run", {children[0].pid}) == []
    assert find_leftovers(tmp_path / "run", set()) == [children[0].pid]
    boxes[0].send(Drain(0))
    assert children[0].wait(5) == 0
    assert find_leftovers(tmp_path / "run", set()) == []


def test_a_child_that_is_never_told_anything_ends() -> None:
    ours, theirs = Letterbox.pair()
    child = _start_child(theirs)
    theirs.close()
    ours.close()
    assert child.wait(5) == EXIT_ORPHANED


def test_a_worker_started_by_hand_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workers"], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == EXIT_BOOT
    assert b"scai run" in done.stderr


def _next(letterbox: Letterbox) -> object:
    import select

    select.select([letterbox.descriptor], [], [], 10)
    return letterbox.receive_report()
