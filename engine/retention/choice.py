"""The choice: which study goes next, and what keeps one.

A study is `covered` when each of its instances is with somebody else as well: a remote AE that we
delivered it to, or the archive that a prefetch had it from. Whatever has no open delivery and is
covered has been delivered to everybody whose rule matched, or the operator has discarded what was
not.
"""

from enum import Enum
from typing import NamedTuple


class Policy(NamedTuple):
    """What the operator says. None: never."""

    least_age_ns: int
    most_age_ns: int | None
    undelivered_after_ns: int | None


class Facts(NamedTuple):
    """What is known of a study."""

    last_received_ns: int
    fetched: bool  # all of it came by prefetches
    used: bool  # a user sent or opened it since
    uncovered: int  # instances that nobody else has
    open_deliveries: int
    pinned: bool
    being_fetched: bool
    joined: bool  # it may hold instances of several patients


class Reason(Enum):
    """Why a study goes, in the order of going."""

    UNUSED = "fetched from an archive and not used"
    DELIVERED = "delivered, or with its archive"
    UNDELIVERED = "never delivered, and older than `undelivered` says"


class Kept(Enum):
    """Why a study stays."""

    PINNED = "somebody wants it kept"
    OPEN = "deliveries of it are open, held or failed"
    FETCHED_NOW = "it is being fetched"
    JOINED = "it may hold instances of several patients"
    YOUNG = "it is younger than `least_age_days`"
    UNDELIVERED = "it was never delivered"


def judge(facts: Facts, policy: Policy, now_ns: int) -> Reason | Kept:
    """Whether a study may go, and why (not). What the clock says was received in the future is
    young."""
    age_ns = now_ns - facts.last_received_ns
    if facts.pinned:
        return Kept.PINNED
    if facts.open_deliveries:
        return Kept.OPEN
    if facts.being_fetched:
        return Kept.FETCHED_NOW
    if facts.joined:
        return Kept.JOINED
    if age_ns < policy.least_age_ns:
        return Kept.YOUNG
    if facts.uncovered:
        after_ns = policy.undelivered_after_ns
        if after_ns is None or age_ns < after_ns:
            return Kept.UNDELIVERED
        return Reason.UNDELIVERED
    return Reason.UNUSED if facts.fetched and not facts.used else Reason.DELIVERED


def is_too_old(facts: Facts, policy: Policy, now_ns: int) -> bool:
    """Whether it goes also while there is room, if it may go at all."""
    return policy.most_age_ns is not None and now_ns - facts.last_received_ns >= policy.most_age_ns


class Turn(NamedTuple):
    """When a study's turn comes; they sort. `rank`: 0 for what was fetched and not used, 1 for all
    others, 2 for what turned out to be undelivered."""

    rank: int
    last_received_ns: int
    number: int


def turn_of(number: int, last_received_ns: int, fetched: bool, used: bool) -> Turn:
    """By what is cheap to know. What came by a prefetch and from elsewhere as well is judged when
    its turn comes."""
    return Turn(0 if fetched and not used else 1, last_received_ns, number)


def bytes_to_free(used: int, high: int, low: int) -> int:
    """Of a file system: nothing below the high watermark, down to the low one from there."""
    return used - low if used >= high else 0
