"""The outbox: order, leases, attempts, the user's hand, and what is left after a crash."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import lmdb
import pytest

from engine import limits
from engine.errors import LocalError, OperatorError
from engine.index import records as index_records
from engine.index.environment import open_index_reader
from engine.index.writer import IndexWriter
from engine.outbox.outbox import Outbox
from engine.outbox.records import (
    Delivery,
    State,
    due_after_failure,
    retry_due_ns,
)
from engine.outbox.spool import remove_finished, spooled_path, sweep
from engine.outbox.view import OutboxView
from engine.outbox.writer import OutboxWriter
from tests.rigs.index_entries import make_entry
from tests.rigs.outbox_deliveries import ask, new

SECOND_NS = 1_000_000_000


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[OutboxWriter]:
    opened = OutboxWriter(tmp_path)
    yield opened
    opened.close()


def lease(writer: OutboxWriter, count: int, now_ns: int = 10, to: str = "PACS") -> list[str]:
    """The SOP Instance UIDs in the order leased."""
    leased = writer.commit(lambda outbox: outbox.lease(to, count, now_ns))
    assert all(delivery.state is State.SENDING for delivery in leased)
    return [delivery.sop_instance_uid for delivery in leased]


def seen(writer: OutboxWriter, number: int) -> Delivery:
    with writer.view() as outbox:
        delivery = outbox.delivery(number)
    assert delivery is not None
    return delivery


def counts(writer: OutboxWriter) -> dict[State, int]:
    """To all destinations together."""
    sums: Counter[State] = Counter()
    with writer.view() as outbox:
        for (_, state), count in outbox.counts().items():
            sums[state] += count
    return dict(sums)


def fail(writer: OutboxWriter, number: int, due_ns: int | None = None) -> None:
    assert writer.commit(lambda outbox: outbox.attempt_failed(number, 20, "x", -1, due_ns))


def finish(writer: OutboxWriter, number: int, now_ns: int = 20) -> None:
    assert writer.commit(lambda outbox: outbox.delivered(number, now_ns))


# --- order ----------------------------------------------------------------------------------------
def test_one_destination_says_nothing_of_another(writer: OutboxWriter) -> None:
    ask(writer, new("a1"), new("a1", destination="PACS2"), new("a2", destination="PACS2"))
    assert lease(writer, 5, to="PACS2") == ["a1", "a2"]
    assert lease(writer, 5) == ["a1"]


def test_what_is_due_again_goes_by_its_age(writer: OutboxWriter) -> None:
    first, _ = ask(writer, new("a1", "A"), new("b1", "B"))
    assert lease(writer, 1) == ["a1"]
    writer.commit(lambda outbox: outbox.attempt_failed(first, 20, "time-out", -1, 100))
    with writer.view() as outbox:
        assert outbox.next_due_ns("PACS", 50) == 100
        assert outbox.next_due_ns("PACS2", 50) is None
    ask(writer, new("c1", "C"))
    assert lease(writer, 1, now_ns=99) == ["b1"]
    assert lease(writer, 5, now_ns=100) == ["a1", "c1"]
    delivery = seen(writer, first)
    assert (delivery.attempts, delivery.reason, delivery.status) == (1, "time-out", -1)


# --- asking again ---------------------------------------------------------------------------------
def test_asking_again_renews_what_is_open(writer: OutboxWriter) -> None:
    (number,) = ask(writer, new("a1"))
    lease(writer, 1)
    writer.commit(lambda outbox: outbox.attempt_failed(number, 20, "refused", -1, None))
    assert counts(writer) == {State.FAILED: 1}
    changed = new("a1")._replace(file_bytes=200, transfer_syntax_uid="1.2.840.10008.1.2.1")
    assert ask(writer, changed, now_ns=30) == [number]
    delivery = seen(writer, number)
    assert (delivery.state, delivery.attempts, delivery.reason) == (State.WAITING, 0, "")
    assert (delivery.file_bytes, delivery.transfer_syntax_uid) == (200, "1.2.840.10008.1.2.1")
    assert counts(writer) == {State.WAITING: 1}


def test_what_the_user_holds_stays_held_when_asked_for_again(writer: OutboxWriter) -> None:
    (number,) = ask(writer, new("a1"))
    writer.commit(lambda outbox: outbox.hold([number], 2))
    assert ask(writer, new("a1")) == [number]
    assert lease(writer, 1) == []
    (moved,) = ask(writer, new("a1", study="9.9"))
    assert moved != number
    assert seen(writer, moved).state is State.HELD
    assert counts(writer) == {State.HELD: 1}


def test_two_versions_of_an_instance_never_race(writer: OutboxWriter) -> None:
    (first,) = ask(writer, new("a1"))
    assert lease(writer, 5) == ["a1"]
    (second,) = ask(writer, new("a1"))
    assert second != first
    assert ask(writer, new("a1")) == [second]
    assert lease(writer, 5) == []
    assert writer.commit(lambda outbox: outbox.delivered(first, 20))
    assert lease(writer, 5) == ["a1"]
    assert seen(writer, second).state is State.SENDING


@pytest.mark.parametrize("due_ns", [None, 50])
def test_the_newer_version_takes_the_place_of_one_that_failed(
    writer: OutboxWriter, due_ns: int | None
) -> None:
    (first,) = ask(writer, new("a1"))
    lease(writer, 1)
    (second,) = ask(writer, new("a1"))
    assert writer.commit(lambda outbox: outbox.attempt_failed(first, 20, "gone", -1, due_ns))
    with writer.view() as outbox:
        assert outbox.delivery(first) is None
    assert counts(writer) == {State.WAITING: 1}
    assert lease(writer, 5) == ["a1"]
    assert seen(writer, second).state is State.SENDING


# --- leases ---------------------------------------------------------------------------------------
def test_returned_leases_have_lost_no_attempt(writer: OutboxWriter) -> None:
    numbers = ask(writer, new("a1"), new("a2"), new("a1", destination="PACS2"))
    lease(writer, 5)
    lease(writer, 5, to="PACS2")
    assert counts(writer) == {State.SENDING: 3}
    assert writer.commit(Outbox.return_leases) == 3
    assert writer.commit(Outbox.return_leases) == 0
    assert [seen(writer, number).attempts for number in numbers] == [0, 0, 0]
    # Whoever held the lease is told that it is none any more.
    assert not writer.commit(lambda outbox: outbox.delivered(numbers[0], 20))
    assert not writer.commit(lambda outbox: outbox.attempt_failed(numbers[0], 20, "", -1, None))
    assert lease(writer, 5) == ["a1", "a2"]


def test_warnings_are_recorded(writer: OutboxWriter) -> None:
    first, second = ask(writer, new("a1"), new("a2"))
    lease(writer, 2)
    writer.commit(lambda outbox: outbox.delivered(first, 20))
    writer.commit(lambda outbox: outbox.delivered(second, 21, 0xB000, "coerced"))
    assert (seen(writer, first).warning, seen(writer, first).status) == (False, 0)
    warned = seen(writer, second)
    assert (warned.warning, warned.status, warned.reason) == (True, 0xB000, "coerced")


_HOLDER = """
import sys
from pathlib import Path
from engine.outbox.writer import OutboxWriter
writer = OutboxWriter(Path(sys.argv[1]))
writer.commit(lambda outbox: outbox.lease("PACS", 2, 10))
def work(outbox):
    outbox.lease("PACS", 1, 10)
    print("leased", flush=True)
    sys.stdin.read()
writer.commit(work)
"""


def test_leases_survive_a_kill_in_the_middle_of_a_commit(
    tmp_path: Path, writer: OutboxWriter
) -> None:
    ask(writer, *(new(f"a{number}") for number in range(5)))
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"leased\n"
    holder.send_signal(signal.SIGKILL)
    holder.communicate(timeout=10)
    assert counts(writer) == {State.SENDING: 2, State.WAITING: 3}
    assert writer.commit(Outbox.return_leases) == 2
    assert lease(writer, 9) == [f"a{number}" for number in range(5)]


# --- the user's hand ------------------------------------------------------------------------------
def test_a_paused_destination_leases_nothing(writer: OutboxWriter) -> None:
    ask(writer, new("a1"))
    writer.commit(lambda outbox: outbox.pause("PACS", True))
    writer.commit(lambda outbox: outbox.pause("PACS", True))
    with writer.view() as outbox:
        assert outbox.paused() == {"PACS"}
        assert outbox.next_due_ns("PACS", 50) is None
    assert lease(writer, 1) == []
    writer.commit(lambda outbox: outbox.pause("PACS", False))
    assert lease(writer, 1) == ["a1"]


def test_each_order_heeds_the_state(writer: OutboxWriter) -> None:
    waiting, sending, failed = ask(writer, new("w", "W"), new("s", "S"), new("f", "F"))
    lease(writer, 3)
    writer.commit(Outbox.return_leases)
    lease(writer, 3)
    writer.commit(lambda outbox: outbox.attempt_failed(waiting, 20, "x", -1, 30))
    writer.commit(lambda outbox: outbox.attempt_failed(failed, 20, "x", 0xA700, None))
    everything = [waiting, sending, failed, 999]

    def numbers(changed: list[Delivery]) -> list[int]:
        return [delivery.number for delivery in changed]

    assert numbers(writer.commit(lambda outbox: outbox.hold(everything, 40))) == [waiting]
    assert numbers(writer.commit(lambda outbox: outbox.release(everything, 41))) == [waiting]
    assert seen(writer, waiting).attempts == 1
    assert numbers(writer.commit(lambda outbox: outbox.retry(everything, 42))) == [failed]
    assert seen(writer, failed).attempts == 0
    assert numbers(writer.commit(lambda outbox: outbox.discard(everything, 43))) == [
        waiting,
        failed,
    ]
    assert counts(writer) == {State.SENDING: 1}


# --- looking --------------------------------------------------------------------------------------
def test_lists_are_by_number_and_in_portions(writer: OutboxWriter) -> None:
    asked = [
        new(f"{destination}{n}", f"S{n % 3}", destination)
        for n in range(6)
        for destination in ("Z", "A")
    ]
    numbers = ask(writer, *asked)
    writer.commit(lambda outbox: [outbox.lease(name, 2, 10) for name in ("Z", "A")])

    def listed(**wanted: object) -> list[int]:
        with writer.view() as outbox:
            found = outbox.deliveries(**wanted)  # type: ignore[arg-type]
            return [delivery.number for delivery in found]

    assert listed() == numbers
    assert listed(after=numbers[3], limit=2) == numbers[4:6]
    assert listed(destination="A") == numbers[1::2]
    assert listed(study="S1") == [numbers[index] for index in (2, 3, 8, 9)]
    assert listed(study="S1", destination="Z", after=numbers[2]) == [numbers[8]]
    assert listed(study="S") == []
    sending = listed(state=State.SENDING)
    assert sending == sorted(sending)
    assert len(sending) == 4
    waiting = listed(state=State.WAITING)
    assert sorted(waiting + sending) == numbers
    assert waiting == sorted(waiting)
    assert listed(state=State.WAITING, limit=3, after=waiting[1]) == waiting[2:5]
    with writer.view() as outbox:
        first = outbox.first_in_line("A")
        assert first is not None
    assert lease(writer, 1, to="A") == [first.sop_instance_uid]


@pytest.mark.parametrize("behind", ["\0", "\0\0\0\0\0\0\0\1", "\0" + 8 * "9", ".1"])
def test_a_study_whose_name_begins_alike_is_another(writer: OutboxWriter, behind: str) -> None:
    """A name is what a peer sent, NULs and all; numbers in its keys are nobody else's."""
    numbers = ask(writer, new("1", "1.2"), new("2", f"1.2{behind}"), new("3", "1.2"))
    with writer.view() as outbox:
        assert [it.number for it in outbox.deliveries(study="1.2")] == numbers[::2]
        assert [it.number for it in outbox.deliveries(study=f"1.2{behind}")] == numbers[1:2]


def test_history_goes_in_portions_and_failures_stay(writer: OutboxWriter) -> None:
    numbers = ask(writer, *(new(f"a{n}") for n in range(5)))
    lease(writer, 5)
    for when, number in enumerate(numbers[:4], 100):
        finish(writer, number, when)
    fail(writer, numbers[4])
    assert writer.commit(lambda outbox: outbox.prune_delivered(103, 2)) == 2
    assert writer.commit(lambda outbox: outbox.prune_delivered(103)) == 1
    assert writer.commit(lambda outbox: outbox.prune_delivered(103)) == 0
    assert counts(writer) == {State.DELIVERED: 1, State.FAILED: 1}
    (again,) = ask(writer, new("a3"))
    assert again > max(numbers), "a number is never used twice"


def test_names_that_make_no_key_are_refused(writer: OutboxWriter) -> None:
    for name in ("", "a\0b", "x" * 300):
        with pytest.raises(OperatorError, match="name of a remote AE"):
            writer.commit(partial(Outbox.pause, destination=name, paused=True))
    long = "9" * 2000  # whatever a peer calls its instances and studies
    assert ask(writer, new(long, long), new(long + "1", long)) == [1, 2]
    assert lease(writer, 5) == [long, long + "1"]


# --- with the index -------------------------------------------------------------------------------
def test_deliveries_share_the_fate_of_the_instance(tmp_path: Path) -> None:
    index = IndexWriter(tmp_path)
    entry = make_entry("1.4.1")
    index.commit(
        lambda batch: (batch.put_instance(entry), Outbox.within(batch).enqueue(new("1.4.1"), 1))
    )

    def fail(batch: object) -> None:
        Outbox.within(batch).enqueue(new("1.4.2"), 1)  # type: ignore[arg-type]
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        index.commit(fail)
    with index.reader().view() as view:
        outbox = OutboxView.within(view)
        assert [delivery.sop_instance_uid for delivery in outbox.deliveries()] == ["1.4.1"]
        assert outbox.instance("1.4.1") is not None
    index.close()


def test_an_index_of_an_earlier_release_has_an_empty_outbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = index_records.TABLES.index("deliveries")
    with monkeypatch.context() as earlier:
        earlier.setattr(index_records, "TABLES", index_records.TABLES[:first])
        index = IndexWriter(tmp_path)
        index.commit(lambda batch: batch.put_instance(make_entry("1.4.1")))
        index.close()
    reader = open_index_reader(tmp_path)
    with reader.view() as view:
        outbox = OutboxView.within(view)
        assert outbox.counts() == {}
        assert list(outbox.deliveries()) == []
        assert outbox.count("deliveries") == 0
        assert outbox.instance("1.4.1") is not None
    reader.close()
    writer = OutboxWriter(tmp_path)
    ask(writer, new("1.4.1"))
    assert lease(writer, 1) == ["1.4.1"]
    writer.close()


def test_a_reader_meets_the_tables_when_they_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import sys; from pathlib import Path; from engine.outbox.writer import OutboxWriter;"
        "from tests.rigs.outbox_deliveries import ask, new;"
        "ask(OutboxWriter(Path(sys.argv[1])), new('1.4.1'))"
    )
    first = index_records.TABLES.index("deliveries")
    with monkeypatch.context() as earlier:
        earlier.setattr(index_records, "TABLES", index_records.TABLES[:first])
        IndexWriter(tmp_path).close()
    reader = open_index_reader(tmp_path)
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=60)
    with reader.view() as view:
        assert len(list(OutboxView.within(view).deliveries())) == 1
    reader.close()


def test_the_map_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.index.environment.index_map_bytes_initial", 128 * limits.KIB)
    writer = OutboxWriter(tmp_path)
    many = [new(f"1.2.{number}", f"1.{number // 9}") for number in range(2000)]
    assert len(ask(writer, *many)) == 2000
    assert counts(writer) == {State.WAITING: 2000}
    writer.close()


def test_threads_share_one_writer(writer: OutboxWriter) -> None:
    def work(name: str) -> None:
        for number in range(20):
            ask(writer, new(f"{name}{number}", name))
            counts(writer)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts(writer) == {State.WAITING: 80}


def test_an_error_leaves_nothing(writer: OutboxWriter) -> None:
    def work(outbox: Outbox) -> None:
        outbox.enqueue(new("a1"), 1)
        raise lmdb.DiskError("gone")

    with pytest.raises(lmdb.DiskError):
        writer.commit(work)
    assert counts(writer) == {}


# --- spooled copies -------------------------------------------------------------------------------
def test_a_copy_stays_until_its_last_delivery_ended(tmp_path: Path, writer: OutboxWriter) -> None:
    copy = spooled_path(tmp_path, "one.dcm")
    copy.parent.mkdir()
    copy.write_bytes(b"x")
    first, second = ask(writer, new("a", file="one.dcm"), new("a", "1.2", "P2", "one.dcm"))
    lease(writer, 1)
    writer.commit(lambda outbox: outbox.delivered(first, 20))
    remove_finished(writer, tmp_path, ["one.dcm", ""])
    assert copy.exists()
    writer.commit(lambda outbox: outbox.discard([second], 30))
    remove_finished(writer, tmp_path, ["one.dcm"])
    assert not copy.exists()
    remove_finished(writer, tmp_path, ["one.dcm"])


def test_the_sweep_takes_old_copies_that_nobody_names(tmp_path: Path, writer: OutboxWriter) -> None:
    (tmp_path / "outbox" / "folder").mkdir(parents=True)
    for name in ("named.dcm", "orphan.dcm"):
        spooled_path(tmp_path, name).write_bytes(b"x")
    os.utime(spooled_path(tmp_path, "orphan.dcm"), (0, 0))  # an old content just moved in
    (number,) = ask(writer, new("a", file="named.dcm"))
    now_ns = spooled_path(tmp_path, "orphan.dcm").stat().st_ctime_ns
    assert sweep(writer, tmp_path, now_ns) == []
    assert sweep(writer, tmp_path, now_ns + (limits.outbox_orphan_s - 60) * SECOND_NS) == []
    late_ns = now_ns + (limits.outbox_orphan_s + 60) * SECOND_NS
    assert sweep(writer, tmp_path, late_ns) == ["orphan.dcm"]
    renewed = new("a", file="other.dcm")
    assert ask(writer, renewed) == [number]
    assert sweep(writer, tmp_path, late_ns) == ["named.dcm"]
    assert sweep(writer, tmp_path / "elsewhere", late_ns) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\0b"])
def test_a_copy_has_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(LocalError):
        spooled_path(tmp_path, name)


# --- trying again ---------------------------------------------------------------------------------
def test_pauses_double_and_end() -> None:
    pauses = [retry_due_ns(attempt, 5, 0.0, 30) - 5 for attempt in range(1, 11)]
    assert pauses[:3] == [30 * SECOND_NS, 60 * SECOND_NS, 120 * SECOND_NS]
    assert pauses[-1] == limits.retry_pause_s_max * SECOND_NS
    assert retry_due_ns(10**9, 0, 0.0) == limits.retry_pause_s_max * SECOND_NS
    assert retry_due_ns(1, 0, 1.0, 100) == 75 * SECOND_NS


def test_a_retry_count_is_of_further_attempts(writer: OutboxWriter) -> None:
    (number,) = ask(writer, new("a1"))
    attempts = 0
    now_ns = 1
    while lease(writer, 1, now_ns):
        attempts += 1
        due_ns = due_after_failure(seen(writer, number), 2, now_ns, 0.5)
        fail(writer, number, due_ns)
        now_ns = due_ns or now_ns
    assert attempts == 3
    assert seen(writer, number).state is State.FAILED
    assert seen(writer, number).attempts == 3


def test_a_clock_that_is_set_back_defers_nothing(writer: OutboxWriter) -> None:
    """What is due later than any pause could have said is due now, all else in its time."""
    second, day, hour = 10**9, 86_400 * 10**9, 3_600 * 10**9
    numbers = ask(writer, *(new(name) for name in ("a1", "a2", "a3")))
    assert len(lease(writer, 3)) == 3
    for number, due in zip(numbers, (day, day + 30 * second, hour), strict=True):
        writer.commit(
            lambda outbox, number=number, due=due: outbox.attempt_failed(
                number, due - second, "time-out", -1, due
            )
        )
    with writer.view() as outbox:
        assert outbox.next_due_ns("PACS", 5 * second) == 5 * second
        assert outbox.next_due_ns("PACS", day - hour + 30 * second) == hour, "none is far"
    assert lease(writer, 1, now_ns=0) == ["a1"], "no more than was asked for"
    assert lease(writer, 5, now_ns=0) == ["a2"]
    assert lease(writer, 5, now_ns=hour - 1) == []
    assert lease(writer, 5, now_ns=hour) == ["a3"]
