"""`scai hl7`: what a message would change, how the listener fares, and what is kept for later.

`test` reads the index and changes nothing: it is made by the rules that the listener works by.
Texts of messages are hostile, and are escaped.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from engine.errors import OperatorError
from engine.hl7.framing import END, START
from engine.hl7.instructions import Merge, Order, Terms, Update, instructions_of
from engine.hl7.message import Message
from engine.hl7.refusal import RefusedError
from engine.hl7.sheet import Sheet
from engine.hl7.store import read, written
from engine.hl7.terms import terms_of
from engine.hl7.values import Identity
from engine.index.corrections import Edit
from engine.index.environment import View
from engine.index.freshness import catch_up
from engine.limits import hl7_message_bytes_max
from engine.settings.entities import character_sets_of_all
from engine.telemetry.counters import open_counters
from engine.telemetry.metrics import Counter, Gauge, ProcessState, labels_of
from tools.commands.changes import change_fields
from tools.commands.hl7_kept import fields_of, forget, looking, said, subject, unmatched
from tools.face.options import config_option, json_option, load
from tools.face.tables import Column, Row, print_table
from tools.face.terminal import Exit, counted, moment, one_line


@click.group(name="hl7")
def command() -> None:
    """Messages about patients and orders: try one, see how the listener fares.

    \b
    scai hl7 test message.hl7
    scai hl7 status
    scai hl7 unmatched
    scai hl7 forget --patient ID --accession NUMBER
    """


command.add_command(unmatched)
command.add_command(forget)


# --- test ---------------------------------------------------------------------------------------
@command.command()
@config_option
@json_option
@click.argument("file", type=click.File("rb"))
def test(config_path: Path | None, as_json: bool, file: BinaryIO) -> int:
    """Say what the message in FILE would change, and change nothing; `-`: standard input.

    Exit code 1 when it would be refused, or would change nothing.
    """
    config = load(config_path).config
    terms = terms_of(config.hl7, character_sets_of_all(config.remotes))
    content = file.read(hl7_message_bytes_max + 1)
    if len(content) > hl7_message_bytes_max:
        raise OperatorError(f"is longer than {hl7_message_bytes_max} bytes", str(file.name))
    content = content.strip(bytes((START, END)) + b"\r\n ").replace(b"\n", b"\r") + b"\r"
    catch_up(config.data_path)
    try:
        message = read(content, terms)
        with looking(config.data_path) as view:
            sheet = written(view, message, terms, time.time_ns())
            hints = list(_hints(view, message, terms))
    except RefusedError as refused:
        answer = {"answer": refused.answer, "text": str(refused), "error": int(refused.code)}
        click.echo(json.dumps(answer) if as_json else one_line(f"{refused.answer}: {refused}"))
        return Exit.NEGATIVE
    if as_json:
        click.echo(json.dumps(_fields_of(message, sheet, hints)))
    else:
        _print(sheet, hints)
    return Exit.OK if sheet.edits or sheet.kept else Exit.NEGATIVE


def _print(sheet: Sheet, hints: list[str]) -> None:
    for edit in sheet.edits:
        click.echo(one_line(f"{_whose(edit)}  {edit.keyword}: {edit.old!r} -> {edit.new!r}"))
    for each in sheet.kept:
        click.echo(one_line(f"kept for studies to come, {subject(each)}: {said(each)}"))
    for text in (*dict.fromkeys(sheet.notes), *hints):
        click.echo(one_line(f"note: {text}"))
    studies = counted(len(sheet.studies), "study", "studies")
    click.echo(f"AA: {studies} would be corrected; nothing was changed by this command")


def _whose(edit: Edit) -> str:
    issuer = f" of {edit.issuer}" if edit.issuer else ""
    if edit.whose == "patient":
        return f"patient {edit.identifier}{issuer}"
    return f"{edit.whose} {edit.identifier} of patient {edit.patient}{issuer}"


def _fields_of(message: Message, sheet: Sheet, hints: list[str]) -> dict[str, object]:
    header = message.header
    return {
        "answer": "AA",
        "kind": header.kind,
        "sender": header.sender,
        "control_id": header.control_id,
        "studies": len(sheet.studies),
        "changes": [change_fields(edit) for edit in sheet.edits],
        "kept": [fields_of(each) for each in sheet.kept],
        "notes": [*dict.fromkeys(sheet.notes), *hints],
    }


def _hints(view: View, message: Message, terms: Terms) -> Iterator[str]:
    """What the operator may have to set."""
    named = set[Identity]()
    for instruction in instructions_of(message, terms):
        if isinstance(instruction, Merge):
            named.add(instruction.prior)
        elif isinstance(instruction, Update | Order):
            named.add(instruction.patient)
    for patient in sorted(named):
        without = view.patient_number(patient.identifier, "") is not None
        if patient.issuer and patient.issuer not in terms.local_authorities and without:
            yield (
                f"images of this identifier are here without an issuer: if {patient.issuer} gave "
                "it, name that in hl7.local_authorities"
            )


# --- status -------------------------------------------------------------------------------------
@command.command()
@config_option
@json_option
def status(config_path: Path | None, as_json: bool) -> int:
    """Show what the listener has answered since the service began, and how it fares.

    Exit code 1 when it does not run.
    """
    config = load(config_path).config
    segment = open_counters(config.data_path)
    heads = [] if segment is None else [one for one in segment.heads() if one.role == "hl7"]
    head = next((one for one in heads if one.state is not ProcessState.ABSENT), None)
    if segment is None or head is None:
        why = "" if config.hl7.enabled else ": hl7.enabled is false"
        click.echo(f"no HL7 listener runs{why}", err=True)
        return Exit.NEGATIVE
    block = segment.block(head.index)
    answered = {
        (labels["kind"], labels["answer"]): block.get(item)
        for item in Counter
        if item.row.family == "hl7_messages_total" and (labels := labels_of(item.row))
    }
    last_ns = block.get(Gauge.HL7_LAST)
    numbers: dict[str, object] = {
        "state": head.state.name.lower(),
        "connections": block.get(Gauge.HL7_OPEN),
        "last_message": moment(last_ns, "seconds") if last_ns else "",
        "lag_seconds": round(block.get(Gauge.HL7_LAG) / 1e9, 3),
        "corrections": block.get(Counter.HL7_CORRECTIONS),
        "replayed": block.get(Counter.HL7_REPLAYED),
        "unmatched": block.get(Counter.HL7_UNMATCHED),
        "kept": block.get(Gauge.HL7_KEPT),
        "fault_errno": block.get(Gauge.HL7_FAULT),
    }
    kinds = dict.fromkeys(kind for kind, _ in answered)
    if as_json:
        messages = {
            kind: {answer: n for (of, answer), n in answered.items() if of == kind}
            for kind in kinds
        }
        click.echo(json.dumps({**numbers, "messages": messages}))
        return Exit.OK
    for name, value in numbers.items():
        click.echo(f"{name.replace('_', ' '):<14}{value}")
    columns = (
        Column("messages", whole=True),
        *(Column(answer, whole=True, right=True) for answer in ("AA", "AE", "AR")),
    )
    rows = (
        Row((kind, *(answered[kind, answer] for answer in ("AA", "AE", "AR")))) for kind in kinds
    )
    print_table(columns, rows)
    return Exit.OK
