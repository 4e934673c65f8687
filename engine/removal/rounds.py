"""Eviction by itself: looked at once a minute, and done in small steps.

A round begins when the file system is above its high watermark, or when something may be too old.
It ends at the low one, or when nothing more may go. A study that was begun is finished first. Where
a round could not free what it should, the next one waits longer: all would be judged once more.
"""

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from engine.index.environment import IndexReader
from engine.limits import eviction_look_s, eviction_pause_s, eviction_slice_max
from engine.removal.eviction import Eviction, Judged
from engine.removal.orders import Order, Outcome, Progress
from engine.removal.remover import Remover
from engine.retention.choice import Kept, Reason
from engine.settings.retention import Retention

_orders: Final = count(1)  # no name is given twice, whatever the clock says


class Evicted(NamedTuple):
    """A study that went, or the rest of which could not."""

    order: Order
    reason: Reason
    outcome: Outcome


def lacking_bytes(data_directory: Path, retention: Retention) -> int:
    """What is to be freed on the file system of the data directory, by its watermarks."""
    disk = os.statvfs(data_directory)
    total = disk.f_blocks * disk.f_frsize
    return max(0, retention.bytes_to_free(total, total - disk.f_bavail * disk.f_frsize))


class Rounds:
    """The rounds of one data directory; of the holder of the writer's lock."""

    def __init__(
        self,
        data_directory: Path,
        reader: IndexReader,
        remover: Remover,
        checkpoint: Callable[[], object],
    ) -> None:
        self.retention = Retention()  # may be exchanged between two steps
        self.lacking = 0  # bytes that are still to be freed
        self._data_directory = data_directory
        self._reader = reader
        self._remover = remover
        self._checkpoint = checkpoint
        self._round: Eviction | None = None
        self._under_way: Judged | None = None
        self._next_s = 0.0
        self._waits = False

    @property
    def has_work(self) -> bool:
        """Whether another step would go on with something."""
        return self._round is not None and not self._waits

    def look(self, now_s: float) -> None:
        """Begin a round, if it is time and there is reason to; go on with one that waits."""
        self._waits = False
        if self._round is not None or now_s < self._next_s:
            return
        self._next_s = now_s + eviction_look_s
        self.lacking = lacking_bytes(self._data_directory, self.retention)
        if self.lacking or self.retention.most_age_days:
            self._round = Eviction(self._reader, self.retention.policy)

    def step(self, now_ns: int, now_s: float) -> Evicted | None:
        """One portion; what went if a study is done with."""
        if self._round is None:
            return None
        if not self._round.is_complete:
            self._round.look(eviction_slice_max)
            return None
        if self._under_way is not None:
            return self._go_on(self._under_way, now_ns)
        judged = self._round.next(now_ns, self.lacking > 0)
        if judged is None:
            self._round = None
            if self.lacking > 0 or self.retention.most_age_days:
                self._next_s = now_s + eviction_pause_s
            self._remover.settle()
        elif not isinstance(judged.verdict, Kept):
            name = f"{now_ns:016x}-{os.getpid()}-{next(_orders)}"
            named = msgspec.structs.replace(judged.order, name=name)
            self._under_way = judged._replace(order=named)
        return None

    def _go_on(self, judged: Judged, now_ns: int) -> Evicted | None:
        outcome = self._remover.step(judged.order, now_ns)
        if outcome.progress is Progress.GOES_ON:
            return None
        if outcome.progress is Progress.WAITS:
            self._checkpoint()
            self._waits = True
            return None
        self._under_way = None
        self.lacking = max(0, self.lacking - outcome.file_bytes)
        assert isinstance(judged.verdict, Reason), "what is kept is not begun"
        return Evicted(judged.order, judged.verdict, outcome)
