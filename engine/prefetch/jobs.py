"""Prefetch jobs in one transaction of the index: made, deferred, taken, ended, counted.

The indexer makes jobs, in the same transaction as the instance that triggered them. The retriever
takes them one at a time, in the order in which they became due, and writes down how far each has
come. Nothing here reads a clock, opens a table or commits. What the hit rate counts stands apart,
in `engine/prefetch/hit_rate.py`.
"""

from collections.abc import Container, Iterator
from typing import Final, NamedTuple, cast

from engine.index.rows import present
from engine.limits import prefetch_due_s_max, prefetch_interruptions_max
from engine.prefetch import records
from engine.prefetch.hit_rate import HitRate
from engine.prefetch.records import ENDED, Ask, Job, JobState
from engine.prefetch.tables import PrefetchTables

_second_ns: Final = 1_000_000_000
# Deferring a job is a write; a study that arrives at full speed defers it once a second.
_deferral_ns_min: Final = _second_ns
# Jobs that are due and pass by the caller's choice: far more than archives that can be down.
_looked_at_max: Final = 10_000
_END_NS: Final = 2**63 - 1


def _far_ns(now_ns: int) -> int:
    """Later than a job can wait that is made now: what is due then was put there by a clock that
    has been set back since, and is due now."""
    return now_ns + prefetch_due_s_max * 1_000_000_000 + 1


class Trigger(NamedTuple):
    """An instance that matched a rule. `refusal`: why nothing can be asked, "" if it can."""

    rule: str
    ask: Ask
    sop_instance_uid: str
    calling_ae_title: str
    quiet_ns: int  # so long after the study's last match the job begins
    wait_ns: int  # and at the latest so long after its first
    repeat_ns: int  # no other job for the same study within this time of the last one's end
    refusal: str = ""


class PrefetchJobs(PrefetchTables):
    """The jobs, and the index, as one transaction sees them; a write transaction to change jobs."""

    # --- making ---
    def trigger(self, trigger: Trigger, now_ns: int) -> int | None:
        """The number of the job this made; None: the study has one, or had one just now."""
        ask = trigger.ask
        key = records.trigger_key(trigger.rule, ask.trigger_study_uid, ask.patient_id)
        stored = self._get("prefetch_triggers", key)
        job = None if stored is None else self.job(records.NUMBER.unpack(stored)[0])
        if job is not None:
            if job.state not in ENDED:
                self._defer(job, now_ns + trigger.quiet_ns)
                return None
            # One that ended later than now was ended by a wrong clock, whenever that was.
            if 0 <= now_ns - job.changed_ns < trigger.repeat_ns:
                return None
        number = self._total(records.NEXT_NUMBER) + 1
        self._put("prefetch_totals", records.NEXT_NUMBER, records.NUMBER.pack(number))
        latest = now_ns + trigger.wait_ns
        job = Job(
            number,
            trigger.rule,
            trigger.ask,
            trigger.sop_instance_uid,
            trigger.calling_ae_title,
            JobState.FAILED if trigger.refusal else JobState.WAITING,
            now_ns,
            min(now_ns + trigger.quiet_ns, latest),
            latest,
            now_ns,
            reason=trigger.refusal,
        )
        self._put("prefetch_triggers", key, records.NUMBER.pack(number))
        self._count(job.state, 1)
        self._store(job)
        return number

    def _defer(self, job: Job, until_ns: int) -> None:
        """The study still arrives: a job that waits for it waits on, up to its bound."""
        due_ns = min(until_ns, job.latest_due_ns)
        if job.state is JobState.WAITING and due_ns >= job.due_ns + _deferral_ns_min:
            self._change(job, JobState.WAITING, due_ns, job.changed_ns)

    # --- the retriever's ---
    def reclaim(self, now_ns: int, in_hand: int = 0) -> list[Job]:
        """What was under way when the retriever died waits again; as they are now.

        The attempt does not count. The job that its worker had `in_hand` may be what it died of: it
        waits behind all that is due now, and has failed the third time. Any other, as after a
        power cut, keeps its turn.
        """
        reclaimed = []
        while (number := self.under_way()) is not None:
            job = present(self.job(number), "a job stays as long as its turn")
            reclaimed.append(job)
            job.attempts -= 1
            job.progress.step = ""
            if number != in_hand:
                self._change(job, JobState.WAITING, job.due_ns, now_ns)
                continue
            job.interruptions += 1
            times = f"{job.interruptions} times" if job.interruptions > 1 else "once"
            job.reason = f"the process that worked on it died or hung, {times}"
            if job.interruptions < prefetch_interruptions_max:
                self._change(job, JobState.WAITING, now_ns, now_ns)
            else:
                self.end(job, JobState.FAILED, now_ns, job.reason)
        return reclaimed

    def begin(self, now_ns: int, without: Container[str] = ()) -> Job | None:
        """Take the job that became due first, of archives not named in `without`."""
        job = self._first(0, now_ns, without) or self._first(_far_ns(now_ns), _END_NS, without)
        if job is not None:
            job.attempts += 1
            self._change(job, JobState.RUNNING, job.due_ns, now_ns)
        return job

    def _first(self, from_ns: int, to_ns: int, without: Container[str]) -> Job | None:
        """The first job that is due within a time and not under way."""
        cursor = self._transaction.cursor(db=self._tables["prefetch_due"])
        passed = 0
        due = cursor.set_range(records.DUE.pack(from_ns, 0))
        while due and passed < _looked_at_max:
            due_ns, number = records.DUE.unpack(cursor.key())
            if due_ns > to_ns:
                return None
            job = present(self.job(number), "a job stays as long as its turn")
            if job.state is not JobState.RUNNING and job.ask.archive not in without:
                return job
            passed += 1
            due = cursor.next()
        return None

    def next_due_ns(self, now_ns: int) -> int | None:
        """When the first job that is not under way is due."""
        cursor = self._transaction.cursor(db=self._tables["prefetch_due"])
        if cursor.set_range(records.DUE.pack(_far_ns(now_ns), 0)):
            return now_ns
        if not cursor.set_range(records.DUE.pack(1, 0)):
            return None
        due_ns: int = records.DUE.unpack(cursor.key())[0]
        return due_ns

    def record(self, job: Job, now_ns: int) -> None:
        """Write down how far a job that is under way has come."""
        job.changed_ns = now_ns
        self._put("prefetch_jobs", records.NUMBER.pack(job.number), records.encode(job))
        HitRate.within(self).note_fetched(job, now_ns)

    def end(self, job: Job, state: JobState, now_ns: int, reason: str = "") -> None:
        """The job has ended; what it brought is counted for the hit rate."""
        assert state in ENDED, "a job that has not ended is retried or returned"
        job.reason = reason
        job.progress.step = ""
        self._change(job, state, job.due_ns, now_ns)
        hit_rate = HitRate.within(self)
        hit_rate.note_fetched(job, now_ns)
        hit_rate.note_ended(job)

    def retry(self, job: Job, due_ns: int, now_ns: int, reason: str) -> None:
        """The attempt failed; another one is due."""
        job.interruptions = 0  # it was survived
        job.reason = reason
        job.progress.step = ""
        self._change(job, JobState.RETRYING, due_ns, now_ns)

    def give_back(self, job: Job, now_ns: int) -> None:
        """The retriever ends in the middle of it: the attempt does not count."""
        before = present(self.job(job.number), "a job that is given back was stored")
        job.attempts = before.attempts - 1
        job.progress.step = ""
        self._change(job, JobState.WAITING, job.due_ns, now_ns)

    # --- looking ---
    def jobs(self, before: int | None = None) -> Iterator[Job]:
        """All jobs, the latest first; only those numbered below `before`."""
        if "prefetch_jobs" not in self._tables:  # an index of an earlier release
            return
        cursor = self._transaction.cursor(db=self._tables["prefetch_jobs"])
        if before is None:
            found = cursor.last()
        elif cursor.set_range(records.NUMBER.pack(before)):
            found = cursor.prev()
        else:
            found = cursor.last()
        if found:
            for key, value in cast(Iterator[tuple[bytes, bytes]], cursor.iterprev()):
                yield records.job_of(key, value)

    def unfinished(self) -> Iterator[Job]:
        """The jobs that have not ended."""
        for key, _ in self.keys_from("prefetch_due", b""):
            job = self.job(records.DUE.unpack(key)[1])
            if job is not None:
                yield job

    def counts(self) -> dict[JobState, int]:
        """Jobs by state."""
        return {state: self._total(records.state_key(state)) for state in JobState}

    def prune(self, before_ns: int, limit: int) -> int:
        """Forget the oldest jobs that ended before a time, and what they fetched; how many."""
        cursor = self._transaction.cursor(db=self._tables["prefetch_jobs"])
        old: list[Job] = []
        for value in cast(Iterator[bytes], cursor.iternext(keys=False)):
            job = records.decode_job(value)
            if len(old) >= limit or job.changed_ns >= before_ns or job.state not in ENDED:
                break
            old.append(job)
        for job in old:
            self._forget(job)
        return len(old)

    def forget(self, number: int) -> None:
        """Forget a job that has ended, and what it fetched."""
        job = self.job(number)
        if job is not None and job.state in ENDED:
            self._forget(job)

    def _forget(self, job: Job) -> None:
        number = records.NUMBER.pack(job.number)
        self._delete("prefetch_jobs", number)
        self._count(job.state, -1)
        study_uid, patient_id = job.ask.trigger_study_uid, job.ask.patient_id
        for key in (
            records.trigger_key(job.rule, study_uid, patient_id),
            records.trigger_key_before(job.rule, study_uid),
        ):
            if self._get("prefetch_triggers", key) == number:
                self._delete("prefetch_triggers", key)
        HitRate.within(self).forget(job)
        for study in job.progress.studies:
            for whose in (patient_id, ""):
                key = records.passing_key(study.study_uid, whose)
                stored = self._get("prefetch_passing", key)
                if stored is not None and records.decode_passing(stored).job == job.number:
                    self._delete("prefetch_passing", key)

    # --- storing ---
    def _change(self, job: Job, state: JobState, due_ns: int, now_ns: int) -> None:
        """The one place where a stored job's state, turn and count change. Goes by what is stored,
        not by `job`, which a transaction that is run again has changed before."""
        before = present(self.job(job.number), "a job that changes was stored")
        if (key := _turn_of(before)) is not None:
            self._delete("prefetch_due", key)
        self._count(before.state, -1)
        job.state, job.due_ns, job.changed_ns = state, due_ns, now_ns
        self._count(job.state, 1)
        self._store(job)

    def _store(self, job: Job) -> None:
        self._put("prefetch_jobs", records.NUMBER.pack(job.number), records.encode(job))
        if (key := _turn_of(job)) is not None:
            self._put("prefetch_due", key, b"")

    def _count(self, state: JobState, change: int) -> None:
        self._add(records.state_key(state), change)


def _turn_of(job: Job) -> bytes | None:
    """Its key in `prefetch_due`; None once it has ended."""
    if job.state in ENDED:
        return None
    return records.DUE.pack(0 if job.state is JobState.RUNNING else job.due_ns, job.number)
