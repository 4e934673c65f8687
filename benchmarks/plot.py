"""Pictures of figures: throughput over time with latency, the comparison, the index's growth.

Promises: PNG files, drawn without a display. matplotlib is an extra (`.[benchmarks]`); without it
the caller is told so in one sentence and every other result is still there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from benchmarks.load_result import Result


class PlotError(Exception):
    """No picture can be drawn; the text says what is missing."""


def _figure(columns: int, rows: int = 1) -> tuple[Any, Any]:
    try:
        import matplotlib
    except ImportError as error:
        raise PlotError("a plot needs matplotlib: pip install '.[benchmarks]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(rows, columns, figsize=(5.5 * columns, 4 * rows), squeeze=False)
    for one in axes.flat:
        one.grid(alpha=0.3)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes.flat


def _save(figure: Any, path: Path, title: str) -> None:
    from matplotlib import pyplot, ticker

    for one in figure.axes:
        for axis in (one.xaxis, one.yaxis):
            if axis.get_scale() == "log":
                axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
                axis.set_minor_formatter(ticker.NullFormatter())
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _throughput(result: Result) -> tuple[NDArray[Any], NDArray[Any]]:
    """MB/s in a hundred equal slices of the run."""
    end = float(result.finished_s.max())
    edges = numpy.linspace(0, end, 101)
    sums, _ = numpy.histogram(result.finished_s, bins=edges, weights=result.payload_bytes)
    return edges[1:], sums / 1e6 / (end / 100)


def plot_load(result: Result, path: Path, title: str) -> None:
    """One load: throughput over time, latency over time, the distribution of latency."""
    figure, (over_time, scatter, distribution) = _figure(3)
    if len(result.finished_s):
        over_time.plot(*_throughput(result), color="tab:blue")
        scatter.plot(result.finished_s, result.latencies_ms, ".", markersize=2, alpha=0.4)
        ordered = numpy.sort(result.latencies_ms)
        share = 1 - numpy.arange(len(ordered)) / len(ordered)
        distribution.plot(ordered, share * 100, color="tab:red")
    over_time.set(xlabel="s", ylabel="MB/s acknowledged", ylim=(0, None))
    scatter.set(xlabel="s", ylabel="ms from first byte to response", yscale="log")
    distribution.set(xlabel="latency, ms", ylabel="% slower than that", xscale="log", yscale="log")
    _save(figure, path, title)


def plot_comparison(
    throughput: Mapping[str, Sequence[float]],
    latency_p99: Mapping[str, Sequence[float]],
    cpu: Mapping[str, Sequence[float]],
    path: Path,
    title: str,
) -> None:
    """Peers side by side: every round a dot, the median a bar."""
    figure, axes = _figure(3)
    labels = (
        "MB/s, more is better",
        "p99 latency, ms, less is better",
        "CPU-s per GB, less is better",
    )
    for one, values, label in zip(axes, (throughput, latency_p99, cpu), labels, strict=True):
        names = [name for name in values if len(values[name])]
        for row, name in enumerate(names):
            colour = "tab:green" if name.startswith("ours") else "tab:gray"
            one.barh(row, float(numpy.median(values[name])), color=colour, alpha=0.7)
            one.plot(values[name], [row] * len(values[name]), "k.", markersize=4)
        one.set(yticks=range(len(names)), yticklabels=names, xlabel=label)
        one.invert_yaxis()
    _save(figure, path, title)


def plot_index(points: Sequence[Mapping[str, float]], path: Path, title: str) -> None:
    """The index's growth: insert rate, cost of a find, file size, over the number of instances."""
    figure, (rate, find, size) = _figure(3)
    counts = [point["instances"] for point in points]
    rate.plot(counts, [point["inserts_per_second"] for point in points], "o-")
    rate.set(xscale="log", xlabel="instances", ylabel="inserts/s", ylim=(0, None))
    kinds = sorted({key[5:-5] for point in points for key in point if key.startswith("find_")})
    for number, kind in enumerate(kinds):
        for percentile, line in (("p50", "-"), ("p99", "--")):
            values = [point[f"find_{kind}, {percentile}"] for point in points]
            label = kind if percentile == "p50" else None
            find.plot(counts, values, "o" + line, color=f"C{number}", markersize=4, label=label)
    find.set(xscale="log", yscale="log", xlabel="instances", ylabel="find, ms; p99 dashed")
    find.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    size.plot(counts, [point["bytes_per_instance"] for point in points], "o-")
    size.set(xscale="log", xlabel="instances", ylabel="bytes of index per instance", ylim=(0, None))
    _save(figure, path, title)
