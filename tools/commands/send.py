"""`scai send`: files, or what is stored here, to remote AEs, and watch how it goes.

Files are looked at, copied into the outbox and queued; the service sends them. So the command may
be interrupted at any time: what is queued is sent all the same, or shown by `scai queue`.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import click

from engine.config.loading import Config, Remote
from engine.errors import OperatorError
from engine.index.freshness import catch_up
from engine.outbox.outbox import Outbox
from engine.outbox.records import Delivery, State
from engine.outbox.writer import OutboxWriter
from tools.commands.queue_listing import fields_of
from tools.commands.selection import Selection
from tools.commands.send_queueing import Problem, Queueing, Wanted
from tools.face.operator import operator, who_option
from tools.face.operators_log import note_order
from tools.face.options import config_option, json_option, load
from tools.face.telling import tell
from tools.face.terminal import Exit, counted, printable
from workers.supervision.status import ask_status

_look_s: Final = 0.2
_ask_s: Final = 3.0  # between questions whether anybody sends; only two noes in a row are believed
_shown_max: Final = 20  # of what failed, line by line; the rest is counted
_UNDER_WAY: Final = (State.WAITING, State.SENDING, State.RETRYING)


@click.command(name="send")
@config_option
@click.option("--to", "names", multiple=True, required=True, metavar="NAME", help="A remote AE.")
@click.option("--study", "studies", multiple=True, metavar="UID", help="A stored study.")
@click.option("--series", multiple=True, metavar="UID", help="A stored series.")
@click.option("--instance", "instances", multiple=True, metavar="UID", help="A stored instance.")
@click.option("--patient", metavar="ID", help="Whose, where patients have one UID.")
@click.option("--issuer", metavar="TEXT", default="", help="Issuer of that Patient ID.")
@click.option("--wait/--no-wait", default=True, help="Watch until all is delivered or failed.")
@who_option
@json_option
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
def command(
    config_path: Path | None,
    names: tuple[str, ...],
    studies: tuple[str, ...],
    series: tuple[str, ...],
    instances: tuple[str, ...],
    patient: str | None,
    issuer: str,
    wait: bool,
    who: str | None,
    as_json: bool,
    paths: tuple[Path, ...],
) -> int:
    """Send files, directories of files, or what is stored here, to remote AEs by name.

    Exit code 1 when something cannot be sent, has failed, or was watched and stopped being sent.
    """
    config = load(config_path).config
    if not (paths or studies or series or instances):
        raise click.UsageError("name files or directories, or --study, --series, --instance")
    remotes = _remotes(config, names)
    selection = Selection(studies, series, instances, patient, issuer)
    wanted = Wanted(remotes, paths, selection)
    if not config.data_path.is_dir():
        raise OperatorError(
            "there is no data directory yet: start the service once", str(config.data_path)
        )
    if not catch_up(config.data_path):
        click.echo("the index is behind: what was received last may be missing", err=True)
    with closing(OutboxWriter(config.data_path)) as writer:
        queueing = _queue(writer, config, wanted, operator(who))
        _tell_problems(queueing.problems, as_json)
        numbers = list(dict.fromkeys(queueing.numbers))
        if not numbers:
            if as_json:
                tell(True, "nothing is queued", queued=0, unsendable=len(queueing.problems))
            else:
                click.echo("nothing is queued", err=True)
            return Exit.NEGATIVE
        hindrance = _hindrance(config, writer, remotes)
        if not wait or hindrance:
            text = f"{_counted(len(numbers))} queued{hindrance and ': ' + hindrance}"
            tell(as_json, text, queued=len(numbers), unsendable=len(queueing.problems))
            return Exit.NEGATIVE if queueing.problems else Exit.OK
        _ask_now(writer, remotes)
        watched = _watch(
            writer,
            numbers,
            lambda left: _hindrance(config, writer, remotes) or _absence(writer, left),
        )
        delivered = _summarize(watched, len(numbers), len(queueing.problems), as_json)
    return Exit.OK if delivered and not queueing.problems else Exit.NEGATIVE


def _remotes(config: Config, names: Sequence[str]) -> list[Remote]:
    by_name = {remote.name: remote for remote in config.remotes}
    for name in names:
        if name not in by_name:
            known = ", ".join(by_name) or "none is configured"
            raise OperatorError(f"is no remote AE's name; there are: {known}", f"--to {name}")
    return [by_name[name] for name in dict.fromkeys(names)]


def _counted(count: int) -> str:
    return counted(count, "delivery", "deliveries")


def _queue(writer: OutboxWriter, config: Config, wanted: Wanted, who: str) -> Queueing:
    from rich.progress import Progress

    with Progress(disable=not sys.stderr.isatty(), transient=True) as progress:
        bar = progress.add_task("copying", total=None)
        queueing = Queueing(
            writer,
            config.data_path,
            lambda done, total: progress.update(bar, completed=done, total=total),
        )
        try:
            queueing.run(wanted)
        except OSError as error:
            raise OperatorError(
                f"cannot be copied into {config.data_path}: {error.strerror}; "
                f"{_counted(len(queueing.numbers))} queued before"
            ) from error
        except KeyboardInterrupt:
            click.echo(f"interrupted; {_counted(len(queueing.numbers))} queued so far", err=True)
            raise
        finally:
            _note(config.data_path, who, wanted, queueing)
    return queueing


def _note(data_directory: Path, who: str, wanted: Wanted, queueing: Queueing) -> None:
    """Keep who sent what where. Names of files may be patients' names: they are counted."""
    if queueing.numbers:
        note_order(
            data_directory,
            who,
            "send",
            deliveries=len(set(queueing.numbers)),
            destinations=[remote.name for remote in wanted.remotes],
            paths=len(wanted.paths),
            **wanted.stored.uids,
        )


def _tell_problems(problems: Sequence[Problem], as_json: bool) -> None:
    for problem in problems:
        if as_json:
            tell(True, "cannot be sent", what=problem.what, reason=problem.reason)
            continue
        click.echo(printable(f"{problem.what}: cannot be sent: {problem.reason}"), err=True)


def _hindrance(config: Config, writer: OutboxWriter, remotes: Sequence[Remote]) -> str:
    """Why it makes no sense to wait; "" where it does."""
    status = ask_status(config.data_path)
    if status is None:
        return "no service runs on this data; they go out when it does"
    if not any(process.role == "sender" for process in status.processes):
        return "the service that runs knows no remote AE; reload it"
    with writer.view() as outbox:
        paused = outbox.paused()
    waiting = [remote.name for remote in remotes if remote.paused or remote.name in paused]
    if waiting:
        return f"{', '.join(waiting)} is paused; they wait until it is resumed"
    return ""


def _ask_now(writer: OutboxWriter, remotes: Sequence[Remote]) -> None:
    """Somebody waits: who was away may be back."""
    now_ns = time.time_ns()

    def work(outbox: Outbox) -> None:
        for name in outbox.away().keys() & {remote.name for remote in remotes}:
            outbox.ask_now(name, now_ns)

    writer.commit(work)


def _absence(writer: OutboxWriter, numbers: Sequence[int]) -> str:
    """Why nothing of this goes out just now; "" where some of it may."""
    with writer.view() as outbox:
        away = outbox.away()
        left = {one.destination for one in map(outbox.delivery, numbers) if one is not None}
    if not left or left - away.keys():
        return ""
    words = "; ".join(f"{name} is away: {away[name].reason}" for name in sorted(left))
    return f"{words}; they go out when it is back"


class Watched(NamedTuple):
    """What became of deliveries that were watched, and why the rest was not waited for."""

    ended: list[Delivery]
    under_way: list[int]
    hindrance: str


def _watch(
    writer: OutboxWriter, numbers: Sequence[int], hindered: Callable[[Sequence[int]], str]
) -> Watched:
    """Until none is under way any more, or nobody sends them; a restart is waited for."""
    from rich.progress import Progress

    under_way = list(numbers)
    ended: list[Delivery] = []
    hindrance = before = ""
    asked = time.monotonic()
    try:
        with Progress(disable=not sys.stderr.isatty(), transient=True) as progress:
            bar = progress.add_task("sending", total=len(numbers))
            while under_way and not (hindrance and before):
                under_way, more = _look(writer, under_way)
                ended += more
                progress.update(bar, completed=len(numbers) - len(under_way))
                if under_way:
                    time.sleep(_look_s)
                if under_way and time.monotonic() - asked >= _ask_s:
                    before, hindrance = hindrance, hindered(under_way)
                    asked = time.monotonic()
    except KeyboardInterrupt:
        click.echo(
            f"{_counted(len(under_way))} still queued: they go on without this command; "
            "`scai queue` shows them",
            err=True,
        )
        raise
    return Watched(ended, under_way, hindrance)


def _look(writer: OutboxWriter, numbers: Sequence[int]) -> tuple[list[int], list[Delivery]]:
    """(those under way, those that ended). One that is gone was replaced, or taken out by hand."""
    under_way, ended = [], []
    with writer.view() as outbox:
        for number in numbers:
            delivery = outbox.delivery(number)
            if delivery is not None and delivery.state in _UNDER_WAY:
                under_way.append(number)
            elif delivery is not None:
                ended.append(delivery)
    return under_way, ended


def _summarize(watched: Watched, total: int, unsendable: int, as_json: bool) -> bool:
    """Say it; whether all were delivered."""
    ended, under_way = watched.ended, watched.under_way
    by_state = Counter(delivery.state for delivery in ended)
    warnings = [one for one in ended if one.state is State.DELIVERED and one.warning]
    failed = [one for one in ended if one.state is State.FAILED]
    for delivery in (warnings + failed)[:_shown_max]:
        word = "failed" if delivery.state is State.FAILED else "warning"
        line = f"{delivery.sop_instance_uid} to {delivery.destination}: {word}: {delivery.reason}"
        if as_json:
            tell(True, line, **fields_of(delivery))
            continue
        click.echo(printable(line), err=True)
    if len(warnings) + len(failed) > _shown_max:
        click.echo(f"... and more: `scai queue` shows all {len(failed)} that failed", err=True)
    delivered = by_state[State.DELIVERED]
    parts = [f"{delivered} of {total} delivered"]
    if warnings:
        parts.append(f"{len(warnings)} of them with a warning")
    if failed:
        parts.append(f"{len(failed)} failed; `scai queue retry` sends them again")
    if by_state[State.HELD]:
        parts.append(f"{by_state[State.HELD]} held")
    if total > len(ended) + len(under_way):
        parts.append(f"{total - len(ended) - len(under_way)} replaced or discarded")
    if unsendable:
        parts.append(f"{unsendable} cannot be sent")
    if under_way:
        parts.append(f"{len(under_way)} still queued: {watched.hindrance}")
    tell(
        as_json,
        ", ".join(parts),
        queued=total,
        delivered=delivered,
        warnings=len(warnings),
        failed=len(failed),
        held=by_state[State.HELD],
        unsendable=unsendable,
        under_way=len(under_way),
    )
    return delivered == total
