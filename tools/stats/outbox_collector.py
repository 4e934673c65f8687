"""Prometheus' view of the outbox: deliveries of each destination by state, and how long they wait.

Read from the index at each scrape, since the shared counters have no room for names that the
configuration chooses. Labels are names of remote AEs, never anything that a peer chose. Where the
index cannot be read there are no samples; the sender and the indexer say why.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.index.environment import INDEX_FAULTS, IndexReader, open_index_reader
from engine.outbox.records import Away, State
from engine.outbox.view import OutboxView
from engine.telemetry.metrics import DESTINATION_AGE_ROW, DESTINATION_AWAY_ROW, DESTINATION_ROW
from tools.stats.collector import PREFIX


class OutboxCollector(Collector):
    """Reads the outbox at each scrape."""

    def __init__(
        self, data_directory: Path, cannot_be_read: Callable[[], bool] = lambda: False
    ) -> None:
        self._data_directory = data_directory
        self._cannot_be_read = cannot_be_read
        self._reader: IndexReader | None = None

    def collect(self) -> Iterator[Metric]:
        counts: dict[tuple[str, State], int] = {}
        queued_ns: dict[str, int] = {}
        away: dict[str, Away] = {}
        try:
            if self._cannot_be_read():
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            if self._reader is None:
                self._reader = open_index_reader(self._data_directory)
            with self._reader.view() as view:
                outbox = OutboxView.within(view)
                counts, away = outbox.counts(), outbox.away()
                for name in {name for name, _ in counts}:
                    first = outbox.first_in_line(name)
                    queued_ns[name] = 0 if first is None else first.queued_ns
        except INDEX_FAULTS:
            self.close()  # nothing was stored yet, or what there is cannot be read just now
        deliveries = GaugeMetricFamily(
            PREFIX + DESTINATION_ROW.family, DESTINATION_ROW.text, labels=("destination", "state")
        )
        ages = GaugeMetricFamily(
            PREFIX + DESTINATION_AGE_ROW.family, DESTINATION_AGE_ROW.text, labels=("destination",)
        )
        absences = GaugeMetricFamily(
            PREFIX + DESTINATION_AWAY_ROW.family, DESTINATION_AWAY_ROW.text, labels=("destination",)
        )
        now_ns = time.time_ns()
        for name, began_ns in sorted(queued_ns.items()):
            for state in State:
                count = counts.get((name, state), 0)
                deliveries.add_metric([name, state.name.lower()], count)
            age_s = (now_ns - began_ns) / 1e9 if began_ns else 0.0
            ages.add_metric([name], max(0.0, age_s))
            away_s = (now_ns - away[name].since_ns) / 1e9 if name in away else 0.0
            absences.add_metric([name], max(0.0, away_s))
        yield deliveries
        yield ages
        yield absences

    def close(self) -> None:
        """Let go of the index; the next scrape opens it anew."""
        reader, self._reader = self._reader, None
        if reader is not None:
            with suppress(*INDEX_FAULTS):
                reader.close()
