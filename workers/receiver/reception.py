"""The native reception of a receiver, told where its numbers stand in the shared segment."""

from engine import limits
from engine.telemetry.counters import CounterBlock
from engine.telemetry.metrics import Counter, Gauge, Histogram
from native import _core


def reception_of(
    spool: _core.Spool, counters: CounterBlock, turn_us: int = limits.receive_turn_us
) -> _core.Reception:
    """It counts in `counters` what is not told of each, from the same thread as everybody else."""
    return _core.Reception(
        spool,
        counters.slots,
        received_bytes=Counter.RECEIVED_BYTES,
        ring_full=Counter.RING_FULL,
        stored_instances=Counter.STORED_INSTANCES,
        stored_bytes=Counter.STORED_BYTES,
        store_success=Counter.STORE_SUCCESS,
        journal_records=Counter.JOURNAL_RECORDS,
        journal_groups=Counter.JOURNAL_GROUPS,
        last_received=Gauge.LAST_RECEIVED,
        store_fault=Gauge.STORE_FAULT,
        durable_sequence=Gauge.JOURNAL_DURABLE_SEQUENCE,
        acknowledged_sequence=Gauge.JOURNAL_ACKNOWLEDGED_SEQUENCE,
        commit_duration=_place_of(Histogram.COMMIT_DURATION),
        store_duration=_place_of(Histogram.STORE_DURATION),
        turn_bytes=limits.receive_bytes_per_turn,
        event_bytes=limits.receive_bytes_per_event,
        turn_us=turn_us,
        progress_bytes=limits.slot_progress_bytes,
    )


def _place_of(histogram: Histogram) -> tuple[int, tuple[float, ...]]:
    return int(histogram), histogram.bounds
