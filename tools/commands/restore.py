"""`scai restore`: a backup becomes a data directory again, on this machine or a new one."""

import json
import sys
from pathlib import Path

import click

from engine.backup.catalogue import chosen, description_of
from engine.backup.restore import Restored, restore, restore_index
from engine.errors import OperatorError
from tools.commands.places import refuse_other_hands
from tools.face.operator import operator, who_option
from tools.face.operators_log import LOG_NAMES, note_order
from tools.face.options import config_option, json_option, load
from tools.face.terminal import Exit, moment, one_line


@click.command(name="restore")
@config_option
@click.option(
    "--index-only", is_flag=True, help="The index alone, where it was lost and files were not."
)
@who_option
@json_option
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def command(
    config_path: Path | None, index_only: bool, who: str | None, as_json: bool, directory: Path
) -> int:
    """Restore the newest backup in DIR, or DIR itself, into the configured data directory.

    That has to be empty or not there. With --index-only what came since is taken in by
    scai verify --repair. Run it as the service's user, and start the service then.
    Exit code 1: something was lost, or is damaged, in the backup; the rest is there.
    """
    data_directory = load(config_path).config.data_path
    backup = chosen(directory.absolute())
    by = operator(who)
    refuse_other_hands(backup)
    refuse_other_hands(data_directory)
    if index_only:
        done = Restored(restore_index(backup, data_directory), 0, 0)
    else:
        done = _restore(backup, data_directory)
    until = moment(description_of(backup).complete_until_ns)
    note_order(data_directory, by, "restore", instances=done.instances, lost=done.lost)
    if as_json:
        fields = {"backup": str(backup), "complete_until": until, **done._asdict()}
        click.echo(json.dumps(fields))
    else:
        click.echo(one_line(f"restored {done.instances} instances from {backup}"))
        click.echo(f"what was acknowledged after {until} is not in it")
        if index_only:
            click.echo("scai verify --repair takes in the files that came since")
        if done.lost:
            click.echo(
                f"{done.lost} instances are lost or damaged: scai verify --content names them"
            )
    return Exit.NEGATIVE if done.lost else Exit.OK


def _restore(backup: Path, data_directory: Path) -> Restored:
    from rich.progress import Progress

    total = description_of(backup).instances
    with Progress(disable=not sys.stderr.isatty(), transient=True) as progress:
        bar = progress.add_task("restoring", total=total)
        try:
            return restore(
                backup, data_directory, lambda done: progress.advance(bar, done), LOG_NAMES
            )
        except OSError as error:
            where = str(error.filename or data_directory)
            raise OperatorError(
                f"{error.strerror or error}; nothing was restored", where
            ) from error
