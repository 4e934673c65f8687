"""What a start does, without the processes and sockets around it, and what it tells.

That of the receivers and of the indexer: journals are mended, sealed files given records,
everything is taken in. Then `scai verify --content --repair` says what else is wrong.
"""

import struct
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from engine import limits
from engine.dictionary.query_level import QueryLevel
from engine.files.journal_damage import damage_of
from engine.index.environment import INDEX_FAULTS, View
from engine.index.query import Query, find
from engine.index.writer import IndexWriter
from engine.intake.dispatch import Dispatcher
from engine.intake.intake import Intake
from engine.intake.step import Step
from engine.outbox.view import OutboxView
from engine.verify.findings import FindingKind
from engine.verify.repair import apply_actions
from engine.verify.verify import Verifier
from native import _core
from tests.corruptions.apart import apart
from tests.corruptions.material import CORRECTED, NAMES, RULES, SEGMENT_BYTES, digest
from tests.peers.tap import data_set_of_file

_numbers_told_max: Final = 5000  # of one range
_rows_max: Final = 100_000


@dataclass
class Told:
    """What a start said, and what is there after it."""

    refused: str = ""  # what of, and why
    died: str = ""  # which no start may
    named: set[str] = field(default_factory=set)  # UIDs
    lost: set[tuple[str, int]] = field(default_factory=set)  # (AE, number)
    damage: int = 0  # findings of journals
    differences: int = 0  # of index and files
    there: dict[str, str] = field(default_factory=dict)  # UID: digest of the file of its row
    queued: set[str] = field(default_factory=set)
    corrected: bool = False


def started(directory: Path) -> Told:
    """Start it in a process of its own."""
    said = apart(lambda: vars(_start(directory)))
    if "index" in said:
        return Told(refused="index: LMDB fell over a page")
    if "result" not in said:
        return Told(died=f"signal {said['signal']}" if "signal" in said else str(said["fault"]))
    told = Told(**said["result"])
    told.named, told.queued = set(told.named), set(told.queued)
    told.lost = {(name, number) for name, number in told.lost}
    return told


def _start(directory: Path) -> Told:
    """INDEX_FAULTS are a refusal, anything else is a fault of ours."""
    told = Told()
    ends = {}
    for name in NAMES:
        journal, incoming = directory / "journal" / name, directory / "incoming" / name
        places = (str(journal), SEGMENT_BYTES, 64, True, str(incoming))
        try:
            _core.adopt_sealed(*places, limits, 0)
        except OSError as error:
            told.refused = f"journal: {error}"
            return told
        ends[name] = _core.journal_last_sequence(str(journal))
        for damage in damage_of(journal):
            told.damage += 1
            for first, last, *_ in damage.ranges:
                _note_lost(told, name, first, last)
    try:
        with closing(IndexWriter(directory)) as writer:
            _take_in(directory, writer, ends, told)
    except INDEX_FAULTS as error:
        told.refused = f"index: {type(error).__name__}: {error}"
    return told


def _note_lost(told: Told, journal: str, first: int, last: int) -> None:
    last = min(last, first + _numbers_told_max)
    told.lost |= {(journal, number) for number in range(first, last + 1)}


def _take_in(directory: Path, writer: IndexWriter, ends: dict[str, int], told: Told) -> None:
    intake = Intake(directory, writer)
    intake.dispatcher = Dispatcher.of(intake.tree, RULES, ())
    step = Step(behind=True)
    while step.behind and not step.unreadable:
        step = intake.step(ends)
        told.named |= {missing.sop_instance_uid for missing in step.missing}
        told.named |= {refused.sop_instance_uid for refused in step.refused}
        for lost in step.lost:
            _note_lost(told, lost.journal, lost.first, lost.last)
    if step.unreadable:
        told.refused = f"journal: {step.unreadable[0].error}"
    intake.checkpoint()
    report = Verifier(directory, writer.reader(), content=True).run(pause_s=0)
    told.differences = len(report.findings)
    for finding in report.findings:
        name = Path(finding.path).name
        told.named |= {finding.sop_instance_uid, name.removesuffix(".dcm").split("-")[0]}
    unknown = [each.action for each in report.findings if each.kind is FindingKind.UNKNOWN]
    apply_actions(writer, intake.tree, [action for action in unknown if action])
    with writer.reader().view() as view:
        _look(view, intake.tree.root, told)
    intake.close()


def _look(view: View, root: Path, told: Told) -> None:
    for _, instance in view.instances_after(b"", _rows_max):
        uid = instance.sop_instance_uid
        found = view.instance(uid, instance.mark)
        told.there[uid] = digest_of(root / view.path_of(*found)) if found else ""
    deliveries = OutboxView.within(view).deliveries(limit=_rows_max)
    told.queued = {each.sop_instance_uid for each in deliveries}
    studies = find(view, Query(QueryLevel.STUDY, {"StudyDescription": ""}))
    told.corrected = any(one.values().get("StudyDescription") == CORRECTED for one in studies)


def digest_of(path: Path) -> str:
    """Of the data set in a file; nothing where it is no file of ours any more."""
    try:
        return digest(data_set_of_file(path.read_bytes()))
    except (OSError, AssertionError, struct.error):
        return ""
