"""`scai hl7 unmatched` and `forget`: what messages said of studies that may come, and its removal.

It is shown to operators with its patients, as `scai find` shows them; what is logged of a removal
has none of that. Texts of messages are hostile, and are escaped.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import click

from engine.dictionary.attributes import BY_TAG
from engine.dictionary.matching import plain
from engine.dictionary.patient_mark import patient_identity
from engine.errors import OperatorError
from engine.hl7.store import MessageStore, expectations
from engine.index.environment import INDEX_DIRECTORY, NoIndexError, View, open_index_reader
from engine.index.expected import Expectation
from tools.face.operator import operator, who_option
from tools.face.operators_log import note_order
from tools.face.options import config_option, json_option, load
from tools.face.tables import Column, Row, print_table
from tools.face.telling import tell
from tools.face.terminal import Exit, confirmed, counted, moment, one_line

_table_rows_default: Final = 50
_shown_max: Final = 20  # before they are forgotten; more are counted


@contextmanager
def looking(data_directory: Path) -> Iterator[View]:
    """The index as it stands. OperatorError: there is none."""
    try:
        reader = open_index_reader(data_directory)
    except NoIndexError as error:
        raise OperatorError(
            "nothing was stored yet: there is nothing a message could change", str(data_directory)
        ) from error
    with closing(reader), reader.view() as view:
        yield view


def subject(each: Expectation) -> str:
    """Whose, and of which order, in words."""
    issuer = f" of {each.issuer}" if each.issuer else ""
    order = f", accession number {each.accession}" if each.accession else ""
    study = f", study {each.study_uid}" if each.study_uid else ""
    return f"patient {each.patient_id}{issuer}{order}{study}"


def said(each: Expectation) -> str:
    """What is kept, in words."""
    return ", ".join(f"{BY_TAG[tag].keyword} {text!r}" for tag, text in each.values.items())


def fields_of(each: Expectation) -> dict[str, object]:
    """As JSON has it."""
    return {
        "received": moment(each.received_ns) if each.received_ns else "",
        "from": each.who,
        "patient_id": each.patient_id,
        "issuer": each.issuer,
        "accession_number": each.accession,
        "study_uid": each.study_uid,
        "says": {BY_TAG[tag].keyword: text for tag, text in each.values.items()},
    }


# --- unmatched ----------------------------------------------------------------------------------
@click.command()
@config_option
@json_option
@click.option("--limit", type=click.IntRange(min=1), help="At most so many; a table: 50.")
def unmatched(config_path: Path | None, as_json: bool, limit: int | None) -> int:
    """List what messages said that no study contradicts: it is kept for those that come later.

    The oldest first, which is forgotten first. Exit code 1 when there is none.
    """
    config = load(config_path).config
    limit = limit or (sys.maxsize if as_json else _table_rows_default)
    listed: list[Expectation] = []
    total = 0
    with looking(config.data_path) as view:
        total = view.count("expected")
        for each in expectations(view):
            if len(listed) >= limit:
                break
            listed.append(each)
    if as_json:
        for each in listed:
            click.echo(json.dumps(fields_of(each)))
    elif listed:
        _print_table(listed)
        if len(listed) < total:
            click.echo(f"the oldest {len(listed)} of {total}; more with --limit", err=True)
    else:
        click.echo("nothing is kept", err=True)
    return Exit.OK if listed else Exit.NEGATIVE


def _print_table(listed: list[Expectation]) -> None:
    headings = ("from", "patient", "issuer", "accession", "study", "says")
    columns = [Column("received", whole=True), *map(Column, headings)]
    rows = (
        Row(
            (
                moment(each.received_ns, "seconds"),
                each.who,
                each.patient_id,
                each.issuer,
                each.accession,
                each.study_uid,
                said(each),
            )
        )
        for each in listed
    )
    print_table(columns, rows)


# --- forget -------------------------------------------------------------------------------------
class _Meant(NamedTuple):
    """What is to be forgotten: all of a patient, or of one of his orders, or of one study."""

    patient: str
    issuer: str
    accession: str | None
    study: str | None

    def fits(self, each: Expectation) -> bool:
        identity = patient_identity(self.patient, self.issuer)
        if patient_identity(each.patient_id, each.issuer) != identity:
            return False
        if self.accession is not None and plain(each.accession) != plain(self.accession):
            return False
        return self.study is None or each.study_uid == self.study


@click.command()
@config_option
@click.option("--patient", required=True, metavar="ID", help="As `scai hl7 unmatched` shows it.")
@click.option("--issuer", metavar="TEXT", default="", help="Issuer of that Patient ID.")
@click.option("--accession", metavar="NUMBER", help="Only of this order.")
@click.option("--study", metavar="UID", help="Only of this study.")
@who_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def forget(
    config_path: Path | None,
    patient: str,
    issuer: str,
    accession: str | None,
    study: str | None,
    who: str | None,
    yes: bool,
    as_json: bool,
) -> int:
    """Forget what messages said of a patient or an order, so that no study to come is corrected.

    What is corrected already stays so: `scai edit --withdraw` takes that back. Exit code 1 when
    nothing of it is kept, or you say no.
    """
    data_directory = load(config_path).config.data_path
    orderer = operator(who)
    meant = _Meant(patient, issuer, accession, study)
    if not (data_directory / INDEX_DIRECTORY).is_dir():
        raise OperatorError("nothing was stored yet", str(data_directory))
    with closing(MessageStore(data_directory)) as store:
        chosen: list[Expectation] = []
        others: set[str] = set()  # issuers that the identifier is kept with besides
        with store.view() as view:
            for each in expectations(view):
                if meant.fits(each):
                    chosen.append(each)
                elif each.patient_id == patient and each.issuer != issuer:
                    others.add(each.issuer)
        if not chosen:
            click.echo(one_line(f"nothing of it is kept{_hint(others)}"), err=True)
            return Exit.NEGATIVE
        if not yes and not _confirmed(chosen):
            click.echo("nothing was changed", err=True)
            return Exit.NEGATIVE
        forgotten = store.forget(chosen)
    note_order(data_directory, orderer, "hl7_forget", messages=len(forgotten))
    for each in forgotten:
        tell(as_json, one_line(f"forgotten: {subject(each)}: {said(each)}"), **fields_of(each))
    if len(forgotten) < len(chosen):
        left = counted(len(chosen) - len(forgotten), "was", "were")
        click.echo(f"{left} said anew or used meanwhile, and left alone", err=True)
    return Exit.OK if forgotten else Exit.NEGATIVE


def _hint(issuers: set[str]) -> str:
    named = ", ".join(sorted(map(repr, issuers)))
    return f"; of that identifier something is, with the issuer {named} (--issuer)" if named else ""


def _confirmed(chosen: list[Expectation]) -> bool:
    for each in chosen[:_shown_max]:
        when = moment(each.received_ns, "seconds")
        text = f"{subject(each)}: {said(each)} (from {each.who}, {when})"
        click.echo(one_line(text), err=True)
    if len(chosen) > _shown_max:
        click.echo(f"... and {len(chosen) - _shown_max} more", err=True)
    question = counted(len(chosen), "expectation", "expectations")
    return confirmed(f"Forget {question}? Studies that come are not corrected by it")
