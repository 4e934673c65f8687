"""Reading one's own writes: wait for the index to have what the service has acknowledged.

A just acknowledged instance is in its journal for some milliseconds before it is in the index; and
after a power cut the index may know instances whose files are still to be placed again. Every
reader that answers a person or a peer calls catch_up() before it looks. It waits by the clock.
"""

import time
from pathlib import Path
from typing import Final

from engine.limits import index_wait_s
from engine.telemetry.counters import CounterBlock, open_counters
from engine.telemetry.metrics import Gauge, ProcessState

_first_step_s: Final = 0.005
_last_step_s: Final = 0.1


class Mark:
    """What one receiver has acknowledged when this is made, for the index to reach.

    At the start of a service nobody knows that before the receiver has opened its journal, which
    may hold records of the service before: until then the mark is not reached.
    """

    __slots__ = ("_block", "_sequence")

    def __init__(self, block: CounterBlock) -> None:
        self._block = block
        self._sequence = _acknowledged(block)

    def is_reached(self) -> bool:
        """Whether the index has all of it."""
        if self._sequence is None:
            self._sequence = _acknowledged(self._block)
        if self._sequence is None:
            return False
        return self._block.get(Gauge.JOURNAL_APPLIED_SEQUENCE) >= self._sequence


def _acknowledged(block: CounterBlock) -> int | None:
    sequence = block.get(Gauge.JOURNAL_ACKNOWLEDGED_SEQUENCE)
    if sequence == 0 and block.get(Gauge.STATE) in (ProcessState.ABSENT, ProcessState.STARTING):
        return None
    return sequence


def catch_up(data_directory: Path, timeout_s: float = index_wait_s) -> bool:
    """False: the index is still behind what was acknowledged when this was called.

    Without a running service there is nothing to wait for.
    """
    segment = open_counters(data_directory)
    if segment is None:
        return True
    receivers = (head.index for head in segment.heads() if head.role == "receiver")
    marks = [Mark(segment.block(index)) for index in receivers]
    deadline = time.monotonic() + timeout_s
    step = _first_step_s
    while not all(mark.is_reached() for mark in marks):
        if time.monotonic() + step > deadline:
            return False
        time.sleep(step)
        step = min(2 * step, _last_step_s)
    return True
