"""What a person is shown of deliveries before they are discarded: where to, whose, how many."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Final, NamedTuple

from engine.dictionary.attributes import PATIENT_ID, PATIENT_NAME
from engine.limits import outbox_page_max
from engine.outbox.records import Delivery, State
from engine.outbox.view import OutboxView
from tools.commands.queue_change import Selection
from tools.face.terminal import one_line

_shown_max: Final = 20


class Seen(NamedTuple):
    """How many there are, and a line for each of the first."""

    total: int
    lines: list[str]


def seen_of(outbox: OutboxView, selection: Selection, state: State) -> Seen:
    """Of what is selected, as it stands now."""
    found = iter(_selected(outbox, selection, state))
    first = list(islice(found, _shown_max))
    count = len(first) + sum(1 for _ in found)
    lines = [_line(outbox, delivery) for delivery in first]
    if count > len(first):
        lines.append(f"... and {count - len(first)} more")
    return Seen(count, lines)


def _selected(outbox: OutboxView, selection: Selection, state: State) -> Iterable[Delivery]:
    if not selection.every:
        named = map(outbox.delivery, selection.numbers)
        return (delivery for delivery in named if delivery is not None)
    return chain.from_iterable(_pages(outbox, selection, state))


def _pages(outbox: OutboxView, selection: Selection, state: State) -> Iterator[list[Delivery]]:
    after = 0
    while True:
        wanted = (state, selection.destination, selection.study, after, outbox_page_max)
        page = list(outbox.deliveries(*wanted))
        yield page
        if len(page) < outbox_page_max:
            return
        after = page[-1].number


def _line(outbox: OutboxView, delivery: Delivery) -> str:
    """As it stands, with the patient where the instance is stored here."""
    whose = ""
    found = outbox.instance_of(delivery.sop_instance_uid, delivery.patient)
    if found is not None:
        shown = outbox.study_of_series(found[0]).values()
        whose = f" of patient {shown.get(PATIENT_ID, '')!r}, {shown.get(PATIENT_NAME, '')!r}"
    state = delivery.state.name.lower()
    reason = f" ({delivery.reason})" if delivery.reason else ""
    text = f"{delivery.number} to {delivery.destination}: {state}{reason}: study "
    return one_line(f"{text}{delivery.study_uid or '-'}{whose}")
