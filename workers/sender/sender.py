"""The sender: STORAGE-SCU in a process of its own, delivering what stands in the outbox.

Its loop only keeps time. Lanes (`workers/sender/lanes.py`) send, each in a thread; one more thread
beside the loop keeps the outbox (`workers/sender/ledger.py`). A fault of the disk or the index is
logged once and tried again: what was sent meanwhile is not forgotten. At the end nothing more is
begun, what runs may finish within the time, and what does not waits again.
"""

import asyncio
import os
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from engine import limits
from engine.errors import OperatorError
from engine.index.environment import INDEX_FAULTS, fault_code
from engine.outbox.writer import OutboxWriter
from engine.outgoing.contexts import taken_by
from engine.settings.entities import Remote
from engine.telemetry.metrics import Gauge
from workers.decoding.decoders import Decoders
from workers.frame.child import Child
from workers.frame.in_hand import InHand
from workers.frame.spec import SenderSpec
from workers.frame.tls_handover import read_client
from workers.frame.yielding import yield_to_others
from workers.scu.association import Peer
from workers.sender.attempt import Destination
from workers.sender.folders import Folder, FolderWatch
from workers.sender.lanes import Lanes
from workers.sender.ledger import Ledger, Policy
from workers.sender.report import SenderReport

T = TypeVar("T")

_poll_s: Final = limits.sending_poll_ms / 1000
_pause_s: Final = limits.sending_commit_interval_ms / 1000
_tidy_s: Final = 10.0
_sweep_s: Final = 1800.0
_retry_s: Final = 1.0
# Before the deadline, so that what was interrupted can still be written down.
_interrupt_early_s: Final = 0.5


class SenderRole:
    """The state of the process. Methods that end in `_now` run in the outbox's thread."""

    def __init__(self, child: Child[SenderSpec]) -> None:
        self.child = child
        self._loop = asyncio.get_running_loop()
        self._report = SenderReport(child)
        self._reported = asyncio.Event()
        self._decoders = Decoders()
        self._lanes = Lanes(self._ring, child.spec.associations, self._decoders.decode)
        self._threads = ThreadPoolExecutor(child.spec.associations, thread_name_prefix="scai-send")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scai-outbox")
        self._ledger: Ledger | None = None
        self._in_hand: InHand | None = None
        self._fault = 0
        self._tidied = self._swept = self._loop.time()
        self._destinations: dict[str, Destination] = {}
        self._paused: frozenset[str] = frozenset()  # by the user
        self._folders: list[Folder] = []
        self._context: ssl.SSLContext | None = None
        self._tls_digest = ""

    async def run(self) -> None:
        """Until the draining is over."""
        self._configure()
        self.child.reconfigured(lambda _: self._reconfigure())
        running = [
            self._loop.run_in_executor(self._threads, self._lanes.run, number)
            for number in range(self.child.spec.associations)
        ]
        for lane in running:
            self.child.faults.watch(lane)
        try:
            while await self._attempt(self._open_now) is None:
                self.child.ready()  # the fault is published; it is tried again
                if self.child.draining.is_set():
                    return
                await asyncio.sleep(_retry_s)
            self.child.ready()
            watching = self._loop.create_task(self._watch())
            self.child.faults.watch(watching)
            running.append(watching)
            while not self.child.draining.is_set():
                await self._turn()
        finally:
            self._lanes.close()
            if not self.child.draining.is_set():  # a fault of ours ends us all
                self.child.drain(limits.fault_finish_s)
            await self._drain()
            await asyncio.gather(*running)
            self._threads.shutdown()
            self._decoders.close()
            await self._attempt(self._keep_books_now)
            await self._loop.run_in_executor(self._thread, self._close_now)
            self._thread.shutdown()

    async def _turn(self) -> None:
        """Write down what ended, lease what is next, and wait until there is either."""
        self._reported.clear()
        worked = await self._attempt(self._keep_books_now)
        now = self._loop.time()
        if worked is None:
            await asyncio.sleep(_retry_s)
            return
        if now - self._tidied > _tidy_s:
            self._tidied = now
            await self._attempt(self._tidy_now)
        if now - self._swept > _sweep_s:
            self._swept = now
            await self._attempt(self._sweep_now)
        ledger = self._ledger
        assert ledger is not None, "it is open before the first turn"
        if ledger.paused != self._paused:
            self._reopen()
        self._report.publish(ledger, self._lanes.active)
        if worked:
            await asyncio.sleep(_pause_s)
            return
        waits = (self._reported.wait(), self.child.draining.wait())
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        await asyncio.wait(tasks, timeout=_poll_s, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()

    async def _drain(self) -> None:
        """What runs may finish; then it is cut off, and counts for nothing."""
        while self._lanes.active:
            if self._loop.time() >= self.child.drain_deadline - _interrupt_early_s:
                self._lanes.interrupt()
                self._decoders.close()
                return
            await self._attempt(self._keep_books_now)
            await asyncio.sleep(_poll_s)

    async def _watch(self) -> None:
        """Look at the watched folders, one after another, in a thread of their own."""
        with ThreadPoolExecutor(1, thread_name_prefix="scai-folders") as thread:
            watch = FolderWatch(Path(self.child.spec.data_directory), self._writer)
            while not self.child.draining.is_set():
                for folder in filter(watch.is_due, self._folders):
                    try:
                        turn = await self._loop.run_in_executor(thread, watch.look, folder)
                    except INDEX_FAULTS as error:
                        self._report.folder_fault(folder, error)
                    else:
                        self._report.folder(folder, turn)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.child.draining.wait(), limits.folder_poll_s)

    def _writer(self) -> OutboxWriter:
        assert self._ledger is not None, "folders are watched once it is open"
        return self._ledger.writer

    def _ring(self) -> None:
        """From a lane's thread."""
        self._loop.call_soon_threadsafe(self._reported.set)

    # --- configuration -------------------------------------------------------------------------
    def _reconfigure(self) -> None:
        """Whole, or as before until it can be: what TLS is made of may not be there yet."""
        try:
            self._configure()
        except (OperatorError, ssl.SSLError) as error:
            self.child.log.error("tls_reload_failed", text=str(error))
            self._loop.call_later(limits.tls_reload_retry_s, self._reconfigure)

    def _configure(self) -> None:
        spec = self.child.spec
        if spec.tls_digest != self._tls_digest:
            self._context = read_client(spec.tls_descriptor) if spec.tls_digest else None
            self._tls_digest = spec.tls_digest
        self._destinations = {
            remote.name: self._destination(remote, spec)
            for remote in spec.remotes
            if not remote.paused
        }
        self._folders = [
            Folder(remote.name, Path(remote.outgoing_directory), taken_by(remote))
            for remote in spec.remotes
            if remote.outgoing_directory
        ]
        self._reopen()

    def _destination(self, remote: Remote, spec: SenderSpec) -> Destination:
        context = self._context if remote.tls else None
        assert context is not None or not remote.tls, "never without TLS where it is asked for"
        return Destination(
            Peer(remote.name, remote.ae_title, remote.host, remote.port, context),
            spec.calling_ae_title,
            remote.timeouts(spec.timeouts),
            taken_by(remote),
            remote.associations == "reuse",
            remote.character_sets,
            remote.original_attributes,
        )

    def _reopen(self) -> None:
        """Send to all that neither the configuration nor the user has paused."""
        if self._ledger is not None:
            self._paused = self._ledger.paused
        self._lanes.open_for(
            {
                name: destination
                for name, destination in self._destinations.items()
                if name not in self._paused
            }
        )

    @property
    def _policy(self) -> Policy:
        spec = self.child.spec
        return Policy(
            spec.retry_count, spec.retry_pause_s, spec.delivered_days, spec.give_up_after_hours
        )

    # --- in the thread -------------------------------------------------------------------------
    async def _attempt(self, work: Callable[[], T]) -> T | None:
        """Run `work` in the thread. A fault of disk or index: logged once, None is returned."""
        try:
            result = await self._loop.run_in_executor(self._thread, work)
        except INDEX_FAULTS as error:
            code = fault_code(error)
            if self._ledger is not None and not isinstance(error, OSError):
                await self._loop.run_in_executor(self._thread, self._reopen_now)
            if code != self._fault:
                self._fault = code
                self.child.counters.set(Gauge.OUTBOX_FAULT, code)
                self.child.log.error(
                    "outbox_fault", errno=code, kind=type(error).__name__, text=str(error)
                )
            return None
        if self._fault:
            self._fault = 0
            self.child.counters.set(Gauge.OUTBOX_FAULT, 0)
            self.child.log.info("outbox_recovered")
        return result

    def _open_now(self) -> Ledger:
        data_directory = Path(self.child.spec.data_directory)
        if self._in_hand is None:
            path = data_directory / "run" / "sender.inhand"
            self._in_hand = InHand(path, limits.associations_most)
            self._lanes.note_in(self._in_hand)
        self._ledger = Ledger(data_directory, [it for it in self._in_hand.left if it])
        self._report.blamed(self._ledger.blamed_at_start)
        self._lanes.resume(self._ledger.resumed())
        returned = self._ledger.returned_at_start
        if returned:
            self.child.log.info("deliveries_returned", deliveries=returned)
        return self._ledger

    def _reopen_now(self) -> None:
        assert self._ledger is not None
        with suppress(*INDEX_FAULTS):  # the next attempt will say so
            self._ledger.reopen()

    def _close_now(self) -> None:
        if self._ledger is not None:
            self._ledger.close()

    def _keep_books_now(self) -> bool:
        """Whether anything was done."""
        ledger = self._ledger
        if ledger is None:
            return False
        ledger.look()
        self._lanes.ask_now(ledger.to_ask())
        ledger.keep(*self._lanes.collect())
        leased, booked = ledger.keep_books(self._lanes.wanted(), self._policy)
        self._lanes.put(leased)
        for one in booked:
            self._report.note(one)
        return bool(booked) or any(leased.values())

    def _tidy_now(self) -> int:
        if self._ledger is None:
            return 0
        asked = self._destinations.keys() - self._ledger.paused
        given_up = self._ledger.tidy(self._policy, asked)
        for one in given_up:
            self._report.given_up(one)
        return len(given_up)

    def _sweep_now(self) -> int:
        swept = [] if self._ledger is None else self._ledger.sweep()
        if swept:
            self.child.log.warning("outbox_swept", files=len(swept))
        return len(swept)


async def run(child: Child[SenderSpec]) -> None:
    """The role `sender`."""
    os.umask(0o077)
    yield_to_others(limits.sender_nice, limits.sender_slice_us)
    await SenderRole(child).run()
