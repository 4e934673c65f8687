"""The comparison's figures as medians, spreads and ratios; as a Markdown table.

Promises: a ratio is made within a round, from two servers that were measured minutes apart at most,
and its median and extremes over the rounds are shown; the medians of two servers are never divided.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

Rounds = Mapping[str, Sequence[Mapping[str, Any]]]


class Ratio(NamedTuple):
    """One claim: a figure of `ours` over the same figure of `other`."""

    title: str
    figure: str
    ours: str
    other: str


_PER_SECOND: Final = "megabytes_per_second"
_CPU: Final = "server_cpu_seconds_per_gb"
RATIOS: Final = (
    Ratio("ours durable / storescp", _PER_SECOND, "ours-sync", "storescp"),
    Ratio("ours durable / dcmrecv", _PER_SECOND, "ours-sync", "dcmrecv"),
    Ratio("ours durable / pynetdicom", _PER_SECOND, "ours-sync", "pynetdicom"),
    Ratio("ours durable / Orthanc, synced", _PER_SECOND, "ours-sync", "orthanc-sync"),
    Ratio("ours durable / sink, synced", _PER_SECOND, "ours-sync", "sink-sync"),
    Ratio("ours os / storescp", _PER_SECOND, "ours-os", "storescp"),
    Ratio("ours os / Orthanc, not synced", _PER_SECOND, "ours-os", "orthanc"),
    Ratio("ours os / sink to file", _PER_SECOND, "ours-os", "sink-file"),
    Ratio("CPU per GB: ours durable / storescp", _CPU, "ours-sync", "storescp"),
    Ratio("CPU per GB: ours os / storescp", _CPU, "ours-os", "storescp"),
    Ratio("p99: ours durable / storescp", "p99_ms", "ours-sync", "storescp"),
    Ratio("p99: ours os / storescp", "p99_ms", "ours-os", "storescp"),
)


def series(rounds: Rounds, figure: str) -> dict[str, list[float]]:
    """Every measured round's value of one figure, for each server."""
    return {
        name: [float(one[figure]) for one in figures if one.get(figure) is not None]
        for name, figures in rounds.items()
    }


def ratios(rounds: Rounds) -> list[dict[str, Any]]:
    """The ratios that can be made of the servers measured."""
    found = []
    for ratio in RATIOS:
        pairs = zip(rounds.get(ratio.ours, ()), rounds.get(ratio.other, ()), strict=False)
        values = [
            float(ours[ratio.figure]) / float(other[ratio.figure])
            for ours, other in pairs
            if ours.get(ratio.figure) is not None and other.get(ratio.figure)
        ]
        if values:
            found.append(
                {
                    "title": ratio.title,
                    "median": round(median(values), 3),
                    "least": round(min(values), 3),
                    "most": round(max(values), 3),
                    "rounds": len(values),
                }
            )
    return found


def _spread(values: Sequence[float], digits: int = 0) -> str:
    if not values:
        return ""
    if not digits and max(values) < 10:
        digits = 1
    return " / ".join(f"{value:.{digits}f}" for value in (min(values), median(values), max(values)))


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": model,
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report for people."""
    rounds: Rounds = report["rounds"]
    lines = [
        f"# {report['workload']}: {report['instances']} instances a round,"
        f" {report['associations']} associations, {report['measured_rounds']} rounds",
        "",
        f"{report['machine']['processor']}, {report['machine']['cores']} cores, Linux"
        f" {report['machine']['kernel']}, {report['filesystem']}. min / median / max.",
        "",
        "| server | durable before the answer | MB/s | instances/s | p99, ms | CPU-s per GB"
        " | RSS growth, MiB | MB/s until all is on disk | cores busy elsewhere |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, figures in rounds.items():
        if not any(figures):
            continue
        column = {key: series({name: figures}, key)[name] for key in _COLUMNS}
        growth = max(column["server_rss_growth_bytes"], default=0.0) / 2**20
        lines.append(
            f"| {name} | {report['durable'][name]} | {_spread(column[_PER_SECOND])}"
            f" | {_spread(column['instances_per_second'])} | {_spread(column['p99_ms'], 1)}"
            f" | {_spread(column[_CPU], 2)} | {growth:.0f}"
            f" | {_spread(column['megabytes_per_second_until_on_disk'])}"
            f" | {_spread(column['cores_busy_elsewhere'], 2)} |"
        )
    found = ratios(rounds)
    if found:
        lines += ["", "| ratio, within each round | median | least | most |", "|---|---|---|---|"]
        lines += [
            f"| {one['title']} | {one['median']:.2f} | {one['least']:.2f} | {one['most']:.2f} |"
            for one in found
        ]
    lines += ["", "| server | command |", "|---|---|"]
    lines += [f"| {name} | `{command}` |" for name, command in report["commands"].items()]
    if report["errors"]:
        lines += ["", "Rounds that gave no figure:", ""]
        lines += [f"- {error}" for error in report["errors"]]
    return "\n".join(lines) + "\n"


_COLUMNS: Final = (
    _PER_SECOND,
    "instances_per_second",
    "p99_ms",
    _CPU,
    "server_rss_growth_bytes",
    "megabytes_per_second_until_on_disk",
    "cores_busy_elsewhere",
)
