"""What the supervisor reads about the machine: its topology, and how a child of ours fares.

`Pulse` counts how long a process has been silent. `judge` tells one that hangs from one that was
merely given no processor: a hung one is killed, a starved one waited for. Both look the same from
outside, their heartbeat is old.
"""

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from engine import limits
from workers.frame.placement import Processor

_system: Final = Path("/sys/devices/system")
_tick_s: Final = 1 / os.sysconf("SC_CLK_TCK")


def read_topology() -> list[Processor]:
    """Processors as the kernel describes them; empty when /sys says nothing."""
    nodes: dict[int, int] = {}
    for directory in sorted((_system / "node").glob("node[0-9]*")):
        number = int(directory.name.removeprefix("node"))
        for link in directory.glob("cpu[0-9]*"):
            nodes[int(link.name.removeprefix("cpu"))] = number
    processors = []
    for directory in (_system / "cpu").glob("cpu[0-9]*"):
        number = int(directory.name.removeprefix("cpu"))
        core = _read_number(directory / "topology" / "core_id")
        package = _read_number(directory / "topology" / "physical_package_id")
        if core is not None:
            processors.append(Processor(number, core, package or 0, nodes.get(number, 0)))
    return sorted(processors, key=lambda processor: processor.number)


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None  # an offline processor has no topology


@dataclass(frozen=True, slots=True)
class Activity:
    """The main thread's state letter and the processor time it has had."""

    state: str
    processor_s: float


def read_activity(pid: int) -> Activity | None:
    """None: there is no such process any more."""
    try:
        content = Path(f"/proc/{pid}/task/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything, so count from its end.
    fields = content[content.rindex(")") + 2 :].split()
    return Activity(fields[0], (int(fields[11]) + int(fields[12])) * _tick_s)


class Liveness(Enum):
    ALIVE = "alive"
    STARVED = "starved"
    HUNG = "hung"


def judge(silent_s: float, before: Activity, now: Activity) -> Liveness:
    """`before` is as of the last heartbeat seen, `silent_s` the time since then.

    Stopped, asleep, or burning time without turning its loop: hung. Runnable, but given less
    processor time than a hang would have used by now: starved. Waiting for the disk (D): starved
    too, as no signal could end that wait, and afterwards it lives on or is found hung.
    """
    if silent_s * 1000 < limits.heartbeat_hung_ms:
        return Liveness.ALIVE
    if silent_s * 1000 >= limits.heartbeat_starved_ms:
        return Liveness.HUNG
    used_ms = (now.processor_s - before.processor_s) * 1000
    if now.state == "D" or (now.state == "R" and used_ms < limits.heartbeat_hung_ms / 2):
        return Liveness.STARVED
    return Liveness.HUNG


class Pulse:
    """The heartbeat of one process as its supervisor sees it.

    The silence is counted in turns of the supervisor, by the caller's measure of each, and from
    the last heartbeat or the last `renew`, whichever came later: a process that has just said that
    it is ready has said that it lives, however long it was busy starting.
    """

    def __init__(self) -> None:
        self._heartbeat = 0
        self._before: Activity | None = None
        self.silent_s = 0.0
        self.starved_told = False

    def renew(self) -> None:
        """The process is in another state from now on."""
        self._before = None
        self.silent_s = 0.0
        self.starved_told = False

    def look(self, heartbeat: int, gap_s: float) -> None:
        """What stands there now, `gap_s` after the last look."""
        if heartbeat == self._heartbeat:
            self.silent_s += gap_s
            return
        self._heartbeat = heartbeat
        self.renew()

    def judge(self, activity: Activity) -> Liveness:
        """Whether it hangs, given what its main thread does now."""
        if self._before is None:
            self._before = activity
        return judge(self.silent_s, self._before, activity)
