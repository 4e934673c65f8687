"""What backups cost and how long they take: `python -m benchmarks.backups --instances 200000`.

A service is filled with small instances. Then a backup of all is made, checked and restored, the
restored index is made anew from the files, and a service is started on it. After that the service
is loaded in rounds, in turn with nothing beside it and with one backup after another.

All on one file system, so that backups share the files of the store; with `--copies` another one
is named, to which they are copied.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from benchmarks import load_plan
from benchmarks.compare_round import wait_until_quiet
from benchmarks.instances import make
from benchmarks.load_plan import Plan, Target
from benchmarks.load_result import evaluate
from benchmarks.peers import CALLED, PEERS, Place, running
from tests.material.waiting import free_ports

_OURS: Final = PEERS["ours-sync"]
_QUIET_SECONDS: Final = 20.0


def _scai(config: Path, *arguments: str) -> tuple[float, str]:
    """(seconds, what it said)"""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tools.cli", arguments[0], "-c", str(config), *arguments[1:]],
        check=True,
        capture_output=True,
        text=True,
    )
    return time.monotonic() - begun, done.stdout


def _place(directory: Path) -> Place:
    port, second = free_ports(2)
    directory.mkdir()
    return Place(directory, port, second, 1, 0)


def _load(place: Place, kind: str, count: int, first: int) -> dict[str, Any]:
    plan = Plan(
        targets=(Target("127.0.0.1", place.port, CALLED),),
        images=(make(kind, 1),),
        instances=count,
        counter_first=first,
        core=1,
    )
    return evaluate(load_plan.run(plan)).figures


@contextmanager
def _backing_up(config: Path, backups: Path) -> Iterator[list[float]]:
    """One backup after another, until it is over; how long each took."""
    seconds: list[float] = []
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            seconds.append(_scai(config, "backup", str(backups))[0])

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield seconds
    finally:
        over.set()
        thread.join()


def _say(what: str, seconds: float, count: int) -> None:
    click.echo(f"{what:<28}{seconds:8.1f} s{count / seconds:12.0f} instances/s")


@click.command()
@click.option("--instances", default=200_000, show_default=True, help="In the store.")
@click.option("--rounds", default=3, show_default=True, help="Loaded, of each kind.")
@click.option("--directory", type=click.Path(path_type=Path), default=None, help="To work in.")
@click.option("--copies", type=click.Path(path_type=Path), help="Backups go here.")
def main(instances: int, rounds: int, directory: Path | None, copies: Path | None) -> None:
    """The times of a whole life of a backup, and what receiving loses meanwhile."""
    with (
        tempfile.TemporaryDirectory(dir=directory) as work,
        tempfile.TemporaryDirectory(dir=copies or directory) as backups,
    ):
        place = _place(Path(work, "one"))
        with running(_OURS, place):
            config = place.directory / "scai.toml"
            _load(place, "tiny", instances, 0)
            _life(config, Path(backups), Path(work), instances)
            _under_load(place, config, Path(backups), rounds, instances)


def _life(config: Path, backups: Path, work: Path, instances: int) -> None:
    seconds, said = _scai(config, "backup", "--json", str(backups))
    made = json.loads(said)
    assert made["instances"] == instances
    how = "linked" if made["linked"] else "copied"
    _say(f"backup ({how})", seconds, instances)
    _say("backup once more", _scai(config, "backup", str(backups))[0], instances)
    _say("backup --verify", _scai(config, "backup", "--verify", str(backups))[0], instances)
    other = _place(work / "other")
    _OURS.launch(other)  # writes its configuration
    restored = other.directory / "scai.toml"
    _say("restore", _scai(restored, "restore", str(backups))[0], instances)
    begun = time.monotonic()
    with running(_OURS, other):
        _say("from start to ready", time.monotonic() - begun, instances)
    _say("rebuild", _scai(restored, "rebuild", "--yes")[0], instances)


def _under_load(place: Place, config: Path, backups: Path, rounds: int, first: int) -> None:
    for kind, count in (("tiny", 40_000), ("ct", 4_000)):
        ratios: dict[str, list[float]] = {"throughput": [], "p99": []}
        made = 0
        for number in range(rounds):
            figures = {}
            for beside in (False, True) if number % 2 else (True, False):
                wait_until_quiet(_QUIET_SECONDS)
                if beside:
                    with _backing_up(config, backups) as seconds:
                        figures[beside] = _load(place, kind, count, first)
                    made += len(seconds)
                else:
                    figures[beside] = _load(place, kind, count, first)
                first += count
            with_it, without = figures[True], figures[False]
            ratios["throughput"].append(
                with_it["instances_per_second"] / without["instances_per_second"]
            )
            ratios["p99"].append(with_it["latency_ms"]["p99"] / without["latency_ms"]["p99"])
        click.echo(f"{kind}, with {made} backups beside it, to without:")
        for name, found in ratios.items():
            median = statistics.median(found)
            click.echo(f"    {name:<12}{median:.2f} ({min(found):.2f} to {max(found):.2f})")


if __name__ == "__main__":
    main()
