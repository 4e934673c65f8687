"""The retriever: QUERY-RETRIEVE-SCU in a process of its own, one prefetch and one association at
a time.

Its loop only keeps time; one thread beside it takes jobs from the index, asks the archive and waits
for what it sends. A fault of the disk or the index is logged once and tried again. At the end the
retrieval under way is cancelled and its job given back. After a crash the next process takes it up
again. What is here already is never moved, so the job finishes once.
"""

import asyncio
import random
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from engine import limits
from engine.dimse.identifiers import UNSAYABLE
from engine.index.environment import INDEX_FAULTS, fault_code
from engine.outbox.records import retry_due_ns
from engine.prefetch.hit_rate import HitRate
from engine.prefetch.plan import AskFailure
from engine.prefetch.records import Job, JobState
from engine.prefetch.retrieval import Retrieval
from engine.prefetch.rules import can_be_asked
from engine.prefetch.store import PrefetchStore
from engine.settings.entities import Remote
from engine.telemetry.metrics import Counter, Gauge, Histogram
from workers.frame.child import Child
from workers.frame.in_hand import InHand
from workers.frame.odd_commands import tell_odd_commands
from workers.frame.spec import RetrieverSpec
from workers.frame.tls_handover import read_client
from workers.retriever.archive import RemoteArchive, Terms
from workers.retriever.conversation import Interrupted, Stop
from workers.scu.association import Peer

_second_ns: Final = 1_000_000_000
_day_ns: Final = 86_400 * _second_ns
_publish_s: Final = 1.0
_prune_s: Final = 600.0
_retry_s: Final = 1.0  # after a fault of disk or index
_GAUGES: Final = {
    JobState.WAITING: Gauge.PREFETCH_WAITING,
    JobState.RUNNING: Gauge.PREFETCH_RUNNING,
    JobState.RETRYING: Gauge.PREFETCH_RETRYING,
    JobState.FAILED: Gauge.PREFETCH_FAILED,
    JobState.INCOMPLETE: Gauge.PREFETCH_INCOMPLETE,
    JobState.DONE: Gauge.PREFETCH_DONE,
}
_ENDED: Final = {
    JobState.FAILED: Counter.PREFETCH_ENDED_FAILED,
    JobState.INCOMPLETE: Counter.PREFETCH_ENDED_INCOMPLETE,
    JobState.DONE: Counter.PREFETCH_ENDED_DONE,
}


class Retriever:
    """The state of the process. Methods that end in `_now` run in the thread."""

    def __init__(self, child: Child[RetrieverSpec]) -> None:
        self.child = child
        self.counters = child.counters
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scai-retrieve")
        self._stop = Stop()
        self._store: PrefetchStore | None = None
        self._in_hand: InHand | None = None
        self._left = 0  # what a predecessor had in hand
        self._unreachable: dict[str, float] = {}  # archives, until when (monotonic)
        self._published = 0.0
        self._pruned = 0.0
        self._fault = 0
        self._tls_digest = ""
        self._context: ssl.SSLContext | None = None

    async def run(self) -> None:
        """Until the draining begins, and what is under way has been cancelled."""
        loop = asyncio.get_running_loop()
        watch = loop.create_task(self._watch())
        self.child.faults.watch(watch)
        self.child.ready()
        try:
            while not self._stop.is_set():
                pause_s = await loop.run_in_executor(self._thread, self._turn_now)
                await self._sleep(pause_s)
        finally:
            watch.cancel()
            await loop.run_in_executor(self._thread, self._close_now)
            self._thread.shutdown()
            self._stop.close()

    async def _watch(self) -> None:
        await self.child.draining.wait()
        self._stop.set()

    async def _sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            await asyncio.wait_for(self.child.draining.wait(), seconds)
        except TimeoutError:
            return

    # --- in the thread ---------------------------------------------------------------------------
    def _turn_now(self) -> float:
        """Work off one job if one is due; the seconds until it is worth looking again."""
        try:
            store = self._open_now()
            job = self._begin_now(store)
            self._publish_now(store)
            if job is not None:
                self._work_now(store, job)
                self._published = 0.0
                self._publish_now(store)
            self._prune_now(store)
        except INDEX_FAULTS as error:
            self._note_fault(error)
            # LMDB may be in any state after an error: only opening it anew tells.
            self._close_now()
            return _retry_s
        if self._fault:
            self._fault = 0
            self.child.log.info("prefetch_recovered")
        return 0.0 if job is not None else limits.prefetch_poll_s

    def _open_now(self) -> PrefetchStore:
        if self._store is None:
            data_directory = Path(self.child.spec.data_directory)
            if self._in_hand is None:
                self._in_hand = InHand(data_directory / "run" / "retriever.inhand", 1)
                self._left = self._in_hand.left[0]
            self._store = PrefetchStore(data_directory)
            in_hand, self._left = self._left, 0
            reclaimed = self._store.commit(lambda jobs: jobs.reclaim(time.time_ns(), in_hand))
            if reclaimed:
                self.child.log.warning(
                    "prefetch_resumed",
                    jobs=len(reclaimed),
                    text="they were under way at the last end",
                )
            for job in reclaimed:
                if job.state is JobState.FAILED:
                    self.counters.add(_ENDED[JobState.FAILED])
                    self._log(job, "error", "prefetch_failed", job.reason)
        return self._store

    def _close_now(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _begin_now(self, store: PrefetchStore) -> Job | None:
        """The next job that is due, of an archive that can be reached for all we know."""
        now = time.monotonic()
        self._unreachable = {name: end for name, end in self._unreachable.items() if end > now}
        now_ns = time.time_ns()
        with store.view() as jobs:
            due_ns = jobs.next_due_ns(now_ns)
        if due_ns is None or due_ns > now_ns:
            return None
        return store.commit(lambda jobs: jobs.begin(now_ns, self._unreachable))

    def _work_now(self, store: PrefetchStore, job: Job) -> None:
        """One attempt at one job."""
        assert self._in_hand is not None, "it is open before the first job"
        self._in_hand.take(0, job.number)
        started = time.monotonic()
        before = {study.study_uid: (study.here, study.moved) for study in job.progress.studies}
        unasked = job.progress.unasked_count
        failure: AskFailure | None = None
        interrupted = False
        try:
            archive = self._archive(store, job)
            Retrieval(job.ask, job.progress, archive).run()
        except Interrupted:
            interrupted = True
        except AskFailure as error:
            # What fails while we end may have failed because of it.
            failure, interrupted = error, self._stop.is_set()
        except INDEX_FAULTS:
            self._in_hand.put_down(0)
            raise
        self._in_hand.put_down(0)
        seconds = time.monotonic() - started
        job.seconds += seconds
        self._count(job, before, seconds)
        self.counters.add(Counter.PREFETCH_UNASKED, job.progress.unasked_count - unasked)
        if interrupted:
            store.commit(lambda jobs: jobs.give_back(job, time.time_ns()))
            self.child.log.info("prefetch_interrupted", job=job.number, rule=job.rule)
        elif failure is None:
            self._finish(store, job)
        else:
            self._fail(store, job, failure)

    def _archive(self, store: PrefetchStore, job: Job) -> RemoteArchive:
        spec = self.child.spec
        remote = next((it for it in spec.remotes if it.name == job.ask.archive), None)
        if remote is None:
            raise AskFailure(
                f"the remote AE {job.ask.archive!a} is not in the configuration any more",
                permanent=True,
            )
        if not can_be_asked(job.ask, remote.character_sets):
            raise AskFailure(UNSAYABLE, permanent=True)
        known = {it.name for it in spec.remotes}
        terms = Terms(
            spec.calling_ae_title,
            spec.destination_ae_title,
            remote.timeouts(spec.timeouts),
            remote.response_timeout_s or spec.query_timeout_s,
            spec.retrieve_timeout_s,
            tuple(name for name in job.ask.to if name in known),
            remote.character_sets,
        )
        receiving = self.child.segment.block(spec.receiving_block)
        tell_odd = partial(tell_odd_commands, self.child, destination=remote.name)
        return RemoteArchive(self._peer(remote), terms, job, store, receiving, self._stop, tell_odd)

    def _peer(self, remote: Remote) -> Peer:
        return Peer(remote.name, remote.ae_title, remote.host, remote.port, self._tls(remote))

    def _tls(self, remote: Remote) -> ssl.SSLContext | None:
        if not remote.tls:
            return None
        spec = self.child.spec
        if spec.tls_digest != self._tls_digest:
            self._context = read_client(spec.tls_descriptor)
            self._tls_digest = spec.tls_digest
        assert self._context is not None, "never without TLS where it is asked for"
        return self._context

    # --- how it ended ----------------------------------------------------------------------------
    def _finish(self, store: PrefetchStore, job: Job) -> None:
        missing = job.progress.total("missing")
        unaskable = job.progress.unaskable_count
        state = JobState.INCOMPLETE if missing or unaskable else JobState.DONE
        reasons = [
            f"promised instances that did not arrive: {missing}" if missing else "",
            f"studies or series with a UID that cannot be asked for: {unaskable}"
            if unaskable
            else "",
        ]
        reason = "; ".join(filter(None, reasons))
        store.commit(lambda jobs: jobs.end(job, state, time.time_ns(), reason))
        self.counters.add(_ENDED[state])
        self._log(job, "warning" if reason else "info", "prefetch_done", reason)

    def _fail(self, store: PrefetchStore, job: Job, failure: AskFailure) -> None:
        spec = self.child.spec
        now_ns = time.time_ns()
        due_ns = retry_due_ns(job.attempts, now_ns, random.random(), spec.retry_pause_s)
        if failure.unreachable:
            pause_s = (due_ns - now_ns) / _second_ns
            self._unreachable[job.ask.archive] = time.monotonic() + pause_s
        if failure.permanent or job.attempts > spec.retry_count:
            store.commit(lambda jobs: jobs.end(job, JobState.FAILED, now_ns, str(failure)))
            self.counters.add(_ENDED[JobState.FAILED])
            self._log(job, "error", "prefetch_failed", failure.text)
        else:
            store.commit(lambda jobs: jobs.retry(job, due_ns, now_ns, str(failure)))
            self._log(job, "warning", "prefetch_retried", failure.text)

    def _log(self, job: Job, level: str, event: str, reason: str) -> None:
        """UIDs, names of the configuration and numbers; never what stands in a patient's record."""
        progress = job.progress
        fields: dict[str, object] = {
            "job": job.number,
            "rule": job.rule,
            "archive": job.ask.archive,
            "study_uid": job.ask.trigger_study_uid,
            "attempt": job.attempts,
            "studies": len(progress.studies),
            "here": progress.total("here"),
            "moved": progress.total("moved"),
            "missing": progress.total("missing"),
            "unasked": progress.unasked_count,
            "seconds": round(job.seconds, 3),
        }
        if reason:
            fields["reason"] = reason
        self.child.log.note(level, event, fields)

    # --- numbers ---------------------------------------------------------------------------------
    def _count(self, job: Job, before: dict[str, tuple[int, int]], seconds: float) -> None:
        """What this attempt did; an earlier one's part was counted then."""
        for study in job.progress.studies:
            here, moved = before.get(study.study_uid, (0, 0))
            self.counters.add(Counter.PREFETCH_MOVED, max(0, study.moved - moved))
            self.counters.add(Counter.PREFETCH_HERE, max(0, study.here - here))
        self.counters.add(Counter.PREFETCH_MISSING, job.progress.total("missing"))
        self.counters.observe(Histogram.PREFETCH_DURATION, seconds)

    def _publish_now(self, store: PrefetchStore) -> None:
        if time.monotonic() - self._published < _publish_s:
            return
        self._published = time.monotonic()
        with store.view() as jobs:
            for state, count in jobs.counts().items():
                self.counters.set(_GAUGES[state], count)
            totals = HitRate.within(jobs).totals()
        self.counters.set(Gauge.PREFETCH_FETCHED, totals.fetched)
        self.counters.set(Gauge.PREFETCH_USED, totals.used)

    def _prune_now(self, store: PrefetchStore) -> None:
        if time.monotonic() - self._pruned < _prune_s and self._pruned:
            return
        before_ns = time.time_ns() - self.child.spec.history_days * _day_ns
        pruned = store.commit(lambda jobs: jobs.prune(before_ns, limits.prefetch_prune_count))
        if pruned < limits.prefetch_prune_count:
            self._pruned = time.monotonic()

    def _note_fault(self, error: Exception) -> None:
        code = fault_code(error)
        if self._fault != code:
            self._fault = code
            self.child.log.error(
                "prefetch_fault", errno=code, kind=type(error).__name__, text=str(error)
            )


async def run(child: Child[RetrieverSpec]) -> None:
    """The role `retriever`."""
    await Retriever(child).run()
