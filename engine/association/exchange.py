"""The one message of an association at a time: its command, its data set, our response.

`engine.association.acceptor` lets in only what PS3.8 allows here; this file knows DIMSE. Each
method appends what the worker has to do to `effects` and gives the response's PDUs when it is due.
PeerError when the peer broke the order: command, data set if announced, response, and only then the
next command, because one outstanding operation is what was negotiated.
"""

from enum import IntEnum

from engine.association.events import (
    BeginStore,
    DiscardDataset,
    Effect,
    ExpectCommand,
    Note,
    StoreRequest,
)
from engine.dictionary import uids
from engine.dimse.command_set import CommandOddity, oddity_fields
from engine.dimse.commands import (
    CommandField,
    Request,
    Status,
    encode_pdus,
    encode_response,
    store_refusal,
)
from engine.errors import AbortReason, AbortSource, PeerError
from engine.upper_layer.negotiation import AcceptedAssociation


class Phase(IntEnum):
    """Where the one message is."""

    IDLE = 0  # a command may come
    RECEIVING = 1  # the data set of an instance that is kept
    DISCARDING = 2  # a data set that is dropped; the response is known
    COMMITTING = 3  # the data set is whole, the disk has the word


def _out_of_order(text: str) -> PeerError:
    return PeerError(text, AbortReason.NOT_SPECIFIED, AbortSource.SERVICE_USER)


class Exchange:
    """The messages of one accepted association."""

    __slots__ = (
        "_accepted",
        "_answer",
        "_context_id",
        "_oddities",
        "_request",
        "cancels_ignored",
        "phase",
    )

    def __init__(self, accepted: AcceptedAssociation) -> None:
        self.phase = Phase.IDLE
        self.cancels_ignored = 0
        self._accepted = accepted
        self._context_id = 0
        self._request: Request | None = None
        self._oddities: frozenset[CommandOddity] = frozenset()  # told already
        self._answer = (0, "")  # of a data set that is dropped: status, comment

    def on_command(
        self, context_id: int, command_set: bytes, effects: list[Effect]
    ) -> bytes | None:
        """A command came."""
        context = self._accepted.contexts.get(context_id)
        if context is None:
            raise PeerError(
                f"presentation context {context_id} was not accepted",
                AbortReason.INVALID_PARAMETER_VALUE,
            )
        request = Request(command_set)
        self._tell_odd(request, effects)
        field = request.command_field
        if field == CommandField.C_CANCEL:
            self._ignore_cancel(effects)
            return None
        if self.phase is not Phase.IDLE:
            raise _out_of_order(f"request {field:04X}H before the response to the last one")
        self._request = request
        self._context_id = context_id
        verification = context.abstract_syntax == uids.verification
        if field == CommandField.C_STORE and not verification:
            refusal = store_refusal(request, context.abstract_syntax)
            if refusal:
                return self._refuse(Status.PROCESSING_FAILURE, refusal, effects)
            self.phase = Phase.RECEIVING
            transfer_syntax = context.transfer_syntax
            store = StoreRequest(
                context_id,
                request.message_id,
                request.sop_class,
                request.sop_instance,
                transfer_syntax,
                self._accepted.calling_ae_title,
                self._accepted.called_ae_title,
                uids.is_explicit_vr(transfer_syntax),
            )
            effects.append(BeginStore(store))
            return None
        if field == CommandField.C_ECHO and verification:
            if request.sop_class == uids.verification:
                effects.append(Note("info", "echo_answered", {}))
                return self._respond(Status.SUCCESS, "", effects)
            refusal = "SOP class is not Verification"
            return self._refuse(Status.SOP_CLASS_NOT_SUPPORTED, refusal, effects)
        refusal = "operation is not supported on this presentation context"
        return self._refuse(Status.UNRECOGNIZED_OPERATION, refusal, effects)

    def on_data_set(self, context_id: int, effects: list[Effect]) -> bytes | None:
        """The data set is complete."""
        if self.phase is Phase.IDLE or self.phase is Phase.COMMITTING:
            raise _out_of_order("data set without a command")
        if context_id != self._context_id:
            raise PeerError(
                f"data set on presentation context {context_id} instead of {self._context_id}",
                AbortReason.INVALID_PARAMETER_VALUE,
            )
        if self.phase is Phase.RECEIVING:
            self.phase = Phase.COMMITTING
            # Not only after the response: a command that comes too early has to be seen.
            effects.append(ExpectCommand())
            return None
        status, comment = self._answer
        return self._respond(status, comment, effects)

    def on_store_finished(self, status: int, comment: str) -> bytes | None:
        """The disk has spoken."""
        if self.phase is Phase.COMMITTING:
            return self._response(status, comment)
        assert self.phase is Phase.RECEIVING, "no instance is under way"
        assert status != Status.SUCCESS, "an instance is stored before its end came"
        self._answer = (status, comment)
        self.phase = Phase.DISCARDING
        return None

    def give_up(self) -> bool:
        """No response can be sent any more. True: the instance under way will not be complete.

        A data set that is whole may become durable without its response: nothing is lost by it.
        """
        under_way = self.phase is Phase.RECEIVING
        if self.phase is not Phase.COMMITTING:
            self.phase = Phase.IDLE
        return under_way

    def _tell_odd(self, request: Request, effects: list[Effect]) -> None:
        """Each kind once an association: who writes one command set so writes all of them so."""
        for oddity in sorted(request.oddities - self._oddities):
            effects.append(Note("info", "command_odd", {**oddity_fields(oddity)}))
        self._oddities |= request.oddities

    def _ignore_cancel(self, effects: list[Effect]) -> None:
        self.cancels_ignored += 1
        if self.cancels_ignored == 1:  # a flood of them is one line
            effects.append(Note("info", "cancel_ignored", {}))
        effects.append(ExpectCommand())

    def _refuse(self, status: int, comment: str, effects: list[Effect]) -> bytes | None:
        request = self._request
        assert request is not None
        fields: dict[str, str | int] = {
            "command": request.command_field,
            "context_id": self._context_id,
            "sop_class_uid": request.sop_class,
            "sop_instance_uid": request.sop_instance,
            "status": f"{status:04X}",
            "reason": comment,
        }
        effects.append(Note("warning", "request_refused", fields))
        if not request.has_data_set:
            return self._respond(status, comment, effects)
        self._answer = (status, comment)
        self.phase = Phase.DISCARDING
        effects.append(DiscardDataset(self._context_id))
        return None

    def _respond(self, status: int, comment: str, effects: list[Effect]) -> bytes:
        effects.append(ExpectCommand())
        return self._response(status, comment)

    def _response(self, status: int, comment: str) -> bytes:
        request = self._request
        assert request is not None
        self._request = None
        self.phase = Phase.IDLE
        return encode_pdus(
            self._context_id,
            encode_response(request, status, comment),
            self._accepted.peer_maximum_length,
        )
