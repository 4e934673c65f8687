"""One child of the supervisor, from the first start through every replacement to its end.

`Supervised.run` is its life as one coroutine; the supervisor's duty cycle calls `look` on every
turn, which finds hung processes. Descriptors in the spec belong to the supervisor and stay open, so
a replacement finds the same listening sockets, rings and counters.
"""

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from engine import limits
from engine.index.damage import INDEX_CUT
from engine.telemetry.counters import CounterSegment
from engine.telemetry.logs import Log
from engine.telemetry.metrics import Gauge, ProcessState
from workers.frame.child import EXIT_BOOT, EXIT_DRAINED, EXIT_INDEX
from workers.frame.control import Begin, Change, Drain, Failed, Gone, Letterbox, Ready
from workers.frame.environment import environment_of_children
from workers.frame.spec import (
    AnySpec,
    Hl7Spec,
    IndexerSpec,
    ReceiverSpec,
    RetrieverSpec,
    SenderSpec,
    may_change_to,
)
from workers.supervision.machine import Liveness, Pulse, read_activity

_boot_s: Final = limits.worker_boot_ms_max / 1000
# No gap between two looks counts for more: when we were not run ourselves, nobody was.
_gap_s_max: Final = 2 * limits.supervisor_tick_ms / 1000
# A process this long past its drain deadline is not going to end by itself.
_overdue_s: Final = 2.0


class Supervised:
    """A process that is kept alive until it is told to end."""

    def __init__(self, spec: AnySpec, reason: str, segment: CounterSegment, log: Log) -> None:
        self.spec = spec
        self.reason = reason  # of its placement
        self.pid = 0
        self.restarts = 0
        self.started = 0.0
        self.fault = ""  # why it ended the last time it was not asked to, for the operator
        self._told = ""  # the same in its own words, while it has not said that it is ready
        self.state = ProcessState.ABSENT
        self.ending = False  # it will not be replaced
        self._next_spec: AnySpec | None = None
        self._segment = segment
        self._counters = segment.block(spec.counters_block)
        self._log = log
        self._letterbox: Letterbox | None = None
        self._failures = 0.0
        self._pulse = Pulse()
        self._drain_end: float | None = None
        self._killed_for = ""
        self._task = asyncio.get_running_loop().create_task(self._live())

    @property
    def is_fresh(self) -> bool:
        """Whether it turns its loop, or is being dealt with."""
        return self._pulse.silent_s * 1000 < limits.heartbeat_starved_ms

    async def wait(self) -> None:
        await self._task

    @property
    def has_ended(self) -> bool:
        return self._task.done()

    def change(self, spec: AnySpec, reason: str, drain_s: float) -> bool:
        """A new configuration: told to the process, or the process replaced once it drained.

        True: it goes on running."""
        self.reason = reason
        running = self._next_spec or self.spec
        if spec == running:
            return True
        if self._next_spec is None and may_change_to(self.spec, spec):
            self.spec = spec
            if self._letterbox is not None and not self._send(Change(spec)):
                self.kill("took no message")
            return True
        self._next_spec = spec
        self._send(Drain(drain_s))
        self._bound_drain(drain_s)
        return False

    def end(self, seconds: float) -> None:
        """Drain, then do not come back. A second call can only shorten the time."""
        self.ending = True
        self._send(Drain(seconds))
        self._bound_drain(seconds)
        if self.state is ProcessState.WAITING:
            self._task.cancel()

    def _bound_drain(self, seconds: float) -> None:
        end = time.monotonic() + seconds + _overdue_s
        self._drain_end = end if self._drain_end is None else min(end, self._drain_end)
        if self.pid:
            self._note_state(ProcessState.DRAINING)

    def kill(self, why: str) -> None:
        """At once. The life coroutine sees the death and decides what comes after it."""
        if self.pid and not self._killed_for:
            self._killed_for = why
            os.kill(self.pid, signal.SIGKILL)

    def look(self, gap_s: float) -> None:
        """Called on every turn of the supervisor: is the process still turning its loop?"""
        if self._task.done() and not self.ending:
            self._task.result()  # a fault of ours: nobody watches any more, so it ends us all
        if not self.pid:
            return
        if self._drain_end is not None and time.monotonic() > self._drain_end:
            self.kill("did not end within its time")
            return
        own = self._counters.get(Gauge.PID) == self.pid
        pulse = self._pulse
        pulse.look(self._counters.get(Gauge.HEARTBEAT) if own else 0, min(gap_s, _gap_s_max))
        if self.state is ProcessState.STARTING:
            if pulse.silent_s > _boot_s:
                self.kill("did not start within its time")
            return
        if pulse.silent_s * 1000 < 2 * limits.heartbeat_ms:
            return
        activity = read_activity(self.pid)
        if activity is None:
            return
        verdict = pulse.judge(activity)
        if verdict is Liveness.HUNG:
            self.kill(f"no heartbeat for {pulse.silent_s:.2f} s, state {activity.state}")
        elif verdict is Liveness.STARVED and not pulse.starved_told:
            pulse.starved_told = True
            self._log.warning("worker_starved", worker=self.spec.name, state=activity.state)

    async def _live(self) -> None:
        try:
            while not self.ending:
                if self._next_spec is not None:
                    self.spec, self._next_spec = self._next_spec, None
                self._drain_end = None
                started = time.monotonic()
                status = await self._one_life()
                if self.ending or self._next_spec is not None:
                    continue
                delay_s = self._after_death(status, time.monotonic() - started)
                if delay_s:
                    self._note_state(ProcessState.WAITING)
                    await asyncio.sleep(delay_s)
        except asyncio.CancelledError:
            # By end(), in the wait for a replacement; or a fault of ours ends the whole loop, and
            # the process is left to see the end of its letterbox.
            self.ending = True
        finally:
            self._note_state(ProcessState.ABSENT)

    async def _one_life(self) -> int:
        letterbox, theirs = Letterbox.pair()
        self._pulse = Pulse()
        self._killed_for = ""
        self._note_state(ProcessState.STARTING)
        try:
            number = theirs.fileno()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "workers",
                "--control",
                str(number),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(number, *_descriptors(self.spec)),
                env=environment_of_children(),
            )
        except OSError as error:
            letterbox.close()
            self._told = f"cannot be started: {error}"
            return EXIT_BOOT
        finally:
            theirs.close()
        self.pid, self.started = process.pid, time.time()
        self._segment.note_started(self.spec.counters_block, process.pid)
        self._letterbox = letterbox
        loop = asyncio.get_running_loop()
        loop.add_reader(letterbox.descriptor, self._read_letters)
        letterbox.send(Begin(self.spec))
        self._log.info("worker_started", worker=self.spec.name, pid=process.pid)
        if self.ending:
            self.kill("asked to end while it was started")
        try:
            return await process.wait()
        finally:
            self._read_letters()
            loop.remove_reader(letterbox.descriptor)
            letterbox.close()
            self._letterbox = None
            self.pid = 0

    def _after_death(self, status: int, lived_s: float) -> float:
        """Seconds to wait before the replacement."""
        self.restarts += 1
        self._segment.note_restart(self.spec.counters_block)
        forgiven = lived_s // limits.restart_forgiven_s
        healthy = lived_s >= limits.restart_healthy_s
        self._failures = 1.0 if healthy else max(0.0, self._failures - forgiven) + 1.0
        # One that says it cannot start would say so again at once.
        step = int(self._failures) - (0 if status in (EXIT_BOOT, EXIT_INDEX) else 1)
        delay_ms = limits.restart_backoff_ms_first
        if step > 0:
            delay_ms = min(
                limits.restart_backoff_ms_step << min(step - 1, 16), limits.restart_backoff_ms_max
            )
        if status == EXIT_INDEX:
            # Until we are started again, since whoever mends it has to stop us.
            self._counters.set(Gauge.INDEX_CUT, 1)
            self._blame_nothing_in_hand()
        reason = self._killed_for or self._told or _ending(status)
        if status != EXIT_DRAINED:
            self.fault = reason
        put = self._log.warning if status in (EXIT_BOOT, EXIT_DRAINED) else self._log.error
        put(
            "worker_ended",
            worker=self.spec.name,
            status=_ending(status),
            text=reason,
            lived=round(lived_s, 3),
            restarts=self.restarts,
            replaced_in=delay_ms / 1000,
        )
        return delay_ms / 1000

    def _blame_nothing_in_hand(self) -> None:
        """The index was the death of it: no instance or delivery is set aside for that."""
        page = Path(self.spec.data_directory) / "run" / f"{self.spec.role}.inhand"
        with suppress(OSError):  # a page that cannot be removed blames; it is kept all the same
            page.unlink(missing_ok=True)

    def _read_letters(self) -> None:
        while self._letterbox is not None:
            message = self._letterbox.receive_report()
            if message is None:
                return
            if isinstance(message, Gone):
                asyncio.get_running_loop().remove_reader(self._letterbox.descriptor)
                return
            if isinstance(message, Failed):
                self._told = self.fault = message.text
            elif isinstance(message, Ready):
                self._told = ""
                if self.state is ProcessState.STARTING:
                    self._note_state(ProcessState.READY)

    def _send(self, message: Change | Drain) -> bool:
        return self._letterbox is not None and self._letterbox.send(message)

    def _note_state(self, state: ProcessState) -> None:
        if state is not self.state:
            self._pulse.renew()
        self.state = state
        self._segment.note_state(self.spec.counters_block, state)


def _descriptors(spec: AnySpec) -> list[int]:
    """What the process inherits besides its letterbox: only what its spec names."""
    descriptors = [spec.counters_descriptor]
    if isinstance(spec, ReceiverSpec):
        descriptors += [spec.ring_descriptor, spec.doorbell_descriptor, *spec.listen_descriptors]
        descriptors += [spec.tls_descriptor] if spec.tls_descriptor >= 0 else []
    elif isinstance(spec, IndexerSpec):
        descriptors.append(spec.doorbell_descriptor)
    elif isinstance(spec, SenderSpec | RetrieverSpec):
        descriptors += [spec.tls_descriptor] if spec.tls_descriptor >= 0 else []
    else:
        descriptors += spec.listen_descriptors
    if isinstance(spec, Hl7Spec) and spec.tls_descriptor >= 0:
        descriptors.append(spec.tls_descriptor)
    return descriptors


def _ending(status: int) -> str:
    if status == EXIT_INDEX:
        return f"ended by the index: {INDEX_CUT}"
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit code {status}"
