"""Eviction: the studies of an index judged one after another, and the orders that remove them.

Looking over all studies is cheap (their records alone), judging one is not (each of its instances).
So all get their turn first, a slice at a time, and are judged when it comes, as long as something
has to go.
"""

import heapq
from typing import Final, NamedTuple

import msgspec

from engine.index.environment import IndexReader, View
from engine.index.pins import pin_of
from engine.index.records import NUMBER, Study, decode_study, uid_key
from engine.outbox.delivered import DeliveredOf
from engine.prefetch.jobs import PrefetchJobs
from engine.prefetch.records import decode_fetched
from engine.removal.obstacles import open_deliveries, studies_being_fetched, uncovered_of
from engine.removal.orders import Level, Order, meant
from engine.retention.choice import Facts, Kept, Policy, Reason, Turn, is_too_old, judge, turn_of
from engine.rules.routing import PREFETCH

WHO: Final = "retention"
_UNDELIVERED_RANK: Final = 2


class Judged(NamedTuple):
    """A study whose turn has come. `order` is without a name yet."""

    study: Study
    order: Order
    verdict: Reason | Kept
    too_old: bool


class Eviction:
    """One round over all studies, the first to go first."""

    def __init__(self, reader: IndexReader, policy: Policy) -> None:
        self._reader = reader
        self._policy = policy
        self._start = b""
        self._turns: list[Turn] = []
        self.is_complete = False  # all studies have their turn

    def look(self, count: int) -> None:
        """Give a slice of the studies their turn."""
        with self._reader.view() as view:
            for key, value in view.keys_from("studies", self._start):
                if count <= 0:
                    self._start = key
                    return
                count -= 1
                study = decode_study(value)
                fetched, used = _fetched(view, study)
                number = NUMBER.unpack(key)[0]
                turn = turn_of(number, study.last_received_ns, fetched, used)
                heapq.heappush(self._turns, turn)
        self.is_complete = True

    def next(self, now_ns: int, needed: bool = True) -> Judged | None:
        """The study whose turn it is; None: there is none left. Where no room is `needed`, only
        what is too old has a turn."""
        most_ns = self._policy.most_age_ns
        while self._turns:
            turn = heapq.heappop(self._turns)
            young = most_ns is None or now_ns - turn.last_received_ns < most_ns
            if young and not needed:
                continue
            with self._reader.view() as view:
                judged = judge_study(view, turn.number, self._policy, now_ns)
            if judged is None:
                continue  # gone meanwhile
            if judged.verdict is Reason.UNDELIVERED and turn.rank < _UNDELIVERED_RANK:
                heapq.heappush(self._turns, turn._replace(rank=_UNDELIVERED_RANK))
                continue
            return judged
        return None


def judge_study(view: View, number: int, policy: Policy, now_ns: int) -> Judged | None:
    """Whether it may go; None: it is not here."""
    study = view.study(number)
    if study is None:
        return None
    level: Level = "study" if study.uid else "instance"
    order = Order("", level, study.uid or study.alone, study.patient_mark, WHO, "")
    facts = _facts(view, number, study, order)
    verdict = judge(facts, policy, now_ns)
    order = msgspec.structs.replace(
        order,
        why=verdict.value,
        undelivered=verdict is Reason.UNDELIVERED,
        up_to_ns=study.last_received_ns,
    )
    return Judged(study, order, verdict, is_too_old(facts, policy, now_ns))


def _facts(view: View, number: int, study: Study, order: Order) -> Facts:
    found = list(meant(view, order))
    uncovered = uncovered_of(view, order, found, {number: DeliveredOf(view, study.uid)})
    return Facts(
        study.last_received_ns,
        all(one.instance.journal == PREFETCH for one in found),
        _fetched(view, study)[1],
        uncovered,
        len(open_deliveries(view, order, found)),
        pin_of(view, study) is not None,
        study.uid in studies_being_fetched(PrefetchJobs.within(view)),
        view.may_be_joined(number),
    )


def _fetched(view: View, study: Study) -> tuple[bool, bool]:
    """Whether a prefetch brought it, and whether it was used since it is here."""
    stored = view.stored("prefetch_studies", uid_key(study.uid))
    if stored is None:
        return False, False
    fetched = decode_fetched(stored)
    return True, fetched.used_ns >= study.first_received_ns
