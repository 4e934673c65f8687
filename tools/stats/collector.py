"""Prometheus' view of the shared counters: one family for each of the table, one sample for each
process that can have it. Blocks of processes that are no longer configured keep their counters, so
no sum ever falls; their gauges are left out.
"""

import time
from collections.abc import Iterable, Iterator
from itertools import accumulate, groupby
from typing import Final, TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from engine.dictionary.sop_class_names import sop_class_name
from engine.telemetry.counters import BlockHead, CounterSegment, journal_lag
from engine.telemetry.metrics import (
    BUILD_ROW,
    LAG_ROW,
    REFUSED_ROW,
    RESTARTS_ROW,
    SILENCE_ROW,
    Counter,
    Gauge,
    Histogram,
    ProcessState,
    Row,
    labels_of,
)

PREFIX: Final = "scai_"
_own: Final = ("process", "ae")
_Item = TypeVar("_Item", Counter, Gauge)

# Which roles have which numbers; every other one would be a row of zeros.
_index_families: Final = (
    "index_",
    "indexed_",
    "disk_",
    "instances",
    "series",
    "studies",
    "patients",
    "removed_",
    "evicted_",
)
_sender_families: Final = ("sent_", "outbox_")
_retriever_family: Final = "prefetch_"
_hl7_family: Final = "hl7_"
_supervisor_families: Final = ("certificate_", "reload_")
_association_families: Final = ("associations_active", "associations_limit")
_peer_families: Final = ("command_oddities_total",)  # of whoever speaks DICOM
_shared_families: Final = ("process_state", "log_lines_dropped_total", "index_cut")


def _belongs(row: Row, role: str) -> bool:
    if row.family in _shared_families:
        return True
    if row.family in _peer_families:
        return role in ("receiver", "sender", "retriever")
    if row.family in _association_families and role == "sender":
        return True
    if row.family.startswith(_supervisor_families):
        return role == "supervisor"
    if row.family.startswith(_retriever_family):
        return role == "retriever"
    if row.family.startswith(_hl7_family):
        return role == "hl7"
    if row.family.startswith(_sender_families):
        return role == "sender"
    return role == ("indexer" if row.family.startswith(_index_families) else "receiver")


class SegmentCollector(Collector):
    """Reads the segment at each scrape."""

    def __init__(self, segment: CounterSegment, version: str) -> None:
        self._segment = segment
        self._version = version

    def collect(self) -> Iterator[Metric]:
        heads = self._segment.heads()
        yield from self._counters(heads)
        present = [head for head in heads if head.state is not ProcessState.ABSENT]
        yield from self._gauges(present)
        yield from self._histograms(heads)
        yield from self._derived(heads, present)

    def _counters(self, heads: list[BlockHead]) -> Iterator[Metric]:
        for rows in _families(Counter):
            first = rows[0].row
            names = (*_own, *labels_of(first))
            family = CounterMetricFamily(PREFIX + first.family, first.text, labels=names)
            for head in heads:
                block = self._segment.block(head.index)
                for item in rows:
                    if _belongs(item.row, head.role):
                        labels = [*_labels(head), *labels_of(item.row).values()]
                        family.add_metric(labels, block.get(item))
            yield family

    def _gauges(self, heads: list[BlockHead]) -> Iterator[Metric]:
        for items in _families([item for item in Gauge if item.row.family]):
            first = items[0].row
            names = (*_own, *labels_of(first))
            family = GaugeMetricFamily(PREFIX + first.family, first.text, labels=names)
            for head in heads:
                for item in items:
                    if not _belongs(item.row, head.role):
                        continue
                    value = self._segment.block(head.index).get(item)
                    labels = [*_labels(head), *labels_of(item.row).values()]
                    family.add_metric(labels, value / 1e9 if first.in_nanoseconds else value)
            yield family

    def _histograms(self, heads: list[BlockHead]) -> Iterator[Metric]:
        for item in Histogram:
            row = item.row
            family = HistogramMetricFamily(PREFIX + row.family, row.text, labels=_own)
            names = [*(str(bound) for bound in item.bounds), "+Inf"]
            for head in heads:
                if _belongs(row, head.role):
                    counts, seconds = self._segment.block(head.index).observed(item)
                    pairs = list(zip(names, accumulate(counts), strict=True))
                    family.add_metric(_labels(head), pairs, seconds)
            yield family

    def _derived(self, heads: list[BlockHead], present: list[BlockHead]) -> Iterator[Metric]:
        restarts = CounterMetricFamily(PREFIX + RESTARTS_ROW.family, RESTARTS_ROW.text, labels=_own)
        for head in heads:
            if head.role != "supervisor":
                restarts.add_metric(_labels(head), head.restarts)
        yield restarts
        refused = CounterMetricFamily(
            PREFIX + REFUSED_ROW.family, REFUSED_ROW.text, labels=(*_own, "sop_class")
        )
        for head in heads:
            if head.role == "receiver":
                for uid, count in self._segment.block(head.index).refused().items():
                    name = sop_class_name(uid)
                    refused.add_metric([*_labels(head), name], count)
        yield refused
        silence = GaugeMetricFamily(PREFIX + SILENCE_ROW.family, SILENCE_ROW.text, labels=_own)
        now = time.monotonic_ns()
        for head in present:
            heartbeat = self._segment.block(head.index).get(Gauge.HEARTBEAT)
            silence.add_metric(_labels(head), max(0, now - heartbeat) / 1e9)
        yield silence
        lag = GaugeMetricFamily(PREFIX + LAG_ROW.family, LAG_ROW.text, labels=_own)
        for head in heads:
            if head.role == "receiver":
                lag.add_metric(_labels(head), journal_lag(self._segment, head))
        yield lag
        build = GaugeMetricFamily(PREFIX + BUILD_ROW.family, BUILD_ROW.text, labels=("version",))
        build.add_metric([self._version], 1)
        yield build


def _labels(head: BlockHead) -> list[str]:
    return [head.name, head.ae_title]


def _families(items: Iterable[_Item]) -> list[list[_Item]]:
    """Neighbours in the table that share a name."""
    return [list(group) for _, group in groupby(items, key=lambda item: item.row.family)]
