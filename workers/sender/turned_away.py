"""Peers that end an association of ours before anything is offered: is it they, or the instance?

Nothing is known of the instance then but its SOP class and transfer syntax, which the request
proposes. It may be these that make a peer abort. So a destination that is away is asked with
another kind each time, and the kind that it cannot stand keeps nobody waiting. What is turned away
again and again while others are let in has failed an attempt, as if it had been offered.
"""

from collections import Counter, defaultdict
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from engine import limits
from engine.outbox.records import Delivery, InstanceKind, instance_kind
from engine.sending.verdict import Verdict


class _Turned(NamedTuple):
    """A delivery: how often, and how many had been let in by the last time."""

    times: int
    let_in: int


class TurnedAway:
    """One sender's. One thread's own."""

    def __init__(self) -> None:
        self._kinds: defaultdict[str, set[InstanceKind]] = defaultdict(set)
        self._let_in: Counter[str] = Counter()
        self._turned: dict[int, _Turned] = {}

    def kinds(self, destination: str) -> AbstractSet[InstanceKind]:
        """Those that were turned away, and not let in since."""
        return self._kinds.get(destination, frozenset())

    def forget_kinds(self, destination: str) -> None:
        """All that wait are of these kinds: they have their turns anew."""
        self._kinds.pop(destination, None)

    def note_let_in(self, delivery: Delivery) -> None:
        """The destination took this one, or answered it."""
        self._let_in[delivery.destination] += 1
        self._kinds[delivery.destination].discard(instance_kind(delivery))
        self._turned.pop(delivery.number, None)

    def is_its_own_doing(self, delivery: Delivery, verdict: Verdict) -> bool:
        """An attempt ended before anything was offered. Whether that is to be held against it."""
        if not verdict.is_crowding:  # nobody was there
            return False
        self._kinds[delivery.destination].add(instance_kind(delivery))
        if not verdict.is_abrupt:  # it is full, or slow
            return False
        let_in = self._let_in[delivery.destination]
        before = self._turned.get(delivery.number, _Turned(0, -1))
        times = before.times + (let_in > before.let_in)
        if times >= limits.turned_away_max:
            del self._turned[delivery.number]
            return True
        if len(self._turned) >= limits.probe_looked_at_max:
            self._turned.clear()
        self._turned[delivery.number] = _Turned(times, let_in)
        return False
