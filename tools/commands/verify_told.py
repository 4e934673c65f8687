"""How `scai verify` tells what it found and what was done: for people, or a JSON object a line.

Paths and UIDs are named, and nothing of a patient; for people at most so many of each kind.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import click

from engine.verify.findings import REMEDIES, Finding, FindingKind, VerifyReport
from engine.verify.repair import Action, RepairResult
from tools.face.terminal import one_line

_shown_max: Final = 20  # of each kind; --all shows every one
_NAMELESS: Final = "(a study without a UID)"


def tell_report(report: VerifyReport, pixels: bool, show_all: bool, as_json: bool) -> None:
    """Every difference, and how much was looked at."""
    for line in _objects(report) if as_json else _lines(report, pixels, show_all):
        click.echo(line)


def tell_repairs(
    findings: Sequence[Finding],
    done: Sequence[tuple[Action, RepairResult]],
    as_json: bool,
) -> None:
    """What was repaired, and why something was not."""
    repaired = sum(outcome.done for _, outcome in done)
    if as_json:
        for action, outcome in done:
            click.echo(json.dumps(_outcome_fields(action, outcome)))
        counts = {"repaired": repaired, "left": len(findings) - repaired}
        click.echo(json.dumps({"told": "repairs", **counts}))
        return
    click.echo(f"\nrepaired {repaired}, left {len(findings) - repaired}")
    for action, outcome in done:
        if not outcome.done:
            what = action.path or action.study_uid or _NAMELESS
            click.echo("  left: " + one_line(f"{what}: {outcome.text}"))


def _objects(report: VerifyReport) -> Iterator[str]:
    for finding in report.findings:
        fields = {
            "told": "difference",
            "kind": finding.kind.name.lower(),
            "text": f"{finding.kind.value}: {finding.text}" if finding.text else finding.kind.value,
            "remedy": REMEDIES[finding.kind],
            "path": finding.path,
            "study_instance_uid": finding.study_uid,
            "sop_instance_uid": finding.sop_instance_uid,
        }
        yield json.dumps(fields)
    for uid, patients in report.shared.items():
        yield json.dumps({"told": "shared", "study_instance_uid": uid, "patients": patients})
    counts = {
        "told": "checked",
        "instances": report.instances,
        "files": report.files,
        "studies": report.studies,
        "bytes": report.checked_bytes,
        "images": report.images,
        "frames": report.frames - report.frames_unchecked,
        "frames_not_checked": report.frames_unchecked,
        "differences": len(report.findings),
    }
    yield json.dumps(counts)


def _outcome_fields(action: Action, outcome: RepairResult) -> dict[str, object]:
    return {
        "told": "repair",
        "action": action.kind,
        "path": action.path,
        "study_instance_uid": action.study_uid,
        "sop_instance_uid": action.sop_instance_uid,
        "done": outcome.done,
        "text": outcome.text,
    }


def _lines(report: VerifyReport, pixels: bool, show_all: bool) -> Iterator[str]:
    yield f"instances in the index  {report.instances}"
    yield f"files in the tree       {report.files}"
    yield f"studies                 {report.studies}"
    if report.checked_bytes:
        yield f"bytes compared          {report.checked_bytes}"
    if pixels:
        yield f"images checked          {report.images}"
        yield f"frames checked          {report.frames - report.frames_unchecked}"
        yield f"frames not checked      {report.frames_unchecked}"
    shown = None if show_all else _shown_max
    for uid, patients in islice(report.shared.items(), shown):
        yield one_line(f"{patients} patients have studies of one UID, kept apart: {uid}")
    if len(report.shared) > _shown_max and not show_all:
        yield f"... and {len(report.shared) - _shown_max} more such UIDs (--all)"
    counts = Counter(finding.kind for finding in report.findings)
    for kind in FindingKind:
        if counts[kind]:
            yield f"\n{counts[kind]} x {kind.value} (remedy: {REMEDIES[kind]})"
            of_kind = (finding for finding in report.findings if finding.kind is kind)
            yield from map(_line, islice(of_kind, shown))
        if counts[kind] > _shown_max and not show_all:
            yield f"  ... and {counts[kind] - _shown_max} more (--all)"


def _line(finding: Finding) -> str:
    what = finding.path or finding.study_uid or _NAMELESS
    return "  " + one_line(f"{what}: {finding.text}" if finding.text else what)
