"""The shared segment of counters: written by every process, read by anyone, owned by one.

The supervisor makes it (a sealed memfd) and hands it to its children, so what a process counted
outlives it and its replacement goes on adding. Readers find it through `run/supervisor.json`.

    header, 128 bytes: magic 8 | blocks u32 | block bytes u32 | owner pid u32
                       | digest of the table 16
    block, repeated:   name 64 | role 16 | AE title 16 | pid | restarts | started | state   (u64)
                       then the slots of engine/telemetry/metrics.py, u64 each

Reads the clock for heartbeats and for when a process was started.
The head of a block is written by the supervisor only, its slots by that process only. Slots are
aligned words, so a reader sees the old value or the new one. All numbers are little endian.
"""

import mmap
import os
import struct
import time
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import msgspec

from engine import limits
from engine.errors import OperatorError
from engine.telemetry.metrics import (
    BLOCK_BYTES,
    REFUSED_CLASSES,
    REFUSED_FIRST_SLOT,
    RESETTING_GAUGES,
    Counter,
    Gauge,
    Histogram,
    ProcessState,
    refused_number,
    table_digest,
)

MAGIC: Final = b"SCAICNT\0"
SEGMENT_NAME: Final = "scai-counters"
_header = struct.Struct("<8sIII16s")
_HEADER_BYTES: Final = 128
_name_bytes, _role_bytes, _title_bytes = 64, 16, 16
_slot_pid, _slot_restarts, _slot_started, _slot_state = 12, 13, 14, 15

_F_ADD_SEALS: Final = 1033
_SEAL_SIZE: Final = 0x1 | 0x2 | 0x4  # no further seals, no shrinking, no growing


class RunFile(msgspec.Struct, frozen=True):
    """What `run/supervisor.json` in the data directory tells about the running service."""

    pid: int
    counters_descriptor: int
    started: float
    version: str


@dataclass(frozen=True, slots=True)
class BlockHead:
    index: int
    name: str
    role: str
    ae_title: str
    pid: int
    restarts: int
    started_ns: int
    state: ProcessState


class CounterBlock:
    """One process's numbers. Exactly one process writes; anyone may read."""

    __slots__ = ("_slots",)

    def __init__(self, slots: memoryview) -> None:
        self._slots = slots

    @property
    def slots(self) -> memoryview:
        """The words themselves, for native code that counts in them."""
        return self._slots

    def add(self, counter: Counter, count: int = 1) -> None:
        self._slots[counter] += count

    def set(self, gauge: Gauge, value: int) -> None:
        self._slots[gauge] = value

    def get(self, item: Counter | Gauge) -> int:
        value: int = self._slots[item]
        return value

    def observe(self, histogram: Histogram, seconds: float) -> None:
        slots, bounds = self._slots, histogram.bounds
        slots[histogram + bisect_left(bounds, seconds)] += 1
        slots[histogram + len(bounds) + 1] += int(seconds * 1e9)

    def observed(self, histogram: Histogram) -> tuple[list[int], float]:
        """(counts of each bucket and of what lies above the last, sum in seconds)."""
        end = histogram + len(histogram.bounds) + 1
        return list(self._slots[histogram:end]), self._slots[end] / 1e9

    def note_refused(self, sop_class_uid: str, now_ns: int) -> None:
        """A presentation context of this SOP class was refused."""
        number = refused_number(sop_class_uid)
        self._slots[REFUSED_FIRST_SLOT + number] += 1
        self.set(Gauge.LAST_REFUSED, now_ns)
        self.set(Gauge.LAST_REFUSED_CLASS, number)

    def refused(self) -> dict[str, int]:
        """SOP classes whose contexts were refused, and how many; always "other": on no list."""
        end = REFUSED_FIRST_SLOT + len(REFUSED_CLASSES)
        counts = zip(REFUSED_CLASSES, self._slots[REFUSED_FIRST_SLOT:end], strict=True)
        return {name: count for name, count in counts if count or name == "other"}

    def begin(self, pid: int) -> None:
        """A process takes the block over: what its predecessor counted stays."""
        for gauge in RESETTING_GAUGES:
            self._slots[gauge] = 0
        self.set(Gauge.HEARTBEAT, time.monotonic_ns())
        self.set(Gauge.STATE, ProcessState.STARTING)
        self.set(Gauge.PID, pid)


class CounterSegment:
    """The whole segment, mapped. `create` makes one, `attach` joins one by its descriptor."""

    def __init__(self, memory: mmap.mmap, descriptor: int, blocks: int) -> None:
        self._view = memoryview(memory)
        self.descriptor = descriptor
        self.block_count = blocks
        self.owner_pid: int = _header.unpack_from(memory)[3]

    @classmethod
    def create(cls, blocks: int = limits.counters_blocks_max) -> Self:
        import fcntl

        descriptor = os.memfd_create(SEGMENT_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        size = _HEADER_BYTES + blocks * BLOCK_BYTES
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, _F_ADD_SEALS, _SEAL_SIZE)
        memory = mmap.mmap(descriptor, size)
        _header.pack_into(
            memory,
            0,
            MAGIC,
            blocks,
            BLOCK_BYTES,
            os.getpid(),
            table_digest(),
        )
        return cls(memory, descriptor, blocks)

    @classmethod
    def attach(cls, descriptor: int, writable: bool = False) -> Self:
        """Raises OperatorError when the segment is not one of this version of the product."""
        size = os.fstat(descriptor).st_size
        if size < _HEADER_BYTES:
            raise OperatorError("this is no segment of counters: it is too short")
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        memory = mmap.mmap(descriptor, size, access=access)
        magic, blocks, block_bytes, _, digest = _header.unpack_from(memory)
        if magic != MAGIC:
            raise OperatorError("this is no segment of counters: its first bytes are others")
        if digest != table_digest() or block_bytes != BLOCK_BYTES:
            raise OperatorError(
                "the running service counts by another table: use the commands of the version that "
                "is running, or restart it"
            )
        if size < _HEADER_BYTES + blocks * BLOCK_BYTES:
            raise OperatorError("this segment of counters is shorter than its own header says")
        return cls(memory, descriptor, blocks)

    def _block(self, index: int) -> memoryview:
        if not 0 <= index < self.block_count:
            raise IndexError(f"block {index} of {self.block_count}")
        start = _HEADER_BYTES + index * BLOCK_BYTES
        return self._view[start : start + BLOCK_BYTES]

    def block(self, index: int) -> CounterBlock:
        return CounterBlock(self._block(index).cast("Q"))

    def head(self, index: int) -> BlockHead:
        view = self._block(index)
        words = view.cast("Q")
        role_end = _name_bytes + _role_bytes
        return BlockHead(
            index=index,
            name=_text(view[:_name_bytes]),
            role=_text(view[_name_bytes:role_end]),
            ae_title=_text(view[role_end : role_end + _title_bytes]),
            pid=words[_slot_pid],
            restarts=words[_slot_restarts],
            started_ns=words[_slot_started],
            state=ProcessState(words[_slot_state]),
        )

    def any_set(self, gauge: Gauge) -> bool:
        """Whether a process, or what became of one, has other than 0 there."""
        return any(self.block(head.index).get(gauge) for head in self.heads())

    def heads(self) -> list[BlockHead]:
        """All blocks in use."""
        heads = (self.head(index) for index in range(self.block_count))
        return [head for head in heads if head.name]

    def claim(self, name: str, role: str, ae_title: str = "") -> int:
        """The supervisor's: the block of this name, or a new one."""
        for index in range(self.block_count):
            head = self.head(index)
            if head.name in ("", name):
                view = self._block(index)
                _put(view[:_name_bytes], name)
                _put(view[_name_bytes : _name_bytes + _role_bytes], role)
                start = _name_bytes + _role_bytes
                _put(view[start : start + _title_bytes], ae_title)
                return index
        raise OperatorError(
            f"no room to count for {name}: {self.block_count} processes have been started "
            "under different names since the service began; restart it"
        )

    def note_started(self, index: int, pid: int) -> None:
        """The supervisor's: a process was started in this block's place."""
        words = self._block(index).cast("Q")
        words[_slot_pid] = pid
        words[_slot_started] = time.time_ns()

    def note_restart(self, index: int) -> None:
        self._block(index).cast("Q")[_slot_restarts] += 1

    def note_state(self, index: int, state: ProcessState) -> None:
        self._block(index).cast("Q")[_slot_state] = state
        if state is ProcessState.ABSENT:
            self._block(index).cast("Q")[_slot_pid] = 0


def _text(view: memoryview) -> str:
    return bytes(view).rstrip(b"\0").decode("utf-8", "replace")


def _put(view: memoryview, text: str) -> None:
    view[:] = text.encode()[: len(view)].ljust(len(view), b"\0")


def read_run_file(data_directory: Path) -> RunFile | None:
    """Who runs the service on this data; None when the file is missing. Says nothing of life."""
    path = data_directory / "run" / "supervisor.json"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OperatorError(f"cannot be read: {error.strerror}", str(path)) from error
    try:
        return msgspec.json.decode(content, type=RunFile)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise OperatorError(f"is damaged: {error}", str(path)) from error


def open_counters(data_directory: Path) -> CounterSegment | None:
    """The running service's counters, read-only; None when no service runs on this data."""
    run = read_run_file(data_directory)
    if run is None:
        return None
    path = f"/proc/{run.pid}/fd/{run.counters_descriptor}"
    try:
        # The pid may belong to somebody else by now: look before opening.
        if SEGMENT_NAME not in os.readlink(path):
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError as error:
        raise OperatorError(
            f"the service (pid {run.pid}) runs as another user: use that user, or root"
        ) from error
    try:
        segment = CounterSegment.attach(descriptor)
    finally:
        os.close(descriptor)
    return segment if segment.owner_pid == run.pid else None


def journal_lag(segment: CounterSegment, head: BlockHead) -> int:
    """Acknowledged instances of this receiver that the index has not taken in yet."""
    block = segment.block(head.index)
    # Applied first: read the other way round, a busy journal would seem to have more.
    applied = block.get(Gauge.JOURNAL_APPLIED_SEQUENCE)
    return max(0, block.get(Gauge.JOURNAL_ACKNOWLEDGED_SEQUENCE) - applied)
