"""One association, the requestor's side: bytes in, bytes, messages and one failure out; no socket,
no clock.

Every change of state goes through `_act()`, which is PS3.8 table 9-10 and nothing else. The
transport (`workers/scu/association.py`) tells what happened (`connected`, `receive`, `lost`,
`expired`), sends whatever these give back, and looks at `messages`, `failure` and `over`. Nothing
that a peer sends leaves as an exception: it ends in `failure`, with the A-ABORT in what is given
back.

Each step has one deadline of its own (the answer to the request, a message, the answer to the
release), however slowly bytes trickle in.
"""

import struct
from collections import deque
from typing import Final

from engine import limits
from engine.dimse.command_set import CommandOddity
from engine.dimse.message_reader import MessageReader
from engine.dimse.requests import Message
from engine.errors import AbortReason, AbortSource, PeerError
from engine.settings.timeouts import Timeouts
from engine.upper_layer.failure import FailureKind, ScuFailure, aborted, rejected
from engine.upper_layer.pdus import (
    PDU_EVENTS,
    RELEASE_REQUEST,
    RELEASE_RESPONSE,
    AnsweredContext,
    AssociateAccept,
    PduType,
    check_short,
    decode_abort,
    decode_associate_reject,
    encode_abort,
)
from engine.upper_layer.proposal import Proposal, decode_accept
from engine.upper_layer.table import Action, Event, ProtocolState, step
from engine.upper_layer.user_information import UserInformation

_HEADER: Final = struct.Struct(">BxI")
# An accept is no longer than what a request may be; the short ones have four bytes, and are
# refused by name if they do not.
_LENGTHS_MAX: Final = {
    int(PduType.ASSOCIATE_RQ): limits.associate_bytes_max,
    int(PduType.ASSOCIATE_AC): limits.associate_bytes_max,
    int(PduType.P_DATA): limits.pdu_bytes_tolerated,
}
# First bytes of what is not DICOM at all.
_STRANGERS: Final = {
    0x15: ": this looks like a TLS alert; is TLS spoken on that port?",
    0x16: ": this looks like TLS; is TLS spoken on that port?",
    ord("H"): ": this looks like HTTP",
}
# What is waited for in a state: the words of a time-out and of a lost connection.
_AWAITED: Final = {
    ProtocolState.Sta5: "answer to the association request",
    ProtocolState.Sta6: "response",
    ProtocolState.Sta7: "answer to the release request",
    ProtocolState.Sta11: "answer to the release request",
}


class Requestor:
    """The protocol of one connection that is about to be opened.

    `accepted`: the contexts that may be used, by identifier. `refused`: why the others may not.
    `pdu_bytes_max`: the longest P-DATA-TF PDU, without its header, that may be sent.
    """

    __slots__ = (
        "_answer",
        "_buffer",
        "_now",
        "_proposal",
        "_reader",
        "_timeout_s",
        "_timeouts",
        "accepted",
        "deadline",
        "failure",
        "messages",
        "pdu_bytes_max",
        "peer",
        "refused",
        "state",
    )

    def __init__(self, proposal: Proposal, timeouts: Timeouts, now: float) -> None:
        self.state = ProtocolState.Sta1
        self.accepted: dict[int, AnsweredContext] = {}
        self.refused: dict[int, str] = {}
        self.peer: UserInformation | None = None  # who accepted
        self.pdu_bytes_max = limits.pdu_bytes_advertised
        self.messages: deque[Message] = deque()
        self.failure: ScuFailure | None = None
        self.deadline = now + timeouts.association_s
        self._proposal = proposal
        self._timeouts = timeouts
        self._timeout_s = timeouts.association_s  # of the step under way
        self._now = now
        self._buffer = bytearray()
        self._reader = MessageReader()
        self._answer = b""
        self._act(Event.Evt1)

    # --- what the transport sees -----------------------------------------------------------------

    @property
    def over(self) -> bool:
        """The transport is to be closed: released, rejected, aborted by either side, or lost."""
        return self.state is ProtocolState.Sta1 or self.state is ProtocolState.Sta13

    def connected(self, now: float) -> bytes:
        """The transport is open: the A-ASSOCIATE-RQ."""
        self._wait(now, self._timeouts.association_s)
        self._act(Event.Evt2)
        return self._proposal.pdu

    def expect(self, now: float, timeout_s: float) -> None:
        """A message is waited for, for so long."""
        self._wait(now, timeout_s)

    def data_request(self) -> None:
        """P-DATA is about to be sent; the association is established."""
        self._act(Event.Evt9)

    @property
    def oddities(self) -> frozenset[CommandOddity]:
        """What was odd in the peer's command sets so far."""
        return self._reader.oddities

    @property
    def midway(self) -> bool:
        """Whether a part of something has come, and not the rest."""
        return bool(self._buffer or self._reader.midway)

    def receive(self, data: bytes, now: float) -> bytes:
        """Bytes came. Gives what is to be sent, most often nothing."""
        self._begin(now)
        buffer = self._buffer
        if self.over:  # AA-6. A second A-ABORT (AA-7) would tell the peer nothing new.
            return b""
        buffer += data
        at = 0
        try:
            while len(buffer) - at >= 6 and not self.over:
                kind, length = _HEADER.unpack_from(buffer, at)
                self._check_header(kind, length)
                end = at + 6 + length
                if end > len(buffer):
                    break
                body = bytes(memoryview(buffer)[at + 6 : end])
                at = end
                self._on_pdu(kind, body)
        except PeerError as error:
            self._refuse(error)
        del buffer[:at]
        return self._answer

    def lost(
        self,
        words: str = "the peer closed the connection",
        kind: FailureKind = FailureKind.LOST,
    ) -> None:
        """The transport ended, and this is how."""
        if not self.over:
            self._fail(ScuFailure(kind, f"{words} where the {_AWAITED[self.state]} was due"))
        if self.state is not ProtocolState.Sta1:
            self._act(Event.Evt17)

    def expired(self, now: float) -> bytes:
        """`deadline` has passed: the A-ABORT."""
        self._begin(now)
        text = f"no {_AWAITED[self.state]} within {self._timeout_s:g} s"
        if self._buffer or self._reader.midway:
            text += "; only a part of it came"
        self._fail(ScuFailure(FailureKind.TIMEOUT, text))
        self._act(Event.Evt15)
        return self._answer

    def release(self, now: float) -> bytes:
        """Ask for the release of the established association."""
        self._begin(now)
        self._wait(now, self._timeouts.release_s)
        self._act(Event.Evt11)
        return self._answer

    def abort(self, failure: ScuFailure) -> bytes:
        """Give the association up, for this reason: the A-ABORT, unless it is over already."""
        self._answer = b""
        if not self.over:
            self._fail(failure)
            self._act(Event.Evt15)
        return self._answer

    def refuse(self, error: PeerError) -> bytes:
        """A message that came cannot be what was asked for: the A-ABORT."""
        self._answer = b""
        self._refuse(error)
        return self._answer

    # --- the machine -----------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        self._now = now
        self._answer = b""

    def _wait(self, now: float, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.deadline = now + timeout_s

    def _act(self, event: Event, reason: int = AbortReason.NOT_SPECIFIED) -> Action:
        """The one gate: steps, and does what the action means on the wire."""
        action, self.state = step(self.state, event)
        if action is Action.AA_1:
            self._answer += encode_abort(AbortSource.SERVICE_USER, 0)
        elif action is Action.AA_8:
            self._answer += encode_abort(AbortSource.SERVICE_PROVIDER, reason)
        elif action is Action.AR_1:
            self._answer += RELEASE_REQUEST
        elif action is Action.AR_4 or action is Action.AR_9:
            self._answer += RELEASE_RESPONSE
        return action

    def _fail(self, failure: ScuFailure) -> None:
        if self.failure is None:
            self.failure = failure

    def _refuse(self, error: PeerError) -> None:
        self._fail(ScuFailure(FailureKind.PROTOCOL, f"the peer broke the protocol: {error.text}"))
        if self.over:
            return  # it was said, and then the peer left
        user = error.source is AbortSource.SERVICE_USER
        self._act(Event.Evt15 if user else Event.Evt19, error.reason)

    # --- PDUs ------------------------------------------------------------------------------------

    def _check_header(self, kind: int, length: int) -> None:
        if kind not in PDU_EVENTS:
            raise PeerError(
                f"PDU of type {kind}{_STRANGERS.get(kind, '')}", AbortReason.UNRECOGNIZED_PDU
            )
        if length > _LENGTHS_MAX.get(kind, 4):
            raise PeerError(
                f"{PduType(kind).name} PDU of {length} bytes", AbortReason.INVALID_PARAMETER_VALUE
            )

    def _on_pdu(self, kind: int, body: bytes) -> None:
        event = PDU_EVENTS[kind]
        if event is Event.Evt16:
            source, reason = decode_abort(body)
            self._fail(aborted(source, reason))
            self._act(event)
        elif self.state is ProtocolState.Sta5 and event is Event.Evt3:
            self._on_accept(decode_accept(body))
        elif self.state is ProtocolState.Sta5 and event is Event.Evt4:
            self._fail(rejected(decode_associate_reject(body)))
            self._act(event)
        elif self.state is ProtocolState.Sta6 and event is Event.Evt10:
            self._act(event)
            self.messages.extend(self._reader.feed(body, self.accepted))
        elif self.state is ProtocolState.Sta7 and event is Event.Evt10:
            self._act(event)  # nobody waits for it any more
        elif event is Event.Evt12 and self.state in (ProtocolState.Sta6, ProtocolState.Sta7):
            check_short(body)
            self._on_release_request()
        elif event is Event.Evt13 and self.state in (ProtocolState.Sta7, ProtocolState.Sta11):
            check_short(body)
            self._act(event)
        else:
            error = PeerError(
                f"{PduType(kind).name} PDU in {self.state.name}", AbortReason.UNEXPECTED_PDU
            )
            raise error

    def _on_release_request(self) -> None:
        if self.state is ProtocolState.Sta6:
            text = "the peer released the association before it answered"
            self._fail(ScuFailure(FailureKind.ABORTED, text))
        # In Sta7 both asked at once: the requestor answers, then waits for its own answer.
        self._act(Event.Evt12)
        self._act(Event.Evt14)

    def _on_accept(self, accept: AssociateAccept) -> None:
        self._act(Event.Evt3)
        self.peer = accept.user
        if 0 < accept.user.maximum_length < self.pdu_bytes_max:
            self.pdu_bytes_max = accept.user.maximum_length
        self.accepted, self.refused = self._proposal.compare(accept)
