"""`scai remove`: takes a study, a series or an instance out, for good, and remembers that it did.

The indexer removes, on request; when no service runs the command does it itself, under the same
lock. What somebody still waits for is named, and goes only with --force; what is being sent or
fetched at this moment never does.
"""

import json
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import click
import msgspec

from engine.dictionary.attributes import PATIENT_ID, PATIENT_NAME
from engine.errors import OperatorError
from engine.index import tombstones
from engine.index.environment import View, open_index_reader
from engine.index.freshness import catch_up
from engine.index.records import Study
from engine.index.tombstones import Removed
from engine.outbox.delivered import DeliveredOf
from engine.removal.obstacles import Obstacle, never_delivered, obstacles_of
from engine.removal.orders import Level, Order, Outcome, Progress, meant
from tools.commands.find_removed import delivered_text
from tools.commands.remove_patient import Patient, remove_patient
from tools.commands.removing import holding
from tools.commands.selection import Selection, stored
from tools.face.operator import operator, who_option
from tools.face.operators_log import note_order
from tools.face.options import config_option, json_option, load
from tools.face.telling import tell
from tools.face.terminal import Exit, confirmed, counted, is_text, moment, one_line

MIB: Final = 1 << 20


class _Found(NamedTuple):
    """What an order means, as it is now."""

    order: Order
    study: Study
    instances: int
    file_bytes: int
    obstacles: list[Obstacle]


@click.command(name="remove")
@config_option
@click.option("--study", metavar="UID", help="One study.")
@click.option("--series", metavar="UID", help="One series.")
@click.option("--instance", metavar="UID", help="One instance.")
@click.option("--patient", metavar="ID", help="Whose, or all of whom, by the Patient ID received.")
@click.option("--issuer", metavar="TEXT", default="", help="Issuer of that Patient ID.")
@click.option("--why", metavar="TEXT", default="", help="The reason, for the history.")
@who_option
@click.option("--force", is_flag=True, help="Also what is queued, or was never delivered.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--history", "show_history", is_flag=True, help="Show what was removed, and by whom.")
@json_option
def command(
    config_path: Path | None,
    study: str | None,
    series: str | None,
    instance: str | None,
    patient: str | None,
    issuer: str,
    why: str,
    who: str | None,
    force: bool,
    yes: bool,
    show_history: bool,
    as_json: bool,
) -> int:
    """Remove what is stored, for good. Corrections and their history stay, but for --patient alone.

    \b
    scai remove --study 1.2.3 --why 'sent by mistake'
    scai remove --series 1.2.3.4 --yes
    scai remove --patient 4711                  (all that is known of a patient)
    scai remove --history

    What is still to be sent, or was never delivered to anybody, is named and stays without --force.
    Exit code 1: nothing, or not all, was removed.
    """
    config = load(config_path).config
    if show_history:
        return _show_history(config.data_path, as_json)
    if not is_text(why):
        raise OperatorError("is no UTF-8 text", "--why")
    if patient is not None and (study, series, instance) == (None, None, None):
        return remove_patient(config, Patient(patient, issuer), operator(who), force, yes, as_json)
    level, uid = _named(study, series, instance)
    uids = {each: [uid] if each == level else [] for each in ("study", "series", "instance")}
    selection = Selection(uids["study"], uids["series"], uids["instance"], patient, issuer)
    with holding(config) as holder, closing(holder.reader()) as reader:
        if not catch_up(config.data_path):
            click.echo("the index is behind: what comes after this is not meant", err=True)
        with reader.view() as view:
            found = _find(view, selection, level, uid, (operator(who), why, force))
        if not _may_go(found, force):
            return Exit.NEGATIVE
        if not yes and not confirmed(f"Remove {level} {uid} for good?"):
            click.echo("nothing was removed", err=True)
            return Exit.NEGATIVE
        outcome = holder.remove(reader, found.order)
    if outcome.instances:
        counts = {"instances": outcome.instances, "discarded": outcome.discarded}
        note_order(config.data_path, found.order.who, "remove", **counts, **selection.uids)
    return _report(outcome, as_json)


def _named(study: str | None, series: str | None, instance: str | None) -> tuple[Level, str]:
    levels: tuple[Level, ...] = ("study", "series", "instance")
    given = zip(levels, (study, series, instance), strict=True)
    named = [(level, uid) for level, uid in given if uid is not None]
    if len(named) != 1:
        raise OperatorError("say what: one of --study, --series and --instance, or --patient alone")
    return named[0]


def _find(
    view: View, selection: Selection, level: Level, uid: str, said: tuple[str, str, bool]
) -> _Found:
    first = next(stored(view, selection), None)
    if first is None:
        raise OperatorError(f"no {level} of this UID is stored here", uid)
    study = view.study_of_series(first[0])
    who, why, force = said
    order = Order("", level, uid, study.patient_mark, who, why, force)
    found = list(meant(view, order))
    numbers = {one.study_number for one in found}
    records = {number: view.study(number) for number in numbers}
    delivered = {number: DeliveredOf(view, it.uid if it else "") for number, it in records.items()}
    obstacles = obstacles_of(view, order, found)
    obstacles += never_delivered(view, order, found, delivered)
    file_bytes = sum(one.instance.file_bytes for one in found)
    return _Found(order, study, len(found), file_bytes, obstacles)


def _may_go(found: _Found, force: bool) -> bool:
    """Say what it is and what stands against it; whether that leaves anything to ask."""
    study = found.study
    name, patient = study.value(PATIENT_NAME), study.value(PATIENT_ID)
    click.echo(one_line(f"patient {patient!r}, {name!r}"), err=True)
    size = f"{_instances(found.instances)}, {found.file_bytes / MIB:.1f} MiB"
    click.echo(one_line(f"study {study.uid}: {size}"), err=True)
    for obstacle in found.obstacles:
        click.echo(one_line(f"  {obstacle.text}"), err=True)
    if any(obstacle.firm for obstacle in found.obstacles):
        click.echo("nothing was removed: try again when that has ended", err=True)
        return False
    if found.obstacles and not force:
        click.echo("nothing was removed: --force removes it nevertheless", err=True)
        return False
    return True


def _report(outcome: Outcome, as_json: bool) -> int:
    if as_json:
        fields = msgspec.structs.asdict(outcome) | {
            "progress": outcome.progress.name.lower(),
            "delivered": delivered_text(outcome.delivered),
        }
        click.echo(json.dumps(fields))
        return Exit.OK if outcome.progress is Progress.DONE else Exit.NEGATIVE
    if outcome.instances:
        size = f"{outcome.file_bytes / MIB:.1f} MiB"
        click.echo(f"removed {_instances(outcome.instances)}, {size}")
    if outcome.discarded:
        click.echo(f"{counted(outcome.discarded, 'delivery', 'deliveries')} will not be made")
    if outcome.delivered:
        click.echo(one_line(f"they had been delivered to {delivered_text(outcome.delivered)}"))
    if outcome.progress is Progress.DONE:
        return Exit.OK
    click.echo("not removed:" if not outcome.instances else "the rest was not:", err=True)
    for text in outcome.texts:
        click.echo("  " + one_line(text), err=True)
    return Exit.NEGATIVE


def _instances(count: int) -> str:
    return counted(count, "instance", "instances")


def _show_history(data_directory: Path, as_json: bool) -> int:
    with closing(open_index_reader(data_directory)) as reader, reader.view() as view:
        lines = list(tombstones.removals_so_far(view))
    for line in lines:
        tell(as_json, _line(line), **_fields_of(line))
    if not lines:
        click.echo("nothing was removed", err=True)
    return Exit.OK if lines else Exit.NEGATIVE


def _fields_of(line: Removed) -> dict[str, object]:
    return {
        "when": moment(line.when_ns, "seconds"),
        "who": line.who,
        "why": line.why,
        "level": line.level,
        "uid": line.uid,
        "instances": line.instances,
        "file_bytes": line.file_bytes,
        "discarded": line.discarded,
        "delivered": delivered_text(line.delivered),
    }


def _line(line: Removed) -> str:
    when = moment(line.when_ns, "seconds")
    why = f", {line.why!r}" if line.why else ""
    deliveries = counted(line.discarded, "delivery", "deliveries")
    lost = f", {deliveries} discarded" if line.discarded else ""
    what = f"{line.level} {line.uid}: {_instances(line.instances)}"
    to = delivered_text(line.delivered)
    return one_line(f"{when}  {line.who}{why}  {what}, delivered to {to}{lost}")
