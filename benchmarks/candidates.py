"""The data path's candidates against what the product does: `python -m benchmarks.candidates`.

Promises: within a round every way of a group is measured once, each round in another order, by one
program in C++; ratios are made within a round, against the product's way of the same round. The
first round is not counted. Less than 5 GB is written, into one directory, which is removed.
"""

import array
import fcntl
import os
import platform
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click

from benchmarks.native_build import program

WRITTEN_BYTES_MAX: Final = 5_000_000_000
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SECONDS_MAX: Final = 170
# linux/fs.h: the directories in this one have nothing to do with each other.
_GET_FLAGS: Final = 0x80086601
_SET_FLAGS: Final = 0x40086602
_TOP_DIRECTORY: Final = 0x00020000


@dataclass(frozen=True, slots=True)
class Group:
    """Ways to do one thing; the program that measures them names the product's way first."""

    title: str
    program: str
    units: int  # of each way in each round
    round_bytes: int  # what the ways write together for one unit each


GROUPS: Final = {
    "large": Group("CT image of 525,400 bytes, five threads", "candidates_large", 40, 6_400_000),
    "journal": Group("five small instances, one group", "candidates_journal", 100, 400_000),
    "placing": Group("file of 8.7 kB in the tree", "candidates_placing", 1000, 28_000),
    "receive": Group("CT image from loopback into memory", "candidates_receive", 200, 0),
    "handover": Group("525,400 bytes handed to the writer", "candidates_handover", 1000, 0),
}


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


@dataclass(slots=True)
class Figures:
    """What a program said: for each way the costs of one unit in ns, round by round."""

    wall: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    skipped: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Figures":
        figures = cls()
        for line in text.splitlines():
            name, number, *rest = line.split("\t")
            if number == "skip":
                figures.skipped[name] = rest[0]
                continue
            # Named in the order of the first round, which is not counted.
            walls, cpus = figures.wall[name], figures.cpu[name]
            if number != "0":
                walls.append(float(rest[0]))
                cpus.append(float(rest[1]))
        return figures

    def rows(self) -> list[tuple[str, float, Spread, float, Spread]]:
        """(way, its median time in us, times now's, its processor time, times now's)."""
        now = next(iter(self.wall))
        return [
            (
                name,
                statistics.median(self.wall[name]) / 1000,
                ratio(self.wall[name], self.wall[now]),
                statistics.median(self.cpu[name]) / 1000,
                ratio(self.cpu[name], self.cpu[now]),
            )
            for name in self.wall
        ]


def ratio(costs: Sequence[float], now: Sequence[float]) -> Spread:
    """Round by round, how many times the product's own cost; below 1 is cheaper."""
    return Spread.of([cost / own for cost, own in zip(costs, now, strict=True)])


def measure(group: Group, rounds: int, units: int, directory: Path) -> Figures:
    """Run a group's program in a fresh directory below `directory`."""
    place = Path(tempfile.mkdtemp(prefix=f"{group.program}-", dir=directory))
    command = [str(program(group.program)), str(place), str(rounds), str(units)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, timeout=_SECONDS_MAX
    )
    return Figures.parse(done.stdout)


def spread(directory: Path) -> bool:
    """Let the directories made below lie far from each other and from all else; False: not here.

    Where files were deleted within the last minutes ext4 makes new ones many times more
    slowly, looking for numbers that were not in use lately: a run would measure the one before it.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flags = array.array("l", [0])
        fcntl.ioctl(descriptor, _GET_FLAGS, flags, True)
        flags[0] |= _TOP_DIRECTORY
        fcntl.ioctl(descriptor, _SET_FLAGS, flags)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def busy_seconds() -> float:
    """Of all cores, whoever used them, since the machine was started."""
    fields = [int(text) for text in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]]
    idle, waiting = fields[3:5]
    return (sum(fields) - idle - waiting) / _TICKS


def own_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def table(figures: Figures) -> str:
    """In Markdown."""
    lines = ["| way | us | times now | CPU us | times now |", "|---|---|---|---|---|"]
    for name, wall, wall_ratio, cpu, cpu_ratio in figures.rows():
        lines.append(f"| {name} | {wall:.1f} | {wall_ratio} | {cpu:.1f} | {cpu_ratio} |")
    lines += [f"| {name} | - | {reason} | - | - |" for name, reason in figures.skipped.items()]
    return "\n".join(lines)


def machine() -> str:
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    model = models[0] if models else platform.machine()
    return f"{os.cpu_count()} cores {model}, {platform.system()} {platform.release()}"


@click.command()
@click.option("--rounds", default=12, show_default=True, type=click.IntRange(1))
@click.option("--only", "names", multiple=True, type=click.Choice(list(GROUPS)))
@click.option("--units", type=click.IntRange(1), help="Of each way in each round.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="On the disk that is meant; by default where temporary files go.",
)
def main(rounds: int, names: tuple[str, ...], units: int | None, directory: Path | None) -> None:
    """Measure the ways of the data path, one against the other."""
    chosen = [GROUPS[name] for name in names or GROUPS]
    written = sum((units or group.units) * group.round_bytes for group in chosen) * (rounds + 1)
    if written > WRITTEN_BYTES_MAX:
        raise click.UsageError(f"{written / 1e9:.1f} GB would be written: fewer rounds or units")
    click.echo(machine())
    root = Path(tempfile.mkdtemp(prefix="candidates-", dir=directory))
    if not spread(root):
        click.echo("Files deleted on this disk a short while ago may slow the making of new ones.")
    try:
        for group in chosen:
            program(group.program)  # built outside the time
            begun, busy, own = time.monotonic(), busy_seconds(), own_seconds()
            figures = measure(group, rounds, units or group.units, root)
            seconds = time.monotonic() - begun
            elsewhere = max(0.0, busy_seconds() - busy - (own_seconds() - own)) / seconds
            click.echo(f"\n{group.title}; {rounds} rounds; cores busy elsewhere {elsewhere:.2f}\n")
            click.echo(table(figures))
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
