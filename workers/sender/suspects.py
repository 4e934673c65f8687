"""Deliveries that a sender died or hung of, perhaps: tried one at a time, and at last alone.

What was in hand when a sender died is suspect, all of it. One suspect at a time is tried, beside
what nobody suspects: who was there by chance comes through, and the others go on. One that was in
hand at two deaths is tried with nothing else in hand: if the sender dies again, that was the third
time and its doing, and it has failed. Nobody fails for what another one did.
"""

from collections import deque
from collections.abc import Callable, Iterable

from engine import limits
from workers.sender.attempt import Errand


class Suspects:
    """The suspects among what is leased. Its caller holds a lock."""

    def __init__(self) -> None:
        self._waiting: deque[Errand] = deque()
        self._under_way: Errand | None = None

    def put(self, errands: Iterable[Errand]) -> None:
        """These may be sent, one at a time."""
        self._waiting.extend(errands)

    def take(self, active: int, begin: Callable[[str], bool]) -> Errand | None:
        """The next one to be tried. `active`: attempts under way; `begin` takes a lane for a
        destination, or says that it may have none now."""
        if self._under_way is not None:
            return None
        for errand in self._waiting:
            if active and is_tried_alone(errand):
                continue
            if begin(errand.delivery.destination):
                self._waiting.remove(errand)
                self._under_way = errand
                return errand
        return None

    def holds_back(self, may_be_asked: Callable[[str], bool]) -> bool:
        """Whether nothing else may be begun: one is tried alone, or is about to be."""
        if self._under_way is not None:
            return is_tried_alone(self._under_way)
        return any(
            is_tried_alone(errand) and may_be_asked(errand.delivery.destination)
            for errand in self._waiting
        )

    def ended(self, errand: Errand) -> None:
        """An attempt is over."""
        if errand is self._under_way:
            self._under_way = None

    def returned(self, may_be_asked: Callable[[str], bool]) -> list[Errand]:
        """Those whose destinations are not asked just now, to be given back."""
        returned = [one for one in self._waiting if not may_be_asked(one.delivery.destination)]
        for errand in returned:
            self._waiting.remove(errand)
        return returned


def is_tried_alone(errand: Errand) -> bool:
    """Whether the next death is the last one."""
    return errand.delivery.deaths >= limits.delivery_deaths_max - 1
