"""What is shown of the counters: the table, the exposition made of it, the alerts that use it."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from engine.telemetry.counters import CounterSegment
from engine.telemetry.metrics import (
    DESTINATION_AGE_ROW,
    DESTINATION_AWAY_ROW,
    DESTINATION_ROW,
    Counter,
    Gauge,
    Histogram,
    ProcessState,
    labels_of,
    shown_names,
)
from tests.rigs.gateway import ROOT
from tools.stats.collector import PREFIX, SegmentCollector


def _scrape(segment: CounterSegment) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    registry = CollectorRegistry()
    registry.register(SegmentCollector(segment, "1.2"))
    text = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@pytest.fixture
def segment() -> CounterSegment:
    segment = CounterSegment.create(blocks=6)
    for name, role, title in (
        ("supervisor", "supervisor", ""),
        ("storage_scp", "receiver", 'A"\\B'),
        ("indexer", "indexer", ""),
        ("sender", "sender", "SCP_AE"),
        ("retriever", "retriever", "PrefetchAP"),
        ("hl7", "hl7", ""),
    ):
        index = segment.claim(name, role, title)
        segment.note_state(index, ProcessState.READY)
    return segment


def test_values_reach_the_scrape(segment: CounterSegment) -> None:
    receiver, indexer = segment.block(1), segment.block(2)
    receiver.add(Counter.ASSOCIATIONS_REJECTED_LIMIT, 2)
    receiver.set(Gauge.LAST_RECEIVED, 1_500_000_000)
    receiver.set(Gauge.JOURNAL_ACKNOWLEDGED_SEQUENCE, 12)
    receiver.set(Gauge.JOURNAL_APPLIED_SEQUENCE, 5)
    receiver.observe(Histogram.STORE_DURATION, 0.004)
    receiver.observe(Histogram.STORE_DURATION, 99.0)
    indexer.set(Gauge.INSTANCES, 41)
    segment.note_restart(2)
    samples = _scrape(segment)
    own = (("ae", 'A"\\B'), ("process", "storage_scp"))
    assert samples["scai_associations_total", (*own, ("result", "rejected_limit"))] == 2
    assert samples["scai_associations_total", (*own, ("result", "accepted"))] == 0
    assert samples["scai_last_received_timestamp_seconds", own] == 1.5
    assert samples["scai_journal_lag_records", own] == 7
    assert samples["scai_store_duration_seconds_count", own] == 2
    assert samples["scai_store_duration_seconds_sum", own] == pytest.approx(99.004)
    assert samples["scai_store_duration_seconds_bucket", (own[0], ("le", "0.005"), own[1])] == 1
    index_labels = (("ae", ""), ("process", "indexer"))
    assert samples["scai_instances", index_labels] == 41
    assert samples["scai_worker_restarts_total", index_labels] == 1
    assert ("scai_instances", own) not in samples, "the receiver knows nothing of the index"
    assert samples["scai_build_info", (("version", "1.2"),)] == 1


def test_a_process_no_longer_configured_keeps_its_counters(segment: CounterSegment) -> None:
    segment.block(1).add(Counter.CONNECTIONS, 4)
    segment.note_state(1, ProcessState.ABSENT)
    samples = _scrape(segment)
    own = (("ae", 'A"\\B'), ("process", "storage_scp"))
    assert samples["scai_connections_total", own] == 4
    assert ("scai_associations_active", own) not in samples


def test_every_shown_name_is_scraped_and_no_other(segment: CounterSegment) -> None:
    scraped = {name.removeprefix(PREFIX) for name, _ in _scrape(segment)}
    outbox_rows = (DESTINATION_ROW, DESTINATION_AGE_ROW, DESTINATION_AWAY_ROW)
    of_outbox = {row.family for row in outbox_rows}  # test_outbox_collector.py
    assert scraped | of_outbox == shown_names()


def test_names_follow_the_conventions() -> None:
    for item in (*Counter, *Gauge, *Histogram):
        row = item.row
        assert re.fullmatch(r"[a-z][a-z0-9_]*|", row.family)
        if row.family:
            assert row.family.endswith("_total") == isinstance(item, Counter)
            assert "milli" not in row.family
    families = {item.row.family for item in (*Counter, *Gauge, *Histogram)} - {""}
    for family in families:
        rows = [i.row for i in (*Counter, *Gauge, *Histogram) if i.row.family == family]
        assert rows[0].text, f"{family} has no help"
        assert len({row.label for row in rows}) == len(rows), f"{family}: a label twice"
        assert len({tuple(labels_of(row)) for row in rows}) == 1, f"{family}: other label names"


def _metric_names(text: str) -> set[str]:
    return set(re.findall(rf"\b{PREFIX}[a-z0-9_]+", text))


def test_documents_name_only_metrics_that_exist() -> None:
    for file in ("ops/prometheus/alerts.yml", "docs/operations.md"):
        names = _metric_names(Path(ROOT, file).read_text())
        assert names, "nothing found: the pattern or the file is wrong"
        known = set(shown_names())
        if file.startswith("docs"):  # people are told of a histogram by its family's name
            known |= {item.row.family for item in Histogram}
        assert {name.removeprefix(PREFIX) for name in names} <= known
