"""What `scai queue` shows of deliveries: their fields, and tables of them.

UIDs, names of remote AEs and what peers answered; nothing of a patient. Texts come from peers and
files: in a table what could steer a terminal is escaped, in JSON the encoder does it.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click

from engine.outbox_records import Delivery, State
from tools.terminal import printable

_piped_width: Final = 250  # nobody's window sets a bound
STATE_NAMES: Final = {state.name.lower(): state for state in State}
_CELLS: Final = (
    ("No.", "number"),
    ("Destination", "destination"),
    ("State", "state"),
    ("Attempts", "attempts"),
    ("Queued", "queued"),
    ("Next", "due"),
    ("Reason", "reason"),
    ("SOP Instance UID", "sop_instance_uid"),
)


def fields_of(delivery: Delivery) -> dict[str, Any]:
    """One delivery, as a JSON line has it. `due`: only of one that is tried again."""
    return {
        "number": delivery.number,
        "destination": delivery.destination,
        "state": delivery.state.name.lower(),
        "attempts": delivery.attempts,
        "status": None if delivery.status < 0 else f"{delivery.status:04X}",
        "warning": delivery.warning,
        "reason": delivery.reason,
        "origin": delivery.origin,
        "queued": moment(delivery.queued_ns),
        "changed": moment(delivery.changed_ns),
        "due": moment(delivery.due_ns) if delivery.state is State.RETRYING else None,
        "study_instance_uid": delivery.study_uid,
        "series_instance_uid": delivery.series_uid,
        "sop_instance_uid": delivery.sop_instance_uid,
        "sop_class_uid": delivery.sop_class_uid,
        "transfer_syntax_uid": delivery.transfer_syntax_uid,
        "file_bytes": delivery.file_bytes,
        "file": delivery.file,
    }


def moment(nanoseconds: int) -> str:
    when = datetime.fromtimestamp(nanoseconds / 1e9, UTC)
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")


def print_deliveries(deliveries: Iterable[Delivery]) -> None:
    """A row for each."""
    rows = []
    for delivery in deliveries:
        fields = fields_of(delivery)
        rows.append([fields[name] for _, name in _CELLS])
    _print_table([heading for heading, _ in _CELLS], rows)


def print_fields(fields: Mapping[str, Any]) -> None:
    """One delivery on lines of its own."""
    width = max(map(len, fields))
    for name, value in fields.items():
        click.echo(f"{name:<{width}}  {_text(value)}".rstrip())


def print_summary(
    counts: Mapping[tuple[str, State], int], remarks: Mapping[str, str], names: Iterable[str]
) -> None:
    """How many there are, by destination and state. `remarks`: on a destination as a whole."""
    rows = [
        [name, *(counts.get((name, state), 0) for state in State), remarks.get(name, "")]
        for name in names
    ]
    headings = ["Destination", *(state.name.capitalize() for state in State), ""]
    _print_table(headings, rows)


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=heading.endswith("UID"), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_text(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else _piped_width).print(table)


def _text(value: object) -> str:
    return "" if value is None else printable(str(value)).replace("\n", "\\n")
