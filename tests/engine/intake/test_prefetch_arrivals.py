"""Where what was fetched goes besides: each instance once, whether it arrives or was here."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, cast

import pytest

from engine.config.loading import Rule
from engine.dictionary.patient_mark import patient_mark
from engine.files.arrival import Arrival, encode_arrival
from engine.intake.dispatch import Dispatcher
from engine.intake.prefetched import Arrivals
from engine.limits import prefetch_late_s
from engine.outbox.outbox import Outbox
from engine.outbox.records import Delivery
from engine.outbox.view import OutboxView
from engine.prefetch.jobs import Trigger
from engine.prefetch.records import Ask, Job, JobState, StudyProgress
from engine.prefetch.rules import PrefetchRules
from engine.prefetch.store import PrefetchStore
from engine.rules.routing import Rules
from engine.settings.prefetch import Prefetch
from engine.settings.timeouts import Timeouts
from engine.telemetry.counters import CounterBlock
from tests.rigs.indexer_box import Box, data_set
from workers.retriever.archive import RemoteArchive, Terms
from workers.retriever.conversation import Stop
from workers.scu.association import Peer

T = TypeVar("T")
SECOND = 1_000_000_000
STUDY = "1.2"
_SENT_ON = Rule(name="on", to=("ws",), when={"receiving_ae": "prefetch_scp"})


class Fetching(Box):
    """A box whose one prefetch rule sends on what it fetches; `received` is the clock."""

    routing: tuple[Rule, ...] = ()

    def open(self) -> None:
        super().open()
        never = Prefetch(name="priors", archive="pacs", when={"Modality": "NONE"})
        self.intake.dispatcher = Dispatcher.of(
            self.intake.tree, Rules.compile(self.routing), (), PrefetchRules((never,))
        )

    def commit(self, work: Callable[[Arrivals], T]) -> T:
        """As the retriever, which has a writer of its own."""
        return self.writer.commit(lambda batch: work(Arrivals.within(batch)))

    def begin(self, to: tuple[str, ...] = ("ws",), study: str = "9.9") -> Job:
        """A job under way, that has not asked for anything yet."""
        ask = Ask("pacs", "study", "4711", "", "", (), (), 5, study, to)
        trigger = Trigger("priors", ask, "1.9", "CT_1", 0, 0, 0)

        def work(jobs: Arrivals) -> Job | None:
            jobs.trigger(trigger, self.received)
            return jobs.begin(self.received)

        job = self.commit(work)
        assert job is not None
        return job

    def expect(self, job: Job, study: str = STUDY) -> None:
        now_ns = self.received
        self.commit(lambda jobs: jobs.expect(job.number, study, job.ask.to, now_ns))

    def receive(
        self, sop: str, table: str = "prefetch_scp", study: str = STUDY, patient: str = "4711"
    ) -> None:
        self.received += 1
        arrival = Arrival(
            "1.2.840.10008.5.1.4.1.1.2", sop, "1.2.840.10008.1.2.1", "A", "B", "::1", self.received
        )
        sent = data_set(sop, study, patient=patient)
        assert self.spools[table].store(sent, prologue=encode_arrival(arrival))[2] == 0
        assert self.index() == []

    def queue_here(self, job: Job, *sops: str) -> int:
        study = StudyProgress(STUDY, "", 0, 0)
        return self.commit(lambda jobs: jobs.queue_here(job, study, sops, self.received))

    def end(self, job: Job) -> None:
        self.commit(lambda jobs: jobs.end(job, JobState.DONE, self.received))

    def deliveries(self) -> list[Delivery]:
        with self.reader.view() as view:
            return list(OutboxView.within(view).deliveries())

    def queued(self) -> list[str]:
        return sorted(f"{each.sop_instance_uid} {each.destination}" for each in self.deliveries())


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Fetching]:
    made = Fetching(tmp_path, ("storage_scp", "prefetch_scp"))
    yield made
    made.close()


def test_another_patients_instances_of_the_same_uids_are_not_what_was_fetched(
    box: Fetching,
) -> None:
    box.receive("1.1", "storage_scp", patient="OTHER")
    job = box.begin()
    box.expect(job)
    box.receive("1.2", patient="OTHER")
    assert box.queue_here(job, "1.1") == 0
    assert box.queued() == []
    box.receive("1.1", "storage_scp")
    box.receive("1.2")
    assert box.queue_here(job, "1.1", "1.2") == 1
    assert box.queued() == ["1.1 ws", "1.2 ws"]
    mine = patient_mark("4711", "")
    assert {each.patient for each in box.deliveries()} == {mine}


def test_what_arrives_of_a_study_that_is_fetched_goes_where_the_rule_says(box: Fetching) -> None:
    box.receive("1.1")
    job = box.begin(("ws", "viewer"))
    box.receive("1.2")
    box.expect(job)
    box.receive("1.3")
    box.receive("1.4", "storage_scp")
    box.receive("1.5", study="1.3")
    assert box.queued() == ["1.3 viewer", "1.3 ws"]
    first = box.deliveries()[0]
    assert (first.origin, first.study_uid) == ("prefetch priors", STUDY)


def test_what_was_here_is_queued_at_the_end_and_nothing_twice(box: Fetching) -> None:
    box.receive("1.1")
    box.receive("1.2", "storage_scp")
    job = box.begin()
    box.expect(job)
    box.receive("1.3")
    box.receive("1.4", "storage_scp")
    with_outbox = [each.number for each in box.deliveries()]
    box.commit(lambda jobs: Outbox.within(jobs).lease("ws", 9, box.received))
    assert box.commit(
        lambda jobs: [Outbox.within(jobs).delivered(it, 99, 0) for it in with_outbox]
    ) == [True], "delivered meanwhile: it is not open any more"
    assert box.queue_here(job, "1.1", "1.2", "1.3", "1.4", "1.5") == 3
    assert box.queued() == ["1.1 ws", "1.2 ws", "1.3 ws", "1.4 ws"]


def test_another_attempt_counts_from_where_the_first_began(box: Fetching) -> None:
    job = box.begin()
    box.expect(job)
    box.receive("1.1")
    box.received += SECOND
    box.expect(job)
    assert box.queue_here(job, "1.1") == 0
    assert box.queued() == ["1.1 ws"]


def test_a_rule_that_names_nobody_sends_nothing_on(box: Fetching) -> None:
    job = box.begin()
    box.expect(job)
    box.end(job)
    other = box.begin((), "9.8")
    box.expect(other)
    box.receive("1.1")
    assert box.queue_here(other, "1.1") == 0
    assert box.queue_here(job, "1.1") == 0, "the study is another job's now"
    assert box.queued() == []


def test_what_comes_late_still_goes_there_but_not_for_ever(box: Fetching) -> None:
    job = box.begin()
    box.expect(job)
    box.received += SECOND
    box.end(job)
    box.received += prefetch_late_s * SECOND - 1
    box.receive("1.1")
    box.receive("1.2")
    assert box.queued() == ["1.1 ws"]


def test_a_job_that_is_forgotten_sends_nothing_on(box: Fetching) -> None:
    job = box.begin()
    job.progress.studies = [StudyProgress(STUDY, "", 1, 0, 1)]
    box.expect(job)
    box.end(job)
    assert box.commit(lambda jobs: jobs.prune(box.received + 1, 10)) == 1
    box.receive("1.1")
    assert box.queued() == []
    with box.reader.view() as view:
        assert view.count("prefetch_passing") == 0


def test_a_routing_rule_that_says_the_same_makes_no_second_delivery(box: Fetching) -> None:
    box.routing = (_SENT_ON,)
    box.crash()
    job = box.begin()
    box.expect(job)
    box.receive("1.1")
    (only,) = box.deliveries()
    assert only.origin == "on"


def test_a_replay_after_a_crash_doubles_nothing(box: Fetching) -> None:
    job = box.begin()
    box.expect(job)
    box.receive("1.1")
    box.crash()
    assert box.index() == []
    assert box.queued() == ["1.1 ws"]
    assert box.commit(lambda jobs: jobs.take_arrivals(job.number, 10)) == (["1.1"], False)


def test_what_arrives_is_noted_for_the_job_under_way_alone(box: Fetching) -> None:
    box.receive("1.1")
    job = box.begin(())
    for number in range(2, 5):
        box.receive(f"1.{number}", study="7.7")
    box.receive("1.9", "storage_scp")
    taken, more = box.commit(lambda jobs: jobs.take_arrivals(job.number, 2))
    assert (taken, more) == (["1.2", "1.3"], True)
    box.end(job)
    box.receive("1.5")
    later = box.begin((), "9.8")
    box.receive("1.6")
    assert box.commit(lambda jobs: jobs.take_arrivals(later.number, 10)) == (["1.6"], False)
    with box.reader.view() as view:
        assert view.count("prefetch_arrivals") == 0, "what came too late is forgotten"


class Store:
    """What an archive commits through; the machine falls over at the commit it is told."""

    def __init__(self, box: Fetching, commits: int) -> None:
        self.box = box
        self.commits = commits

    def commit(self, work: Callable[[Arrivals], T]) -> T:
        if self.commits == 0:
            raise OSError("the machine fell over")
        self.commits -= 1
        return self.box.commit(work)


@pytest.mark.parametrize("commits", range(5))
def test_a_crash_while_queueing_neither_forgets_nor_doubles(
    box: Fetching, monkeypatch: pytest.MonkeyPatch, commits: int
) -> None:
    monkeypatch.setattr("engine.limits.outbox_portion_max", 2)
    sops = [f"1.{number}" for number in range(1, 8)]
    for sop in sops:
        box.receive(sop, "storage_scp")
    job = box.begin()
    study = StudyProgress(STUDY, "", 7, 7)
    job.progress.studies = [study]
    box.commit(lambda jobs: jobs.record(job, box.received))
    box.expect(job)
    stop = Stop()
    terms = Terms("PrefetchAP", "PrefetchAP", Timeouts.each(1), 1, 1, ("ws",))
    peer = Peer("pacs", "PACS", "127.0.0.1", 1)

    def pass_on(job: Job, commits: int) -> None:
        store = cast(PrefetchStore, Store(box, commits))
        counters = cast(CounterBlock, None)
        archive = RemoteArchive(peer, terms, job, store, counters, stop, lambda oddities: None)
        archive.pass_on(job.progress.studies[0], set(sops))

    try:
        if commits < 4:
            with pytest.raises(OSError, match="fell over"):
                pass_on(job, commits)
        else:
            pass_on(job, commits)
        assert len(box.deliveries()) == min(2 * commits, 7)
        for delivery in box.deliveries():  # so that one more would be seen
            box.commit(lambda jobs: Outbox.within(jobs).lease("ws", 9, box.received))
            number = delivery.number
            box.commit(lambda jobs, number=number: Outbox.within(jobs).delivered(number, 9))
        box.crash()
        stored = box.commit(lambda jobs: jobs.job(job.number))
        assert stored is not None
        pass_on(stored, 9)
    finally:
        stop.close()
    assert box.queued() == [f"{sop} ws" for sop in sops]
    stored = box.commit(lambda jobs: jobs.job(job.number))
    assert stored is not None
    assert stored.progress.total("queued") == 7
