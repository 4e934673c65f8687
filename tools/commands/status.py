"""`scai status`: processes, cores and why, associations, rates, queue, disk of the service.

The supervisor says what it knows over its socket; numbers come from the shared counters, rates from
two looks a second apart. Exit code 1 when no service runs on this data.
"""

import shutil
import time
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.text import Text

from engine.dictionary.sop_classes import STORAGE_SOP_CLASSES
from engine.index.damage import INDEX_CUT
from engine.telemetry.counters import CounterSegment, journal_lag, open_counters
from engine.telemetry.metrics import REFUSED_CLASSES, Counter, Gauge
from tools.commands.status_away import Absence, absences
from tools.face.options import config_option
from tools.face.service_data import data_of, data_option
from tools.face.tables import Column, Row, print_table, window
from tools.face.terminal import Exit, counted, printable
from workers.frame.placement import as_ranges
from workers.supervision.status import ProcessStatus, Status, ask_status

_interval_s: Final = 1.0
_rated: Final = (Counter.STORED_INSTANCES, Counter.STORED_BYTES, Counter.RECEIVED_BYTES)
_totals: Final = {
    "accepted": (Counter.ASSOCIATIONS_ACCEPTED,),
    "rejected": tuple(item for item in Counter if item.name.startswith("ASSOCIATIONS_REJECTED")),
    "stored_instances": (Counter.STORED_INSTANCES,),
    "stored_bytes": (Counter.STORED_BYTES,),
    "store_failures": (Counter.STORE_FAILURE,),
}
_index_gauges: Final = (
    Gauge.PATIENTS,
    Gauge.STUDIES,
    Gauge.SERIES,
    Gauge.INSTANCES,
    Gauge.INDEX_FAULT,
    Gauge.DISK_LOW,
)
_outbox_gauges: Final = (
    Gauge.OUTBOX_WAITING,
    Gauge.OUTBOX_SENDING,
    Gauge.OUTBOX_RETRYING,
    Gauge.OUTBOX_HELD,
    Gauge.OUTBOX_FAILED,
    Gauge.OUTBOX_DELIVERED,
    Gauge.OUTBOX_FAULT,
)
_prefetch_gauges: Final = (
    Gauge.PREFETCH_WAITING,
    Gauge.PREFETCH_RUNNING,
    Gauge.PREFETCH_RETRYING,
    Gauge.PREFETCH_FAILED,
    Gauge.PREFETCH_INCOMPLETE,
    Gauge.PREFETCH_DONE,
)


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """What the counters say of one receiver."""

    name: str
    accepted: int
    rejected: int
    stored_instances: int
    stored_bytes: int
    store_failures: int
    instances_per_s: float
    stored_bytes_per_s: float
    received_bytes_per_s: float
    journal_lag: int
    last_received: float  # Unix seconds; 0: never
    last_refused: float  # a presentation context; likewise
    last_refused_sop_class: str  # its UID, "other" if it is none of the standard's storage classes


class StatusReport(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `--json` prints the fields of `service` beside the others."""

    service: Status
    receivers: list[Numbers]
    index: dict[str, int]
    disk_free_bytes: int
    outbox: dict[str, int]  # empty: no remote AE is configured
    prefetch: dict[str, int]  # jobs by state; empty: no prefetch rule is
    away: list[Absence]
    index_cut: bool  # its file is shorter than it says, or cannot be read


@click.command()
@config_option
@data_option
@click.option("--json", "as_json", is_flag=True, help="One line of JSON instead of tables.")
def command(config_path: Path | None, data_directory: Path | None, as_json: bool) -> int:
    """Show processes, associations, rates and disk of the running service.

    It is told also when the configuration file is no longer good, with a warning.
    """
    data = data_of(config_path, data_directory)
    status = ask_status(data)
    segment = open_counters(data)
    if status is None or segment is None:
        click.echo(printable(f"no service runs on {data}"), err=True)
        return Exit.NEGATIVE
    report = _report(status, segment, data)
    if as_json:
        fields = msgspec.to_builtins(report)
        click.echo(msgspec.json.encode({**fields.pop("service"), **fields}).decode())
    else:
        _print(report)
    return Exit.OK


def _report(status: Status, segment: CounterSegment, data: Path) -> StatusReport:
    receivers = [process for process in status.processes if process.role == "receiver"]
    before = {process.name: _sample(segment, process) for process in receivers}
    start = time.monotonic()
    time.sleep(_interval_s)
    elapsed = time.monotonic() - start
    index = next(process for process in status.processes if process.role == "indexer")
    block = segment.block(index.counters_block)
    cut = segment.any_set(Gauge.INDEX_CUT)
    return StatusReport(
        service=status,
        receivers=[
            _numbers(segment, process, before[process.name], elapsed) for process in receivers
        ],
        index={gauge.name.lower(): block.get(gauge) for gauge in _index_gauges},
        disk_free_bytes=shutil.disk_usage(data).free,
        outbox=_outbox(status, segment),
        prefetch=_prefetch(status, segment),
        # Reading an index that is cut would end this command before it said so.
        away=absences(data) if _sender(status) and not cut else [],
        index_cut=cut,
    )


def _sender(status: Status) -> ProcessStatus | None:
    return next((one for one in status.processes if one.role == "sender"), None)


def _outbox(status: Status, segment: CounterSegment) -> dict[str, int]:
    sender = _sender(status)
    if sender is None:
        return {}
    block = segment.block(sender.counters_block)
    found = {
        gauge.name.lower().removeprefix("outbox_"): block.get(gauge) for gauge in _outbox_gauges
    }
    return found | {"associations": sender.associations}


def _prefetch(status: Status, segment: CounterSegment) -> dict[str, int]:
    retriever = next((one for one in status.processes if one.role == "retriever"), None)
    if retriever is None:
        return {}
    block = segment.block(retriever.counters_block)
    return {
        gauge.name.lower().removeprefix("prefetch_"): block.get(gauge) for gauge in _prefetch_gauges
    }


def _sample(segment: CounterSegment, process: ProcessStatus) -> list[int]:
    block = segment.block(process.counters_block)
    return [block.get(item) for item in _rated]


def _numbers(
    segment: CounterSegment, process: ProcessStatus, before: list[int], elapsed: float
) -> Numbers:
    block = segment.block(process.counters_block)
    after = _sample(segment, process)
    rates = [(new - old) / elapsed for new, old in zip(after, before, strict=True)]
    totals = {name: sum(map(block.get, items)) for name, items in _totals.items()}
    return Numbers(
        name=process.name,
        instances_per_s=rates[0],
        stored_bytes_per_s=rates[1],
        received_bytes_per_s=rates[2],
        journal_lag=journal_lag(segment, segment.head(process.counters_block)),
        last_received=block.get(Gauge.LAST_RECEIVED) / 1e9,
        last_refused=block.get(Gauge.LAST_REFUSED) / 1e9,
        last_refused_sop_class=REFUSED_CLASSES[block.get(Gauge.LAST_REFUSED_CLASS)],
        **totals,
    )


def _print(report: StatusReport) -> None:
    console = window()
    service = report.service
    console.print(
        Text(
            printable(
                f"scai {service.version}, {service.state} for {_span(service.uptime_s)}, pid "
                f"{service.pid}, durability {service.durability}, data in "
                f"{service.data_directory}, configuration "
                f"{service.configuration or 'by default'}"
            )
        )
    )
    if service.reload_refused:
        ago = _span(time.time() - service.reload_refused_at)
        text = f"the reload {ago} ago was refused, the old settings go on: {service.reload_refused}"
        console.print(Text(printable(text), style="bold"))
    _print_processes(service)
    _print_receivers(report)
    for numbers in report.receivers:
        if numbers.last_refused:
            console.print(Text(printable(_refused(numbers))))
    index = report.index
    console.print(
        f"index: {counted(index['patients'], 'patient', 'patients')}, "
        f"{counted(index['studies'], 'study', 'studies')}, {index['series']} series, "
        f"{counted(index['instances'], 'instance', 'instances')}; "
        f"disk: {_size(report.disk_free_bytes)} free"
    )
    if report.outbox:
        outbox = {name: count for name, count in report.outbox.items() if name != "fault"}
        console.print(f"outbox: {_states(outbox) or 'empty'}")
        if fault := report.outbox["fault"]:
            console.print(f"the outbox cannot be written: error {fault}", style="bold")
    for absence in report.away:
        console.print(Text(printable(absence.line), style="bold"))
    if report.prefetch:
        console.print(f"prefetches: {_states(report.prefetch) or 'none'}")
    if report.index_cut:
        console.print(Text(INDEX_CUT, style="bold"))
    if index["index_fault"]:
        console.print(f"the index cannot be written: error {index['index_fault']}", style="bold")
    if index["disk_low"]:
        console.print("the disk is nearly full: new instances are refused", style="bold")


def _refused(numbers: Numbers) -> str:
    """What a scanner that sends nothing was told, most likely: look into the log for it."""
    uid = numbers.last_refused_sop_class
    name = STORAGE_SOP_CLASSES.get(uid, "a class that is no storage class of the standard")
    ago = _span(time.time() - numbers.last_refused)
    return (
        f"{numbers.name}: last refused {ago} ago: a presentation context of {name}; the log's "
        "association_accepted says by whom and why"
    )


def _states(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _print_processes(service: Status) -> None:
    headings = ("process", "state", "pid", "cores", "up", "restarts")
    columns = [*(Column(name, whole=True) for name in headings)]
    rows = (
        Row(
            (
                process.name,
                process.state,
                process.pid or "-",
                as_ranges(process.cores),
                _span(process.uptime_s),
                process.restarts,
                process.last_fault or "-",
                process.placement,
            )
        )
        for process in service.processes
    )
    print_table([*columns, Column("last fault"), Column("why there")], rows)


def _print_receivers(report: StatusReport) -> None:
    headings = ("AE", "port", "open", "rejected", "instances", "failed", "now", "queue", "last")
    by_name = {numbers.name: numbers for numbers in report.receivers}
    rows = []
    for process in report.service.processes:
        numbers = by_name.get(process.name)
        if numbers is None:
            continue
        ago = time.time() - numbers.last_received
        cells = (
            process.ae_title,
            process.port,
            f"{process.associations} of {process.association_limit}",
            numbers.rejected,
            f"{numbers.stored_instances} ({_size(numbers.stored_bytes)})",
            numbers.store_failures,
            f"{numbers.instances_per_s:.1f}/s {_size(numbers.stored_bytes_per_s)}/s",
            numbers.journal_lag,
            f"{_span(ago)} ago" if numbers.last_received else "never",
        )
        rows.append(Row(cells))
    broken = ("instances", "now", "last")
    print_table((Column(name, whole=name not in broken) for name in headings), rows)


def _span(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _size(count: float) -> str:
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"
