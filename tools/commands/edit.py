"""`scai edit`: corrects patient, study and series information, and shows what was corrected.

The correction is kept beside what was received; what is shown, found and sent carries it, the
stored file stays as it came. Works while the service runs and when it does not.
"""

import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Final

import click

from engine.dictionary.attributes import Attribute
from engine.errors import OperatorError
from engine.index import corrections
from engine.index.corrections import Edit, Target
from engine.index.edit import (
    Edited,
    IndexEditor,
    Preview,
    history,
    open_index_editor,
    preview,
    resolved,
    standing,
)
from engine.index.freshness import catch_up
from engine.settings.entities import character_sets_of_all
from tools.commands.changes import change_fields
from tools.face.operator import operator, who_option
from tools.face.operators_log import note_order
from tools.face.options import config_option, json_option, load
from tools.face.telling import tell
from tools.face.terminal import Exit, confirmed, counted, is_text, moment, one_line, printable

_shown_max: Final = 3  # texts that stand now: more are counted


@click.command(name="edit")
@config_option
@click.option(
    "--patient",
    metavar="ID",
    help="A patient, by the Patient ID received; with --study or --series: whose.",
)
@click.option("--issuer", metavar="TEXT", default="", help="Issuer of that Patient ID.")
@click.option("--study", metavar="UID", help="One study.")
@click.option("--series", metavar="UID", help="One series.")
@click.option("--withdraw", multiple=True, metavar="KEYWORD", help="Back to what was received.")
@who_option
@click.option("--history", "show_history", is_flag=True, help="Show who changed what, and when.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.argument("assignments", nargs=-1, metavar="[KEYWORD=VALUE]...")
def command(
    config_path: Path | None,
    patient: str | None,
    issuer: str,
    study: str | None,
    series: str | None,
    withdraw: tuple[str, ...],
    who: str | None,
    show_history: bool,
    yes: bool,
    as_json: bool,
    assignments: tuple[str, ...],
) -> int:
    """Correct patient, study or series information: what is shown and sent carries it.

    \b
    scai edit --study 1.2.3 PatientName='Doe^Jane' StudyDescription='Head'
    scai edit --patient 4711 PatientBirthDate=19700101
    scai edit --study 1.2.3 --withdraw StudyDescription
    scai edit --study 1.2.3 --history
    """
    config = load(config_path).config
    data_directory = config.data_path
    target = _target(patient, issuer, study, series)
    with closing(open_index_editor(data_directory)) as editor:
        catch_up(data_directory)
        if show_history:
            return _show_history(editor, target, as_json)
        if target is None:
            raise OperatorError("say what to correct: --patient, --study or --series")
        changes = _changes(target, assignments, withdraw)
        if not changes:
            return _show_standing(editor, target, as_json)
        with editor.reader().view() as view:
            target = resolved(view, target)
            seen = preview(view, target, changes)
        if not yes and not _confirmed(target, changes, seen):
            click.echo("nothing was changed", err=True)
            return Exit.NEGATIVE
        allowed = character_sets_of_all(config.remotes)
        edited = editor.edit(target, changes, operator(who), time.time_ns(), allowed)
        _note(data_directory, edited, target, operator(who))
    _report(edited, target, as_json)
    return Exit.OK


def _target(
    patient: str | None, issuer: str, study: str | None, series: str | None
) -> Target | None:
    given = [name for name in (patient, study, series) if name is not None]
    if not given:
        return None
    if study is not None and series is not None:
        raise OperatorError("one of --study and --series at a time")
    if study is not None:
        return Target("study", study, issuer, patient)
    if series is not None:
        return Target("series", series, issuer, patient)
    return Target("patient", str(patient), issuer)


def _changes(
    target: Target, assignments: Iterable[str], withdraw: Iterable[str]
) -> dict[Attribute, str | None]:
    changes: dict[Attribute, str | None] = {}
    for assignment in assignments:
        keyword, equals, value = assignment.partition("=")
        if not equals:
            raise OperatorError(f"{assignment!r} should be KEYWORD=VALUE")
        if not is_text(assignment):
            raise OperatorError(f"{assignment!r} is no UTF-8 text")
        attribute = corrections.attribute_to_edit(target.whose, keyword)
        changes[attribute] = corrections.check_value(attribute, value)
    for keyword in withdraw:
        changes[corrections.attribute_to_edit(target.whose, keyword)] = None
    return changes


def _confirmed(target: Target, changes: dict[Attribute, str | None], seen: Preview) -> bool:
    """Whose, what it is and would be, and how much: so that a wrong UID is seen in time."""
    for patient, name in seen.patients:
        click.echo(one_line(f"patient {patient!r}, {name!r}"), err=True)
    for attribute, text in changes.items():
        before = seen.before[attribute.keyword]
        shown = " or ".join(map(repr, before[:_shown_max]))
        more = f" or {len(before) - _shown_max} others" if len(before) > _shown_max else ""
        after = "as received" if text is None else repr(text)
        click.echo(printable(f"{attribute.keyword}: {shown}{more} -> {after}"), err=True)
    of_patient = "" if target.patient is None else f" of patient {target.patient!r}"
    studies = counted(seen.studies, "study", "studies")
    instances = counted(seen.instances, "instance", "instances")
    touched = instances if target.whose == "series" else f"{studies}, {instances}"
    return confirmed(f"Correct {target.whose} {target.identifier}{of_patient} ({touched})?")


def _note(data_directory: Path, edited: Edited, target: Target, who: str) -> None:
    """Who corrected what kind of thing; texts and patients stand in the index's history alone."""
    if edited.edits:
        uid = {} if target.whose == "patient" else {f"{target.whose}_uid": target.identifier}
        keywords = [edit.keyword for edit in edited.edits]
        fields = {"whose": target.whose, "keywords": keywords, "touched": edited.touched}
        note_order(data_directory, who, "correct", **fields, **uid)


def _report(edited: Edited, target: Target, as_json: bool) -> None:
    if as_json:
        for edit in edited.edits:
            tell(True, _line(edit), **_fields(edit))
        if not edited.edits:
            tell(True, "nothing to change: it is so already")
        return
    what = "series" if target.whose == "series" else "study" if edited.touched == 1 else "studies"
    for edit in edited.edits:
        click.echo(_line(edit))
    if not edited.edits:
        click.echo("nothing to change: it is so already")
    else:
        click.echo(f"corrected; {edited.touched} {what} shown and sent so from now on")


def _fields(edit: Edit) -> dict[str, object]:
    return {"when": moment(edit.when_ns, "seconds"), "who": edit.who, **change_fields(edit)}


def _line(edit: Edit) -> str:
    after = "as received" if edit.new is None else repr(edit.new)
    return printable(f"{edit.keyword}: {edit.old!r} -> {after}")


def _show_standing(editor: IndexEditor, target: Target, as_json: bool) -> int:
    with editor.reader().view() as view:
        values = standing(view, target)
    for keyword, text in sorted(values.items()):
        tell(as_json, f"{keyword} = {text!r}", keyword=keyword, value=text)
    if not values:
        click.echo(f"no correction stands for this {target.whose}", err=True)
    return Exit.OK if values else Exit.NEGATIVE


def _show_history(editor: IndexEditor, target: Target | None, as_json: bool) -> int:
    with editor.reader().view() as view:
        edits = list(history(view, target))
    for edit in edits:
        when = moment(edit.when_ns, "seconds")
        head = one_line(f"{when}  {edit.who}  {edit.whose} {edit.identifier}  ")
        tell(as_json, f"{head}{_line(edit)}", **_fields(edit))
    if not edits:
        click.echo("nothing was corrected", err=True)
    return Exit.OK if edits else Exit.NEGATIVE
