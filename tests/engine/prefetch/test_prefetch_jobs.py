"""Prefetch jobs: one for each study, deferred while it arrives, taken in turn, never lost."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from engine.limits import prefetch_due_s_max, prefetch_interruptions_max
from engine.outbox.outbox import Outbox
from engine.outbox.records import NewDelivery
from engine.prefetch.hit_rate import HitRate
from engine.prefetch.jobs import PrefetchJobs, Trigger
from engine.prefetch.records import Ask, Job, JobState, StudyProgress, Totals
from engine.prefetch.store import PrefetchStore

T = TypeVar("T")
SECOND = 1_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PrefetchStore]:
    opened = PrefetchStore(tmp_path)
    yield opened
    opened.close()


def ask(study: str, archive: str = "archive") -> Ask:
    return Ask(archive, "study", "4711", "", "", (), (), 5, study)


def trigger(study: str, rule: str = "priors", archive: str = "archive", **other: str) -> Trigger:
    return Trigger(
        rule, ask(study, archive), "1.9", "CT_1", 10 * SECOND, 60 * SECOND, 3600 * SECOND, **other
    )


def made(store: PrefetchStore, it: Trigger, now_s: float) -> int | None:
    return store.commit(lambda jobs: jobs.trigger(it, int(now_s * SECOND)))


def job_of(store: PrefetchStore, number: int | None) -> Job:
    assert number is not None
    with store.view() as jobs:
        job = jobs.job(number)
    assert job is not None
    return job


def begun(store: PrefetchStore, now_s: float, without: tuple[str, ...] = ()) -> Job | None:
    return store.commit(lambda jobs: jobs.begin(int(now_s * SECOND), without))


def looked(store: PrefetchStore, look: Callable[[PrefetchJobs], T]) -> T:
    with store.view() as jobs:
        return look(jobs)


def hit_rate(store: PrefetchStore) -> Totals:
    return looked(store, lambda jobs: HitRate.within(jobs).totals())


def test_one_study_is_one_job_that_waits_until_the_study_is_quiet(store: PrefetchStore) -> None:
    number = made(store, trigger("1.1"), 100)
    for second in range(101, 131):
        assert made(store, trigger("1.1"), second) is None
    assert looked(store, PrefetchJobs.counts)[JobState.WAITING] == 1
    assert begun(store, 139) is None
    job = begun(store, 140)
    assert job is not None
    assert (job.number, job.state, job.attempts) == (number, JobState.RUNNING, 1)
    assert made(store, trigger("1.1"), 141) is None, "it is under way"
    assert begun(store, 1000) is None


def test_a_study_that_never_gets_quiet_is_waited_for_to_a_bound(store: PrefetchStore) -> None:
    number = made(store, trigger("1.1"), 100)
    for second in range(101, 200):
        made(store, trigger("1.1"), second)
    assert job_of(store, number).due_ns == 160 * SECOND


def test_another_rule_or_another_study_is_another_job(store: PrefetchStore) -> None:
    numbers = [
        made(store, trigger("1.1"), 100),
        made(store, trigger("1.1", rule="others"), 100),
        made(store, trigger("1.2"), 100),
    ]
    assert numbers == [1, 2, 3]


def test_what_ended_just_now_is_not_repeated(store: PrefetchStore) -> None:
    made(store, trigger("1.1"), 100)
    job = begun(store, 200)
    assert job is not None
    store.commit(lambda jobs: jobs.end(job, JobState.DONE, 210 * SECOND))
    assert made(store, trigger("1.1"), 220) is None
    assert made(store, trigger("1.1"), 210 + 3601) == 2


def test_what_a_wrong_clock_ended_in_the_future_is_repeated(store: PrefetchStore) -> None:
    year_s = 365 * 86400
    made(store, trigger("1.1"), year_s)
    job = begun(store, year_s + 100)
    assert job is not None
    store.commit(lambda jobs: jobs.end(job, JobState.DONE, (year_s + 110) * SECOND))
    assert made(store, trigger("1.1"), 220) == 2


def test_a_trigger_that_cannot_be_asked_for_is_a_failed_job(store: PrefetchStore) -> None:
    number = made(store, trigger("1.1", refusal="has no Patient ID"), 100)
    assert job_of(store, number).state is JobState.FAILED
    assert job_of(store, number).reason == "has no Patient ID"
    assert made(store, trigger("1.1", refusal="has no Patient ID"), 101) is None, "told once"
    assert begun(store, 1000) is None


def test_jobs_are_taken_in_the_order_they_became_due(store: PrefetchStore) -> None:
    for study in range(5):
        made(store, trigger(f"1.{study}"), 100 + study)
    order = []
    while (job := begun(store, 1000)) is not None:
        order.append(job.ask.trigger_study_uid)
        store.commit(lambda jobs, job=job: jobs.end(job, JobState.DONE, 1000 * SECOND))
    assert order == [f"1.{study}" for study in range(5)]


def test_an_archive_that_is_down_does_not_delay_another(store: PrefetchStore) -> None:
    made(store, trigger("1.1", archive="down"), 100)
    made(store, trigger("1.2"), 101)
    job = begun(store, 200, without=("down",))
    assert job is not None
    assert job.ask.trigger_study_uid == "1.2"


def test_a_retry_waits_for_its_time(store: PrefetchStore) -> None:
    made(store, trigger("1.1"), 100)
    job = begun(store, 200)
    assert job is not None
    store.commit(lambda jobs: jobs.retry(job, 300 * SECOND, 201 * SECOND, "refused"))
    assert looked(store, lambda jobs: jobs.next_due_ns(201 * SECOND)) == 300 * SECOND
    assert begun(store, 299) is None
    again = begun(store, 300)
    assert again is not None
    assert again.attempts == 2


def test_what_is_survived_is_forgotten(store: PrefetchStore) -> None:
    number = made(store, trigger("1.1"), 100)
    begun(store, 200)
    store.commit(lambda jobs: jobs.reclaim(200 * SECOND, number))
    job = begun(store, 200)
    assert job is not None
    store.commit(lambda jobs: jobs.retry(job, 300 * SECOND, 201 * SECOND, "refused"))
    assert job_of(store, number).interruptions == 0


def test_after_a_crash_the_job_keeps_its_turn_and_its_attempts(store: PrefetchStore) -> None:
    made(store, trigger("1.1"), 100)
    made(store, trigger("1.2"), 101)
    begun(store, 200)
    assert len(store.commit(lambda jobs: jobs.reclaim(300 * SECOND))) == 1
    job = begun(store, 300)
    assert job is not None
    assert (job.ask.trigger_study_uid, job.attempts, job.interruptions) == ("1.1", 1, 0)


def test_a_job_that_its_process_died_of_does_not_stand_first(store: PrefetchStore) -> None:
    deadly = made(store, trigger("1.1"), 100)
    made(store, trigger("1.2"), 101)
    begun(store, 200)
    (job,) = store.commit(lambda jobs: jobs.reclaim(300 * SECOND, deadly))
    assert (job.number, job.interruptions, job.state) == (deadly, 1, JobState.WAITING)
    order = [begun(store, 301), begun(store, 301)]
    assert [job and job.ask.trigger_study_uid for job in order] == ["1.2", "1.1"]
    assert order[1] is not None
    assert (order[1].attempts, order[1].interruptions) == (1, 1)


def test_a_job_that_its_process_dies_of_again_and_again_has_failed(store: PrefetchStore) -> None:
    number = made(store, trigger("1.1"), 100)
    assert prefetch_interruptions_max == 3
    for deaths in range(1, 4):
        assert begun(store, 400) is not None
        (job,) = store.commit(lambda jobs: jobs.reclaim(300 * SECOND, number))
        assert job.interruptions == deaths
    assert begun(store, 400) is None
    assert job_of(store, number).state is JobState.FAILED
    assert "died" in job_of(store, number).reason


def test_what_is_given_back_is_not_an_attempt(store: PrefetchStore) -> None:
    made(store, trigger("1.1"), 100)
    job = begun(store, 200)
    assert job is not None
    store.commit(lambda jobs: jobs.give_back(job, 201 * SECOND))
    again = begun(store, 202)
    assert again is not None
    assert again.attempts == 1


def test_a_transaction_that_is_run_again_changes_nothing_twice(store: PrefetchStore) -> None:
    """As happens when the map was full: the first run is undone, the job it changed is not."""
    made(store, trigger("1.1"), 100)
    job = begun(store, 200)
    assert job is not None
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            store.commit(
                lambda jobs: (jobs.give_back(job, 1), jobs.end(job, JobState.DONE, 1), 1 / 0)
            )
    store.commit(lambda jobs: jobs.end(job, JobState.DONE, 210 * SECOND))
    counts = looked(store, PrefetchJobs.counts)
    assert {state: count for state, count in counts.items() if count} == {JobState.DONE: 1}
    assert begun(store, 1000) is None
    assert store.commit(lambda jobs: jobs.reclaim(1)) == []


def test_the_hit_rate_counts_each_fetched_study_once(store: PrefetchStore) -> None:
    made(store, trigger("1.1"), 100)
    job = begun(store, 200)
    assert job is not None
    job.progress.studies = [
        StudyProgress("1.7", "20200101", 10, 0, 10),
        StudyProgress("1.8", "20200101", 10, 10),
    ]
    store.commit(lambda jobs: jobs.end(job, JobState.DONE, 210 * SECOND))
    totals = hit_rate(store)
    assert (totals.fetched, totals.used) == (1, 0)
    assert [
        store.commit(lambda jobs: HitRate.within(jobs).note_used("1.7", 300)) for _ in range(2)
    ] == [
        True,
        False,
    ]
    assert not store.commit(lambda jobs: HitRate.within(jobs).note_used("1.8", 300)), (
        "it was here before"
    )
    totals = hit_rate(store)
    assert (totals.fetched, totals.used) == (1, 1)


def test_what_is_used_before_its_job_ends_counts(store: PrefetchStore) -> None:
    def used(study: str) -> bool:
        return store.commit(lambda jobs: HitRate.within(jobs).note_used(study, 300 * SECOND))

    def total() -> tuple[int, int]:
        totals = hit_rate(store)
        return totals.fetched, totals.used

    made(store, trigger("1.1"), 100)
    job = begun(store, 200)
    assert job is not None
    assert not used("1.7"), "nobody knows of it yet"
    job.progress.studies = [
        StudyProgress("1.6", "20210101", 10, 0, 10),
        StudyProgress("1.7", "20200101", 10, 0, 0, 10),
        StudyProgress("1.8", "20200101", 10, 10),
        StudyProgress("1.9", "20200101", 10, 0, 0, 10),
    ]
    store.commit(lambda jobs: jobs.record(job, 250 * SECOND))
    assert total() == (1, 0), "1.6 is here"
    assert [used(study) for study in ("1.6", "1.7", "1.7", "1.8")] == [True, True, False, False]
    assert total() == (1, 1), "1.7 is under way"
    store.commit(lambda jobs: jobs.retry(job, 400 * SECOND, 300 * SECOND, "broken"))
    assert not used("1.9"), "nothing of it comes just now"
    again = begun(store, 401)
    assert again is not None
    assert used("1.9")
    again.progress.studies[1].moved, again.progress.studies[1].missing = 10, 0
    store.commit(lambda jobs: jobs.end(again, JobState.INCOMPLETE, 500 * SECOND))
    assert total() == (2, 2), "of 1.9 nothing came"
    assert not used("1.9")
    store.commit(lambda jobs: jobs.prune(600 * SECOND, 10))
    assert total() == (2, 2)


@pytest.mark.parametrize(
    ("origin", "used"),
    [("user", 1), ("folder", 1), ("to the workstation", 0), ("prefetch priors", 0)],
)
def test_a_study_that_somebody_sends_has_been_used(
    store: PrefetchStore, origin: str, used: int
) -> None:
    """What a rule sends goes out whether anybody needs it or not."""
    made(store, trigger("1.1"), 100)
    job = begun(store, 200)
    assert job is not None
    job.progress.studies = [StudyProgress("1.7", "20200101", 10, 0, 10)]
    store.commit(lambda jobs: jobs.end(job, JobState.DONE, 210 * SECOND))

    def sent(jobs: PrefetchJobs) -> None:
        outbox = Outbox.within(jobs)
        new = NewDelivery("ws", "3.1", "1.2.840.10008.5.1.4.1.1.2", "1.7", "2.1", "1.2", 10, origin)
        outbox.enqueue(new, 300 * SECOND)
        (lease,) = outbox.lease("ws", 1, 300 * SECOND)
        assert outbox.delivered(lease.number, 301 * SECOND)

    store.commit(sent)
    assert hit_rate(store).used == used


def test_old_jobs_are_forgotten_and_those_that_wait_are_not(store: PrefetchStore) -> None:
    for study in range(6):
        made(store, trigger(f"1.{study}"), 100)
    for _ in range(5):
        job = begun(store, 200)
        assert job is not None
        store.commit(lambda jobs, job=job: jobs.end(job, JobState.DONE, 210 * SECOND))
    assert store.commit(lambda jobs: jobs.prune(200 * SECOND, 100)) == 0
    assert store.commit(lambda jobs: jobs.prune(300 * SECOND, 3)) == 3
    assert store.commit(lambda jobs: jobs.prune(300 * SECOND, 100)) == 2
    left = looked(store, lambda jobs: [job.ask.trigger_study_uid for job in jobs.jobs()])
    assert left == ["1.5"]
    counts = looked(store, PrefetchJobs.counts)
    assert (counts[JobState.DONE], counts[JobState.WAITING]) == (0, 1)
    assert made(store, trigger("1.0"), 300) == 7


def test_jobs_are_listed_in_portions_latest_first(store: PrefetchStore) -> None:
    for study in range(5):
        made(store, trigger(f"1.{study}"), 100)
    assert looked(store, lambda jobs: [job.number for job in jobs.jobs()]) == [5, 4, 3, 2, 1]
    assert looked(store, lambda jobs: [job.number for job in jobs.jobs(3)]) == [2, 1]


def test_two_patients_with_one_study_uid_have_a_job_each(store: PrefetchStore) -> None:
    numbers = []
    for patient in ("ANNA", "BERTA", "ANNA"):
        asked = msgspec.structs.replace(ask("1.1"), patient_id=patient)
        numbers.append(made(store, trigger("1.1")._replace(ask=asked), 100))
    assert numbers == [1, 2, None]
    assert [job_of(store, number).ask.patient_id for number in (1, 2)] == ["ANNA", "BERTA"]


def test_a_clock_that_is_set_back_defers_nothing(store: PrefetchStore) -> None:
    """What is due later than any job could wait is due now; what is due within that waits."""
    year = 365 * 86_400
    made(store, trigger("1.1"), year)
    job = begun(store, year + 200)
    assert job is not None
    store.commit(lambda jobs: jobs.retry(job, (year + 300) * SECOND, year * SECOND, "refused"))
    made(store, trigger("1.2"), year)
    assert looked(store, lambda jobs: jobs.next_due_ns(1000 * SECOND)) == 1000 * SECOND
    assert begun(store, year + 300 - prefetch_due_s_max) is None, "it may have been meant so"
    first, second = begun(store, 1000), begun(store, 1000)
    assert first is not None
    assert second is not None
    assert {first.ask.trigger_study_uid, second.ask.trigger_study_uid} == {"1.1", "1.2"}
    assert begun(store, 1000) is None
