"""Reading one's own writes: wait for the index to have what the service has acknowledged.

A just acknowledged instance is in its journal for some milliseconds before it is in the index; and
after a power cut the index may know instances whose files are still to be placed again. Every
reader that answers a person or a peer calls catch_up() before it looks.
"""

import time
from pathlib import Path
from typing import Final

from engine.counters import CounterBlock, open_counters
from engine.limits import index_wait_s
from engine.metrics import Gauge

_first_step_s: Final = 0.005
_last_step_s: Final = 0.1


def catch_up(data_directory: Path, timeout_s: float = index_wait_s) -> bool:
    """False: the index is still behind what was acknowledged when this was called.

    Without a running service there is nothing to wait for.
    """
    segment = open_counters(data_directory)
    if segment is None:
        return True
    blocks = [segment.block(head.index) for head in segment.heads() if head.role == "receiver"]
    behind = {block: block.get(Gauge.JOURNAL_ACKNOWLEDGED_SEQUENCE) for block in blocks}
    deadline = time.monotonic() + timeout_s
    step = _first_step_s
    while not all(_has_reached(block, sequence) for block, sequence in behind.items()):
        if time.monotonic() + step > deadline:
            return False
        time.sleep(step)
        step = min(2 * step, _last_step_s)
    return True


def _has_reached(block: CounterBlock, sequence: int) -> bool:
    return block.get(Gauge.JOURNAL_APPLIED_SEQUENCE) >= sequence
