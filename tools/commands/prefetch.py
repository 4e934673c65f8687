"""`scai prefetch`: which prior studies were asked for and why, what came of it, and was it used.

Reads the jobs in the index and nothing else: prefetching is automatic, a user watches it. Patient
IDs are shown, as by `scai find`; what archives said is escaped.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import click

from engine.index.environment import NoIndexError
from engine.prefetch.hit_rate import HitRate
from engine.prefetch.jobs import PrefetchJobs
from engine.prefetch.records import Ask, Job, JobState
from engine.prefetch.store import PrefetchStore
from tools.face.options import config_option, json_option, load, number_type
from tools.face.tables import Column, Row, print_table
from tools.face.terminal import Exit, counted, moment, one_line

_STATES: Final = {state.name.lower(): state for state in JobState}
_table_rows_default: Final = 50


@click.group(name="prefetch", invoke_without_command=True)
@config_option
@click.option("--state", "state_name", type=click.Choice(list(_STATES)))
@click.option("--limit", type=click.IntRange(min=1), help="At most so many; a table: 50.")
@json_option
@click.pass_context
def command(
    context: click.Context,
    config_path: Path | None,
    state_name: str | None,
    limit: int | None,
    as_json: bool,
) -> int | None:
    """List prefetches of prior studies, the latest first; with `show`, all that is known of one.

    Exit code 1 when there is none.
    """
    context.obj = config_path
    if context.invoked_subcommand is not None:
        return None
    limit = limit or (sys.maxsize if as_json else _table_rows_default)
    listed: list[Job] = []
    with _looking(config_path) as jobs:
        if jobs is not None:
            listed = list(_chosen(jobs, state_name, limit))
            if not as_json:
                click.echo(_summary(jobs))
    if as_json:
        for job in listed:
            click.echo(json.dumps(fields_of(job)))
    elif listed:
        _print_table(listed)
        if len(listed) == limit:
            click.echo(f"the latest {limit}; more with --limit", err=True)
    else:
        rules = load(config_path).config.prefetch
        why = "" if rules else ": there is no [[prefetch]] rule in the configuration"
        click.echo(f"no prefetch{why}", err=True)
    return Exit.OK if listed else Exit.NEGATIVE


@command.command()
@click.argument("number", type=number_type)
@config_option
@json_option
@click.pass_context
def show(context: click.Context, number: int, config_path: Path | None, as_json: bool) -> int:
    """Show one prefetch with its studies, what is missing, and what there is to say.

    Exit code 1 when there is none of that number.
    """
    with _looking(config_path or context.obj) as jobs:
        job = None if jobs is None else jobs.job(number)
    if job is None:
        click.echo(f"{number}: no such prefetch", err=True)
        return Exit.NEGATIVE
    fields = fields_of(job)
    if as_json:
        click.echo(json.dumps(fields))
        return Exit.OK
    width = max(map(len, fields))
    for name, value in fields.items():
        rows = value if isinstance(value, list) else [value]
        for position, row in enumerate(rows):
            label = name.replace("_", " ") if position == 0 else ""
            if row != "":
                click.echo(one_line(f"{label:<{width}}  {_row_text(row)}"))
    return Exit.OK


def _row_text(row: object) -> str:
    if not isinstance(row, dict):
        return str(row)
    named = (f"{name.replace('_', ' ')} {value}" for name, value in row.items() if value != "")
    return ", ".join(named)


@contextmanager
def _looking(config_path: Path | None) -> Iterator[PrefetchJobs | None]:
    """The jobs as they stand; None: nothing was ever stored."""
    try:
        store = PrefetchStore(load(config_path).config.data_path, writable=False)
    except NoIndexError:
        yield None
        return
    with closing(store), store.view() as jobs:
        yield jobs


def _chosen(jobs: PrefetchJobs, state_name: str | None, limit: int) -> Iterator[Job]:
    wanted = None if state_name is None else _STATES[state_name]
    found = 0
    for job in jobs.jobs():
        if wanted is None or job.state is wanted:
            yield job
            found += 1
            if found == limit:
                return


def _summary(jobs: PrefetchJobs) -> str:
    counts = [f"{count} {state.name.lower()}" for state, count in jobs.counts().items() if count]
    totals = HitRate.within(jobs).totals()
    used = f" ({100 * totals.used / totals.fetched:.0f} %)" if totals.fetched else ""
    fetched = counted(totals.fetched, "study", "studies")
    return f"{', '.join(counts) or 'no jobs'}; {fetched} fetched, {totals.used} used{used}"


def asked_text(ask: Ask) -> str:
    """What was asked, in one line."""
    parts = [f"PatientID {ask.patient_id}"]
    parts += [f"StudyDate {ask.study_date}"] if ask.study_date else []
    parts += [f"ModalitiesInStudy {'/'.join(ask.modalities)}"] if ask.modalities else []
    parts += [f"series of {'/'.join(ask.series_modalities)}"] if ask.series_modalities else []
    return f"{ask.archive}: {', '.join(parts)}; at most {ask.at_most}, by {ask.level}"


def _asked_shortly(ask: Ask) -> str:
    """The same for a column of a table."""
    parts = [ask.patient_id, ask.study_date, "/".join(ask.modalities)]
    return f"{ask.archive}: {', '.join(filter(None, parts))}"


def fields_of(job: Job) -> dict[str, Any]:
    """One JSON line."""
    progress = job.progress
    return {
        "number": job.number,
        "rule": job.rule,
        "state": job.state.name.lower(),
        "trigger_study_instance_uid": job.ask.trigger_study_uid,
        "trigger_sop_instance_uid": job.trigger_sop_instance_uid,
        "trigger_calling_ae_title": job.trigger_calling_ae_title,
        "asked": asked_text(job.ask),
        "to": list(job.ask.to),
        "found": len(progress.studies),
        "promised": progress.total("promised"),
        "already_here": progress.total("here"),
        "moved": progress.total("moved"),
        "missing": progress.total("missing"),
        "unasked": progress.unasked_count,
        "queued_of_those_here": progress.total("queued"),
        "seconds": round(job.seconds, 3),
        "attempts": job.attempts,
        "step": progress.step,
        "reason": job.reason,
        "created": moment(job.created_ns),
        "due": moment(job.due_ns),
        "changed": moment(job.changed_ns),
        "studies": [
            {
                "study_instance_uid": study.study_uid,
                "study_date": study.study_date,
                "promised": study.promised,
                "already_here": study.here,
                "moved": study.moved,
                "missing": study.missing,
            }
            for study in progress.studies
        ],
        "missing_sop_instance_uids": progress.missing,
        "unasked_sop_instance_uids": progress.unasked,
        "not_askable": progress.unaskable,
        "answers_ignored": progress.ignored,
        "notes": progress.notes,
        "suboperations": {
            "completed": progress.completed,
            "failed": progress.failed,
            "warnings": progress.warnings,
        },
    }


# (heading, field, how it is laid out)
_COLUMNS: Final = (
    ("No.", "number", "right"),
    ("JobState", "state", "left"),
    ("Rule", "rule", "left"),
    ("Triggered by study", "trigger_study_instance_uid", "left"),
    ("Asked", "asked", "left"),
    ("Found", "found", "right"),
    ("Here", "already_here", "right"),
    ("Moved", "moved", "right"),
    ("Missing", "missing", "right"),
    ("s", "seconds", "right"),
    ("Reason", "reason", "left"),
)


def _print_table(listed: list[Job]) -> None:
    print_table(
        (Column(heading, right=side == "right") for heading, _, side in _COLUMNS),
        (Row(_cells(job)) for job in listed),
    )


def _cells(job: Job) -> list[object]:
    fields = fields_of(job)
    fields["asked"] = _asked_shortly(job.ask)
    fields["seconds"] = f"{job.seconds:.1f}"
    fields["reason"] = job.reason or job.progress.step
    return [fields[name] for _, name, _ in _COLUMNS]
