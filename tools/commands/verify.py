"""`scai verify`: whether the index and the files agree, and what it takes that they do.

The check is made as a reader, so the service may run meanwhile. Repairs are the indexer's work: it
is asked for them; when no service runs they are carried out here, under the same lock.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.errors import OperatorError
from engine.files.journal_damage import damage_of, examine
from engine.files.tree import STORE_DIRECTORY, StoreTree
from engine.index.environment import IndexReader, NoIndexError
from engine.index.freshness import catch_up
from engine.intake.journal import JOURNAL_DIRECTORY, journals_on_disk
from engine.verify.findings import Finding, VerifyReport
from engine.verify.repair import Action, RepairResult
from engine.verify.verify import Verifier
from tools.commands.repairs import Repairs
from tools.commands.verify_told import tell_repairs, tell_report
from tools.face.operator import operator, who_option
from tools.face.operators_log import note_order
from tools.face.options import config_option, json_option, load
from tools.face.telling import tell
from tools.face.terminal import Exit, counted

if TYPE_CHECKING:
    from engine.pixels.check import Checked


@click.command(name="verify")
@config_option
@click.option("--content", is_flag=True, help="Read every file and compare its checksum.")
@click.option("--pixels", is_flag=True, help="Decode every JPEG Lossless image.")
@click.option("--repair", is_flag=True, help="Repair what can be repaired.")
@click.option("--all", "show_all", is_flag=True, help="Name every difference; so does --json.")
@who_option
@json_option
def command(
    config_path: Path | None,
    content: bool,
    pixels: bool,
    repair: bool,
    show_all: bool,
    who: str | None,
    as_json: bool,
) -> int:
    """Check that files and index agree. The service may go on meanwhile.

    Exit code 0: they agree; 1: there were differences, repaired or not, or there is no index.
    """
    config = load(config_path).config
    data_directory = config.data_path
    repairer = operator(who) if repair else ""
    with Repairs(config, repair) as writer:
        try:
            reader = writer.reader()
        except NoIndexError:
            return _without_index(data_directory, as_json)
        with closing(reader):
            if not catch_up(data_directory):
                click.echo("the index is behind; what came last is not checked", err=True)
            report = _check(data_directory, reader, content, pixels)
            tell_report(report, pixels, show_all, as_json)
            damaged = _tell_damage(data_directory, as_json)
            done = _repair(report.findings, writer) if repair and report.findings else []
            # Whether each study holds one patient's instances now.
            if repair and all(result.done or action.kind != "part" for action, result in done):
                _note_parted(report, writer)
    if repair and report.findings:
        repaired = Counter(str(action.kind) for action, result in done if result.done)
        note_order(data_directory, repairer, "repair", repaired=repaired)
        tell_repairs(report.findings, done, as_json)
    elif not as_json:
        text = "nothing was changed; scai verify --repair carries the remedies out"
        click.echo(text if report.findings else "index and files agree")
    return Exit.NEGATIVE if report.findings or damaged else Exit.OK


def _tell_damage(data_directory: Path, as_json: bool) -> bool:
    """What is damaged in the journals, found by a start before or by the next."""
    damaged = False
    for name in journals_on_disk(data_directory):
        directory = data_directory / JOURNAL_DIRECTORY / name
        for damage in damage_of(directory):
            damaged = True
            text = f"the journal of {name} was damaged: {damage.text}"
            tell(as_json, text, told="journal", journal=name, found="before")
        damage_now = examine(directory)
        if damage_now is not None:
            damaged = True
            text = (
                f"the journal of {name} is damaged: {damage_now.text}\n"
                "  the next start takes in what still proves itself behind it"
            )
            tell(as_json, text, told="journal", journal=name, found="now")
    return damaged


def _without_index(data_directory: Path, as_json: bool) -> int:
    if _tell_damage(data_directory, as_json):
        return Exit.NEGATIVE
    files = sum(len(names) for _, _, names in os.walk(StoreTree(data_directory).root))
    if not files:
        tell(as_json, "nothing was stored yet", told="checked", instances=0, files=0, differences=0)
        return Exit.OK
    text = (
        f"there is no index, but {counted(files, 'file is', 'files are')} in {STORE_DIRECTORY}/, "
        "which can be neither found nor sent; scai verify --repair takes them into a new index"
    )
    tell(as_json, text, told="checked", instances=0, files=files, differences=files)
    return Exit.NEGATIVE


def _check(data_directory: Path, reader: IndexReader, content: bool, pixels: bool) -> VerifyReport:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    console = Console(stderr=True)
    shown = sys.stderr.isatty()  # elsewhere it would leave an empty line
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        task = progress.add_task("checking")

        def show(report: VerifyReport) -> None:
            progress.update(
                task,
                description=f"{report.instances} instances, {report.files} files, "
                f"{report.studies} studies",
            )

        with _image_checks(pixels) as images:
            return Verifier(data_directory, reader, content, show, images).run()


@contextmanager
def _image_checks(wanted: bool) -> Iterator[Mapping[str, Callable[[int], "Checked"]]]:
    """What images are checked by. Decoding processes that were started end with the check."""
    if not wanted:
        yield {}
        return
    from engine.pixels.check import image_checks
    from workers.decoding.decoders import Decoders

    with Decoders() as decoders:
        yield image_checks(decoders.decode)


def _note_parted(report: VerifyReport, writer: Repairs) -> None:
    """The files of release 0.2.0 need not be read again."""
    if report.unparted:
        writer.apply([Action("parted", study=report.unparted)])


def _repair(findings: Sequence[Finding], writer: Repairs) -> list[tuple[Action, RepairResult]]:
    """Carry out what there is to do about them."""
    actions = [action for finding in findings if (action := finding.action) is not None]
    outcomes = writer.apply(actions)
    if len(outcomes) != len(actions):
        raise OperatorError("the indexer could not read the request: " + outcomes[0].text)
    return list(zip(actions, outcomes, strict=True))
