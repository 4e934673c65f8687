"""The figures of one load: throughput, latency, cost, failures; as JSON and as a table.

Promises: throughput counts acknowledged instances only, from the first one's first byte to the last
one's acknowledgement. Latency is that of acknowledged instances: first byte sent (or, at a fixed
rate, the moment it was due, so that a server that stalls is not flattered) to the response.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy
from numpy.typing import NDArray

from benchmarks.load_plan import LoadOutcome
from benchmarks.load_watch import Watch

PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9)
_MEGA: Final = 1e6


@dataclass(frozen=True, slots=True)
class Result:
    """What is reported of one load."""

    figures: dict[str, Any]
    latencies_ms: NDArray[numpy.float64]
    finished_s: NDArray[numpy.float64]  # when each was acknowledged
    payload_bytes: NDArray[numpy.int64]


def _spread(values: NDArray[numpy.float64]) -> dict[str, float]:
    if not len(values):
        return {}
    figures = {f"p{point:g}": round(float(numpy.percentile(values, point)), 4)
               for point in PERCENTILES}  # fmt: skip
    return figures | {"max": round(float(values.max()), 4)}


def evaluate(outcome: LoadOutcome, watch: Watch | None = None) -> Result:
    """The figures of an outcome; with a watch, those of the server too."""
    records = outcome.records
    acknowledged = records[records["status"] == 0]
    sizes = numpy.array([image.payload_bytes for image in outcome.plan.images], dtype=numpy.int64)
    payload = sizes[acknowledged["image"]]
    total = int(payload.sum())
    seconds = outcome.seconds
    failures = dict(outcome.failures)
    for status, count in zip(
        *numpy.unique(records["status"][records["status"] != 0], return_counts=True), strict=True
    ):
        failures[f"status {int(status):04X}"] = int(count)
    setups = acknowledged["setup_us"][acknowledged["setup_us"] > 0] / 1000
    figures: dict[str, Any] = {
        "instances": len(acknowledged),
        "bytes": total,
        "seconds": round(seconds, 6),
        "megabytes_per_second": round(total / _MEGA / seconds, 3) if seconds else 0.0,
        "instances_per_second": round(len(acknowledged) / seconds, 3) if seconds else 0.0,
        "latency_ms": _spread(acknowledged["latency_ns"] / 1e6),
        "association_set_up_ms": _spread(setups),
        "begun_but_not_acknowledged": outcome.begun - len(acknowledged),
        "failures": failures,
        "sender_cpu_seconds_per_gb": _per_gb(outcome.sender_cpu_seconds, total),
    }
    if watch is not None:
        figures["server_cpu_seconds"] = round(watch.cpu_seconds, 3)
        figures["server_cpu_seconds_per_gb"] = _per_gb(watch.cpu_seconds, total)
        figures["server_peak_rss_bytes"] = watch.resident_peak
        figures["server_rss_growth_bytes"] = watch.resident_peak - watch.resident_first
    finished = (acknowledged["start_ns"] + acknowledged["latency_ns"]) / 1e9
    return Result(figures, acknowledged["latency_ns"] / 1e6, finished, payload)


def _per_gb(seconds: float, total: int) -> float | None:
    return round(seconds / (total / 1e9), 4) if total else None


def rows(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures as a person reads them: name and value."""
    latency = figures["latency_ms"]
    table = [
        ("throughput", f"{figures['megabytes_per_second']:.1f} MB/s"),
        ("", f"{figures['instances_per_second']:.1f} instances/s"),
        ("acknowledged", f"{figures['instances']} instances, {figures['bytes'] / 1e6:.1f} MB"),
        ("in", f"{figures['seconds']:.3f} s"),
    ]
    table += [(f"latency {name}", f"{value:.3f} ms") for name, value in latency.items()]
    for name, value in figures["association_set_up_ms"].items():
        if name in ("p50", "p99"):
            table.append((f"association set-up {name}", f"{value:.3f} ms"))
    if figures.get("server_cpu_seconds_per_gb") is not None:
        table.append(("server CPU", f"{figures['server_cpu_seconds_per_gb']:.3f} s/GB"))
        table.append(("server RSS, peak", f"{figures['server_peak_rss_bytes'] / 2**20:.1f} MiB"))
        table.append(
            ("server RSS, growth", f"{figures['server_rss_growth_bytes'] / 2**20:.1f} MiB")
        )
    if figures["sender_cpu_seconds_per_gb"] is not None:
        table.append(("sender CPU", f"{figures['sender_cpu_seconds_per_gb']:.3f} s/GB"))
    table.append(("begun, not acknowledged", str(figures["begun_but_not_acknowledged"])))
    table += [(f"failed: {reason}", str(count)) for reason, count in figures["failures"].items()]
    return table
