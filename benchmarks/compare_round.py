"""One round of one server: start it, warm it, load it, wait until it is idle, look what it kept.

Promises: what is counted begins with the first measured instance. Processor time is counted until
the server has gone idle again, so that work put off is work counted. What was acknowledged must be
there afterwards, or the round is an error, not a figure. `cores_busy_elsewhere` tells how quiet the
machine was: neither server nor sender (the kernel's writing back, other programs, the hypervisor).
"""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks import load_plan
from benchmarks.load_plan import LoadError, Plan, Target
from benchmarks.load_result import evaluate
from benchmarks.load_watch import Watch, cpu_seconds, machine_cpu_seconds, resident_bytes
from benchmarks.peers import CALLED, Peer, Place, running

_IDLE_SLICE_SECONDS: Final = 0.25
_IDLE_SECONDS: Final = 1.0
_IDLE_SHARE: Final = 0.06  # of one core: timers and heartbeats, no work
_IDLE_PATIENCE_SECONDS: Final = 30.0
_QUIET_SLICE_SECONDS: Final = 0.5
_QUIET_CORES: Final = 0.15


def _wait_until_idle(root: int) -> float:
    """Seconds until the tree had no more work to do."""
    begun = time.monotonic()
    used = cpu_seconds(root)
    while (waited := time.monotonic() - begun) < _IDLE_PATIENCE_SECONDS:
        time.sleep(_IDLE_SLICE_SECONDS)
        now = cpu_seconds(root)
        if now - used <= _IDLE_SHARE * _IDLE_SLICE_SECONDS:
            return waited
        used = now
    return _IDLE_PATIENCE_SECONDS


def _idle_cores(root: int) -> float:
    """The share of a core that the server uses while it has nothing to do."""
    used = cpu_seconds(root)
    time.sleep(_IDLE_SECONDS)
    return (cpu_seconds(root) - used) / _IDLE_SECONDS


def wait_until_quiet(patience: float) -> None:
    """Until nothing else runs on this machine; what is not over by then is measured with it."""
    deadline = time.monotonic() + patience
    used = machine_cpu_seconds()
    while time.monotonic() < deadline:
        time.sleep(_QUIET_SLICE_SECONDS)
        now = machine_cpu_seconds()
        if now - used <= _QUIET_CORES * _QUIET_SLICE_SECONDS:
            return
        used = now


def kept_bytes(directory: Path) -> int:
    """The sizes of all files below the directory."""
    total = 0
    for folder, _, names in os.walk(directory):
        total += sum(os.lstat(os.path.join(folder, name)).st_size for name in names)
    return total


def run_round(
    peer: Peer, place: Place, plan: Plan, warm_up: int, patience: float
) -> dict[str, Any]:
    """The figures of one round. `plan` has no target yet: it is this server."""
    associations = plan.targets[0].associations
    target = Target("127.0.0.1", place.port, CALLED, "LOAD", associations)
    aimed = replace(plan, targets=(target,))
    with running(peer, place) as process:
        resident_idle = resident_bytes(process.pid)
        warm = replace(aimed, instances=warm_up, seconds=10.0, counter_first=50_000_000)
        warmed = evaluate(load_plan.run(warm)).figures
        _wait_until_idle(process.pid)
        os.sync()
        wait_until_quiet(patience)
        own = time.process_time()
        with Watch(process.pid) as watch:
            watched_from = time.monotonic()
            outcome = load_plan.run(aimed)
            begun = time.monotonic()
            os.sync()
            on_disk_seconds = time.monotonic() - begun
            idle_after = on_disk_seconds + _wait_until_idle(process.pid)
            watched_seconds = time.monotonic() - watched_from
        idle_cores = _idle_cores(process.pid)
        known = watch.cpu_seconds + outcome.sender_cpu_seconds + time.process_time() - own
        # Heartbeats while nothing was sent are no cost of what was sent.
        watch.cpu_seconds -= min(
            watch.cpu_seconds, idle_cores * (watched_seconds - outcome.seconds)
        )
        figures = evaluate(outcome, watch).figures
        figures["server_cores_idle"] = round(idle_cores, 3)
        elsewhere = (watch.machine_cpu_seconds - known) / watched_seconds
        figures["cores_busy_elsewhere"] = round(max(0.0, elsewhere), 3)
    if figures["failures"] or figures["begun_but_not_acknowledged"]:
        raise LoadError(f"{peer.name} failed: {figures['failures']}")
    stored = figures["bytes"] + warmed["bytes"]
    if peer.keeps and (kept := kept_bytes(place.directory)) < stored:
        raise LoadError(f"{peer.name} acknowledged {stored} bytes and keeps {kept}")
    # From the idle server on: what the warm-up touched first is growth too.
    figures["server_rss_growth_bytes"] = figures["server_peak_rss_bytes"] - resident_idle
    figures["idle_after_seconds"] = round(idle_after, 3)
    whole = figures["seconds"] + on_disk_seconds
    figures["megabytes_per_second_until_on_disk"] = round(figures["bytes"] / 1e6 / whole, 3)
    return figures
