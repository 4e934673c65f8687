"""What stands against a removal: who still waits for an instance, or has it in hand.

Two kinds. What is in somebody's hand right now (a lease, a prefetch under way) cannot be removed by
anybody: it is a matter of minutes. What is only waited for can be, if whoever asks says that he
knows (`--force`): then its deliveries are discarded. A removal by a rule never forces.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from engine.index.environment import View
from engine.index.pins import pin_of
from engine.outbox.delivered import DeliveredOf
from engine.outbox.records import Delivery, State
from engine.outbox.view import OutboxView
from engine.prefetch.jobs import PrefetchJobs
from engine.prefetch.records import JobState
from engine.removal.orders import Meant, Order
from engine.rules.routing import PREFETCH

_WORDS = {
    State.WAITING: "wait to be sent to",
    State.RETRYING: "are tried again at",
    State.HELD: "are held back from",
    State.FAILED: "could not be sent to",
    State.SENDING: "are being sent to",
}


class Obstacle(NamedTuple):
    """Why not. `firm`: not even if forced."""

    text: str
    firm: bool


def obstacles_of(view: View, order: Order, found: Sequence[Meant]) -> list[Obstacle]:
    """What stands against the removal of these, but for what never_delivered() says."""
    return [
        *_of_studies(view, {one.study_number for one in found}),
        *_of_deliveries(open_deliveries(view, order, found)),
    ]


def never_delivered(
    view: View, order: Order, found: Iterable[Meant], delivered: Mapping[int, DeliveredOf]
) -> list[Obstacle]:
    """That of some of these nobody has a copy. `delivered`: by study."""
    never = uncovered_of(view, order, found, delivered)
    return [Obstacle(f"{never} were never delivered to anybody", False)] if never else []


def uncovered_of(
    view: View, order: Order, found: Iterable[Meant], delivered: Mapping[int, DeliveredOf]
) -> int:
    """How many of these nobody has a copy of: none that we sent, and no archive that a prefetch
    had it from."""
    return sum(
        1
        for one in found
        if one.instance.journal != PREFETCH
        and not delivered[one.study_number].of(view, one.instance, order.patient)
    )


def open_deliveries(view: View, order: Order, found: Iterable[Meant]) -> list[Delivery]:
    """Of the stored instances themselves: a copy that is sent does not need them."""
    outbox = OutboxView.within(view)
    destinations = outbox.destinations_with_open()
    return [
        delivery
        for one in found
        for delivery in outbox.open_of(one.instance.sop_instance_uid, order.patient, destinations)
        if not delivery.file
    ]


def _of_studies(view: View, numbers: Iterable[int]) -> Iterator[Obstacle]:
    fetched = studies_being_fetched(PrefetchJobs.within(view))
    for number in sorted(numbers):
        study = view.study(number)
        if study is None:
            continue
        if view.may_be_joined(number):
            text = "may hold instances of several patients: run scai verify --repair first"
            yield Obstacle(f"study {study.uid} {text}", True)
        pin = pin_of(view, study)
        if pin is not None:
            yield Obstacle(f"{pin.who} wants study {study.uid} kept", False)
        if study.uid in fetched:
            state, job = fetched[study.uid]
            text = f"is being fetched by prefetch {job}"
            yield Obstacle(f"study {study.uid} {text}", state is JobState.RUNNING)


def studies_being_fetched(jobs: PrefetchJobs) -> dict[str, tuple[JobState, int]]:
    """{StudyInstanceUID: (state, number) of the job that has asked for it and has not ended}."""
    found: dict[str, tuple[JobState, int]] = {}
    for job in jobs.unfinished():
        for study in job.progress.studies:
            found.setdefault(study.study_uid, (job.state, job.number))
    return found


def _of_deliveries(deliveries: Iterable[Delivery]) -> Iterator[Obstacle]:
    counts = Counter((one.state, one.destination) for one in deliveries)
    for (state, destination), count in sorted(counts.items()):
        text = f"{count} {_WORDS[state]} {destination}"
        yield Obstacle(text, state is State.SENDING)
