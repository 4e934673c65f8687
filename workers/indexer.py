"""The indexer: one process that follows all journals into the tree and the index.

Its loop only keeps time; everything that may wait for the disk is done one thing after another in
one thread beside it, so that a slow disk never looks like a hung process. When the disk or the
index fails nothing is lost, since the journals keep it. The fault is logged once and published, and
the receivers then refuse new instances. The same step is tried again until it succeeds.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from engine import limits
from engine.files.journal_damage import damage_of
from engine.index import tombstones
from engine.index.environment import INDEX_DAMAGE, INDEX_FAULTS, IndexReader, fault_code
from engine.index.writer import IndexWriter, WriterBusyError
from engine.intake.dispatch import Dispatcher
from engine.intake.intake import Intake
from engine.intake.journal import INCOMING_DIRECTORY, JOURNAL_DIRECTORY, journals_on_disk
from engine.intake.step import Step
from engine.prefetch.rules import PrefetchRules
from engine.removal.errands import Errands, Told
from engine.rules.routing import Rules
from engine.telemetry.metrics import Counter, Gauge, Histogram
from engine.verify.repair import serve_requests
from native import _core
from workers.frame.child import Child
from workers.frame.records_in_hand import RecordsOnPage
from workers.frame.spec import IndexerSpec, JournalSpec
from workers.frame.yielding import yield_to_others

T = TypeVar("T")

_poll_s: Final = 0.2  # should a ring of the doorbell ever be lost
_publish_s: Final = 1.0
_readers_checked_s: Final = 10.0
_retry_s_first: Final = 0.1
_retry_s_max: Final = 2.0
_day_ns: Final = 86_400_000_000_000
# After a crash the files since the last checkpoint are placed again before anybody is told that we
# are ready; a disk that needs longer than this for it must not look like a process that failed.
_replay_wait_s: Final = 5.0
# A predecessor whose supervisor was killed may still be finishing.
_writer_wait_s: Final = 4.0


class Indexer:
    """The state of the process. Methods that end in `_now` run in the thread."""

    def __init__(self, child: Child[IndexerSpec]) -> None:
        self.child = child
        self.counters = child.counters
        self.data_directory = Path(child.spec.data_directory)
        self.doorbell = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scai-index")
        self._writer: IndexWriter | None = None
        self._reader: IndexReader | None = None
        self._intake: Intake | None = None
        self._errands: Errands | None = None
        self._removed = 0.0  # when a portion was last removed
        self._dispatching: IndexerSpec | None = None  # whose rules the intake follows
        self._in_hand: RecordsOnPage | None = None
        self._orphans: dict[str, int] = {}
        self._busy: set[str] = set()  # of them: a receiver that is leaving still writes
        self._faults: dict[str, int] = {}  # by the work that failed
        self._unreadable: dict[str, int] = {}  # journals that cannot be read, and why
        self._retry_s = _retry_s_first
        self._is_ready = False
        self._boot_deadline = 0.0
        self._published = 0.0
        self._readers_checked = 0.0
        self._active = 0.0  # when something was last taken in

    async def run(self) -> None:
        """Until the draining is over."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self.child.spec.doorbell_descriptor, self._ring)
        try:
            await self._wait_for_writer()
            self._boot_deadline = time.monotonic() + _replay_wait_s
            await self._attempt(self._publish_now)
            while not await self._turn():
                pass
        finally:
            loop.remove_reader(self.child.spec.doorbell_descriptor)
            await loop.run_in_executor(self._thread, self._close_now)
            self._thread.shutdown()

    async def _turn(self) -> bool:
        """One round of work and the wait after it; True when the process may end."""
        draining = self.child.draining.is_set()
        self.doorbell.clear()
        started = time.monotonic()
        step = await self._attempt(self._step_now)
        if step is not None:
            self._report(step, time.monotonic() - started)
        now = time.monotonic()
        if not self._is_ready and (
            step is None or not step.behind or draining or now > self._boot_deadline
        ):
            # Before that, rows may stand in the index whose files are still to be placed again.
            self._is_ready = True
            self.child.ready()
        if self._intake is not None and (
            self._intake.checkpoint_is_due
            or draining
            or now - self._active > limits.index_checkpoint_idle_s
        ):
            await self._attempt(self._checkpoint_now)
        if now - self._published >= _publish_s:
            self._published = now
            await self._attempt(self._publish_now)
        # The disk must not fill because nobody has time to empty it.
        has_time = step is not None and not step.behind
        if self._has_removals and (has_time or now - self._removed > limits.removal_patience_s):
            self._removed = now
            self._report_removal(await self._attempt(self._remove_now))
        finished = draining and step is not None and not step.behind
        if finished or asyncio.get_running_loop().time() >= self.child.drain_deadline:
            return True
        await self._wait(step, started)
        return False

    async def _wait(self, step: Step | None, started: float) -> None:
        if step is None:
            await self._sleep(self._retry_s)
            self._retry_s = min(2 * self._retry_s, _retry_s_max)
            return
        if not step.behind and not self._has_removals and not self.child.draining.is_set():
            try:
                await asyncio.wait_for(self.doorbell.wait(), _poll_s)
            except TimeoutError:
                return  # nothing rang: look nevertheless
        if step.records < limits.index_batch_max // 2:
            # Small batches may wait for company.
            pause = started + limits.index_commit_interval_ms / 1000 - time.monotonic()
            await asyncio.sleep(max(0.0, pause))

    async def _sleep(self, seconds: float) -> None:
        """Cut short when draining begins."""
        if self.child.draining.is_set():
            await asyncio.sleep(min(seconds, _retry_s_first))
            return
        try:
            await asyncio.wait_for(self.child.draining.wait(), seconds)
        except TimeoutError:
            return

    def _ring(self) -> None:
        try:
            os.eventfd_read(self.child.spec.doorbell_descriptor)
        except BlockingIOError:
            return  # a process before us has read it
        self.doorbell.set()

    # --- faults ---
    async def _attempt(self, work: Callable[[], T]) -> T | None:
        """Run `work` in the thread. A fault of disk or index: published, None is returned."""
        loop = asyncio.get_running_loop()
        try:
            result = await loop.run_in_executor(self._thread, work)
        except INDEX_FAULTS as error:
            self._note_fault(error, work.__name__)
            if not isinstance(error, OSError):
                # LMDB may be in any state after an error: only opening it anew tells.
                await loop.run_in_executor(self._thread, self._close_now)
            return None
        self._note_success(work.__name__)
        return result

    def _note_fault(self, error: Exception, work: str) -> None:
        self.counters.add(Counter.INDEX_ERRORS)
        code = fault_code(error)
        if isinstance(error, INDEX_DAMAGE):
            self.counters.set(Gauge.INDEX_CUT, 1)  # until we are started again
        if self._faults.get(work) != code:
            self._faults[work] = code
            self.counters.set(Gauge.INDEX_FAULT, code)
            self.child.log.error(
                "index_fault", errno=code, kind=type(error).__name__, text=str(error)
            )

    def _note_success(self, work: str) -> None:
        """What failed is over when the same work succeeds, not when another does."""
        if self._faults.pop(work, 0):
            self._retry_s = _retry_s_first
            self.child.log.info("index_recovered")
            self.counters.set(Gauge.INDEX_FAULT, next(iter(self._faults.values()), 0))

    def _report_journals(self, step: Step) -> None:
        """Which journals cannot be read; only their receivers refuse instances meanwhile."""
        faults = {name: fault_code(error) for name, error in step.unreadable}
        for name, error in step.unreadable:
            if self._unreadable.get(name) != faults[name]:
                self.counters.add(Counter.INDEX_ERRORS)
                self.child.log.error(
                    "journal_unreadable", journal=name, errno=faults[name], text=str(error)
                )
        for name in self._unreadable.keys() - faults.keys():
            self.child.log.info("journal_readable", journal=name)
        if faults != self._unreadable:
            self._unreadable = faults
        for journal in self.child.spec.journals:
            block = self.child.segment.block(journal.counters_block)
            block.set(Gauge.JOURNAL_FAULT, faults.get(journal.name, 0))

    def _report(self, step: Step, seconds: float) -> None:
        log, counters = self.child.log, self.counters
        self._report_journals(step)
        for name in step.renumbered:
            log.warning(
                "journal_renumbered", journal=name, text="it lost its end: all of it is read"
            )
        for missing in step.missing:
            counters.add(Counter.INDEX_MISSING)
            log.error(
                "instance_missing",
                **missing._asdict(),
                text="acknowledged, but its bytes are neither in incoming/ nor in the tree",
            )
        for aside in step.set_aside:
            counters.add(Counter.INDEX_SET_ASIDE)
            log.error(
                "instance_set_aside",
                **aside._asdict(),
                text="acknowledged, but the indexer died or hung of it again and again: it is kept "
                "there, and not found or sent",
            )
        self._report_replacements(step)
        for lost in step.lost:
            if not lost.indexed:
                counters.add(Counter.INDEX_MISSING, lost.last - lost.first + 1)
            log.error(
                "records_lost",
                journal=lost.journal,
                first=lost.first,
                last=lost.last,
                text="the journal lost them; the index had them before: run scai verify --content"
                if lost.indexed
                else "acknowledged, and lost by a damage of the journal before they were indexed",
            )
        for apart in step.apart:
            counters.add(Counter.INDEX_KEPT_APART)
            log.warning(
                "kept_apart",
                **apart._asdict(),
                text=f"another patient has the UID of this {apart.what}: they are kept apart",
            )
        if not step.records:
            return
        self._active = time.monotonic()
        counters.add(Counter.INDEX_COMMITS)
        counters.add(Counter.INDEXED_INSTANCES, step.indexed)
        counters.observe(Histogram.INDEX_BATCH_DURATION, seconds)
        self._publish_applied()

    def _report_replacements(self, step: Step) -> None:
        """Whose instance took the place of whose, and whose may not."""
        log, counters = self.child.log, self.counters
        for one in step.replaced:
            is_another = one.before != one.calling_ae_title
            counters.add(
                Counter.INDEX_REPLACED_BY_ANOTHER if is_another else Counter.INDEX_REPLACED_BY_SAME
            )
            put = log.warning if is_another else log.info
            put(
                "instance_replaced",
                journal=one.journal,
                sop_instance_uid=one.sop_instance_uid,
                study_uid=one.study_uid,
                calling_ae_title=one.calling_ae_title,
                before=one.before,
            )
        for one in step.refused:
            counters.add(Counter.INDEX_REPLACEMENTS_REFUSED)
            log.warning(
                "replacement_refused",
                **one._asdict(),
                text="acknowledged, and kept there: `replace` does not let it take the place of "
                "what is stored",
            )

    def _publish_applied(self) -> None:
        if self._intake is None:
            return
        for journal in self.child.spec.journals:
            block = self.child.segment.block(journal.counters_block)
            block.set(Gauge.JOURNAL_APPLIED_SEQUENCE, self._intake.reached(journal.name))

    # --- in the thread ---
    async def _wait_for_writer(self) -> None:
        """Open the index; another writer is given time to leave."""
        deadline = time.monotonic() + _writer_wait_s
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.run_in_executor(self._thread, self._open_now)
                return
            except WriterBusyError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_retry_s_first)
            except INDEX_FAULTS as error:
                self._note_fault(error, self._step_now.__name__)
                return

    def _open_now(self) -> Intake:
        if self._intake is None:
            durable = self.child.spec.durability == "sync"
            self._writer = IndexWriter(self.data_directory)
            self._reader = self._writer.reader()
            self._intake = Intake(self.data_directory, self._writer, durable, self._in_hand_now())
            self._errands = Errands(
                self.data_directory,
                self._writer,
                self._intake.tree,
                self._intake.is_settled,
                self._checkpoint_now,
            )
            self._find_orphans()
            self._publish_applied()
        return self._intake

    def _in_hand_now(self) -> RecordsOnPage:
        if self._in_hand is None:
            directory = self.data_directory / "run"
            directory.mkdir(mode=0o700, exist_ok=True)
            self._in_hand = RecordsOnPage(directory / "indexer.inhand")
            if self._in_hand.blamed is not None:
                sequence, deaths = self._in_hand.blamed
                self.child.log.warning(
                    "record_suspect",
                    sequence=sequence,
                    deaths=deaths,
                    text="the indexer ended while it took this record in",
                )
        return self._in_hand

    def _close_now(self) -> None:
        if self._intake is not None:
            self._intake.close()
        self._intake = self._reader = self._dispatching = self._errands = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _find_orphans(self) -> None:
        """Journals that no receiver writes any more, to their ends."""
        named = {journal.name for journal in self.child.spec.journals}
        orphans = set(journals_on_disk(self.data_directory)) - named
        self._orphans = {}
        self._look_at(orphans)

    def _look_at(self, orphans: Iterable[str]) -> None:
        """How far they go; and how many damages of all of them wait for somebody to look."""
        self._orphans.update({name: self._last_of(name) for name in sorted(orphans)})
        journals = self.data_directory / JOURNAL_DIRECTORY
        damages = sum(len(damage_of(journals / name)) for name in self._orphans)
        self.counters.set(Gauge.JOURNAL_DAMAGE, damages)

    def _last_of(self, orphan: str) -> int:
        """The last record, once sealed files have theirs: nobody else would give it to them."""
        journal = str(self.data_directory / JOURNAL_DIRECTORY / orphan)
        try:
            _core.adopt_sealed(
                journal,
                limits.journal_segment_bytes,
                limits.journal_segments_max + 1,  # it may be full, and we are who empties it
                self.child.spec.durability == "sync",
                str(self.data_directory / INCOMING_DIRECTORY / orphan),
                limits,
                0,  # the other journals do not wait for this one
            )
            self._busy.discard(orphan)
        except BlockingIOError:
            if orphan not in self._busy:
                text = "its receiver has not ended; what it adds is indexed when it has"
                self.child.log.warning("journal_busy", journal=orphan, text=text)
            self._busy.add(orphan)
        return _core.journal_last_sequence(journal)

    def _step_now(self) -> Step:
        intake = self._open_now()
        if self._dispatching is not self.child.spec:
            spec = self._dispatching = self.child.spec
            intake.dispatcher = Dispatcher.of(
                intake.tree,
                Rules.compile(spec.rules),
                spec.extra_tags,
                PrefetchRules(spec.prefetch),
            )
            intake.replace = {journal.name: journal.replace for journal in spec.journals}
        durable = dict(self._orphans)
        for journal in self.child.spec.journals:
            durable[journal.name] = self._durable_sequence(journal)
        return intake.step(durable)

    def _durable_sequence(self, journal: JournalSpec) -> int:
        block = self.child.segment.block(journal.counters_block)
        return block.get(Gauge.JOURNAL_DURABLE_SEQUENCE)

    def _checkpoint_now(self) -> None:
        if self._intake is not None and self._intake.checkpoint():
            self.counters.add(Counter.INDEX_CHECKPOINTS)

    def _publish_now(self) -> None:
        spec, counters = self.child.spec, self.counters
        disk = os.statvfs(self.data_directory)
        free = disk.f_bavail * disk.f_frsize
        counters.set(Gauge.DISK_FREE_BYTES, free)
        counters.set(Gauge.DISK_LOW, int(free < spec.reserve_bytes))
        if self._writer is None or self._reader is None or self._intake is None:
            return
        if self._busy:
            self._look_at(frozenset(self._busy))
        with self._reader.view() as view:
            counters.set(Gauge.PATIENTS, view.count("patients"))
            counters.set(Gauge.STUDIES, view.count("studies"))
            counters.set(Gauge.SERIES, view.count("series"))
            counters.set(Gauge.INSTANCES, view.count("instances"))
        map_bytes, used_bytes = self._reader.used_bytes()
        counters.set(Gauge.INDEX_MAP_BYTES, map_bytes)
        counters.set(Gauge.INDEX_USED_BYTES, used_bytes)
        self._publish_applied()
        now = time.monotonic()
        if now - self._readers_checked > _readers_checked_s:
            self._readers_checked = now
            self._writer.check_readers()
        dispatcher = self._intake.dispatcher
        arrived = None if dispatcher is None else dispatcher.arrived
        serve_requests(self.data_directory, self._writer, self._intake.tree, arrived)
        self._forget_tombstones_now()
        if self._errands is not None:
            self._errands.look(self.child.spec.retention)
            self.counters.set(Gauge.EVICTION_LACKING, self._errands.lacking_bytes)

    def _forget_tombstones_now(self) -> None:
        assert self._writer is not None
        assert self._reader is not None
        before_ns = time.time_ns() - self.child.spec.retention.tombstone_days * _day_ns
        with self._reader.view() as view:
            oldest_ns = tombstones.oldest_ns(view)
        if oldest_ns is not None and oldest_ns < before_ns:
            self._writer.commit(lambda batch: tombstones.prune_tombstones(batch, before_ns))

    # --- removals ---
    @property
    def _has_removals(self) -> bool:
        return self._errands is not None and self._errands.has_work

    def _remove_now(self) -> Told | None:
        return None if self._errands is None else self._errands.turn()

    def _report_removal(self, told: Told | None) -> None:
        if told is not None:
            for counter, count in told.counts.items():
                self.counters.add(counter, count)
            self.child.log.note(told.level, told.event, told.fields)


async def run(child: Child[IndexerSpec]) -> None:
    """The role `indexer`."""
    os.umask(0o077)
    yield_to_others(limits.indexer_nice, limits.indexer_slice_us)
    await Indexer(child).run()
