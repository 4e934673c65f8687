"""`scai verify`: whether the index and the files agree, and what it takes that they do.

The check is made as a reader, so the service may run meanwhile. Repairs are the indexer's work: it
is asked for them; when no service runs they are carried out here, under the same lock.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from engine import limits
from engine.config.loading import Config
from engine.errors import OperatorError
from engine.files.journal_damage import damage_of, examine
from engine.files.tree import STORE_DIRECTORY, StoreTree
from engine.index.environment import IndexReader, NoIndexError, open_index_reader
from engine.index.freshness import catch_up
from engine.index.writer import IndexWriter, WriterBusyError
from engine.intake.journal import INCOMING_DIRECTORY, JOURNAL_DIRECTORY, journals_on_disk
from engine.verify.findings import REMEDIES, Finding, FindingKind, VerifyReport
from engine.verify.repair import Action, RepairResult, apply_actions, await_result, leave_request
from engine.verify.verify import Verifier
from native import _core
from tools.face.options import config_option, load
from tools.face.terminal import Exit, one_line, printable
from workers.supervision.taking_in import configured_intake

if TYPE_CHECKING:
    from engine.pixels.check import Checked

_shown_max: Final = 20  # of each kind; --all shows every one
_actions_per_request: Final = 500
_request_wait_s: Final = 60.0
_leaving_ms_max: Final = 5000  # a receiver that drains is given time to leave its journal


@click.command(name="verify")
@config_option
@click.option("--content", is_flag=True, help="Read every file and compare its checksum.")
@click.option("--pixels", is_flag=True, help="Decode every JPEG Lossless image.")
@click.option("--repair", is_flag=True, help="Repair what can be repaired.")
@click.option("--all", "show_all", is_flag=True, help="Name every difference.")
def command(
    config_path: Path | None, content: bool, pixels: bool, repair: bool, show_all: bool
) -> int:
    """Check that files and index agree. The service may go on meanwhile.

    Exit code 0: they agree; 1: there were differences, repaired or not, or there is no index.
    """
    config = load(config_path).config
    data_directory = config.data_path
    with _Writer(config, repair) as writer:
        try:
            reader = writer.reader()
        except NoIndexError:
            return _without_index(data_directory)
        with closing(reader):
            if not catch_up(data_directory):
                click.echo("the index is behind; what came last is not checked", err=True)
            report = _check(data_directory, reader, content, pixels)
            _print_report(report, pixels, show_all)
            damaged = _print_damage(data_directory)
            if not report.findings:
                if repair:
                    _note_parted(report, writer)
                click.echo("index and files agree")
                return Exit.NEGATIVE if damaged else Exit.OK
            if repair:
                if _print_outcomes(report.findings, writer):
                    _note_parted(report, writer)
            else:
                click.echo("nothing was changed; scai verify --repair carries the remedies out")
    return Exit.NEGATIVE


def _print_damage(data_directory: Path) -> bool:
    """What is damaged in the journals, found by a start before or by the next."""
    damaged = False
    for name in journals_on_disk(data_directory):
        directory = data_directory / JOURNAL_DIRECTORY / name
        for damage in damage_of(directory):
            damaged = True
            click.echo(f"the journal of {name} was damaged: {damage.text}")
        damage_now = examine(directory)
        if damage_now is not None:
            damaged = True
            click.echo(f"the journal of {name} is damaged: {damage_now.text}")
            click.echo("  the next start takes in what still proves itself behind it")
    return damaged


def _without_index(data_directory: Path) -> int:
    if _print_damage(data_directory):
        return Exit.NEGATIVE
    files = sum(len(names) for _, _, names in os.walk(StoreTree(data_directory).root))
    if not files:
        click.echo("nothing was stored yet")
        return Exit.OK
    click.echo(
        f"there is no index, but there are {files} files in {STORE_DIRECTORY}/: they cannot be "
        "found nor sent; scai verify --repair takes them into a new index"
    )
    return Exit.NEGATIVE


def _check(data_directory: Path, reader: IndexReader, content: bool, pixels: bool) -> VerifyReport:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
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


class _Writer:
    """Who carries repairs out: this process, if no service holds the index, or the indexer."""

    def __init__(self, config: Config, wanted: bool) -> None:
        self._config = config
        self._data_directory = data_directory = config.data_path
        self._wanted = wanted
        self._own: IndexWriter | None = None
        self._tree = StoreTree(data_directory)

    def __enter__(self) -> "_Writer":
        if self._wanted and self._data_directory.is_dir():  # otherwise there is nothing to repair
            try:
                self._own = IndexWriter(self._data_directory)
                self._take_in_journals(self._own)
            except WriterBusyError:
                self._own = None  # the service runs: it is asked
        return self

    def __exit__(self, *_: object) -> None:
        if self._own is not None:
            self._own.close()

    def reader(self) -> IndexReader:
        if self._own is not None:
            return self._own.reader()
        return open_index_reader(self._data_directory)

    def _take_in_journals(self, writer: IndexWriter) -> None:
        """What a killed service left in its journals comes first: those are no differences."""
        intake = configured_intake(self._config, writer)
        ends = {name: self._end_of(name) for name in journals_on_disk(self._data_directory)}
        behind = True
        while behind:
            step = intake.step(ends)
            behind = step.behind
            for name, error in step.unreadable:
                click.echo(f"the journal of {name} cannot be read: {error}", err=True)
            for lost in step.lost:
                what = "indexed before" if lost.indexed else "not indexed"
                numbers = f"records {lost.first} to {lost.last}"
                click.echo(f"the journal of {lost.journal} lost {numbers}, {what}", err=True)
            for missing in step.missing:
                uid = printable(missing.sop_instance_uid)
                click.echo(f"acknowledged, but its bytes are nowhere: {uid}", err=True)
            for refused in step.refused:
                where = printable(refused.path)
                click.echo(f"may not replace what is there, kept as {where}", err=True)
        intake.checkpoint()
        intake.close()

    def _end_of(self, name: str) -> int:
        """The last record, once the journal is mended and sealed files have theirs."""
        journal = str(self._data_directory / JOURNAL_DIRECTORY / name)
        incoming = str(self._data_directory / INCOMING_DIRECTORY / name)
        segment_bytes, segments_max = limits.journal_segment_bytes, limits.journal_segments_max
        _core.adopt_sealed(
            journal, segment_bytes, segments_max + 1, True, incoming, limits, _leaving_ms_max
        )
        return _core.journal_last_sequence(journal)

    def apply(self, actions: Sequence[Action]) -> list[RepairResult]:
        if self._own is not None:
            return apply_actions(self._own, self._tree, actions)
        outcomes: list[RepairResult] = []
        for start in range(0, len(actions), _actions_per_request):
            portion = actions[start : start + _actions_per_request]
            request = leave_request(self._data_directory, portion)
            outcomes += await_result(request, _request_wait_s)
        return outcomes


def _print_report(report: VerifyReport, pixels: bool, show_all: bool) -> None:
    click.echo(f"instances in the index  {report.instances}")
    click.echo(f"files in the tree       {report.files}")
    click.echo(f"studies                 {report.studies}")
    if report.checked_bytes:
        click.echo(f"bytes compared          {report.checked_bytes}")
    if pixels:
        click.echo(f"images checked          {report.images}")
        click.echo(f"frames checked          {report.frames - report.frames_unchecked}")
        click.echo(f"frames not checked      {report.frames_unchecked}")
    for uid, patients in list(report.shared.items())[: None if show_all else _shown_max]:
        click.echo(one_line(f"{patients} patients have studies of one UID, kept apart: {uid}"))
    if len(report.shared) > _shown_max and not show_all:
        click.echo(f"... and {len(report.shared) - _shown_max} more such UIDs (--all)")
    counts = Counter(finding.kind for finding in report.findings)
    for kind in FindingKind:
        if not counts[kind]:
            continue
        click.echo(f"\n{counts[kind]} x {kind.value} (remedy: {REMEDIES[kind]})")
        shown = [finding for finding in report.findings if finding.kind is kind]
        for finding in shown if show_all else shown[:_shown_max]:
            what = finding.path or finding.study_uid or "(a study without a UID)"
            text = f": {finding.text}" if finding.text else ""
            click.echo("  " + one_line(f"{what}{text}"))
        if len(shown) > _shown_max and not show_all:
            click.echo(f"  ... and {len(shown) - _shown_max} more (--all)")


def _note_parted(report: VerifyReport, writer: _Writer) -> None:
    """The files of release 0.2.0 need not be read again."""
    if report.unparted:
        writer.apply([Action("parted", study=report.unparted)])


def _print_outcomes(findings: Sequence[Finding], writer: _Writer) -> bool:
    """Carry them out; whether each study holds one patient's instances now."""
    pairs = [(finding, finding.action) for finding in findings]
    actions = [action for _, action in pairs if action is not None]
    outcomes = writer.apply(actions)
    if len(outcomes) != len(actions):
        raise OperatorError("the indexer could not read the request: " + outcomes[0].text)
    repaired = sum(outcome.done for outcome in outcomes)
    click.echo(f"\nrepaired {repaired}, left {len(findings) - repaired}")
    for action, outcome in zip(actions, outcomes, strict=True):
        if not outcome.done:
            what = action.path or action.study_uid or "(a study without a UID)"
            click.echo("  left: " + one_line(f"{what}: {outcome.text}"))
    return all(
        outcome.done or action.kind != "part"
        for action, outcome in zip(actions, outcomes, strict=True)
    )
