"""Reading one's own writes: wait for the index to have what the service has acknowledged.

A just acknowledged instance is in its journal for some milliseconds before it is in the index.
Every reader that answers a person or a peer calls catch_up() before it looks.
"""

from pathlib import Path

from engine.counters import open_counters
from engine.index import IndexReader
from engine.limits import index_wait_s
from engine.metrics import Gauge


def durable_sequences(data_directory: Path) -> dict[str, int]:
    """{journal: last durable record} as the running service publishes it; empty without one."""
    segment = open_counters(data_directory)
    if segment is None:
        return {}
    return {
        head.name: segment.block(head.index).get(Gauge.JOURNAL_DURABLE_SEQUENCE)
        for head in segment.heads()
        if head.role == "receiver"
    }


def catch_up(reader: IndexReader, data_directory: Path, timeout_s: float = index_wait_s) -> bool:
    """False: the index is still behind what was acknowledged when this was called."""
    return reader.wait_until_applied(durable_sequences(data_directory), timeout_s)
