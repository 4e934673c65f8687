"""The sender's lanes: threads that take what is leased, send it, and report what became of it.

A lane is one association at a time, so there are as many as `send.associations` says. Lanes
take their work from one `Schedule` under one lock, without the event loop: it only hears that there
are reports.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

from engine import limits
from engine.dimse.command_set import CommandOddity
from engine.outgoing.oddities import Oddities
from engine.pixels.transcode import OtherDecoder, no_other
from engine.sending.schedule import Schedule
from engine.sending.verdict import Ending, Verdict
from workers.frame.in_hand import InHand
from workers.sender.attempt import Destination, Errand, Sender
from workers.sender.suspects import Suspects

_patience_s: Final = 1.0  # a lane that waits looks at the clock again


class EndedAttempt(NamedTuple):
    """An attempt that ended."""

    errand: Errand
    verdict: Verdict
    seconds: float
    sent_bytes: int
    associations: int  # opened for it
    oddities: Oddities
    odd_answers: frozenset[CommandOddity] = frozenset()
    pause_s: float = 0.0  # for which its destination is not asked again
    goes_on: bool = False  # it is leased still, and is next


class Lanes:
    """What the lanes share. `reported` is called, in a lane's thread, when reports are there that
    nobody was told of yet."""

    def __init__(
        self, reported: Callable[[], None], count: int, other: OtherDecoder = no_other
    ) -> None:
        self._changed = threading.Condition()
        self._schedule: Schedule[Errand] = Schedule(count)
        self._destinations: Mapping[str, Destination] = {}
        self._reports: list[EndedAttempt] = []
        self._reported = reported
        self._senders = [Sender(other) for _ in range(count)]
        self._suspects = Suspects()
        self._in_hand: InHand | None = None
        self._kept: Counter[str] = Counter()  # associations of lanes that wait
        self._closed = False

    def note_in(self, in_hand: InHand) -> None:
        """Where each lane notes what it has in hand, at its own number."""
        self._in_hand = in_hand

    # --- the coordinator's side ------------------------------------------------------------------
    def open_for(self, destinations: Mapping[str, Destination]) -> None:
        """Only these are sent to from now on."""
        with self._changed:
            before, self._destinations = self._destinations, destinations
            self._schedule.open_for(destinations)
            for name, destination in destinations.items():
                if before.get(name, destination) != destination:
                    self._schedule.ask_now(name)  # most likely this was its trouble
            self._changed.notify_all()

    def resume(self, away: Mapping[str, tuple[int, float]]) -> None:
        """Of destinations that a predecessor could not reach: how often it had asked, and in how
        many seconds it would have asked again."""
        with self._changed:
            now = time.monotonic()
            for name, (asked, seconds) in away.items():
                # The clock may have been set since: no pause is longer than the longest.
                wait_s = min(max(0.0, seconds), limits.trouble_pause_s_max)
                self._schedule.resume(name, asked, now + wait_s)
            self._changed.notify_all()

    def ask_now(self, destinations: Iterable[str]) -> None:
        """End the pauses of these."""
        with self._changed:
            for name in destinations:
                self._schedule.ask_now(name)
            self._changed.notify_all()

    def wanted(self) -> dict[str, int]:
        """How many more deliveries to lease for each destination."""
        with self._changed:
            return self._schedule.wanted(time.monotonic())

    def put(self, leased: Mapping[str, list[Errand]]) -> None:
        """These may be sent."""
        with self._changed:
            for destination, errands in leased.items():
                self._suspects.put(errand for errand in errands if errand.delivery.deaths)
                good = [errand for errand in errands if not errand.delivery.deaths]
                self._schedule.put(destination, good)
            self._changed.notify_all()

    def collect(self) -> tuple[list[EndedAttempt], list[Errand]]:
        """(what ended, what was leased and will not be begun) since the last call."""
        with self._changed:
            reports, self._reports = self._reports, []
            suspects = self._suspects.returned(self._may_be_asked(time.monotonic()))
            return reports, self._schedule.returned() + suspects

    def _may_be_asked(self, now: float) -> Callable[[str], bool]:
        return lambda destination: self._schedule.may_be_asked(destination, now)

    @property
    def active(self) -> int:
        """Attempts under way."""
        with self._changed:
            return self._schedule.active

    def close(self) -> None:
        """Nothing more is begun, an association that is not there yet neither; lanes end when
        their attempts do."""
        with self._changed:
            self._closed = True
            self._schedule.open_for(())
            self._changed.notify_all()
        for sender in self._senders:
            sender.stop_opening()

    def interrupt(self) -> None:
        """End all attempts now; they count for nothing."""
        for sender in self._senders:
            sender.interrupt()

    # --- a lane ----------------------------------------------------------------------------------
    def run(self, number: int) -> None:
        """One lane's life, in its thread."""
        sender = self._senders[number]
        while True:
            turn = self._next(sender.held)
            if turn is not None:
                self._attempt(number, *turn)
                continue
            sender.release()
            if self._closed:
                return

    def _next(self, held: str) -> tuple[Destination, Errand] | None:
        """The next errand. None: none for so long that an association is kept no longer, or none
        will come any more."""
        idle_since = time.monotonic()
        with self._changed, self._keeping(held):
            while True:
                now = time.monotonic()
                taken = self._take(now, held)
                if taken is not None:
                    return self._destinations[taken.delivery.destination], taken
                if self._closed or (held and now - idle_since > limits.sending_idle_s):
                    return None
                next_try = self._schedule.next_try(now)
                wait_s = _patience_s if next_try is None else next_try - now
                self._changed.wait(min(max(wait_s, 0.001), _patience_s))

    def _take(self, now: float, held: str) -> Errand | None:
        def begin(destination: str) -> bool:
            return self._schedule.begin(destination, now)

        suspect = self._suspects.take(self._schedule.active, begin)
        if suspect is not None or self._suspects.holds_back(self._may_be_asked(now)):
            return suspect
        taken = self._schedule.take(now, held, self._kept - Counter({held: 1}))
        return None if taken is None else taken[1]

    @contextmanager
    def _keeping(self, held: str) -> Iterator[None]:
        """While a lane waits that has an association."""
        if not held:
            yield
            return
        self._kept[held] += 1
        try:
            yield
        finally:
            self._kept[held] -= 1

    def _attempt(self, number: int, destination: Destination, errand: Errand) -> None:
        sender = self._senders[number]
        began, bytes_before, opened = time.monotonic(), sender.sent_bytes, sender.associations
        verdict = self._tried(number, destination, errand)
        now = time.monotonic()
        sent_bytes, opened = sender.sent_bytes - bytes_before, sender.associations - opened
        with self._changed:
            name = destination.peer.name
            self._suspects.ended(errand)
            counts = self._schedule.ended(name, verdict, now - began, now, self._kept[name])
            pause_s = self._schedule.pause_s(name, now)
            goes_on = self._goes_on(errand, verdict, counts)
            if goes_on:
                self._schedule.put_first(name, errand)
            report = EndedAttempt(
                errand,
                counts,
                now - began,
                sent_bytes,
                opened,
                sender.oddities,
                sender.odd_answers,
                pause_s,
                goes_on,
            )
            self._reports.append(report)
            first = len(self._reports) == 1
            # A lane that waits may be allowed now what it was not.
            self._changed.notify_all()
        if first:
            self._reported()

    def _goes_on(self, errand: Errand, verdict: Verdict, counts: Verdict) -> bool:
        """Whether a peer that was full is asked again for this one, before anything behind it."""
        is_turned_away = verdict.is_crowding and counts.ending is Ending.RETURNED
        return is_turned_away and not self._closed and not errand.delivery.deaths

    def _tried(self, number: int, destination: Destination, errand: Errand) -> Verdict:
        """In hand meanwhile; still so if it ends the process."""
        if self._in_hand is None:
            return self._senders[number].attempt(destination, errand)
        self._in_hand.take(number, errand.delivery.number)
        verdict = self._senders[number].attempt(destination, errand)
        self._in_hand.put_down(number)
        return verdict
