"""A reception over a temporary spool, and peers on socket pairs that send regular stores."""

import array
import select
import socket
import time
from pathlib import Path
from typing import Any

from engine.counters import CounterBlock
from engine.metrics import BLOCK_BYTES, Counter, Gauge
from native import _core
from tests.spools import SpoolBox, new_intake
from workers.reception import reception_of


class ReceptionBox:
    """A spool, its counters, its reception."""

    def __init__(self, directory: Path, **more: Any) -> None:
        self.spools = SpoolBox(directory, **{"durable": False, **more})
        self.spools.spool.admit(True)
        words = array.array("Q", bytes(BLOCK_BYTES))
        self.counters = CounterBlock(memoryview(words))
        self.reception = reception_of(self.spools.spool, self.counters)

    def close(self) -> None:
        self.spools.close()

    def count(self, item: Counter | Gauge) -> int:
        return self.counters.get(item)
