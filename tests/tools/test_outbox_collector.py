"""The outbox as Prometheus sees it, while there is none, and while it changes."""

import time
from contextlib import closing
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from engine.outbox.records import NewDelivery
from engine.outbox.writer import OutboxWriter
from tools.stats.outbox_collector import OutboxCollector


def scrape(collector: OutboxCollector) -> dict[tuple[str, str, str], float]:
    registry = CollectorRegistry()
    registry.register(collector)
    return {
        (sample.name, sample.labels["destination"], sample.labels.get("state", "")): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def test_deliveries_by_destination(tmp_path: Path) -> None:
    with closing(OutboxCollector(tmp_path)) as collector:
        assert scrape(collector) == {}, "nothing was stored yet"


def test_counts_and_ages(tmp_path: Path) -> None:
    """Written by another environment than the one that reads: as in two processes."""
    began_ns = time.time_ns() - 60 * 10**9
    with closing(OutboxWriter(tmp_path)) as writer:
        writer.commit(
            lambda outbox: [
                outbox.enqueue(
                    NewDelivery(name, f"1.2.{number}", "1.2", "1.3", "1.4", "1.5", 10, "user"),
                    began_ns,
                )
                for name, count in (("a", 3), ('b"\\', 1))
                for number in range(count)
            ]
        )
        writer.commit(lambda outbox: outbox.lease('b"\\', 1, began_ns))
    with closing(OutboxCollector(tmp_path)) as collector:
        samples = scrape(collector)
    assert samples["scai_outbox_destination_deliveries", "a", "waiting"] == 3
    assert samples["scai_outbox_destination_deliveries", 'b"\\', "sending"] == 1
    assert samples["scai_outbox_destination_deliveries", 'b"\\', "waiting"] == 0
    assert 59 < samples["scai_outbox_destination_oldest_seconds", "a", ""] < 90
    assert samples["scai_outbox_destination_oldest_seconds", 'b"\\', ""] == 0
