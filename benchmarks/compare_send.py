"""Our sender and DCMTK's in one run: `python -m benchmarks.compare_send`.

Promises: all send the same files to the same receiver, which takes everything and keeps nothing
(benchmarks/native/acceptor.cpp); it counts, from the first association request to its last answer,
so that nobody's start is measured. Senders alternate, each round in another order; the first round
warms up and is not counted. The sender, with every process of its own, is pinned to one core, the
receiver to the other. Loopback only.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, Final

import click
import orjson

from benchmarks.compare import orders
from benchmarks.compare_report import machine
from benchmarks.load_watch import Watch
from benchmarks.native_build import program
from benchmarks.peers import ROOT, Launch, free_ports, started
from benchmarks.sending_files import write_files

INSTANCES: Final = {"ct": 400, "tiny": 1500, "jpeg": 400}
_PATIENCE_SECONDS: Final = 180.0
_FILES_PER_COMMAND: Final = 2000  # command lines have a bound
_CONFIGURATION: Final = """data_directory = "{data}"
[storage_scp]
address = "127.0.0.1"
port = {first}
[prefetch_scp]
enabled = false
[index]
[stats]
address = "127.0.0.1"
port = {second}
[[remotes]]
name = "receiver"
ae_title = "ACCEPTOR"
host = "127.0.0.1"
port = {port}
associations = "{associations}"
"""


class SendError(Exception):
    """A sender did not deliver all; the text says which."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What one round of one sender is given."""

    directory: Path
    files: list[Path]
    port: int
    cores: str

    def pinned(self, command: Sequence[str]) -> list[str]:
        return ["taskset", "-c", self.cores, *command]


class Receiver:
    """The acceptor, and what it has counted."""

    def __init__(self, port: int, core: int) -> None:
        command = ["taskset", "-c", str(core), str(program("acceptor")), str(port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        time.sleep(0.2)

    def counted(self) -> dict[str, float]:
        self._process.send_signal(signal.SIGUSR1)
        assert self._process.stdout is not None
        stream: IO[str] = self._process.stdout
        instances, payload, seconds, associations = stream.readline().split()
        return {
            "instances": int(instances),
            "bytes": int(payload),
            "seconds": float(seconds),
            "associations": int(associations),
        }

    def wait_for(self, instances: int) -> dict[str, float]:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (counted := self.counted())["instances"] < instances:
            if time.monotonic() > deadline:
                raise SendError(f"{counted['instances']:.0f} of {instances} instances arrived")
            time.sleep(0.1)
        return counted

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


# --- the senders ---------------------------------------------------------------------------------
Send = Callable[[Bench, Receiver], float]


def _run(bench: Bench, commands: Sequence[Sequence[str]], at_once: int = 1) -> float:
    """Run them, so many at a time; the processor seconds they used."""
    environment = os.environ | {"TCP_NODELAY": "1"}
    before = os.times()
    waiting = list(reversed(commands))
    running: list[subprocess.Popen[bytes]] = []
    while waiting or running:
        while waiting and len(running) < at_once:
            command = bench.pinned(waiting.pop())
            running.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
        process = running.pop(0)
        if process.wait() != 0:
            raise SendError(f"exit code {process.returncode}: {process.args!r}")
    after = os.times()
    return (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )


def _dcmtk(name: str, each: bool, at_once: int) -> Send:
    """`each`: a call, and so an association, for each instance; otherwise one call for as many
    files as a command line takes, on one association."""

    def send(bench: Bench, receiver: Receiver) -> float:
        size = 1 if each else min(_FILES_PER_COMMAND, -(-len(bench.files) // at_once))
        files = [str(path) for path in bench.files]
        head = [f"/usr/bin/{name}", "127.0.0.1", str(bench.port)]
        commands = [[*head, *files[at : at + size]] for at in range(0, len(files), size)]
        used = _run(bench, commands, at_once)
        receiver.wait_for(len(files))
        return used

    return send


def _cli(bench: Bench, *arguments: str) -> None:
    command = [sys.executable, "-P", "-m", "tools.cli", *arguments]
    configuration = ["-c", str(bench.directory / "scai.toml")]
    result = subprocess.run(
        [*command, *configuration], cwd=ROOT, env=_environment(), capture_output=True, text=True
    )
    if result.returncode != 0:
        raise SendError(f"scai {' '.join(arguments[:2])}: {result.stderr or result.stdout}")


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def _ours(associations: str) -> Send:
    def send(bench: Bench, receiver: Receiver) -> float:
        first, second = free_ports(2)
        file = bench.directory / "scai.toml"
        file.write_text(
            _CONFIGURATION.format(
                data=bench.directory / "data",
                first=first,
                second=second,
                port=bench.port,
                associations=associations,
            )
        )
        launch = Launch(
            [sys.executable, "-m", "tools.cli", "run", "-c", str(file)],
            ready_url=f"http://127.0.0.1:{second}/readyz",
        )
        log = bench.directory / "service.log"
        with started("ours", launch, first, bench.cores, log) as service:
            _cli(bench, "queue", "pause", "receiver")
            _cli(bench, "send", "--to", "receiver", "--no-wait", str(bench.files[0].parent))
            time.sleep(1.0)
            with Watch(service.pid) as watch:
                _cli(bench, "queue", "resume", "receiver")
                receiver.wait_for(len(bench.files))
            return watch.cpu_seconds

    return send


SENDERS: Final[dict[str, Send]] = {
    "ours, an association each": _ours("each"),
    "ours, associations reused": _ours("reuse"),
    "storescu, one call each": _dcmtk("storescu", True, 1),
    "storescu, one call each, five at once": _dcmtk("storescu", True, 5),
    "storescu, one call": _dcmtk("storescu", False, 1),
    "storescu, five calls at once": _dcmtk("storescu", False, 5),
    "dcmsend, one call each": _dcmtk("dcmsend", True, 1),
    "dcmsend, one call each, five at once": _dcmtk("dcmsend", True, 5),
    "dcmsend, one call": _dcmtk("dcmsend", False, 1),
    "dcmsend, five calls at once": _dcmtk("dcmsend", False, 5),
}
# DCMTK's senders do not decompress, so there is nobody to compare with but the decoder itself.
_OURS_ONLY: Final = ("jpeg",)


def _round(send: Send, bench: Bench, receiver_core: int) -> dict[str, float]:
    receiver = Receiver(bench.port, receiver_core)
    try:
        used = send(bench, receiver)
        counted = receiver.counted()
    finally:
        receiver.close()
    seconds = counted["seconds"]
    return counted | {
        "instances_per_second": counted["instances"] / seconds,
        "megabytes_per_second": counted["bytes"] / 1e6 / seconds,
        "cpu_seconds_per_gb": used / (counted["bytes"] / 1e9),
    }


def decoder_rate(files: Sequence[Path], cores: str) -> float:
    """MB of samples a second that the decoder alone makes of these files, on one core."""
    code = (
        "import sys, time, pydicom\n"
        "from pydicom.encaps import generate_frames\n"
        "from native import _core\n"
        "frames = []\n"
        "for path in sys.argv[1:]:\n"
        "    data = pydicom.dcmread(path)\n"
        "    frames.append(next(generate_frames(data.PixelData, number_of_frames=1)))\n"
        "out = bytearray(data.Rows * data.Columns * 2)\n"
        "begun = time.perf_counter()\n"
        "for frame in frames:\n"
        "    _core.jpeg_lossless_decode_frames([frame], out, data.Rows, data.Columns, 1, 16, 1)\n"
        "print(len(out) * len(frames) / 1e6 / (time.perf_counter() - begun))\n"
    )
    core = cores[0]  # one, whatever the sender has
    command = ["taskset", "-c", core, sys.executable, "-P", "-c", code]
    result = subprocess.run(
        [*command, *map(str, files[:200])],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(result.stdout)


@click.command(context_settings={"show_default": True, "max_content_width": 100})
@click.option("--rounds", default=5, type=click.IntRange(1, 50), help="measured, after a warm-up")
@click.option("--workload", default="ct", type=click.Choice(list(INSTANCES)))
@click.option("--instances", default=0, type=click.IntRange(0), help="a round; 0: by workload")
@click.option("--sender", "senders", multiple=True, type=click.Choice(list(SENDERS)), help="all")
@click.option("--sender-cores", default="0", help="the sender, with all its processes: 0, or 0,1")
@click.option("--receiver-core", default=1)
@click.option("--directory", type=click.Path(path_type=Path, exists=True))
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    rounds: int,
    workload: str,
    instances: int,
    senders: tuple[str, ...],
    sender_cores: str,
    receiver_core: int,
    directory: Path | None,
    json_file: Path | None,
) -> None:
    """Compare senders of the same files to the same receiver, alternating."""
    names = [
        name for name in senders or SENDERS if workload not in _OURS_ONLY or name.startswith("ours")
    ]
    os.sched_setaffinity(0, {receiver_core})
    root = Path(tempfile.mkdtemp(prefix="compare-send-", dir=directory))
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    try:
        (root / "files").mkdir()
        count = instances or INSTANCES[workload]
        files = list(write_files(root / "files", workload, count, int(time.time())))
        for number, order in enumerate(orders(names, rounds + 1)):
            for name in order:
                place = root / f"{number}-{names.index(name)}"
                place.mkdir()
                bench = Bench(place, files, free_ports(1)[0], sender_cores)
                one = _round(SENDERS[name], bench, receiver_core)
                click.echo(
                    f"{'warm-up' if number == 0 else f'round {number}'} {name}:"
                    f" {one['instances_per_second']:.0f}/s, {one['megabytes_per_second']:.0f} MB/s,"
                    f" {one['cpu_seconds_per_gb']:.2f} CPU-s/GB,"
                    f" {one['associations']:.0f} associations"
                )
                if number > 0:
                    figures[name].append(one)
                if workload == "jpeg":
                    one["decoder"] = decoder_rate(files, sender_cores)
    finally:
        shutil.rmtree(root)
    report = {"workload": workload, "machine": machine(), "rounds": figures}
    if json_file is not None:
        json_file.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    click.echo(_table(figures))


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _table(figures: dict[str, list[dict[str, float]]]) -> str:
    """Medians with their spread, and ratios made within a round."""
    lines = ["| sender | instances/s | MB/s | CPU-s per GB |", "|---|---|---|---|"]
    for name, rounds in figures.items():
        cells = [
            _spread([one[key] for one in rounds], digits)
            for key, digits in (
                ("instances_per_second", 0),
                ("megabytes_per_second", 0),
                ("cpu_seconds_per_gb", 2),
            )
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| ratio, within each round | median (least to most) |", "|---|---|"]
    for ours, figure, others in (
        ("ours, an association each", "instances_per_second", "each"),
        ("ours, associations reused", "megabytes_per_second", "call"),
    ):
        for name, rounds in figures.items():
            if ours not in figures or name.startswith("ours"):
                continue
            if ("each" in name) is not (others == "each"):
                continue
            ratios = [a[figure] / b[figure] for a, b in zip(figures[ours], rounds, strict=True)]
            lines.append(f"| {ours} / {name} | {_spread(ratios, 2)} |")
    for name, rounds in figures.items():
        decoded = [
            one["megabytes_per_second"] / one["decoder"] for one in rounds if "decoder" in one
        ]
        if decoded:
            lines.append(f"| {name}, decompressed / the decoder alone | {_spread(decoded, 2)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
