"""Everything that the indexer removes: what operators ask for first, then what retention wants.

One portion at a time. What is to be told of it is said in events, fields and counts, so that the
process has only to pass them on. Nothing of it is what an operator wrote, or a patient's. Reads
the clock.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple

from engine.files.tree import StoreTree
from engine.index.writer import IndexWriter
from engine.removal.desk import Desk, Ended
from engine.removal.erasure import Eraser
from engine.removal.orders import Progress
from engine.removal.remover import Remover, Settled
from engine.removal.rounds import Evicted, Rounds
from engine.retention.choice import Reason
from engine.settings.retention import Retention
from engine.telemetry.metrics import Counter

_EVICTED: Final = {
    Reason.UNUSED: (Counter.EVICTED_UNUSED, Counter.EVICTED_BYTES_UNUSED),
    Reason.DELIVERED: (Counter.EVICTED_DELIVERED, Counter.EVICTED_BYTES_DELIVERED),
    Reason.UNDELIVERED: (Counter.EVICTED_UNDELIVERED, Counter.EVICTED_BYTES_UNDELIVERED),
}


class Told(NamedTuple):
    """What ended, for the log and the counters."""

    level: Literal["info", "warning"]
    event: str
    fields: dict[str, object]
    counts: Mapping[Counter, int]


class Errands:
    """The removals of one data directory; of the holder of the writer's lock."""

    def __init__(
        self,
        data_directory: Path,
        writer: IndexWriter,
        tree: StoreTree,
        settled: Settled,
        checkpoint: Callable[[], object],
    ) -> None:
        remover = Remover(writer, tree, settled)
        eraser = Eraser(data_directory, writer)
        self._desk = Desk(data_directory, remover, eraser, checkpoint)
        self._rounds = Rounds(data_directory, writer.reader(), remover, checkpoint)

    @property
    def has_work(self) -> bool:
        """Whether another turn would go on with something."""
        return self._desk.has_work or self._rounds.has_work

    @property
    def lacking_bytes(self) -> int:
        """What retention has still to free, or cannot."""
        return self._rounds.lacking

    def look(self, retention: Retention) -> None:
        """Whether there is something to do; once a second."""
        self._desk.look()
        self._rounds.retention = retention
        self._rounds.look(time.monotonic())

    def turn(self) -> Told | None:
        """One portion; what is to be told if something ended."""
        if self._desk.has_work:
            ended = self._desk.turn(time.time_ns())
            return None if ended is None else _told(ended)
        evicted = self._rounds.step(time.time_ns(), time.monotonic())
        return None if evicted is None else _told_evicted(evicted)


def _told(ended: Ended) -> Told:
    order, outcome = ended
    done = outcome.progress is Progress.DONE
    fields: dict[str, object] = {
        "level_removed": order.level,
        "uid": "" if order.level == "patient" else order.uid,
        "instances": outcome.instances,
        "bytes": outcome.file_bytes,
        "discarded": outcome.discarded,
        "forced": order.forced,
        "reason": "; ".join(outcome.texts),
    }
    counts = {
        Counter.REMOVED_INSTANCES: outcome.instances,
        Counter.REMOVED_BYTES: outcome.file_bytes,
    }
    event = "removed" if done else "removal_refused"
    return Told("info" if done else "warning", event, fields, counts)


def _told_evicted(evicted: Evicted) -> Told:
    order, reason, outcome = evicted
    studies, file_bytes = _EVICTED[reason]
    fields: dict[str, object] = {
        "uid": order.uid,
        "instances": outcome.instances,
        "bytes": outcome.file_bytes,
        "reason": reason.value,
        "text": "; ".join(outcome.texts),
    }
    return Told("info", "evicted", fields, {studies: 1, file_bytes: outcome.file_bytes})
