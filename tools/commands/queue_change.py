"""How `scai queue` changes deliveries: those that are named, or all in a state, in portions."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import wraps
from pathlib import Path
from typing import NamedTuple

import click

from engine.limits import outbox_portion_max
from engine.outbox.outbox import Outbox
from engine.outbox.records import Delivery, State
from engine.outbox.spool import remove_finished
from engine.outbox.writer import OutboxWriter
from tools.commands.queue_listing import fields_of
from tools.face.operator import operator, who_option
from tools.face.operators_log import note_order
from tools.face.options import config_option, json_option, number_type
from tools.face.telling import tell
from tools.face.terminal import Exit, counted


class Selection(NamedTuple):
    """Which deliveries a command is for: `numbers`, or all, narrowed to a remote AE or a study;
    who gives the order, and whether it is answered in JSON."""

    numbers: tuple[int, ...]
    every: bool
    destination: str | None
    study: str | None
    who: str
    as_json: bool

    def check(self) -> None:
        """Raises click.UsageError when it is not clear which are meant."""
        if bool(self.numbers) == self.every:
            raise click.UsageError("either NUMBERS or --all")
        if self.numbers and (self.destination or self.study):
            raise click.UsageError("--to and --study go with --all")


class Change(NamedTuple):
    """What is done to deliveries: the order's name, the outbox's own method, the states that --all
    means, and how a person is told of one and of several."""

    order: str
    method: Callable[[Outbox, Sequence[int], int], list[Delivery]]
    states: tuple[State, ...]
    of_one: str
    of_many: str


to_option = click.option("--to", "destination", metavar="NAME", help="Only to this remote AE.")
study_option = click.option("--study", metavar="UID", help="Only of this study.")


def selecting(function: Callable[..., int]) -> Callable[..., int]:
    """Give a command the arguments that make its Selection, and -c."""

    @wraps(function)
    def select(
        numbers: tuple[int, ...],
        every: bool,
        destination: str | None,
        study: str | None,
        who: str | None,
        as_json: bool,
        **others: object,
    ) -> int:
        named = tuple(dict.fromkeys(numbers))
        selection = Selection(named, every, destination, study, operator(who), as_json)
        selection.check()
        return function(selection, **others)

    decorated: Callable[..., int] = select
    for option in (
        study_option,
        to_option,
        click.option("--all", "every", is_flag=True, help="All there are, not some by NUMBERS."),
        json_option,
        who_option,
        config_option,
        click.argument("numbers", type=number_type, nargs=-1),
    ):
        decorated = option(decorated)
    return decorated


@contextmanager
def changing(data_directory: Path) -> Iterator[OutboxWriter]:
    """The outbox for writing; what was said to be done survives a power cut."""
    with closing(OutboxWriter(data_directory, create=False)) as writer:
        yield writer
        writer.sync()


def carry_out(data_directory: Path, selection: Selection, change: Change) -> int:
    """Change what is selected and say so; Exit.NEGATIVE: there was none, or not all could be."""
    with changing(data_directory) as writer:
        if selection.every:
            changed = _change_all(writer, data_directory, selection, change)
            one, many = f"delivery {change.of_one}", f"deliveries {change.of_many}"
            text = counted(changed, one, many)
            tell(selection.as_json, text, order=change.order, deliveries=changed)
            return Exit.OK if changed else Exit.NEGATIVE
        deliveries, others = writer.commit(
            lambda outbox: _change_named(outbox, selection.numbers, change)
        )
        _drop_copies(writer, data_directory, change, deliveries)
    changed_numbers = [delivery.number for delivery in deliveries]
    _note(data_directory, selection, change, len(deliveries), changed_numbers)
    for delivery in deliveries:
        text = f"{delivery.number} to {delivery.destination} {change.of_one}"
        tell(selection.as_json, text, order=change.order, **fields_of(delivery))
    for line in others:
        click.echo(line, err=True)
    return Exit.NEGATIVE if others else Exit.OK


def _note(
    data_directory: Path, selection: Selection, change: Change, count: int, numbers: list[int]
) -> None:
    """Keep who did it. `numbers`: those that were named and changed; none where all were meant."""
    if count:
        narrowed = {"destination": selection.destination, "study_uid": selection.study}
        given: dict[str, object] = {name: text for name, text in narrowed.items() if text}
        if numbers:
            given = {"numbers": numbers}
        note_order(data_directory, selection.who, change.order, deliveries=count, **given)


def _change_named(
    outbox: Outbox, numbers: Sequence[int], change: Change
) -> tuple[list[Delivery], list[str]]:
    """(what was changed, a line for each of the others)."""
    before = {number: outbox.delivery(number) for number in numbers}
    changed = change.method(outbox, numbers, time.time_ns())
    done = {delivery.number for delivery in changed}
    others = []
    for number, delivery in before.items():
        if delivery is None:
            others.append(f"{number}: no such delivery")
        elif number not in done:
            others.append(f"{number}: left alone, it is {delivery.state.name.lower()}")
    return changed, others


def _change_all(
    writer: OutboxWriter, data_directory: Path, selection: Selection, change: Change
) -> int:
    """How many were changed. What was is kept also when somebody interrupts it."""
    total = 0
    try:
        for state in change.states:
            for changed in _portions(writer, selection, change, state):
                _drop_copies(writer, data_directory, change, changed)
                total += len(changed)
    finally:
        _note(data_directory, selection, change, total, [])
    return total


def _portions(
    writer: OutboxWriter, selection: Selection, change: Change, state: State
) -> Iterator[list[Delivery]]:
    """What was changed, in portions, so that sender and indexer have their turns."""
    after = 0

    def portion(outbox: Outbox) -> tuple[list[Delivery], int]:
        found = outbox.deliveries(
            state, selection.destination, selection.study, after, outbox_portion_max
        )
        numbers = [delivery.number for delivery in found]
        return change.method(outbox, numbers, time.time_ns()), numbers[-1] if numbers else 0

    while True:
        changed, last = writer.commit(portion)
        if not last:
            return
        yield changed
        after = last


def _drop_copies(
    writer: OutboxWriter, data_directory: Path, change: Change, deliveries: Iterable[Delivery]
) -> None:
    """Remove the spooled copies of what was discarded."""
    if change.method is Outbox.discard:
        remove_finished(writer, data_directory, [delivery.file for delivery in deliveries])
