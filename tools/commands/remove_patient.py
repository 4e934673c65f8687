"""`scai remove --patient ID`: all that is stored and known of a patient, because he wants it gone.

First every study of his is removed, then what the index knows besides. What cannot be reached from
here is named, with what has to be done about it.
"""

import json
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import click

from engine.config.loading import Config
from engine.dictionary.attributes import PATIENT_NAME
from engine.dictionary.patient_mark import patient_mark
from engine.files.tree import SET_ASIDE_DIRECTORY
from engine.index.environment import View
from engine.index.freshness import catch_up
from engine.index.stored_head import whose_file
from engine.removal.erasure import shown_as
from engine.removal.obstacles import obstacles_of
from engine.removal.orders import Level, Order, Outcome, Progress, meant
from tools.commands.removing import holding
from tools.face.operators_log import note_order
from tools.face.terminal import Exit, confirmed, counted, one_line

LEFT: Final = (
    "the journals' segments, until they are used again (as new instances come)",
    "free pages of the index's file, until they are used again",
    "backups and exports, and what was sent to remote AEs",
    "the service's log and operators.log: UIDs, no names",
    "rejected/ of watched folders",
)


class Patient(NamedTuple):
    """Who is meant, by the identifier received."""

    patient_id: str
    issuer: str


class _Stored(NamedTuple):
    """What there is of him to be removed first."""

    orders: list[Order]
    instances: int
    names: list[str]
    texts: list[str]  # what stands against it
    firm: bool


def remove_patient(
    config: Config, patient: Patient, who: str, force: bool, yes: bool, as_json: bool
) -> int:
    """Exit.NEGATIVE: not all of it, or nothing, was removed."""
    mark = patient_mark(patient.patient_id, patient.issuer)
    with holding(config) as holder, closing(holder.reader()) as reader:
        if not catch_up(config.data_path):
            click.echo("the index is behind: what comes after this is not meant", err=True)
        with reader.view() as view:
            found = _stored(view, patient, who, force)
            others = shown_as(view, *patient)
        if not _may_go(found, force):
            return Exit.NEGATIVE
        question = (
            f"Erase all that is stored and known of patient {patient.patient_id} "
            f"({counted(len(found.orders), 'study', 'studies')}, "
            f"{counted(found.instances, 'instance', 'instances')}) for good?"
        )
        if not yes and not confirmed(question):
            click.echo("nothing was removed", err=True)
            return Exit.NEGATIVE
        instances = 0
        for order in found.orders:
            outcome = holder.remove(reader, order)
            instances += outcome.instances
            if outcome.progress is not Progress.DONE:
                return _stopped(outcome, instances)
        order = Order("", "patient", patient.patient_id, mark, who, "", issuer=patient.issuer)
        outcome = holder.remove(reader, order)
    note_order(config.data_path, who, "erase", studies=len(found.orders), instances=instances)
    if outcome.progress is not Progress.DONE:
        return _stopped(outcome, instances)
    studies, left = len(found.orders), _left(config.data_path, mark, others)
    if as_json:
        fields = {"studies": studies, "instances": instances, "erased": outcome.erased}
        click.echo(json.dumps({**fields, "left": left}))
        return Exit.OK
    counts = counted(studies, "study", "studies"), counted(instances, "instance", "instances")
    click.echo(f"removed {', '.join(counts)}")
    for kind, count in sorted(outcome.erased.items()):
        click.echo(f"{kind}: {count} erased")
    click.echo("left, and not ours to reach now:")
    for text in left:
        click.echo(one_line(f"  {text}"))
    return Exit.OK


def _stored(view: View, patient: Patient, who: str, force: bool) -> _Stored:
    mark = patient_mark(*patient)
    number = view.patient_number(*patient)
    studies = [] if number is None else [one for one in view.studies() if one[1].patient == number]
    orders, texts, firm, instances = [], [], False, 0
    for _, study in studies:
        level: Level = "study" if study.uid else "instance"
        uid = study.uid or study.alone
        order = Order("", level, uid, mark, who, "", force, undelivered=True)
        found = list(meant(view, order))
        instances += len(found)
        orders.append(order)
        for obstacle in obstacles_of(view, order, found):
            texts.append(f"study {study.uid}: {obstacle.text}")
            firm |= obstacle.firm
    names = list(dict.fromkeys(study.value(PATIENT_NAME) for _, study in studies))
    return _Stored(orders, instances, names, texts, firm)


def _may_go(found: _Stored, force: bool) -> bool:
    for name in found.names:
        click.echo(one_line(f"shown as {name!r}"), err=True)
    for text in found.texts:
        click.echo(one_line(f"  {text}"), err=True)
    if found.firm:
        click.echo("nothing was removed: try again when that has ended", err=True)
    elif found.texts and not force:
        click.echo("nothing was removed: --force removes it nevertheless", err=True)
    return not found.firm and (force or not found.texts)


def _stopped(outcome: Outcome, instances: int) -> int:
    removed = counted(instances, "instance", "instances")
    click.echo(f"removed {removed}; the rest was not:", err=True)
    for text in outcome.texts:
        click.echo("  " + one_line(text), err=True)
    return Exit.NEGATIVE


def _left(data_directory: Path, mark: str, others: list[tuple[str, str]]) -> list[str]:
    """What of him may still be where, and what he is called besides."""
    left = list(LEFT)
    aside = data_directory / SET_ASIDE_DIRECTORY
    for path in sorted(aside.rglob("*")):
        if path.is_file() and not path.is_symlink() and whose_file(str(path)) == mark:
            left.append(f"{path}: remove it by hand")
    for patient_id, issuer in others:
        of = f" of {issuer!r}" if issuer else ""
        left.append(f"shown under this identifier, and received as {patient_id!r}{of}")
    return left
