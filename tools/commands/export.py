"""`scai export`: copies of stored instances for whoever takes them along, with their corrections.

Every copy is read back from where it was put, and listed with its checksum. Reads the index and the
store alone, so it works while the service runs and when it does not. What goes wrong on the way
leaves nothing behind.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click

from engine.errors import LocalError, OperatorError
from engine.index.environment import NoIndexError, open_index_reader
from engine.index.freshness import catch_up
from engine.settings.settings import Config
from tools.commands.export_copies import Export, NotAsWritten
from tools.commands.export_places import DirectoryPlace, ZipPlace, open_place
from tools.commands.places import services_own
from tools.commands.selection import Selection
from tools.face.operator import operator, who_option
from tools.face.operators_log import note_order
from tools.face.options import config_option, json_option, load
from tools.face.terminal import Exit, counted, one_line


@click.command(name="export")
@config_option
@click.option("--study", "studies", multiple=True, metavar="UID", help="A study; may be repeated.")
@click.option("--series", multiple=True, metavar="UID", help="A series; likewise.")
@click.option(
    "--instance", "instances", multiple=True, metavar="UID", help="An instance; likewise."
)
@click.option("--patient", metavar="ID", help="Whose, where several patients have that UID.")
@click.option("--issuer", metavar="TEXT", default="", help="Issuer of that Patient ID.")
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR|FILE.zip",
    help="A new or empty directory, or a ZIP file that is not there yet.",
)
@click.option("--as-received", is_flag=True, help="The stored files, without corrections.")
@who_option
@json_option
def command(
    config_path: Path | None,
    studies: tuple[str, ...],
    series: tuple[str, ...],
    instances: tuple[str, ...],
    patient: str | None,
    issuer: str,
    target: Path,
    as_received: bool,
    who: str | None,
    as_json: bool,
) -> int:
    """Copy stored studies, series or instances, corrected, into a directory or a ZIP file.

    Beside the files there are SHA256SUMS, which `sha256sum --check` reads, and manifest.jsonl.
    Exit code 1: something could not be exported; it is named, the rest is there.

    \b
    scai export --study 1.2.3 --to /media/stick/study
    scai export --study 1.2.3 --to study.zip --as-received
    """
    config = load(config_path).config
    selection = Selection(studies, series, instances, patient, issuer)
    if not (studies or series or instances):
        raise click.UsageError("say what: --study, --series or --instance")
    exporter = operator(who)
    done = _export(config, selection, target.absolute(), as_received)
    # The name of the place may be a patient's.
    note_order(config.data_path, exporter, "export", instances=done.instances, **selection.uids)
    _report(done, target, as_json)
    return Exit.NEGATIVE if done.missing_count else Exit.OK


def _export(config: Config, selection: Selection, target: Path, as_received: bool) -> Export:
    from rich.progress import Progress

    data_directory = config.data_path
    if not catch_up(data_directory):
        click.echo("the index is behind: what was received last may be missing", err=True)
    try:
        reader = open_index_reader(data_directory)
    except NoIndexError as error:
        raise OperatorError("nothing was stored yet") from error
    with (
        closing(reader),
        Progress(disable=not sys.stderr.isatty(), transient=True) as progress,
        _fresh(target, services_own(config)) as place,
    ):
        bar = progress.add_task("exporting", total=None)
        with Export(
            data_directory, place, as_received, lambda done: progress.advance(bar, done)
        ) as export:
            _, total = export.choose(reader, selection)
            place.reserve(total)
            progress.update(bar, total=2 * total)
            export.run()
    return export


@contextmanager
def _fresh(target: Path, taken: list[str | Path]) -> Iterator[DirectoryPlace | ZipPlace]:
    """A place that is discarded unless all goes well."""
    with closing(open_place(target, taken)) as place:
        try:
            yield place
        except BaseException as error:
            place.discard()
            if isinstance(error, OSError):
                text = f"cannot be written or read: {error.strerror or error}"
            elif isinstance(error, NotAsWritten):
                text = f"{error} is not what was written: that disk is not to be trusted"
            elif isinstance(error, LocalError):
                text = f"a stored file changed while it was copied: {error.comment}"
            else:
                raise
            raise OperatorError(f"{text}; nothing was left there", str(target)) from error


def _report(done: Export, target: Path, as_json: bool) -> None:
    if as_json:
        fields = {
            "to": str(target),
            "instances": done.instances,
            "bytes": done.file_bytes,
            "missing": done.missing_count,
        }
        click.echo(json.dumps(fields))
    for missing in done.missing:
        click.echo(one_line(f"missing: {missing.sop_instance_uid}: {missing.reason}"), err=True)
    if done.missing_count > len(done.missing):
        click.echo(
            f"... and {done.missing_count - len(done.missing)} more in the manifest", err=True
        )
    if not as_json:
        click.echo(
            one_line(
                f"{counted(done.instances, 'instance is', 'instances are')} in {target} "
                f"({done.file_bytes} bytes), each read back; SHA256SUMS has their checksums"
            )
        )
