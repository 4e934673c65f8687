"""Ours and the others in one run: `python -m benchmarks.compare`.

Promises: servers alternate, each round in another order; each round has a fresh server in a fresh
directory; nothing is deleted until the last round is over, then all of it is. The first round warms
up and is not counted. Less than 30 GB is written, or nothing at all. Loopback only.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
import orjson

from benchmarks.compare_report import machine, markdown, series
from benchmarks.compare_round import run_round
from benchmarks.instances import NAMES, make
from benchmarks.load_plan import LoadError, Plan, Target, wire_images
from benchmarks.peers import (
    PEERS,
    Peer,
    PeerError,
    Place,
    free_ports,
    missing,
    of_checkout,
    shown_command,
)
from benchmarks.plot import PlotError, plot_comparison

BUDGET_BYTES: Final = 30 * 10**9
# So many that a round lasts some seconds with a fast server and the budget lasts for six rounds.
INSTANCES: Final = {"ct": 800, "mr": 2500, "tiny": 6000, "enhanced": 2, "jpeg": 1500}
_WARM_UP_SHARE: Final = 10


def _filesystem(directory: Path) -> str:
    command = ["df", "--output=fstype", str(directory)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]


def _known(before: Path | None) -> dict[str, Peer]:
    """Every server that can be asked for; with an older checkout of ours, that one too."""
    if before is None:
        return PEERS
    older = of_checkout(before)
    return {**PEERS, older.name: older}


def _chosen(names: str, known: Mapping[str, Peer]) -> tuple[list[str], list[str]]:
    """The servers to run, and why others of those asked for cannot."""
    asked = list(known) if names == "all" else names.split(",")
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: there are {', '.join(known)}")
    lacking = [f"{name} left out: {need} is missing" for name in asked
               if (need := missing(known[name]))]  # fmt: skip
    return [name for name in asked if not missing(known[name])], lacking


def _check_budget(servers: Sequence[Peer], rounds: int, round_bytes: int, directory: Path) -> None:
    keeping = sum(server.keeps for server in servers)
    # Ours has a journal of up to four segments of 64 MiB beside the files.
    journals = sum(server.name.startswith("ours") for server in servers) * rounds * 300 * 2**20
    total = keeping * rounds * (round_bytes * 11 // 10) + journals
    free = shutil.disk_usage(directory).free
    if total > BUDGET_BYTES or total > free // 2:
        raise click.UsageError(
            f"{total / 1e9:.1f} GB would be written and {free / 1e9:.1f} GB are free: at most"
            " 30 GB and half of what is free; take fewer rounds, instances or peers"
        )


def orders(names: Sequence[str], rounds: int) -> list[list[str]]:
    """Each round begins with another server, so that no one always follows the same one."""
    turned = [[*names[shift:], *names[:shift]] for shift in range(len(names))]
    return [turned[number % len(names)] for number in range(rounds)]


@click.command(context_settings={"show_default": True, "max_content_width": 100})
@click.option("--rounds", default=5, type=click.IntRange(1, 50), help="measured, after a warm-up")
@click.option("--peers", default="all", help=f"comma-separated: {', '.join(PEERS)}")
@click.option("--before", type=click.Path(path_type=Path, exists=True),
              help="another checkout of ours with its own .venv: the peer ours-before")  # fmt: skip
@click.option("--workload", default="ct", type=click.Choice(NAMES))
@click.option("--instances", default=0, type=click.IntRange(0), help="a round; 0: by workload")
@click.option("--seconds", default=20.0, help="a round ends after so long at the latest")
@click.option("--associations", default=5, type=click.IntRange(1, 100))
@click.option("--association-per-instance", is_flag=True)
@click.option("--enhanced-frames", default=400, type=click.IntRange(1, 4096), help="512 kB each")
@click.option("--pdu", default=16378, type=click.IntRange(4096, 16378))
@click.option("--server-core", default=0, help="the whole server is pinned to it")
@click.option("--sender-core", default=1, help="the load generator's own")
@click.option("--pause", default=1.0, help="seconds between two servers, after a sync")
@click.option("--quiet", default=5.0, help="seconds a round waits for the machine to be quiet")
@click.option("--directory", type=click.Path(path_type=Path, exists=True), help="on the disk meant")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path))
@click.option("--plot", "plot_file", type=click.Path(path_type=Path))
def main(**options: Any) -> None:
    """Compare storage servers under the same load, alternating."""
    known = _known(options["before"])
    names, lacking = _chosen(options["peers"], known)
    if not names:
        raise click.UsageError("; ".join(lacking) or "no peer to measure")
    for line in lacking:
        click.echo(line)
    workload = options["workload"]
    plan = Plan(
        targets=(Target("127.0.0.1", 1, associations=options["associations"]),),
        images=(make(workload, int(time.time()), options["enhanced_frames"]),),
        instances=options["instances"] or INSTANCES[workload],
        seconds=options["seconds"],
        association_per_instance=options["association_per_instance"],
        series_instances=100,
        pdu_bytes=options["pdu"],
        core=options["sender_core"],
    )
    servers = [known[name] for name in names]
    for server in servers:
        click.echo(f"{server.name}: {shown_command(server)}")
    os.sched_setaffinity(0, {options["sender_core"]})  # nothing of ours on the server's core
    parent = options["directory"] or Path(tempfile.gettempdir())
    round_bytes = plan.images[0].payload_bytes * plan.instances
    _check_budget(servers, options["rounds"] + 1, round_bytes, parent)
    root = Path(tempfile.mkdtemp(prefix="compare-", dir=parent))
    try:
        report = _measure(servers, plan, options, root)
    finally:
        shutil.rmtree(root)
    report["errors"] += lacking
    _deliver(report, options)
    sys.exit(1 if report["errors"] else 0)


def _measure(
    servers: Sequence[Peer], plan: Plan, options: dict[str, Any], root: Path
) -> dict[str, Any]:
    known = {server.name: server for server in servers}
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in known}
    errors: list[str] = []
    wire_bytes = wire_images(plan)[0].wire_bytes
    warm_up = max(plan.targets[0].associations, plan.instances // _WARM_UP_SHARE)
    if plan.images[0].pixel_bytes:
        warm_up = 1
    for number, order in enumerate(orders(list(known), options["rounds"] + 1)):
        for name in order:
            directory = root / f"{number}-{name}"
            directory.mkdir()
            port, second = free_ports(2)
            place = Place(directory, port, second, wire_bytes, options["server_core"])
            try:
                figures = run_round(known[name], place, plan, warm_up, options["quiet"])
            except (PeerError, LoadError) as error:
                errors.append(f"round {number}: {error}")
                click.echo(f"round {number} {name}: {error}", err=True)
                figures = {}
            if figures:
                figures["p99_ms"] = figures["latency_ms"]["p99"]
                counted = "warm-up" if number == 0 else f"round {number}"
                click.echo(
                    f"{counted} {name}: {figures['megabytes_per_second']:.0f} MB/s,"
                    f" {figures['instances_per_second']:.0f}/s, p99 {figures['p99_ms']:.1f} ms,"
                    f" {figures['server_cpu_seconds_per_gb']:.2f} CPU-s/GB"
                )
            if number > 0:
                rounds[name].append(figures)
            time.sleep(options["pause"])
    return {
        "workload": options["workload"],
        "instances": plan.instances,
        "associations": plan.targets[0].associations,
        "measured_rounds": options["rounds"],
        "machine": machine(),
        "filesystem": _filesystem(root),
        "commands": {name: shown_command(known[name]) for name in known},
        "durable": {name: known[name].durable for name in known},
        "rounds": rounds,
        "errors": errors,
    }


def _deliver(report: dict[str, Any], options: dict[str, Any]) -> None:
    text = markdown(report)
    click.echo(text)
    if (path := options["json_file"]) is not None:
        path.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    if (path := options["markdown_file"]) is not None:
        path.write_text(text)
    if (path := options["plot_file"]) is not None:
        figures = [
            series(report["rounds"], name)
            for name in ("megabytes_per_second", "p99_ms", "server_cpu_seconds_per_gb")
        ]
        try:
            plot_comparison(figures[0], figures[1], figures[2], path, report["workload"])
        except PlotError as error:
            click.echo(f"no plot: {error}")


if __name__ == "__main__":
    main()
