"""`scai keep`: studies that no rule may remove, and a person only by force."""

import time
from contextlib import closing
from pathlib import Path

import click

from engine.errors import OperatorError
from engine.index.edit import open_index_editor
from engine.index.environment import open_index_reader
from engine.index.freshness import catch_up
from engine.index.pins import PINS, Pin, decode_pin, set_pin
from tools.commands.selection import Selection, stored
from tools.face.operator import operator, who_option
from tools.face.operators_log import note_order
from tools.face.options import config_option, json_option, load
from tools.face.telling import tell
from tools.face.terminal import Exit, is_text, moment, one_line


@click.command(name="keep")
@config_option
@click.option(
    "--study", metavar="UID", help="The study. Without it, those that are kept are listed."
)
@click.option("--patient", metavar="ID", help="Whose, by the Patient ID received.")
@click.option("--issuer", metavar="TEXT", default="", help="Issuer of that Patient ID.")
@click.option("--why", metavar="TEXT", default="", help="The reason.")
@click.option("--no", "release", is_flag=True, help="It may go again.")
@who_option
@json_option
def command(
    config_path: Path | None,
    study: str | None,
    patient: str | None,
    issuer: str,
    why: str,
    release: bool,
    who: str | None,
    as_json: bool,
) -> int:
    """Keep a study, whatever [retention] says, or let it go again (--no).

    Exit code 1: nothing was changed, or nothing is kept.
    """
    data_directory = load(config_path).config.data_path
    if study is None:
        return _list(data_directory, as_json)
    if not is_text(why):
        raise OperatorError("is no UTF-8 text", "--why")
    open_index_reader(data_directory).close()  # says so where nothing was stored yet
    name = operator(who)
    with closing(open_index_editor(data_directory)) as editor:
        catch_up(data_directory)
        with editor.view() as view:
            series, _ = next(
                stored(view, Selection(studies=[study], patient=patient, issuer=issuer))
            )
            record = view.study_of_series(series)
        pin = None if release else Pin(name, time.time_ns(), why)
        changed = set_pin(editor, record, pin)
    if changed:
        note_order(data_directory, name, "let go" if release else "keep", study_uids=[study])
    state = "may go" if release else "is kept"
    was = "" if changed else ", as before"
    tell(as_json, one_line(f"study {study} {state}{was}"), study=study, kept=not release)
    return Exit.OK if changed else Exit.NEGATIVE


def _list(data_directory: Path, as_json: bool) -> int:
    with closing(open_index_reader(data_directory)) as reader, reader.view() as view:
        rows = [(key, decode_pin(value)) for key, value in view.keys_from(PINS, b"")]
    for key, kept in rows:
        uid = key[1:].partition(b"\0")[0].decode("utf-8", "replace")
        since, why = moment(kept.when_ns, "seconds"), f" ({kept.why})" if kept.why else ""
        text = one_line(f"study {uid} is kept by {kept.who} since {since}{why}")
        tell(as_json, text, study=uid, who=kept.who, since=since, why=kept.why)
    if not rows:
        click.echo("no study is kept by anybody", err=True)
    return Exit.OK if rows else Exit.NEGATIVE
