"""What a killed service left in its journals, taken in by a command that holds the index itself."""

from pathlib import Path
from typing import Final

import click

from engine import limits
from engine.config.loading import Config
from engine.index.writer import IndexWriter
from engine.intake.intake import Intake
from engine.intake.journal import INCOMING_DIRECTORY, JOURNAL_DIRECTORY, journals_on_disk
from native import _core
from tools.face.terminal import printable
from workers.supervision.taking_in import configured_intake

_leaving_ms_max: Final = 5000  # a receiver that drains is given time to leave its journal


def take_in_journals(config: Config, writer: IndexWriter) -> Intake:
    """Whoever looks at index and files, or changes them, does it before: what is in a journal still
    is no difference, and what is removed must not come again. The intake is its caller's to close.
    """
    intake = configured_intake(config, writer)
    ends = {name: _end_of(config.data_path, name) for name in journals_on_disk(config.data_path)}
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
    return intake


def _end_of(data_directory: Path, name: str) -> int:
    """The last record, once the journal is mended and sealed files have theirs."""
    journal = str(data_directory / JOURNAL_DIRECTORY / name)
    incoming = str(data_directory / INCOMING_DIRECTORY / name)
    segment_bytes, segments_max = limits.journal_segment_bytes, limits.journal_segments_max
    _core.adopt_sealed(
        journal, segment_bytes, segments_max + 1, True, incoming, limits, _leaving_ms_max
    )
    return _core.journal_last_sequence(journal)
