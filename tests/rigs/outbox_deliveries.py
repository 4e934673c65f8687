"""Deliveries made up, and what an outbox says of them."""

from engine.outbox.records import (
    NewDelivery,
)
from engine.outbox.writer import OutboxWriter


def new(sop: str, study: str = "1.2", destination: str = "PACS", file: str = "") -> NewDelivery:
    """What a rule asks for."""
    ct = "1.2.840.10008.5.1.4.1.1.2"
    return NewDelivery(
        destination, sop, ct, study, f"{study}.1", "1.2.840.10008.1.2", 100, "rule", file
    )


def ask(writer: OutboxWriter, *asked: NewDelivery, now_ns: int = 1) -> list[int]:
    return writer.commit(lambda outbox: [outbox.enqueue(each, now_ns) for each in asked])
