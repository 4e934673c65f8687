"""The three kinds of fault. Each carries its answer: what goes on the wire or to the operator.

PeerError: the other side broke the protocol. LocalError: we, or the disk, could not do what was
asked. OperatorError: the configuration or the command line is wrong. Nothing else may leave a
parser; any other exception is a bug of ours and ends the process, which the supervisor replaces.
"""

from dataclasses import dataclass
from enum import IntEnum


class AbortSource(IntEnum):
    """PS3.8 table 9-26, Source."""

    SERVICE_USER = 0
    SERVICE_PROVIDER = 2


class AbortReason(IntEnum):
    """PS3.8 table 9-26, Reason/Diag. when the source is the service provider."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER_VALUE = 6


@dataclass(frozen=True, slots=True)
class Rejection:
    """An A-ASSOCIATE-RJ: PS3.8 table 9-21 (result, source, reason)."""

    result: int
    source: int
    reason: int


class PeerError(Exception):
    """The peer's fault. `source` and `reason` are those of the A-ABORT that answers it."""

    def __init__(
        self,
        text: str,
        reason: AbortReason = AbortReason.NOT_SPECIFIED,
        source: AbortSource = AbortSource.SERVICE_PROVIDER,
    ) -> None:
        super().__init__(text)
        self.text = text
        self.reason = reason
        self.source = source


def invalid(text: str) -> PeerError:
    """A defect of a PDU's content."""
    return PeerError(text, AbortReason.INVALID_PARAMETER_VALUE)


class RejectedError(Exception):
    """An association that is refused; `rejection` is what the peer is told."""

    def __init__(self, text: str, rejection: Rejection) -> None:
        super().__init__(text)
        self.text = text
        self.rejection = rejection


class LocalError(Exception):
    """Our fault or the disk's. `status` and `comment` are those of the DIMSE response."""

    def __init__(self, comment: str, status: int = 0x0110) -> None:
        super().__init__(comment)
        self.comment = comment
        self.status = status


class OperatorError(Exception):
    """The operator's fault: what was wrong, where, and what would be right; all in `text`."""

    def __init__(self, text: str, where: str = "") -> None:
        super().__init__(f"{where}: {text}" if where else text)
        self.text = text
        self.where = where
