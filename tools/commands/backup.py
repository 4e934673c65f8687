"""`scai backup`: a copy of the whole, made while the service runs, and the check of one.

In a directory of backups each one has a directory of its own. It is a data directory at rest, so it
is checked as `scai verify --content` checks one.
"""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Final

import click

from engine.backup.backup import Made, make_backup
from engine.backup.catalogue import Description, chosen
from engine.backup.restore import described
from engine.errors import OperatorError
from engine.files.beneath import open_directory
from engine.index.environment import IndexReader, open_index_reader
from engine.outbox.records import State
from engine.outbox.spool import spooled_path
from engine.outbox.view import OutboxView
from engine.verify.findings import Finding
from engine.verify.verify import Verifier
from tools.commands.places import refuse_other_hands, refuse_taken, services_own
from tools.face.operator import operator, who_option
from tools.face.operators_log import LOG_NAMES, note_order
from tools.face.options import config_option, json_option, load
from tools.face.terminal import Exit, moment, one_line

_nice: Final = 10
_shown_max: Final = 20


@click.command(name="backup")
@config_option
@click.option("--index-only", is_flag=True, help="Index, corrections, queue and jobs; no files.")
@click.option("--verify", "check", is_flag=True, help="Check the newest in DIR, or DIR itself.")
@who_option
@json_option
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def command(
    config_path: Path | None,
    index_only: bool,
    check: bool,
    who: str | None,
    as_json: bool,
    directory: Path,
) -> int:
    """Make a backup in DIR while the service runs, or check one.

    What was acknowledged before it began is in it. It shares its files with the store, if DIR is
    on the same file system, else with the backup before it. Old ones may be removed at any time.
    Exit code 1: something that should be in it could not be read; or the check found differences.

    \b
    scai backup /mnt/backups
    scai backup --verify /mnt/backups
    """
    directory = directory.absolute()
    if check:
        return _check(chosen(directory), as_json)
    config = load(config_path).config
    data_directory = config.data_path
    _prepare(directory, services_own(config))
    by = operator(who)
    os.nice(_nice)
    with closing(open_index_reader(data_directory)) as reader:
        made = _make(data_directory, reader, directory, index_only)
    said = made.description
    note_order(data_directory, by, "backup", instances=said.instances, lost=said.lost)
    _report(made, as_json)
    return Exit.NEGATIVE if made.description.lost else Exit.OK


def _prepare(directory: Path, taken: Sequence[str | Path]) -> None:
    """OperatorError: it may not be made there. `taken`: what is the service's own."""
    is_made = False
    try:
        if not directory.is_dir():
            directory.mkdir(mode=0o700)
            is_made = True
        held = open_directory(directory)
    except OSError as error:
        raise OperatorError(f"cannot be written to: {error.strerror}", str(directory)) from error
    try:
        refuse_taken(held, directory, taken)
        refuse_other_hands(directory)
    except OperatorError:
        if is_made:
            directory.rmdir()
        raise
    finally:
        os.close(held)


def _make(data_directory: Path, reader: IndexReader, directory: Path, index_only: bool) -> Made:
    from rich.progress import Progress

    with reader.view() as view:
        total = view.count("instances")
    with Progress(disable=not sys.stderr.isatty(), transient=True) as progress:
        bar = progress.add_task("backing up", total=total)
        release = metadata.version("scai-dicom-engine")
        try:
            return make_backup(
                data_directory,
                reader,
                directory,
                release,
                index_only,
                lambda done: progress.advance(bar, done),
                LOG_NAMES,
            )
        except OSError as error:
            where = str(error.filename or directory)
            raise OperatorError(f"{error.strerror or error}; no backup was made", where) from error


def _report(made: Made, as_json: bool) -> None:
    directory, said = made
    if as_json:
        click.echo(json.dumps({"directory": str(directory), **_fields(said)}))
        return
    click.echo(one_line(f"{directory}"))
    click.echo(f"instances               {said.instances}")
    if not said.index_only:
        click.echo(f"bytes                   {said.file_bytes}")
        click.echo(f"files of the store      {said.linked}")
        click.echo(f"of the backup before    {said.shared}")
        click.echo(f"copied                  {said.copied}")
    if said.lost:
        click.echo(f"lost before             {said.lost}: scai verify --content names them")
    click.echo(f"complete until          {moment(said.complete_until_ns)}")


def _fields(said: Description) -> dict[str, object]:
    return {name: getattr(said, name) for name in said.__struct_fields__}


def _check(backup: Path, as_json: bool) -> int:
    said = described(backup)
    if said.index_only:
        raise OperatorError("has the index alone: there are no files to check", str(backup))
    with closing(open_index_reader(backup)) as reader:
        report = Verifier(backup, reader, content=True).run(pause_s=0)
        found = [_words(one) for one in report.findings] + _without_copy(backup, reader)
    # What was lost before it was made is no damage of the backup's.
    good = len(found) <= said.lost and report.instances >= said.instances
    if as_json:
        fields = {"directory": str(backup), "instances": report.instances, "good": good}
        click.echo(json.dumps({**fields, "lost_before": said.lost, "findings": found}))
        return Exit.OK if good else Exit.NEGATIVE
    click.echo(one_line(str(backup)))
    click.echo(f"instances               {report.instances}, {said.instances} when it was made")
    click.echo(f"bytes compared          {report.checked_bytes}")
    for words in found[:_shown_max]:
        click.echo("  " + one_line(words))
    if len(found) > _shown_max:
        click.echo(f"  ... and {len(found) - _shown_max} more (--json names all)")
    if said.lost:
        click.echo(f"lost before it was made {said.lost}")
    click.echo("the backup is whole" if good else "the backup is damaged: make another one")
    return Exit.OK if good else Exit.NEGATIVE


def _words(finding: Finding) -> str:
    where = finding.path or finding.study_uid
    more = f": {finding.text}" if finding.text else ""
    return f"{finding.kind.value}: {where}{more}"


def _without_copy(backup: Path, reader: IndexReader) -> list[str]:
    """Deliveries whose copy in the outbox is not in the backup."""
    with reader.view() as view:
        return [
            f"the copy that delivery {one.number} sends is gone"
            for one in OutboxView.within(view).deliveries(limit=sys.maxsize)
            if one.file
            and one.state is not State.DELIVERED
            and not spooled_path(backup, one.file).is_file()
        ]
