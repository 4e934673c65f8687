"""The supervisor: owns configuration, sockets, shared memory and children; touches no instance.

Signals and deaths are only noted; one duty cycle acts: it looks at every heartbeat, reloads when
asked to, and ends when asked to. Each child's life is a coroutine of its own in
`workers/supervision/process.py`. Its promises: a dead or hung child is replaced within a second
while its listening socket stays open; a new configuration is used whole or not at all; nobody else
runs on the same data; every child ends when it ends.
"""

import asyncio
import os
import resource
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from setproctitle import setproctitle

from engine import limits
from engine.config.loading import Config, LoadedConfig
from engine.errors import OperatorError
from engine.telemetry.logs import Log
from engine.telemetry.metrics import Gauge, ProcessState
from native import _core
from workers.frame.fault import FaultWatch
from workers.frame.spec import MODULES, Hl7Spec, ReceiverSpec, StatsSpec
from workers.supervision.certificate import CertificateWatch
from workers.supervision.data import (
    RUN_FILE,
    kill_leftovers,
    lock_data,
    make_directories,
    write_run_file,
)
from workers.supervision.notify import Notifier
from workers.supervision.plan import (
    SUPERVISOR,
    Planned,
    Resources,
    plan,
    stats_places,
    wanted_places,
)
from workers.supervision.process import Supervised
from workers.supervision.status import Reloaded, Status, StatusServer, status_of

_tick_s: Final = limits.supervisor_tick_ms / 1000
_at_once_s: Final = 1.0  # after the second signal


class Supervisor:
    """One service. `load` reads the configuration, at start and at every reload.

    `ready` is called with a line for people when everything runs. `modules` says which module is
    which role; tests put their own in.
    """

    def __init__(
        self,
        load: Callable[[], LoadedConfig],
        environment: Mapping[str, str],
        version: str,
        ready: Callable[[str], None] = lambda line: None,
        modules: Mapping[str, str] = MODULES,
    ) -> None:
        self._load = load
        self._loaded = load()
        self._ready = ready
        self._version = version
        self._modules = modules
        self._started = time.time()
        self._state = ProcessState.STARTING
        self._log = Log(self._config.log.level, process=SUPERVISOR)
        self._notifier = Notifier(environment)
        self._processes: dict[str, Supervised] = {}
        self._leaving: list[Supervised] = []  # no longer configured, still draining
        self._stop_signals = 0
        self._reload_wanted = False
        self._reload_askers: list[asyncio.Future[Reloaded]] = []
        self._refused = ""  # why the last reload was, until the next good one
        self._refused_at = 0.0
        self._next_ping = 0.0
        self._leftovers_end = 0.0  # when workers of a killed predecessor must have ended
        self._resources: Resources
        self._certificate: CertificateWatch

    @property
    def _run_directory(self) -> Path:
        return self._config.data_path / "run"

    @property
    def _config(self) -> Config:
        return self._loaded.config

    async def run(self) -> int:
        """Until a signal ends it; 0. OperatorError: it could not start. FaultError: a fault of ours
        in a callback of the loop."""
        return await FaultWatch(self._log, "supervisor_fault").guard(self._serve())

    async def _serve(self) -> int:
        setproctitle(f"scai: {SUPERVISOR}")
        _core.hand_on_no_capability()  # binding port 104 is our work, not the workers'
        # A core dump would hold private keys. Ours stays readable to our own user otherwise: that
        # is how commands find the shared counters.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        make_directories(self._config, self._loaded.path)
        run_directory = self._run_directory
        lock = lock_data(run_directory)
        predecessor_was_killed = (run_directory / RUN_FILE).exists()
        self._resources = Resources(self._version, self._modules)
        own = self._resources.counters.block(self._resources.own_block)
        own.begin(os.getpid())
        self._resources.counters.note_started(self._resources.own_block, os.getpid())
        self._certificate = CertificateWatch(own, self._log, time.time)
        self._note_state(ProcessState.STARTING)
        self._listen(predecessor_was_killed)
        planned = plan(self._config, self._resources)
        loop = asyncio.get_running_loop()
        self._log.attach(loop)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._note_stop)
        loop.add_signal_handler(signal.SIGHUP, self._note_reload)
        status = StatusServer(run_directory, self.status, self._ask_reload)
        await status.start()
        write_run_file(run_directory, self._resources.counters, self._started, self._version)
        try:
            self._log.info("service_starting", version=self._version, pid=os.getpid())
            self._apply(planned)
            await self._duty()
            await self._stop()
        finally:
            await status.stop()
            self._resources.listeners.close()
            (run_directory / RUN_FILE).unlink(missing_ok=True)
            self._log.info("service_ended")
            self._log.close()
            os.close(lock)
        return 0

    def _listen(self, predecessor_was_killed: bool) -> None:
        places = wanted_places(self._config)
        if not predecessor_was_killed:
            self._resources.listeners.open(places)
            return
        # Its workers let go of the ports at once, unless they hang.
        self._leftovers_end = time.monotonic() + limits.takeover_s
        try:
            self._resources.listeners.open(places, limits.takeover_s)
        except OperatorError:
            if not kill_leftovers(self._run_directory, set()):
                raise
            self._resources.listeners.open(places, _at_once_s)

    # --- what signals note ---------------------------------------------------------------------

    def _note_stop(self) -> None:
        self._stop_signals += 1

    def _note_reload(self) -> None:
        self._reload_wanted = True

    async def _ask_reload(self) -> Reloaded:
        """A command asks for a reload and waits for what becomes of it."""
        if self._state is ProcessState.DRAINING:
            return Reloaded(refused="the service is ending")
        answer: asyncio.Future[Reloaded] = asyncio.get_running_loop().create_future()
        self._reload_askers.append(answer)
        self._reload_wanted = True
        return await answer

    def _answer_reload(self, answer: Reloaded) -> None:
        askers, self._reload_askers = self._reload_askers, []
        for asker in askers:
            if not asker.done():  # its connection may have gone
                asker.set_result(answer)

    # --- the duty cycle --------------------------------------------------------------------------

    async def _duty(self) -> None:
        last = time.monotonic()
        while not self._stop_signals:
            await asyncio.sleep(_tick_s)
            now = time.monotonic()
            self._look(now - last)
            last = now
            self._certificate.look()
            if self._state is ProcessState.STARTING and self._all_ready():
                self._become_ready()
            if self._leftovers_end and now > self._leftovers_end:
                self._leftovers_end = 0.0
                ours = {process.pid for process in self._everybody()}
                for pid in kill_leftovers(self._run_directory, ours):
                    self._log.warning("leftover_killed", pid=pid)
            if self._reload_wanted:
                self._reload_wanted = False
                self._reload()

    def _everybody(self) -> list[Supervised]:
        return [*self._processes.values(), *self._leaving]

    def _look(self, gap_s: float) -> None:
        """Every child's heartbeat, our own, and the service manager's watchdog."""
        own = self._resources.counters.block(self._resources.own_block)
        own.set(Gauge.HEARTBEAT, time.monotonic_ns())
        everybody = self._everybody()
        for process in everybody:
            process.look(gap_s)
        self._leaving = [process for process in self._leaving if not process.has_ended]
        now = time.monotonic()
        if self._notifier.watchdog_s and now >= self._next_ping:
            engine = (process for process in everybody if process.spec.role != "stats")
            if all(process.is_fresh for process in engine):
                self._notifier.alive()
                self._next_ping = now + self._notifier.watchdog_s

    def _all_ready(self) -> bool:
        """Stats is not waited for: it is no part of the service's own life."""
        return all(
            process.state is ProcessState.READY
            for process in self._processes.values()
            if process.spec.role != "stats"
        )

    def _become_ready(self) -> None:
        self._note_state(ProcessState.READY)
        line = self._describe()
        self._notifier.ready(line)
        self._log.info("service_ready", text=line)
        self._ready(line)

    def _describe(self) -> str:
        """The one line for people: who listens where."""
        pieces = []
        for process in self._processes.values():
            spec = process.spec
            if isinstance(spec, ReceiverSpec):
                secured = " (TLS)" if spec.tls_descriptor >= 0 else ""
                pieces.append(f"{spec.ae_title} on port {spec.port}{secured}")
            elif isinstance(spec, Hl7Spec):
                secured = " (TLS)" if spec.tls_descriptor >= 0 else ""
                pieces.append(f"HL7 on port {spec.port}{secured}")
            elif isinstance(spec, StatsSpec):
                host = f"[{spec.address}]" if ":" in spec.address else spec.address
                pieces.append(f"http://{host}:{spec.port}/metrics")
        return f"ready: {', '.join(pieces)}; data in {self._config.data_directory}"

    # --- configuration ---------------------------------------------------------------------------

    def _reload(self) -> None:
        """Whole or not at all: everything that can fail comes before anything changes."""
        self._notifier.reloading()
        try:
            loaded = self._load()
            config = loaded.config
            if config.data_path != self._config.data_path:
                raise OperatorError(
                    f"data_directory cannot change while the service runs (it is "
                    f"{self._config.data_directory}): restart it"
                )
            make_directories(config, loaded.path)
            places = wanted_places(config)
            fresh = self._resources.listeners.open(places)
            try:
                planned = plan(config, self._resources)
            except OperatorError:
                self._resources.listeners.keep_only(set(wanted_places(self._config)))
                raise
        except OperatorError as error:
            self._log.error("reload_refused", text=str(error))
            self._note_refused(str(error))
            self._notifier.ready("reload refused, going on with the old configuration")
            self._answer_reload(Reloaded(refused=str(error)))
            return
        self._loaded = loaded
        self._log.set_level(config.log.level)
        self._apply(planned)
        self._resources.listeners.keep_only(set(places))
        self._log.info("reloaded", opened=[f"{address}:{port}" for address, port in sorted(fresh)])
        self._note_refused("")
        line = self._describe()
        self._notifier.ready(line)
        self._answer_reload(Reloaded(text=line))

    def _note_refused(self, why: str) -> None:
        self._refused = why
        self._refused_at = time.time() if why else 0.0
        own = self._resources.counters.block(self._resources.own_block)
        own.set(Gauge.RELOAD_REFUSED, 1 if why else 0)

    def _apply(self, planned: Mapping[str, Planned]) -> None:
        """Start, change or end processes so that those run that are planned."""
        drain_s = self._config.drain_timeout_s
        self._resources.handover.publish()
        self._certificate.note(self._resources.certificate_ends_ns)
        for text in self._resources.tls_warnings:
            self._log.warning("tls_warning", text=text)
        for name in set(self._processes) - set(planned):
            process = self._processes.pop(name)
            process.end(drain_s)
            self._leaving.append(process)
        for name, one in planned.items():
            running = self._processes.get(name)
            if running is not None:
                running.change(one.spec, one.reason, drain_s)
            else:
                self._processes[name] = Supervised(
                    one.spec, one.reason, self._resources.counters, self._log
                )

    # --- the end ---------------------------------------------------------------------------------

    async def _stop(self) -> None:
        """What the retriever has moved here is called off, and messages under way are answered.
        Then receivers, then the sender, which finishes what it sends (both within the one time),
        then the indexer, which takes in what they left, then the rest."""
        self._note_state(ProcessState.DRAINING)
        self._answer_reload(Reloaded(refused="the service is ending"))
        drain_s = self._config.drain_timeout_s
        self._notifier.stopping(f"draining, at most {drain_s} s")
        self._log.info("service_draining", seconds=drain_s)
        everybody = self._everybody()
        drain_end = time.monotonic() + drain_s
        stages: tuple[tuple[str, float], ...] = (
            ("retriever", limits.retriever_drain_s),
            ("hl7", limits.hl7_drain_s),
            ("receiver", drain_s),
            ("sender", drain_s),
            ("indexer", limits.index_drain_s),
            ("stats", 1),
        )
        for role, seconds in stages:
            if role == "sender":
                seconds = max(limits.sender_drain_s_min, drain_end - time.monotonic())
            group = [process for process in everybody if process.spec.role == role]
            for process in group:
                process.end(seconds if self._stop_signals < 2 else 0)
            # No receiver is started any more: a late client is refused, not left waiting for an
            # answer that nobody will give. Stats is asked for readiness until its own end.
            self._resources.listeners.keep_only(set(stats_places(self._config)))
            await self._wait_for(group, everybody)

    async def _wait_for(self, group: list[Supervised], everybody: list[Supervised]) -> None:
        hurried: float | None = None
        last = time.monotonic()
        while not all(process.has_ended for process in group):
            await asyncio.sleep(_tick_s)
            now = time.monotonic()
            self._look(now - last)
            last = now
            if self._stop_signals < 2:
                continue
            if hurried is None:
                hurried = now
                for process in everybody:
                    process.end(0)
            elif now - hurried > _at_once_s:
                for process in everybody:
                    process.kill("asked twice to end")

    # --- what others see -------------------------------------------------------------------------

    def status(self) -> Status:
        now = time.time()
        return Status(
            version=self._version,
            pid=os.getpid(),
            state=self._state.name.lower(),
            uptime_s=round(now - self._started, 3),
            data_directory=self._config.data_directory,
            durability=self._config.durability,
            configuration=str(self._loaded.path or ""),
            reload_refused=self._refused,
            reload_refused_at=self._refused_at,
            places=self._resources.listeners.places(),
            processes=[
                status_of(process, self._resources.counters, now) for process in self._everybody()
            ],
        )

    def _note_state(self, state: ProcessState) -> None:
        self._state = state
        counters, index = self._resources.counters, self._resources.own_block
        counters.note_state(index, state)
        counters.block(index).set(Gauge.STATE, state)
