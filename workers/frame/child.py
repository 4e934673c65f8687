"""What every worker process is given: its spec, counters, log, and the word when to end.

`run_child` is the frame around a role. It pins the process, listens to the letterbox and turns what
happened into an exit code. It keeps the heartbeat on the role's own event loop, so a loop that does
not turn does not beat. A role is a module with `async def run(child) -> None` that returns when it
has finished draining. It must heed `draining`, and never block its loop. What waits for a disk
belongs into a thread: a loop that is silent for half a second is taken for hung, and the process is
killed. When the supervisor is gone (`orphaned`) the deadline is short and nobody will start the
process again.
"""

import asyncio
import fcntl
import importlib
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import uvloop
from setproctitle import setproctitle

from engine import limits
from engine.errors import OperatorError
from engine.index.damage import INDEX_FILE
from engine.telemetry.counters import CounterBlock, CounterSegment
from engine.telemetry.logs import Log
from engine.telemetry.metrics import Counter, Gauge, ProcessState
from native import _core
from workers.frame.confinement import confine
from workers.frame.control import Begin, Change, Drain, Failed, Gone, Letterbox, Ready
from workers.frame.fault import FaultError, FaultWatch, trace_of
from workers.frame.spec import AnySpec

EXIT_DRAINED: Final = 0
EXIT_BOOT: Final = 3  # it cannot do its work as things are: trying again at once is of no use
EXIT_INTERNAL: Final = 4  # a fault of ours
EXIT_ORPHANED: Final = 5  # the supervisor is gone; what was under way is finished or given up
EXIT_INDEX: Final = 6  # LMDB fell over a page of the index, or could not read it

SpecT = TypeVar("SpecT", bound=AnySpec, covariant=True)


class Child(Generic[SpecT]):
    """One worker process as its role sees it."""

    def __init__(self, spec: SpecT, letterbox: Letterbox) -> None:
        self.spec = spec
        self.segment = CounterSegment.attach(spec.counters_descriptor, writable=True)
        self.counters: CounterBlock = self.segment.block(spec.counters_block)
        self.counters.begin(os.getpid())
        self.log = Log(spec.log_level, process=spec.name)
        self.draining = asyncio.Event()
        self.orphaned = False
        self.drain_deadline = float("inf")  # by the loop's clock
        self.faults = FaultWatch(self.log, "worker_fault", self._bound_fault)
        self._letterbox = letterbox
        self._callbacks: list[Callable[[SpecT], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dropped_counted = 0

    def ready(self) -> None:
        """The role does its work from now on."""
        if not self.draining.is_set():
            self.counters.set(Gauge.STATE, ProcessState.READY)
        self._letterbox.send(Ready())

    def reconfigured(self, callback: Callable[[SpecT], None]) -> None:
        """Call back with the new spec (already in `spec`) after a reload."""
        self._callbacks.append(callback)

    def drain(self, seconds: float) -> None:
        """Take nothing new from now on; a second call can only shorten the time."""
        assert self._loop is not None
        self.drain_deadline = min(self.drain_deadline, self._loop.time() + seconds)
        self.counters.set(Gauge.STATE, ProcessState.DRAINING)
        self.draining.set()

    def _bound_fault(self) -> None:
        """A fault of ours: what the role still does at its end has little time, and no more."""
        assert self._loop is not None
        self.drain(limits.fault_finish_s)
        self._loop.call_later(limits.fault_finish_s, self._end_now)

    def _end_now(self) -> None:
        self.log.close()
        os._exit(EXIT_INTERNAL)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Heartbeat, letterbox, signals and log go with this loop."""
        self._loop = loop
        self.log.attach(loop)
        loop.add_reader(self._letterbox.descriptor, self._read_letters)
        # A terminal or a service manager may signal the whole group. What it wants is the
        # supervisor's to decide, which ends its children in the right order.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._beat()

    def _beat(self) -> None:
        assert self._loop is not None
        self.counters.set(Gauge.HEARTBEAT, time.monotonic_ns())
        dropped = self.log.dropped - self._dropped_counted
        if dropped:
            self.counters.add(Counter.LOG_LINES_DROPPED, dropped)
            self._dropped_counted += dropped
        self._loop.call_later(limits.heartbeat_ms / 1000, self._beat)

    def _read_letters(self) -> None:
        assert self._loop is not None
        while True:
            message = self._letterbox.receive_order()
            if message is None:
                return
            if isinstance(message, Gone):
                self._loop.remove_reader(self._letterbox.descriptor)
                self.orphaned = True
                self.log.warning("supervisor_gone", text="finishing what is under way, then ending")
                self.drain(limits.orphan_finish_s)
                return
            if isinstance(message, Drain):
                self.drain(message.seconds)
            elif isinstance(message, Change):
                self._change(message.spec)

    def _change(self, spec: AnySpec) -> None:
        assert type(spec) is type(self.spec)
        self.spec = spec
        self.log.set_level(spec.log_level)
        for callback in self._callbacks:
            callback(self.spec)
        self.log.info("reconfigured")


def run_child(control_descriptor: int) -> int:
    """The whole life of a worker process; its exit code."""
    connection = socket.socket(fileno=control_descriptor)
    connection.set_inheritable(False)
    connection.settimeout(limits.worker_boot_ms_max / 1000)
    try:
        connection.recv(1, socket.MSG_PEEK)  # waits for the first message
    except TimeoutError:
        return EXIT_BOOT
    letterbox = Letterbox(connection)
    message = letterbox.receive_order()
    if not isinstance(message, Begin):
        return EXIT_ORPHANED
    spec = message.spec
    child = Child(spec, letterbox)
    try:
        if spec.cores:
            os.sched_setaffinity(0, spec.cores)
        setproctitle(f"scai: {spec.name}")
        _hold_name(spec)
        # The words are the supervisor's, who logs every end.
        _core.tell_index_crashes(INDEX_FILE, "", EXIT_INDEX)
        role = importlib.import_module(spec.module)
        uvloop.run(_run_role(child, role.run))
    except (OperatorError, OSError) as error:
        child.log.error("worker_failed", text=str(error))
        letterbox.send(Failed(str(error)[: limits.log_text_characters_max]))
        return EXIT_BOOT
    except FaultError as error:
        letterbox.send(Failed(str(error)))
        return EXIT_INTERNAL
    except Exception as error:  # noqa: BLE001  # the process boundary
        child.faults.log(error)
        letterbox.send(Failed(f"{type(error).__name__} in {trace_of(error)}"))
        return EXIT_INTERNAL
    finally:
        child.log.close()
    return EXIT_ORPHANED if child.orphaned else EXIT_DRAINED


async def _run_role(child: Child[AnySpec], run: Callable[[Child[AnySpec]], object]) -> None:
    child.attach(asyncio.get_running_loop())
    if child.spec.confine:
        child.log.info("confined", **confine(child.spec))
    else:
        child.log.warning("not_confined", text="the configuration says `confine = false`")
    work = run(child)
    assert asyncio.iscoroutine(work), "a role's run() is a coroutine function"
    try:
        await child.faults.guard(work)
    finally:
        child.log.detach()


def _hold_name(spec: AnySpec) -> None:
    """As long as we live nobody else does this work on this data, not under another supervisor."""
    path = os.path.join(spec.data_directory, "run", f"{spec.name}.alive")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The other kind of lock, for its holder's pid can be asked of the kernel (F_GETLK).
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OperatorError("its predecessor has not ended yet", spec.name) from error
    os.ftruncate(descriptor, 0)
    os.write(descriptor, b"%d\n" % os.getpid())
