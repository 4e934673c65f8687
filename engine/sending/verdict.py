"""What the end of an attempt to send means: what it counts for, and what is told of it.

Whatever happens, a peer's response or a failed association, comes down to one `Verdict`.
"""

from enum import Enum
from typing import Final, NamedTuple

from engine.dimse.requests import StatusClass, outcome_of, status_words
from engine.upper_layer.failure import FailureKind, ScuFailure

NO_STATUS: Final = -1
_OUT_OF_RESOURCES: Final = 0xA7
# Not for want of room: a peer that is full takes the connection.
_NOBODY_THERE: Final = (
    FailureKind.NAME,
    FailureKind.UNREACHABLE,
    FailureKind.REFUSED,
    FailureKind.TLS,
)
# At the sight of our request, perhaps: no word of being full, and no silence either.
_ABRUPT: Final = (FailureKind.ABORTED, FailureKind.LOST, FailureKind.PROTOCOL)


class Ending(Enum):
    """How an attempt ended."""

    DELIVERED = "delivered"
    WARNING = "delivered with a warning"
    REFUSED = "answered with a failure status"
    BROKEN = "no answer"  # offered, then aborted, timed out or lost; or rejected for good
    AWAY = "not reached"  # nothing of it was offered: the destination's state, no attempt
    IMPOSSIBLE = "cannot be sent"  # no retry can mend it
    RETURNED = "not attempted"  # we were asked to stop: it waits again


class Verdict(NamedTuple):
    """An attempt's end. `reason` may hold a peer's words, to be escaped where they are shown;
    `status` -1: none came. `is_trouble`: the next instance would fare no better just now.
    `is_reached`: the peer let us in, or said for good that it will not."""

    ending: Ending
    status: int = NO_STATUS
    reason: str = ""
    is_permanent: bool = False
    is_trouble: bool = False
    is_crowding: bool = False  # not let in: perhaps only since others of ours are
    is_abrupt: bool = False  # it left, as perhaps it does at each such request
    is_reached: bool = False

    @property
    def words(self) -> str:
        """What happened in words that are not the peer's own: a response's comment is left out."""
        return self.reason if self.status == NO_STATUS else status_words(self.status)

    @property
    def is_delivered(self) -> bool:
        return self.ending in (Ending.DELIVERED, Ending.WARNING)


def answered(status: int, comment: str) -> Verdict:
    """The peer's C-STORE response. Section 4.2.4: what is no success and no warning is a failed
    attempt, whichever it is."""
    outcome = outcome_of(status)
    if outcome is StatusClass.SUCCESS:
        return Verdict(Ending.DELIVERED, status, is_reached=True)
    words = status_words(status)
    reason = f"{words}: {comment}" if comment else words
    if outcome is StatusClass.WARNING:
        return Verdict(Ending.WARNING, status, reason, is_reached=True)
    is_trouble = status >> 8 == _OUT_OF_RESOURCES
    return Verdict(Ending.REFUSED, status, reason, is_trouble=is_trouble, is_reached=True)


def unanswered(failure: ScuFailure, was_offered: bool) -> Verdict:
    """The association failed, before or after anything of the instance was offered.

    Before, it says nothing of the instance, whatever it was: a name without an address, nobody
    there, TLS, a rejection for now, an end or silence. Only a peer that will not have us for good,
    or takes no context, has said what no waiting mends.
    """
    if failure.kind is FailureKind.INTERRUPTED:
        return Verdict(Ending.RETURNED, reason=failure.text)
    if failure.kind is FailureKind.NO_CONTEXT:  # of this instance: others may have one
        return Verdict(Ending.IMPOSSIBLE, reason=failure.text, is_permanent=True, is_reached=True)
    return Verdict(
        Ending.BROKEN if was_offered or failure.permanent else Ending.AWAY,
        reason=failure.text,
        is_permanent=failure.permanent,
        is_trouble=True,
        is_crowding=not (was_offered or failure.permanent or failure.kind in _NOBODY_THERE),
        is_abrupt=not (was_offered or failure.permanent) and failure.kind in _ABRUPT,
        is_reached=was_offered or failure.permanent,
    )


def impossible(reason: str) -> Verdict:
    """It cannot be sent at all, however often it is tried."""
    return Verdict(Ending.IMPOSSIBLE, reason=reason, is_permanent=True)
