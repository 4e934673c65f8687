"""How an association that we asked for failed: its kind, and the standard's words for people.

`ScuFailure` is what leaves `engine.association.requestor` and `workers.scu.association`; whoever
sends decides by `permanent` whether another attempt can mend it, and shows `text`. What the peer is
told is in the requestor's own bytes; nothing here reaches the wire.
"""

from enum import Enum
from typing import Final

from engine.errors import Rejection


class FailureKind(Enum):
    """What a peer's administrator has to look at."""

    NAME = "name"  # the host name has no address
    UNREACHABLE = "unreachable"  # there is no way to the address
    REFUSED = "refused"  # nobody listens there
    TIMEOUT = "timeout"  # of the step that the text names
    TLS = "tls"  # the handshake, or the peer's verdict on it
    REJECTED = "rejected"  # A-ASSOCIATE-RJ
    ABORTED = "aborted"  # A-ABORT from the peer, or a release where an answer was due
    LOST = "lost"  # the connection ended without a word
    PROTOCOL = "protocol"  # what the peer sent is not DICOM, or breaks its rules
    NO_CONTEXT = "no_context"  # no presentation context was accepted
    INTERRUPTED = "interrupted"  # we were asked to stop: not the peer's failure


class ScuFailure(Exception):  # noqa: N818 - an outcome that is looked for, more than an error
    """One attempt that failed. `permanent`: no retry can mend it.

    `rejection` is set for REJECTED, `abort` (source, reason) for ABORTED by an A-ABORT. The text
    may hold what a peer sent: it is escaped where it is shown.
    """

    def __init__(
        self,
        kind: FailureKind,
        text: str,
        *,
        permanent: bool = False,
        rejection: Rejection | None = None,
        abort: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.permanent = permanent
        self.rejection = rejection
        self.abort = abort


# PS3.8 table 9-21.
_RESULTS: Final = {1: "permanently", 2: "for now"}
_REJECT_SOURCES: Final = {
    1: "DICOM UL service-user",
    2: "DICOM UL service-provider (ACSE related function)",
    3: "DICOM UL service-provider (presentation related function)",
}
_REJECT_REASONS: Final = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
# PS3.8 table 9-26.
_ABORT_SOURCES: Final = {0: "DICOM UL service-user", 2: "DICOM UL service-provider"}
_ABORT_REASONS: Final = {
    0: "reason not specified",
    1: "unrecognized PDU",
    2: "unexpected PDU",
    4: "unrecognized PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter value",
}
# PS3.8 table 9-18.
_CONTEXT_RESULTS: Final = {
    0: "accepted",
    1: "user rejection",
    2: "no reason (provider rejection)",
    3: "abstract syntax not supported",
    4: "transfer syntaxes not supported",
}


def rejected(rejection: Rejection) -> ScuFailure:
    """The failure that an A-ASSOCIATE-RJ is."""
    return ScuFailure(
        FailureKind.REJECTED,
        f"association rejected {rejection_words(rejection)}",
        permanent=rejection.result == 1,
        rejection=rejection,
    )


def rejection_words(rejection: Rejection) -> str:
    """PS3.8 table 9-21 in words, the numbers behind them."""
    result, source, reason = rejection.result, rejection.source, rejection.reason
    return (
        f"{_RESULTS.get(result, 'with an unknown result')} by the "
        f"{_REJECT_SOURCES.get(source, 'unknown source')}: "
        f"{_REJECT_REASONS.get((source, reason), 'unknown reason')} "
        f"({result}, {source}, {reason})"
    )


def aborted(source: int, reason: int) -> ScuFailure:
    """The failure that an A-ABORT from the peer is."""
    return ScuFailure(
        FailureKind.ABORTED,
        f"association aborted by the peer's {abort_words(source, reason)}",
        abort=(source, reason),
    )


def abort_words(source: int, reason: int) -> str:
    """PS3.8 table 9-26 in words. The service-user's reason has no meaning (PS3.8 9.3.8)."""
    words = _ABORT_SOURCES.get(source, "unknown source")
    if source != 0:
        words += f": {_ABORT_REASONS.get(reason, 'unknown reason')}"
    return f"{words} ({source}, {reason})"


def context_words(result: int) -> str:
    """PS3.8 table 9-18 in words."""
    return _CONTEXT_RESULTS.get(result, f"unknown result {result}")
