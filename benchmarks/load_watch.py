"""What a server costs while it is loaded: processor time and memory of its whole process tree.

Promises: reads /proc and nothing else; a child that ended and was waited for is counted through its
parent, one that lies as a zombie through itself. Work the kernel does in its own threads (writing
back dirty pages, say) is nobody's and not counted.
"""

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
_SAMPLE_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    cpu_ticks: int


def _read_process(pid: int) -> _Process | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None  # it ended between the listing and the reading
    fields = text[text.rindex(")") + 2 :].split()
    return _Process(int(fields[1]), sum(int(fields[index]) for index in range(11, 15)))


def _children(pid: int) -> list[int]:
    """What any of its threads started. Cheap: the rest of the machine is not looked at."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return []  # it has ended
    for thread in threads:
        try:
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # that thread has ended: another has its children now
    return found


def tree(root: int) -> dict[int, int]:
    """The processes of the tree and the ticks each has used, waited-for children included."""
    members: dict[int, int] = {}
    pending = [root]
    while pending:
        pid = pending.pop()
        process = _read_process(pid)
        if process is not None and pid not in members:
            members[pid] = process.cpu_ticks
            pending += _children(pid)
    return members


def cpu_seconds(root: int) -> float:
    return sum(tree(root).values()) / TICKS


def machine_cpu_seconds() -> float:
    """Processor time that everything on this machine has used, the hypervisor's theft included."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen = fields
    return (user + nice + system + interrupts + soft_interrupts + stolen) / TICKS


def resident_bytes(root: int) -> int:
    """Resident memory of the tree; pages that several map are counted for each."""
    total = 0
    for pid in tree(root):
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError, IndexError):
            continue  # it ended meanwhile
        total += pages * os.sysconf("SC_PAGE_SIZE")
    return total


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not os.path.exists(table):
            continue
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    return inodes


def _holds(pid: int, inodes: set[str]) -> bool:
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False  # ended, or another user's: not one we could measure
    for name in names:
        try:
            if os.readlink(f"/proc/{pid}/fd/{name}") in inodes:
                return True
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # closed meanwhile, or not for us to see
    return False


def process_listening(port: int) -> int | None:
    """The topmost process that holds the listening socket of that port, on this machine."""
    inodes = _listening_inodes(port)
    holders = {
        int(name) for name in os.listdir("/proc") if name.isdigit() and _holds(int(name), inodes)
    }
    for pid in sorted(holders):
        process = _read_process(pid)
        if process is not None and process.parent not in holders:
            return pid
    return None


class Watch:
    """Observes a process tree from `with` to its end: CPU seconds used and the memory's peak,
    and what the whole machine used meanwhile: on a quiet one little more than server and sender."""

    def __init__(self, root: int) -> None:
        if not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists():
            raise OSError("this kernel does not tell who started whom (CONFIG_PROC_CHILDREN)")
        self._root = root
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="watch", daemon=True)
        self._cpu_first = 0.0
        self._machine_first = 0.0
        self.cpu_seconds = 0.0
        self.machine_cpu_seconds = 0.0
        self.resident_first = 0
        self.resident_peak = 0

    def __enter__(self) -> "Watch":
        self._cpu_first = cpu_seconds(self._root)
        self._machine_first = machine_cpu_seconds()
        self.resident_first = self.resident_peak = resident_bytes(self._root)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.resident_peak = max(self.resident_peak, resident_bytes(self._root))
        self.cpu_seconds = cpu_seconds(self._root) - self._cpu_first
        self.machine_cpu_seconds = machine_cpu_seconds() - self._machine_first

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self.resident_peak = max(self.resident_peak, resident_bytes(self._root))
