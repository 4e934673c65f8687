"""A removal: what goes, what stays, and what of it is left at each step when the power goes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.files.tree import StoreTree
from engine.index import tombstones
from engine.index.writer import IndexWriter
from engine.outbox.outbox import Outbox
from engine.outbox.records import State
from engine.prefetch.hit_rate import HitRate
from engine.prefetch.jobs import Trigger
from engine.prefetch.records import Ask, JobState, StudyProgress, Totals
from engine.removal import remover as remover_module
from engine.removal.orders import Progress
from tests.rigs.indexer_box import LARGE
from tests.rigs.removals import NOW, RemovalBox, order


@pytest.fixture
def box(tmp_path: Path) -> Iterator[RemovalBox]:
    made = RemovalBox(tmp_path)
    yield made
    made.close()


def stored(box: RemovalBox) -> set[str]:
    with box.reader.view() as view:
        return {each.sop_instance_uid for _, each in view.instances_after(b"", 10000)}


def filled(box: RemovalBox) -> None:
    """Study 1.2 with three delivered instances, one of them large; study 1.3 with one."""
    box.store("1.1")
    box.store("1.2", size=LARGE)
    box.store("1.3")
    box.store("9.1", study="1.3")
    box.index()
    box.deliver("1.1", "1.2", "1.3")
    box.deliver("9.1", study="1.3")
    box.intake.checkpoint()


def test_a_study_goes_with_its_files_and_leaves_a_tombstone(box: RemovalBox) -> None:
    filled(box)
    outcome = box.remove(order("1.2"))
    assert (outcome.progress, outcome.instances) == (Progress.DONE, 3)
    assert stored(box) == {"9.1"}
    box.check()
    with box.reader.view() as view:
        (stone,) = tombstones.tombstones_of_uid(view, "1.2")
        assert (stone.who, stone.why, stone.when_ns) == ("operator", "no longer needed", NOW)
        assert (stone.instances, stone.whole, stone.study.uid) == (3, True, "1.2")
        assert stone.delivered == {"PACS": (3, NOW)}
        (line,) = tombstones.removals_so_far(view)
        assert (line.level, line.uid, line.instances, line.ended) == ("study", "1.2", 3, True)
    box.remover.settle()
    with box.reader.view() as view:
        assert view.removals() == []


def test_one_series_and_one_instance_go_alone(box: RemovalBox) -> None:
    filled(box)
    assert box.remove(order("1.1", "instance")).instances == 1
    assert stored(box) == {"1.2", "1.3", "9.1"}
    box.check()
    with box.reader.view() as view:
        (stone,) = tombstones.tombstones_of_uid(view, "1.2")
        assert (stone.whole, stone.instances) == (False, 1)
    box.remove(order("1.2", name="2"))
    with box.reader.view() as view:
        (stone,) = tombstones.tombstones_of_uid(view, "1.2")
        assert (stone.whole, stone.instances) == (True, 3)
        assert stone.delivered == {"PACS": (3, NOW)}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (State.WAITING, "1 wait to be sent to PACS"),
        (State.RETRYING, "1 are tried again at PACS"),
        (State.HELD, "1 are held back from PACS"),
        (State.FAILED, "1 could not be sent to PACS"),
    ],
)
def test_what_is_still_to_be_sent_stays_unless_forced(
    box: RemovalBox, state: State, said: str
) -> None:
    filled(box)
    number = box.queue("1.2")
    if state is State.HELD:
        box.outbox(lambda outbox: outbox.hold([number], NOW))
    elif state is not State.WAITING:
        box.lease()
        due = None if state is State.FAILED else NOW + 1
        box.outbox(lambda outbox: outbox.attempt_failed(number, NOW, "no", -1, due))
    refused = box.remove(order("1.2"))
    assert (refused.progress, refused.texts, refused.instances) == (Progress.REFUSED, (said,), 0)
    assert stored(box) == {"1.1", "1.2", "1.3", "9.1"}
    box.check()
    done = box.remove(order("1.2", name="2", forced=True))
    assert (done.progress, done.instances, done.discarded) == (Progress.DONE, 3, 1)
    assert stored(box) == {"9.1"}
    box.check()


def test_what_is_being_sent_stays_even_if_forced(box: RemovalBox) -> None:
    filled(box)
    box.queue("1.2")
    (number,) = box.lease()
    refused = box.remove(order("1.2", forced=True))
    assert refused.texts == ("1 are being sent to PACS",)
    assert stored(box) == {"1.1", "1.2", "1.3", "9.1"}
    box.outbox(lambda outbox: outbox.delivered(number, NOW))
    assert box.remove(order("1.2", name="2")).progress is Progress.DONE


def test_what_nobody_has_stays_unless_forced(box: RemovalBox) -> None:
    filled(box)
    box.store("1.4")
    box.index()
    refused = box.remove(order("1.2"))
    assert refused.texts == ("1 were never delivered to anybody",)
    assert box.remove(order("1.2", name="2", undelivered=True)).instances == 4


def test_a_delivery_before_it_came_again_is_none_of_what_is_here(box: RemovalBox) -> None:
    filled(box)
    box.received = NOW + 1
    box.store("1.1", fill=b"y")
    box.index()
    assert box.remove(order("1.2")).texts == ("1 were never delivered to anybody",)


def test_what_the_history_forgot_was_delivered_nevertheless(box: RemovalBox) -> None:
    filled(box)
    assert box.outbox(lambda outbox: outbox.prune_delivered(NOW + 1)) == 4
    outcome = box.remove(order("1.2"))
    assert (outcome.progress, outcome.delivered) == (Progress.DONE, {"PACS": (3, NOW)})
    with box.reader.view() as view:
        left = [key for key, _ in view.keys_from("delivered_instances", b"")]
    assert left == [b"i9.1\0" + order("").patient.encode()], "it goes with its instance"


def test_the_history_of_what_was_removed_is_not_remembered(box: RemovalBox) -> None:
    filled(box)
    box.remove(order("1.2"))
    box.outbox(lambda outbox: outbox.prune_delivered(NOW + 1))
    with box.reader.view() as view:
        assert view.count("delivered_instances") == 1


def fetching(box: RemovalBox, state: JobState) -> None:
    ask = Ask("archive", "study", "", "", "", (), (), 5, "7.7")
    trigger = Trigger("priors", ask, "7.7.1", "CT", 1, 1, 1)
    number = box.jobs(lambda jobs: jobs.trigger(trigger, 0))
    assert number is not None
    job = box.jobs(lambda jobs: jobs.begin(NOW))
    assert job is not None
    job.progress.studies.append(StudyProgress("1.2", "", 4, 3))
    box.jobs(lambda jobs: jobs.record(job, NOW))
    if state is JobState.RETRYING:
        box.jobs(lambda jobs: jobs.retry(job, 2 * NOW, NOW, "away"))


def test_what_is_being_fetched_stays(box: RemovalBox) -> None:
    filled(box)
    fetching(box, JobState.RUNNING)
    said = ("study 1.2 is being fetched by prefetch 1",)
    assert box.remove(order("1.2", forced=True)).texts == said
    assert stored(box) == {"1.1", "1.2", "1.3", "9.1"}


def test_what_is_fetched_again_later_stays_unless_forced(box: RemovalBox) -> None:
    filled(box)
    fetching(box, JobState.RETRYING)
    assert box.remove(order("1.2")).progress is Progress.REFUSED
    assert box.remove(order("1.2", name="2", forced=True)).progress is Progress.DONE


def test_a_study_that_is_fetched_again_counts_once(tmp_path: Path) -> None:
    box = RemovalBox(tmp_path, ("prefetch_scp",))
    try:
        for name in ("1", "2"):
            box.store("1.1", "prefetch_scp")
            box.index()
            fetching(box, JobState.RUNNING)
            job = box.jobs(lambda jobs: next(iter(jobs.jobs())))
            job.progress.studies[0].moved = 1
            box.jobs(lambda jobs, job=job: jobs.end(job, JobState.DONE, NOW))
            totals = box.jobs(lambda jobs: HitRate.within(jobs).totals())
            assert totals == Totals(1, 0)
            box.remove(order("1.2", name=name, undelivered=True))
            box.jobs(lambda jobs: jobs.prune(2 * NOW, 10))
        with box.reader.view() as view:
            (stone,) = tombstones.tombstones_of_uid(view, "1.2")
        assert stone.fetched
    finally:
        box.close()


def test_another_patients_study_of_the_same_uid_stays(box: RemovalBox) -> None:
    box.store("1.1", patient="A")
    box.store("1.1", patient="B")
    box.index()
    asked = order("1.2", undelivered=True)
    assert box.remove(asked).texts == ("there is nothing of it here",)
    with box.reader.view() as view:
        ours, others = (view.study(number) for number, _ in view.studies_of_uid("1.2"))
    assert ours is not None
    assert others is not None
    mine = order("1.2", name="2", patient=others.patient_mark, undelivered=True)
    assert box.remove(mine).instances == 1
    box.check()
    with box.reader.view() as view:
        assert [view.study(number) for number, _ in view.studies_of_uid("1.2")] == [ours]


def test_an_order_goes_on_in_portions(box: RemovalBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remover_module, "removal_portion_max", 2)
    filled(box)
    asked = order("1.2")
    first = box.remover.step(asked, NOW)
    assert (first.progress, first.instances) == (Progress.GOES_ON, 2)
    box.check()
    box.received = NOW
    box.store("1.5")
    box.index()
    second = box.remove(asked)
    assert (second.progress, second.instances) == (Progress.DONE, 3)
    assert stored(box) == {"1.5", "9.1"}, "what came after it was asked for is not meant"


def test_what_a_lease_took_meanwhile_stops_it(
    box: RemovalBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remover_module, "removal_portion_max", 1)
    filled(box)
    asked = order("1.2")
    box.remover.step(asked, NOW)
    (left, other) = sorted(stored(box) - {"9.1"})
    box.queue(left)
    box.queue(other)
    box.lease()
    stopped = box.remover.step(asked, NOW)
    assert (stopped.progress, stopped.instances) == (Progress.REFUSED, 1)
    assert stored(box) == {left, other, "9.1"}
    box.check()


# --- replay --------------------------------------------------------------------------------------
def test_what_a_replay_could_bring_back_waits_for_a_checkpoint(box: RemovalBox) -> None:
    box.store("1.1")
    box.index()
    asked = order("1.2", undelivered=True)
    assert box.remover.step(asked, NOW).progress is Progress.WAITS
    box.intake.checkpoint()
    assert box.remover.step(asked, NOW).progress is Progress.DONE
    box.crash()
    box.index()
    assert stored(box) == set()
    box.check()


def test_what_came_since_the_last_checkpoint_waits_for_the_next(box: RemovalBox) -> None:
    filled(box)
    box.received = NOW
    box.store("1.4")
    box.index()
    asked = order("1.4", "instance", undelivered=True)
    assert box.remover.step(asked, NOW).progress is Progress.WAITS
    assert box.remover.step(order("1.1", "instance", "2"), NOW).progress is Progress.DONE
    assert box.remove(asked).progress is Progress.DONE


def test_an_older_record_in_a_journal_that_cannot_be_read_keeps_it(tmp_path: Path) -> None:
    """Else the replay of that journal would bring the older instance back."""
    box = RemovalBox(tmp_path, ("older", "newer"))
    try:
        box.store("1.1", "older")
        box.index()
        box.store("1.1", "newer", fill=b"y")
        box.index()
        box.intake._journals["older"].reader = None  # as when it cannot be opened
        assert box.intake.checkpoint()
        asked = order("1.2", undelivered=True)
        assert box.remover.step(asked, NOW).progress is Progress.WAITS
        box.index()
        box.intake.checkpoint()
        assert box.remover.step(asked, NOW).progress is Progress.DONE
        box.crash()
        box.index()
        assert stored(box) == set()
    finally:
        box.close()


def test_what_is_received_again_is_kept(box: RemovalBox) -> None:
    filled(box)
    box.remove(order("1.2"))
    box.received = NOW
    box.store("1.1", fill=b"y")
    box.index()
    box.crash()
    box.index()
    assert stored(box) == {"1.1", "9.1"}
    box.check()
    box.intake.checkpoint()
    box.crash()
    box.index()
    assert stored(box) == {"1.1", "9.1"}
    box.check()


def test_a_new_instance_in_the_place_of_one_that_could_not_be_unlinked_stays(
    box: RemovalBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(box)
    asked = order("1.1", "instance")
    with monkeypatch.context() as patched:

        def fails(tree: StoreTree, path: str) -> None:
            raise OSError(5, "of the disk")

        patched.setattr(StoreTree, "remove", fails)
        with pytest.raises(OSError, match="of the disk"):
            box.remover.step(asked, NOW)
    box.received = NOW
    box.store("1.1", fill=b"y")
    box.index()
    assert box.remover.step(asked, NOW).progress is Progress.DONE
    box.remover.settle()
    assert box.content("1.1").endswith(b"y" * 100)
    box.check()


def test_nothing_goes_before_its_successor_is_durable(
    box: RemovalBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(box)
    done: list[str] = []

    def noted(where: object, name: str) -> None:
        call = getattr(where, name)

        def run(*arguments: Any) -> Any:
            done.append(name)
            return call(*arguments)

        monkeypatch.setattr(where, name, run)

    noted(IndexWriter, "commit")
    noted(IndexWriter, "sync")
    noted(StoreTree, "remove")
    noted(remover_module, "sync_directory")
    assert box.remover.step(order("1.2"), NOW).progress is Progress.DONE
    box.remover.settle()
    assert done == ["commit", "sync", *["remove"] * 3, "sync_directory", "commit"]


# --- kill -9 at every step -----------------------------------------------------------------------
class Killed(BaseException):
    """The process is gone."""


class Assassin:
    """Counts the steps of a removal, and ends the process at one of them, before or after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.left = at
        self.patch = monkeypatch
        for where, name in (
            (IndexWriter, "commit"),
            (IndexWriter, "sync"),
            (StoreTree, "remove"),
            (remover_module, "sync_directory"),
        ):
            monkeypatch.setattr(where, name, self.watched(getattr(where, name)))

    def watched(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            self.count()
            result = call(*arguments)
            self.count()
            return result

        return run

    def count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


def test_a_kill_at_any_step_leaves_all_agreed_and_the_order_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remover_module, "removal_portion_max", 2)
    at, survived = 0, False
    while not survived:
        at += 1
        box = RemovalBox(tmp_path / str(at))
        filled(box)
        box.queue("1.2")
        asked = order("1.2", forced=True)
        with monkeypatch.context() as patched:
            Assassin(patched, at)
            try:
                while box.remover.step(asked, NOW).progress is Progress.GOES_ON:
                    pass
                box.remover.settle()
                survived = True
            except Killed:
                pass
        box.crash()
        box.index()
        box.check()
        outcome = box.remove(asked)
        assert (outcome.progress, outcome.instances, outcome.discarded) == (Progress.DONE, 3, 1)
        assert outcome.delivered == {"PACS": (3, NOW)}
        assert stored(box) == {"9.1"}
        box.check()
        with box.reader.view() as view:
            (stone,) = tombstones.tombstones_of_uid(view, "1.2")
            assert (stone.instances, stone.whole) == (3, True)
            assert len(list(tombstones.removals_so_far(view))) == 1
            states = [each.state for each in Outbox.within(view).deliveries()]
        assert states == [State.DELIVERED] * 4
        box.close()
    assert at > 15, "there are so many steps"


def test_a_new_receipt_after_the_last_portion_survives_the_order_that_was_not_answered(
    box: RemovalBox,
) -> None:
    filled(box)
    asked = order("1.2")
    box.remove(asked)
    box.received = 0  # by a clock that was set back
    box.store("1.1")
    box.index()
    box.crash()
    box.index()
    assert box.remove(asked).progress is Progress.DONE
    assert stored(box) == {"1.1", "9.1"}


def test_tombstones_are_forgotten_in_time(box: RemovalBox) -> None:
    filled(box)
    box.remove(order("1.2"))
    with box.reader.view() as view:
        assert tombstones.oldest_ns(view) == NOW
    assert box.writer.commit(lambda batch: tombstones.prune_tombstones(batch, NOW)) == 0
    assert box.writer.commit(lambda batch: tombstones.prune_tombstones(batch, NOW + 1)) == 1
    with box.reader.view() as view:
        assert tombstones.tombstones_of_uid(view, "1.2") == []
        assert view.count("tombstones") == view.count("tombstone_ages") == 0
