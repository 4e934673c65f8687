"""`scai queue`: what is to be sent, what could not be, and the user's hand in it.

Works on the outbox itself, so it does not matter whether the service runs; a running sender heeds
what was changed at once. What is being sent at the moment is nobody's to change: it ends first.
"""

import heapq
import json
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import click
from click.core import ParameterSource

from engine.config.loading import Config
from engine.errors import OperatorError
from engine.files.tree import STORE_DIRECTORY
from engine.index.environment import IndexReader, NoIndexError, open_index_reader
from engine.index.freshness import catch_up
from engine.limits import outbox_page_max
from engine.outbox.outbox import Outbox
from engine.outbox.records import Delivery, State
from engine.outbox.spool import OUTBOX_DIRECTORY
from engine.outbox.view import OutboxView
from tools.commands.queue_change import (
    Change,
    Selection,
    carry_out,
    changing,
    selecting,
    study_option,
    to_option,
)
from tools.commands.queue_listing import (
    STATE_NAMES,
    absence,
    fields_of,
    print_deliveries,
    print_fields,
    print_summary,
)
from tools.commands.queue_seen import seen_of
from tools.face.operator import operator, who_option
from tools.face.operators_log import note_order, orders
from tools.face.options import config_option, json_option, load, number_type
from tools.face.telling import tell
from tools.face.terminal import Exit, confirmed, moment, one_line

_table_rows_default: Final = 50
_HISTORY_HEAD: Final = ("time", "who", "order", "event")
_QUEUE_ORDERS: Final = ["send", "ask", "retry", "hold", "release", "discard", "pause", "resume"]
_UNDELIVERED: Final = tuple(state for state in State if state is not State.DELIVERED)


class _Wanted(NamedTuple):
    """What the list is narrowed to."""

    state: State | None
    destination: str | None
    study: str | None


@click.group(name="queue", invoke_without_command=True)
@config_option
@to_option
@click.option("--state", "state_name", type=click.Choice(list(STATE_NAMES)))
@study_option
@click.option("--limit", type=click.IntRange(min=1), help="At most so many; a table: 50.")
@json_option
@click.pass_context
def command(
    context: click.Context,
    /,
    config_path: Path | None,
    destination: str | None,
    state_name: str | None,
    study: str | None,
    limit: int | None,
    as_json: bool,
) -> int | None:
    """List deliveries to remote AEs, or change what becomes of them.

    Without a command: how many there are, then those that are not delivered yet; delivered ones
    with --study or --state delivered. Exit code 1 when none is listed.
    """
    context.obj = config_path
    if context.invoked_subcommand is not None:
        if as_json or any(each is not None for each in (destination, state_name, study, limit)):
            raise click.UsageError(f"options of {context.invoked_subcommand} stand behind it")
        return None
    wanted = _Wanted(STATE_NAMES[state_name] if state_name else None, destination, study)
    config = load(config_path).config
    reader = _open(config)
    if reader is None:
        click.echo("nothing was queued yet", err=True)
        return Exit.NEGATIVE
    with closing(reader):
        if as_json:
            return _print_lines(reader, wanted, limit)
        return _print_tables(reader, config, wanted, limit or _table_rows_default)


@command.command()
@click.argument("numbers", type=number_type, nargs=-1, required=True)
@config_option
@json_option
def show(numbers: tuple[int, ...], config_path: Path | None, as_json: bool) -> int:
    """Show deliveries by their numbers. Exit code 1 when one of them is not there."""
    reader = _open(_config(config_path))
    missing = list(numbers)
    if reader is not None:
        with closing(reader), reader.view() as view:
            outbox = OutboxView.within(view)
            missing = [number for number in numbers if not _print_one(outbox, number, as_json)]
    for number in missing:
        click.echo(f"{number}: no such delivery", err=True)
    return Exit.NEGATIVE if missing else Exit.OK


@command.command()
@selecting
def retry(selection: Selection, config_path: Path | None) -> int:
    """Send again, with all attempts anew, what failed; with --all, all that failed.

    One that waits for its next attempt is tried at once when it is named. A remote AE that cannot
    be reached is asked at once, with --all (and --to) or when a delivery to it is named.
    """
    data_directory = _config(config_path).data_path
    change = Change("retry", Outbox.retry, (State.FAILED,), "starts over", "start over")
    asked = _ask_those_away(data_directory, selection) if selection.every else []
    for name, line in asked:
        note_order(data_directory, selection.who, "ask", destination=name)
        tell(selection.as_json, line, order="ask", destination=name)
    outcome = carry_out(data_directory, selection, change)
    return Exit.OK if asked else outcome


def _ask_those_away(data_directory: Path, selection: Selection) -> list[tuple[str, str]]:
    """End the pauses of destinations that are away; name and line of each."""

    def work(outbox: Outbox) -> list[tuple[str, str]]:
        now_ns = time.time_ns()
        lines = []
        for name, away in sorted(outbox.away().items()):
            if selection.destination in (None, name):
                outbox.ask_now(name, now_ns)
                since = moment(away.since_ns, "seconds")
                lines.append((name, f"{name}, away since {since}, is asked at once"))
        return lines

    with changing(data_directory) as writer:
        return writer.commit(work)


@command.command()
@selecting
def hold(selection: Selection, config_path: Path | None) -> int:
    """Do not send, until released, what waits."""
    change = Change("hold", Outbox.hold, (State.WAITING, State.RETRYING), "is held", "are held")
    return carry_out(_config(config_path).data_path, selection, change)


@command.command()
@selecting
def release(selection: Selection, config_path: Path | None) -> int:
    """Let what is held wait for its turn again."""
    change = Change("release", Outbox.release, (State.HELD,), "is released", "are released")
    return carry_out(_config(config_path).data_path, selection, change)


@command.command()
@selecting
@click.option(
    "--state",
    "state_name",
    type=click.Choice([name for name, state in STATE_NAMES.items() if state is not State.SENDING]),
    default="failed",
    show_default=True,
    help="With --all: those in this state.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def discard(selection: Selection, config_path: Path | None, state_name: str, yes: bool) -> int:
    """Take deliveries out of the queue: they will not be sent. Stored instances stay."""
    config = _config(config_path)
    state = STATE_NAMES[state_name]
    if not yes and not _discard_confirmed(config, selection, state):
        click.echo("nothing was changed", err=True)
        return Exit.NEGATIVE
    change = Change(
        "discard", Outbox.discard, (STATE_NAMES[state_name],), "is discarded", "are discarded"
    )
    return carry_out(config.data_path, selection, change)


def _discard_confirmed(config: Config, selection: Selection, state: State) -> bool:
    """Show what would be discarded, and whose it is, then ask."""
    numbers = ", ".join(map(str, selection.numbers))
    what = "deliveries" if len(selection.numbers) > 1 else "delivery"
    what = f"all that are {state.name.lower()}" if selection.every else f"{what} {numbers}"
    if selection.destination:
        what += f" to {selection.destination}"
    if selection.study:
        what += f" of study {selection.study}"
    reader = _open(config)
    if reader is not None:
        with closing(reader), reader.view() as view:
            seen = seen_of(OutboxView.within(view), selection, state)
        for line in seen.lines:
            click.echo(line, err=True)
        if selection.every:
            what += f" ({seen.total} of them)"
    return confirmed(f"Discard {what}? What is discarded will not be sent")


@command.command()
@config_option
@json_option
def history(config_path: Path | None, as_json: bool) -> int:
    """Show who sent, retried, held, released, discarded, paused and resumed what, the oldest first.

    Exit code 1 when nobody did. Other orders stand in the same file, operators.log.
    """
    found = False
    for order in orders(_config(config_path).data_path):
        if order.get("order") not in _QUEUE_ORDERS:
            continue
        found = True
        facts = ", ".join(
            f"{name} {value}" for name, value in order.items() if name not in _HISTORY_HEAD
        )
        head = "  ".join(str(order.get(name, "")) for name in _HISTORY_HEAD if name != "event")
        click.echo(json.dumps(order) if as_json else one_line(f"{head}  {facts}"))
    if not found:
        click.echo("nobody changed the queue", err=True)
    return Exit.OK if found else Exit.NEGATIVE


@command.command()
@click.argument("destination")
@config_option
@who_option
@json_option
def pause(destination: str, config_path: Path | None, who: str | None, as_json: bool) -> None:
    """Send nothing more to a remote AE until resumed; what is under way is finished."""
    config = _config(config_path)
    _set_paused(config, destination, True, operator(who))
    tell(as_json, f"{destination} is paused", destination=destination, paused=True)


@command.command()
@click.argument("destination")
@config_option
@who_option
@json_option
def resume(destination: str, config_path: Path | None, who: str | None, as_json: bool) -> int:
    """Send to a paused remote AE again. Exit code 1 when its configuration still pauses it."""
    config = _config(config_path)
    _set_paused(config, destination, False, operator(who))
    stays = any(remote.name == destination and remote.paused for remote in config.remotes)
    text = f"{destination} is no longer paused"
    if stays:
        text = f"{destination} stays paused: `paused = true` in the configuration"
    tell(as_json, text, destination=destination, paused=stays)
    return Exit.NEGATIVE if stays else Exit.OK


def _config(config_path: Path | None) -> Config:
    """By a command's own -c, or by the one ahead of its name."""
    context = click.get_current_context()
    assert context.parent is not None, "these are commands of a group"
    own = context.get_parameter_source("config_path") is ParameterSource.COMMANDLINE
    return load(config_path if own else context.parent.obj).config


def _set_paused(config: Config, destination: str, paused: bool, who: str) -> None:
    known = {remote.name for remote in config.remotes}

    def work(outbox: Outbox) -> None:
        names = known | {name for name, _ in outbox.counts()} | outbox.paused()
        if destination not in names:
            listed = ", ".join(f"{name!r}" for name in sorted(names)) or "none"
            raise OperatorError(f"{destination!r} is no remote AE; there are: {listed}")
        outbox.pause(destination, paused)

    with changing(config.data_path) as writer:
        writer.commit(work)
    note_order(config.data_path, who, "pause" if paused else "resume", destination=destination)


# --- looking -------------------------------------------------------------------------------------
def _open(config: Config) -> IndexReader | None:
    """None when nothing was ever queued."""
    try:
        reader = open_index_reader(config.data_path)
    except NoIndexError:
        return None
    if not catch_up(config.data_path):
        click.echo("the index is behind: what was received last may be missing", err=True)
    return reader


def _pages(reader: IndexReader, wanted: _Wanted, limit: int | None) -> Iterator[list[Delivery]]:
    """What is wanted by number, in portions: each is what the outbox was at a time of its own, so
    that no state of the index is held while somebody reads."""
    after, left = 0, limit
    while left is None or left > 0:
        count = outbox_page_max if left is None else min(left, outbox_page_max)
        with reader.view() as view:
            page = _page(OutboxView.within(view), wanted, after, count)
        if page:
            yield page
            after = page[-1].number
        if len(page) < count:
            return
        left = None if left is None else left - count


def _page(outbox: OutboxView, wanted: _Wanted, after: int, count: int) -> list[Delivery]:
    """Of no state in particular: all of a study, else what is not delivered."""
    state, destination, study = wanted
    if state is not None or study is not None:
        return list(outbox.deliveries(state, destination, study, after, count))
    runs = [outbox.deliveries(each, destination, None, after, count) for each in _UNDELIVERED]
    return list(islice(heapq.merge(*runs, key=lambda delivery: delivery.number), count))


def _print_lines(reader: IndexReader, wanted: _Wanted, limit: int | None) -> int:
    found = False
    for page in _pages(reader, wanted, limit):
        found = True
        for delivery in page:
            click.echo(json.dumps(fields_of(delivery)))
    return Exit.OK if found else Exit.NEGATIVE


def _print_tables(reader: IndexReader, config: Config, wanted: _Wanted, limit: int) -> int:
    with reader.view() as view:
        _summarize(OutboxView.within(view), config, wanted.destination)
    listed = [delivery for page in _pages(reader, wanted, limit) for delivery in page]
    if not listed:
        click.echo("no such delivery" if any(wanted) else "nothing waits", err=True)
        return Exit.NEGATIVE
    click.echo()
    print_deliveries(listed)
    if len(listed) == limit:
        click.echo(f"the first {limit}; more with --limit", err=True)
    return Exit.OK


def _summarize(outbox: OutboxView, config: Config, destination: str | None) -> None:
    counts, by_hand, away = outbox.counts(), outbox.paused(), outbox.away()
    by_file = {remote.name for remote in config.remotes if remote.paused}
    known = {remote.name for remote in config.remotes}
    names = {name for name, _ in counts} | by_hand | known
    if destination is not None:
        names &= {destination}
    remarks = {
        name: ", ".join(
            remark
            for remark, holds in (
                ("paused", name in by_hand),
                ("paused by the configuration", name in by_file),
                ("not in the configuration", name not in known),
                (absence(away.get(name)), name in away),
            )
            if holds
        )
        for name in names
    }
    if names:
        print_summary(counts, remarks, sorted(names))


def _print_one(outbox: OutboxView, number: int, as_json: bool) -> bool:
    delivery = outbox.delivery(number)
    if delivery is None:
        return False
    fields = fields_of(delivery)
    if delivery.file:
        fields["file"] = f"{OUTBOX_DIRECTORY}/{delivery.file}"
    elif (found := outbox.instance_of(delivery.sop_instance_uid, delivery.patient)) is not None:
        fields["file"] = f"{STORE_DIRECTORY}/{outbox.path_of(*found)}"
    if as_json:
        click.echo(json.dumps(fields))
    else:
        print_fields(fields)
    return True
