"""Who may send next: the sender's decisions, without its threads.

`Schedule` shares a few lanes (one association each) among destinations so that none waits for
another one's slowness. Each destination with work keeps a lane, and one lane is kept for whoever
comes next. A destination in trouble or away has a single lane and is asked with growing pauses. So
a peer that is restarted for a minute costs an attempt of what it was just sent, and nothing else.
"""

import math
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from engine import limits
from engine.sending.verdict import NO_STATUS, Ending, Verdict

T = TypeVar("T")


@dataclass(slots=True)
class _Standing(Generic[T]):
    """One destination."""

    ready: deque[T] = field(default_factory=deque)  # leased, not begun
    active: int = 0  # lanes that send to it
    failures: int = 0  # in a row
    is_slow: bool = False
    not_before: float = 0.0
    last_turn: int = 0
    taken: int = 0  # since work was last asked for
    waiting_since: float = 0.0  # what is leased, for a lane
    lanes_max: int = limits.associations_sending_max  # as many as it was seen to let in
    lanes_learnt: float = 0.0
    last_end: float = -math.inf  # of an attempt
    last_answer: float = -math.inf  # of one that had one
    last_failure: float = -math.inf
    gives_back: bool = False  # what was leased earlier, which returned() has not told yet

    @property
    def in_work(self) -> bool:
        return bool(self.ready) or self.active > 0

    @property
    def is_late(self) -> bool:
        """Others should not wait for it."""
        return self.is_slow or self.failures > 0


class _Room(NamedTuple):
    """The lanes, when one of them is to be taken."""

    free: int  # besides it
    late: int  # that late destinations may still have: all together they leave one to the others
    owed: int  # to those that have work and no lane, and one to whoever has no work yet
    is_awaited: bool  # somebody is most likely between two instances, and has no lane meanwhile

    def is_for(self, standing: _Standing[T], kept: int, has_own: bool = False) -> bool:
        """Whether a destination may have it. The first one is its due, if it is not late; for
        a further one enough has to be left. `kept`: associations that it has besides, which serve
        first; `has_own`: the lane has one too, and need not wait for those."""
        held = standing.active + kept
        waiting = len(standing.ready) - (0 if has_own else kept)
        if waiting <= 0 or (standing.is_late and self.late <= 0):
            return False
        if held >= (1 if standing.failures else standing.lanes_max):
            return False
        if held:
            return self.free >= self.owed - (not standing.active)
        return self.free > 0 or not (standing.is_late and self.is_awaited)


class Schedule(Generic[T]):
    """Which of the things that are leased is sent next. Times are seconds of a monotonic clock."""

    def __init__(self, lanes: int = limits.associations_sending_max) -> None:
        self._lanes = lanes
        self._turn = 0
        self._standings: dict[str, _Standing[T]] = {}
        self._open: frozenset[str] = frozenset()
        self._returned: list[T] = []

    def open_for(self, destinations: Collection[str]) -> None:
        """Only these are sent to from now on."""
        self._open = frozenset(destinations)
        for name in self._open:
            self._standings.setdefault(name, _Standing(lanes_max=self._lanes))
        for name in [*self._standings]:
            if name in self._open:
                continue
            standing = self._standings[name]
            self._return(standing)
            if not standing.active:
                del self._standings[name]

    def put(self, destination: str, leased: Iterable[T]) -> None:
        """These may be sent to it. Where earlier ones are given back, so are these: they would
        overtake them."""
        standing = self._standings.get(destination)
        if destination in self._open and standing is not None and not standing.gives_back:
            standing.ready.extend(leased)
        else:
            self._returned.extend(leased)

    def put_first(self, destination: str, leased: T) -> None:
        """This one was begun, and did not count: it is next."""
        standing = self._standings.get(destination)
        if destination in self._open and standing is not None and not standing.gives_back:
            standing.ready.appendleft(leased)
        else:
            self._returned.append(leased)

    def returned(self) -> list[T]:
        """What was leased and is not begun after all, to be given back; once."""
        returned, self._returned = self._returned, []
        for standing in self._standings.values():
            standing.gives_back = False
        return returned

    def _return(self, standing: _Standing[T], but: int = 0) -> None:
        """Give back what is not begun, but for the first ones."""
        kept = [standing.ready.popleft() for _ in range(min(but, len(standing.ready)))]
        self._returned.extend(standing.ready)
        standing.ready = deque(kept)
        standing.gives_back = True

    @property
    def active(self) -> int:
        """Lanes that send now."""
        return sum(standing.active for standing in self._standings.values())

    def ready(self, destination: str) -> int:
        """How much is leased for a destination and not begun."""
        standing = self._standings.get(destination)
        return 0 if standing is None else len(standing.ready)

    # --- asking for work -----------------------------------------------------------------------
    def wanted(self, now: float) -> dict[str, int]:
        """How many more to lease for each destination: about what it takes until the next time, so
        that little is leased that waits, and leases are few commits. What waits nevertheless, for
        a peer that takes its time, is given back."""
        wanted = {}
        for name in self._open:
            standing = self._standings[name]
            taken, standing.taken = standing.taken, 0
            if not standing.ready:
                standing.waiting_since = now
            elif now - standing.waiting_since > limits.lease_patience_s:
                self._return(standing, but=1)  # for the lane that gets free first
                continue
            if now < standing.not_before or standing.gives_back:
                continue
            if standing.is_late:
                if not standing.ready and not (standing.failures and standing.active):
                    wanted[name] = 1
                continue
            target = min(max(2 * taken, self._lanes), limits.leases_ahead_max)
            if len(standing.ready) <= target // 2:
                wanted[name] = target - len(standing.ready)
        return wanted

    # --- lanes ---------------------------------------------------------------------------------
    def take(
        self, now: float, keep: str = "", kept: Mapping[str, int] | None = None
    ) -> tuple[str, T] | None:
        """What a free lane sends next, and to whom. `keep`: whom it has an association with; it
        stays with that one where nobody waits for a turn. `kept`: how many associations with whom
        other free lanes have, which are to be used before there are more."""
        if self.active >= self._lanes:
            return None
        in_work = sum(standing.in_work for standing in self._standings.values())
        room = self._room(now)
        may = {
            name: standing
            for name, standing in self._standings.items()
            if now >= standing.not_before
            and room.is_for(standing, (kept or {}).get(name, 0), name == keep)
        }
        if not may:
            return None
        if keep in may and in_work <= self._lanes:
            chosen = keep
        else:
            chosen = min(
                may,
                key=lambda name: (
                    may[name].is_late,
                    may[name].active,
                    may[name].last_turn,
                    name,
                ),
            )
        standing = may[chosen]
        self._begin(standing, now)
        return chosen, standing.ready.popleft()

    def may_be_asked(self, destination: str, now: float) -> bool:
        """Whether it is sent to, and no pause of its keeps it from being asked."""
        if destination not in self._open:
            return False
        standing = self._standings[destination]
        return now >= standing.not_before and not (standing.failures and standing.active)

    def begin(self, destination: str, now: float) -> bool:
        """Take a lane for something that was not put here, as take() would; False: it may have
        none now."""
        if self.active >= self._lanes or not self.may_be_asked(destination, now):
            return False
        self._begin(self._standings[destination], now)
        return True

    def _begin(self, standing: _Standing[T], now: float) -> None:
        self._turn += 1
        standing.last_turn = self._turn
        standing.active += 1
        standing.taken += 1
        standing.waiting_since = now

    def _room(self, now: float) -> _Room:
        """What a lane may be taken for now."""
        standings = self._standings.values()
        idle = any(not self._standings[name].in_work for name in self._open)
        return _Room(
            free=self._lanes - self.active - 1,
            late=max(1, self._lanes - 1) - sum(one.active for one in standings if one.is_late),
            owed=sum(1 for one in standings if one.ready and not one.active) + idle,
            is_awaited=any(
                not one.active and not one.is_late and now - one.last_end < limits.sending_slow_s
                for one in standings
            ),
        )

    def ended(
        self, destination: str, verdict: Verdict, seconds: float, now: float, kept: int = 0
    ) -> Verdict:
        """An attempt that take() began is over; what it counts for. `kept` as in take().

        Peers let only so many associations in. One too many is our doing and no attempt: fewer are
        asked for, and one more again after a while. One counts that is not let in while no other
        is and none was served.
        """
        standing = self._standings[destination]
        standing.active -= 1
        standing.last_end = now
        others = standing.active + kept
        if verdict.is_crowding and (others or now - standing.last_answer < seconds):
            standing.lanes_max = max(1, min(standing.lanes_max, others))
            standing.lanes_learnt = now
            return verdict._replace(ending=Ending.RETURNED)
        if verdict.ending is Ending.RETURNED:
            return verdict
        if verdict.status != NO_STATUS:
            standing.last_answer = now
        if now - standing.lanes_learnt > limits.crowding_forgotten_s:
            standing.lanes_max = min(standing.lanes_max + 1, self._lanes)
            standing.lanes_learnt = now
        standing.is_slow = seconds > limits.sending_slow_s
        if verdict.is_trouble:
            self._fail(standing, now - seconds, now)
        elif verdict.is_reached:
            standing.failures = 0
            standing.not_before = 0.0
        if destination not in self._open and not standing.in_work:
            del self._standings[destination]
        return verdict

    def _fail(self, standing: _Standing[T], began: float, now: float) -> None:
        """It is in trouble. Lanes that were under way together have met with the same trouble: only
        who asks again makes the pauses grow."""
        if began >= standing.last_failure or not standing.failures:
            standing.failures += 1
        standing.last_failure = now
        standing.lanes_max = self._lanes  # it is down, not full
        step = min(standing.failures - 1, 16)
        pause = min(limits.trouble_pause_s_first * 2**step, limits.trouble_pause_s_max)
        standing.not_before = now + pause
        self._return(standing)

    # --- pauses --------------------------------------------------------------------------------
    def pause_s(self, destination: str, now: float) -> float:
        """How long a destination is not asked from now on."""
        standing = self._standings.get(destination)
        return 0.0 if standing is None else max(0.0, standing.not_before - now)

    def resume(self, destination: str, failures: int, not_before: float) -> None:
        """It was in trouble when our predecessor ended: it is asked as that one would have."""
        if standing := self._standings.get(destination):
            standing.failures = failures
            standing.not_before = not_before

    def ask_now(self, destination: str) -> None:
        """Its pause is over, and what it was in trouble for perhaps too: pauses begin anew."""
        if standing := self._standings.get(destination):
            standing.failures = min(standing.failures, 1)
            standing.not_before = 0.0

    def next_try(self, now: float) -> float | None:
        """When the next pause of a destination in trouble ends; None: no pause does. One that is
        over is nothing to wait for: its destination has no work, or no lane may have it."""
        times = [
            standing.not_before
            for name, standing in self._standings.items()
            if standing.not_before > now and not standing.active and name in self._open
        ]
        return min(times, default=None)
