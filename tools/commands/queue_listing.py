"""What `scai queue` shows of deliveries: their fields, and tables of them.

UIDs, names of remote AEs and what peers answered; nothing of a patient. Texts come from peers and
files: in a table what could steer a terminal is escaped, in JSON the encoder does it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import click

from engine.outbox.records import Away, Delivery, State
from tools.face.tables import Column, Row, print_table
from tools.face.terminal import counted, moment, one_line

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
        "queued": moment(delivery.queued_ns, "seconds"),
        "changed": moment(delivery.changed_ns, "seconds"),
        "due": moment(delivery.due_ns, "seconds") if delivery.state is State.RETRYING else None,
        "study_instance_uid": delivery.study_uid,
        "series_instance_uid": delivery.series_uid,
        "sop_instance_uid": delivery.sop_instance_uid,
        "sop_class_uid": delivery.sop_class_uid,
        "transfer_syntax_uid": delivery.transfer_syntax_uid,
        "file_bytes": delivery.file_bytes,
        "file": delivery.file,
    }


def absence(away: Away | None) -> str:
    """What is said of a destination that cannot be reached; "": it can be."""
    if away is None:
        return ""
    times = counted(away.asked, "time", "times")
    since, due = moment(away.since_ns, "seconds"), moment(away.due_ns, "seconds")
    return f"away since {since}: {away.reason}; asked {times}, next {due}"


def print_deliveries(deliveries: Iterable[Delivery]) -> None:
    """A row for each."""
    listed = map(fields_of, deliveries)
    print_table(
        (Column(heading) for heading, _ in _CELLS),
        (Row([fields[name] for _, name in _CELLS]) for fields in listed),
    )


def print_fields(fields: Mapping[str, Any]) -> None:
    """One delivery on lines of its own."""
    width = max(map(len, fields))
    for name, value in fields.items():
        text = "" if value is None else one_line(str(value))
        click.echo(f"{name:<{width}}  {text}".rstrip())


def print_summary(
    counts: Mapping[tuple[str, State], int], remarks: Mapping[str, str], names: Iterable[str]
) -> None:
    """How many there are, by destination and state. `remarks`: on a destination as a whole."""
    rows = (
        Row([name, *(counts.get((name, state), 0) for state in State), remarks.get(name)])
        for name in names
    )
    headings = ("Destination", *(state.name.capitalize() for state in State), "")
    print_table(map(Column, headings), rows)
