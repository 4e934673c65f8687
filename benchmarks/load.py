"""The load generator's command: `python -m benchmarks.load --port PORT`.

Promises: loopback unless another literal address is given, and never anywhere else. Exit code 0
when every instance that was begun was acknowledged, 1 when not, 2 when it could not be run.
"""

import sys
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import load_plan
from benchmarks.instances import NAMES, make
from benchmarks.load_plan import LoadError, LoadOutcome, Plan, Target
from benchmarks.load_result import Result, evaluate, rows
from benchmarks.load_watch import Watch, process_listening
from benchmarks.plot import PlotError, plot_load


def _targets(
    address: str, aes: tuple[str, ...], port: int, called: str, calling: str, associations: int
) -> tuple[Target, ...]:
    """`TITLE@PORT` for each further AE; without any, the one of --called and --port."""
    try:
        ip_address(address)
    except ValueError as error:
        raise click.BadParameter(f"{address} is not a literal IP address") from error
    pairs = [(called, port)] if not aes else []
    for ae in aes:
        title, separator, number = ae.rpartition("@")
        if not separator or not number.isdigit() or not 0 < int(number) < 65536:
            raise click.BadParameter(f"{ae!r}: an AE is written TITLE@PORT")
        pairs.append((title, int(number)))
    return tuple(Target(address, number, title, calling, associations) for title, number in pairs)


def _mix(text: str, frames: int, run: int) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """`ct` or `ct:4,mr:2,tiny:1`: the instances, and which is sent in which turn."""
    images, order = [], []
    for index, part in enumerate(text.split(",")):
        name, _, weight = part.partition(":")
        if name not in NAMES or (weight and not weight.isdigit()):
            raise click.BadParameter(f"{part!r}: write NAME or NAME:WEIGHT, NAME of {NAMES}")
        images.append(make(name, run, frames))
        order.append([index] * int(weight or 1))
    # Interleaved, so that no kind comes in one lump.
    longest = max(len(turns) for turns in order)
    mixed = [
        (place * longest / len(turns), index)
        for turns in order
        for place, index in enumerate(turns)
    ]
    return tuple(images), tuple(index for _, index in sorted(mixed))


def _run(plan: Plan, console: Console) -> LoadOutcome:
    """The load with a progress bar, for people only: without a terminal it is silent."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        total = float(plan.instances) or plan.seconds
        task = bar.add_task("sending", total=total, figures="")

        def tell(progress: load_plan.Progress) -> None:
            done = float(progress.acknowledged) if plan.instances else progress.seconds
            rate = progress.acknowledged_bytes / 1e6 / max(progress.seconds, 1e-9)
            figures = f"{rate:.0f} MB/s, {progress.acknowledged} stored, {progress.refused} refused"
            bar.update(task, completed=done, figures=figures)

        return load_plan.run(plan, tell)


def _show(console: Console, title: str, result: Result) -> None:
    table = Table(title=title, show_header=False)
    for name, value in rows(result.figures):
        table.add_row(name, value)
    console.print(table)


def acknowledged_uids(plan: Plan, outcome: LoadOutcome) -> list[str]:
    """The SOP Instance UIDs that were answered with success, in the order of the answers."""
    stems = [image.sop_instance.rpartition(".")[0] for image in plan.images]
    return [
        f"{stems[record['image']]}.{100_000_000 + int(record['counter'])}"
        for record in outcome.records
        if record["status"] == 0
    ]


@click.command(context_settings={"show_default": True, "max_content_width": 100})
@click.option("--address", default="127.0.0.1", help="literal IP address to send to")
@click.option("--port", default=11112, type=click.IntRange(1, 65535))
@click.option("--called", default="SCP_AE", help="called AE title")
@click.option("--calling", default="LOAD", help="calling AE title")
@click.option(
    "--ae", "aes", multiple=True, help="TITLE@PORT, once for each AE, instead of --called"
)
@click.option("--associations", default=5, type=click.IntRange(1, 1000), help="for each AE")
@click.option("--mix", default="ct", help=f"NAME[:WEIGHT],... of {', '.join(NAMES)}")
@click.option("--enhanced-frames", default=400, type=click.IntRange(1, 4096), help="512 kB each")
@click.option("--instances", default=0, type=click.IntRange(0), help="end after so many")
@click.option("--seconds", default=0.0, help="end after so long; 10 when nothing else ends it")
@click.option("--rate", default=0.0, help="instances a second over all associations; 0: flat out")
@click.option("--think", default=0.0, help="seconds of pause after each response")
@click.option("--association-per-instance", is_flag=True)
@click.option("--series-instances", default=100, help="a new series after so many; 0: never")
@click.option("--pdu", default=16378, type=click.IntRange(4096, 1 << 20), help="longest PDU sent")
@click.option("--timeout", default=60.0, help="seconds to wait for any answer")
@click.option("--core", default=None, type=int, help="pin the sender to this core")
@click.option("--server-pid", default=None, type=int, help="measure this process tree")
@click.option("--find-server", is_flag=True, help="measure whoever listens on the first port")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="write the figures here")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="write a PNG here")
@click.option("--acknowledged", type=click.Path(path_type=Path), help="write the UIDs stored here")
def main(**options: Any) -> None:
    """Send synthetic instances to a storage SCP and measure how it takes them."""
    console = Console()
    run = int(time.time())
    images, order = _mix(options["mix"], options["enhanced_frames"], run)
    endless = not options["instances"] and not options["seconds"]
    names = ("address", "aes", "port", "called", "calling", "associations")
    plan = Plan(
        targets=_targets(**{name: options[name] for name in names}),
        images=images,
        mix=order,
        instances=options["instances"],
        seconds=10.0 if endless else options["seconds"],
        rate=options["rate"],
        think_seconds=options["think"],
        timeout_seconds=options["timeout"],
        association_per_instance=options["association_per_instance"],
        series_instances=options["series_instances"],
        pdu_bytes=options["pdu"],
        core=options["core"],
    )
    server = options["server_pid"]
    if server is None and options["find_server"]:
        server = process_listening(plan.targets[0].port)
        if server is None:
            raise click.UsageError(f"nobody is seen to listen on port {plan.targets[0].port}")
    try:
        outcome, result = _measure(plan, server, console)
    except (LoadError, OSError) as error:
        raise click.UsageError(str(error)) from error
    title = f"{options['mix']} to {options['address']}, {options['associations']} associations"
    _show(console, title, result)
    if (path := options["json_file"]) is not None:
        shown = {name: str(value) for name, value in options.items() if value is not None}
        path.write_bytes(orjson.dumps({"options": shown} | result.figures, option=2))
    if (path := options["acknowledged"]) is not None:
        path.write_text("".join(uid + "\n" for uid in acknowledged_uids(plan, outcome)))
    if (path := options["plot_file"]) is not None:
        try:
            plot_load(result, path, title)
        except PlotError as error:
            console.print(f"no plot: {error}")
    failed = result.figures["begun_but_not_acknowledged"] or result.figures["failures"]
    sys.exit(1 if failed or not result.figures["instances"] else 0)


def _measure(plan: Plan, server: int | None, console: Console) -> tuple[LoadOutcome, Result]:
    if server is None:
        outcome = _run(plan, console)
        return outcome, evaluate(outcome)
    with Watch(server) as watch:
        outcome = _run(plan, console)
    return outcome, evaluate(outcome, watch)


if __name__ == "__main__":
    main()
