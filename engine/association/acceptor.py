"""One association, the acceptor's side: inputs in, effects out; no socket, no clock.

Every change of state goes through `_step()`, which is PS3.8 table 9-10 and nothing else; what an
action means on the wire and for the timers stands in `_act()`. We never ask a peer to release:
Sta7, and those of a collision behind it, are the requestor's alone. The messages inside an
established association are `engine.association.exchange`'s.

The source of an A-ABORT follows the table. AA-1 is the service user, 0, whose reason is always 0:
whatever is wrong before the association is established, and all that concerns DIMSE. AA-8 and AA-7
are the service provider, 2, with a reason. The log has the reason in words either way.
"""

from collections.abc import Callable
from typing import Any, Final

from engine import limits
from engine.association.events import (
    CancelStore,
    CloseTransport,
    CommandReceived,
    DatasetReceived,
    DrainExpired,
    Effect,
    Established,
    Input,
    Note,
    PduReceived,
    Send,
    SlotWanted,
    StoreFinished,
    StreamFault,
    TimerExpired,
    TransportClosed,
    TransportOpened,
)
from engine.association.exchange import Exchange, Phase
from engine.errors import AbortReason, AbortSource, PeerError, RejectedError
from engine.upper_layer.negotiation import (
    LOCAL_LIMIT_EXCEEDED,
    VERSION_NOT_SUPPORTED,
    AcceptedAssociation,
    AcceptorPolicy,
    negotiate,
    refused_words,
)
from engine.upper_layer.pdus import (
    PDU_EVENTS,
    RELEASE_RESPONSE,
    AssociateRequest,
    PduType,
    check_short,
    decode_abort,
    decode_associate_request,
    encode_abort,
    encode_associate_accept,
    encode_associate_reject,
)
from engine.upper_layer.table import Action, Event, ProtocolState, step

# First bytes of what is not DICOM at all and comes again and again: a client set to TLS, a browser
# or a health check on the wrong port.
_STRANGERS: Final = {
    0x16: "a TLS ClientHello",
    ord("G"): "HTTP (GET)",
    ord("H"): "HTTP (HEAD)",
    ord("O"): "HTTP (OPTIONS)",
    ord("P"): "HTTP (POST or PUT)",
}


class Association:
    """The protocol of one connection, from TransportOpened to CloseTransport.

    `has_room` says whether this association may be accepted, and sees to it that it may if another
    has to give way; it is asked once, when all else speaks for it. An association counts from
    `Established` on.
    """

    def __init__(
        self,
        policy: AcceptorPolicy,
        peer_host: str,
        artim_s: float,
        idle_s: float,
        message_s: float,
        has_room: Callable[[AcceptedAssociation], bool],
        now: float,
    ) -> None:
        self.state = ProtocolState.Sta1
        self._policy = policy
        self._peer_host = peer_host
        self._artim_s = artim_s
        self._idle_s = idle_s
        self._message_s = message_s
        self._has_room = has_room
        self._now = now
        self._quiet_since = now
        self._message_deadline: float | None = None
        self._artim_deadline = now
        self._exchange: Exchange | None = None
        self._over = False
        self._effects: list[Effect] = []

    # --- what the worker sees --------------------------------------------------------------------

    def handle(self, event: Input, now: float) -> list[Effect]:
        """One input; what is to be done about it, in this order.

        What still comes after CloseTransport is ignored: it was cut or committed before.
        """
        self._now = now
        effects: list[Effect] = []
        self._effects = effects
        if self._over and type(event) is not StoreFinished:
            return effects
        try:
            _HANDLERS[type(event)](self, event)
        except PeerError as error:
            user = error.source is AbortSource.SERVICE_USER
            self._act(Event.Evt15 if user else Event.Evt19, error.reason, error.text)
        if type(event) in _SPOKEN:
            self.touch(now)
        return effects

    def touch(self, now: float) -> None:
        """It has been the peer's turn only since then: its last byte came, our answer went, or we
        read on after a pause. May be told late; nothing else moves the idle deadline."""
        self._quiet_since = max(self._quiet_since, now)

    def expect_end(self, since: float, came: int) -> None:
        """A message, or another PDU, is under way since then, and so many bytes of it came. 0.0:
        none is."""
        allowed = self._message_s + came / limits.message_bytes_per_s_min
        self._message_deadline = since + allowed if since else None

    @property
    def deadline(self) -> float | None:
        """When TimerExpired is due: ARTIM before and after the association; within, the idle time
        or the end of the time for what is under way.

        None while the peer waits for us, and when it is over.
        """
        if self.state is ProtocolState.Sta2 or self.state is ProtocolState.Sta13:
            return self._artim_deadline
        exchange = self._exchange
        if exchange is None or self._over or exchange.phase is Phase.COMMITTING:
            return None
        idle = self._quiet_since + self._idle_s
        whole = self._message_deadline
        return idle if whole is None else min(idle, whole)

    @property
    def outstanding(self) -> bool:
        """From a command that needs a response until the response."""
        return self._exchange is not None and self._exchange.phase is not Phase.IDLE

    @property
    def committing(self) -> bool:
        """The data set is whole: the peer waits for the disk, or did until it was told off."""
        return self._exchange is not None and self._exchange.phase is Phase.COMMITTING

    @property
    def cancels_ignored(self) -> int:
        """C-CANCEL requests that came."""
        return self._exchange.cancels_ignored if self._exchange is not None else 0

    # --- the machine -----------------------------------------------------------------------------

    def _step(self, event: Event, other_end: bool = False) -> Action:
        """The one gate: nothing else sets the state."""
        action, self.state = step(self.state, event, other_end)
        return action

    def _act(
        self,
        event: Event,
        reason: int = AbortReason.NOT_SPECIFIED,
        text: str = "",
    ) -> None:
        """Step, and do what the action means on the wire and for the timers."""
        action = self._step(event)
        if action in (Action.AA_1, Action.AA_8, Action.AA_7):
            self._abort(action, reason, text)
        elif action is Action.AR_4:
            self._effects.append(Send(RELEASE_RESPONSE))
            self._start_artim()
        elif action is Action.AE_5:
            self._start_artim()
        if self.state is ProtocolState.Sta1:
            self._give_up_store()
            self._over = True
            self._effects.append(CloseTransport())

    def _start_artim(self) -> None:
        self._artim_deadline = self._now + self._artim_s

    def _abort(self, action: Action, reason: int, text: str) -> None:
        source = AbortSource.SERVICE_PROVIDER
        if action is Action.AA_1:
            source = AbortSource.SERVICE_USER
        if action is not Action.AA_7:
            self._start_artim()
        self._give_up_store()
        sent = 0 if source is AbortSource.SERVICE_USER else int(reason)
        self._effects.append(Send(encode_abort(source, sent)))
        self._note("warning", "association_aborted", source=int(source), reason=sent, text=text)

    def _give_up_store(self) -> None:
        if self._exchange is not None and self._exchange.give_up():
            self._effects.append(CancelStore())

    def _note(self, level: str, event: str, **fields: str | int) -> None:
        self._effects.append(Note(level, event, fields))

    # --- transport and timers --------------------------------------------------------------------

    def _on_opened(self, _: TransportOpened) -> None:
        self._act(Event.Evt5)

    def _on_closed(self, _: TransportClosed) -> None:
        if self.state is ProtocolState.Sta2:
            self._note("info", "closed_without_request")
        elif self.state is not ProtocolState.Sta13:
            phase = self._exchange.phase.name.lower() if self._exchange is not None else ""
            self._note("warning", "transport_lost", phase=phase)
        self._act(Event.Evt17)

    def _on_timer(self, _: TimerExpired) -> None:
        deadline = self.deadline
        if deadline is None or self._now < deadline:
            return  # the deadline moved after the timer was set
        if self.state is ProtocolState.Sta2:
            self._note("warning", "artim_expired", text="no A-ASSOCIATE-RQ came")
            self._act(Event.Evt18)
        elif self.state is ProtocolState.Sta13:
            self._note("info", "close_expired", text="the peer did not close the connection")
            self._act(Event.Evt18)
        elif self._message_deadline is not None and self._message_deadline <= self._now:
            self._note("warning", "message_expired", seconds=int(self._message_s))
            self._act(Event.Evt15, text="a message did not come to its end in time")
        else:
            self._note("warning", "idle_expired", seconds=int(self._idle_s))
            self._act(Event.Evt15, text=f"nothing came for {self._idle_s:g} s")

    def _on_drain(self, _: DrainExpired) -> None:
        if self.state is ProtocolState.Sta2 or self.state is ProtocolState.Sta13:
            self._act(Event.Evt18)  # there is nobody to abort: ARTIM ends before its time
        else:
            self._act(Event.Evt15, text="the service is stopping")

    def _on_slot_wanted(self, wanted: SlotWanted) -> None:
        if self.state is not ProtocolState.Sta2 and self.state is not ProtocolState.Sta13:
            self._note("warning", "association_gave_way", reason=wanted.reason)
            self._act(Event.Evt15, text=f"another peer gets its place: {wanted.reason}")

    # --- association PDUs ------------------------------------------------------------------------

    def _on_stream_fault(self, fault: StreamFault) -> None:
        self._act(Event.Evt19, fault.reason, fault.text)

    def _on_pdu(self, pdu: PduReceived) -> None:
        event = PDU_EVENTS.get(pdu.pdu_type)
        if event is None:
            stranger = _STRANGERS.get(pdu.pdu_type, "")
            text = f"PDU of type {pdu.pdu_type}"
            text += f": this looks like {stranger} on a DICOM port" if stranger else ""
            raise PeerError(text, AbortReason.UNRECOGNIZED_PDU)
        if event is Event.Evt6 and self.state is ProtocolState.Sta2:
            self._on_associate(pdu.body)
        elif event is Event.Evt16:
            source, reason = decode_abort(pdu.body)
            self._note("warning", "association_aborted_by_peer", source=source, reason=reason)
            self._act(event)
        elif event is Event.Evt12 and self.state is ProtocolState.Sta6:
            check_short(pdu.body)
            self._on_release_request()
        else:
            name = PduType(pdu.pdu_type).name
            text = f"{name} PDU in {self.state.name}"
            self._act(event, AbortReason.UNEXPECTED_PDU, text)

    def _on_associate(self, body: bytes) -> None:
        request = decode_associate_request(body)
        if not request.protocol_version & 1:
            self._step(Event.Evt6, other_end=True)
            error = RejectedError("protocol version is not supported", VERSION_NOT_SUPPORTED)
            self._reject(request, error)
            return
        self._step(Event.Evt6)
        try:
            accept, accepted = negotiate(request, self._policy, self._peer_host)
            if not self._has_room(accepted):
                raise RejectedError("as many associations as may be", LOCAL_LIMIT_EXCEEDED)
        except RejectedError as error:
            self._step(Event.Evt8)
            self._reject(request, error)
            return
        self._step(Event.Evt7)
        self._exchange = Exchange(accepted)
        self._effects.append(Established(accepted))
        self._effects.append(Send(encode_associate_accept(accept)))
        # Nearly always a wrong title in the peer's settings, and all it sees is contexts refused.
        mistaken = accepted.verification_only and bool(accepted.refused)
        self._note(
            "warning" if mistaken else "info",
            "association_accepted",
            contexts_accepted=len(accepted.contexts),
            contexts_refused=len(accepted.refused),
            maximum_length=accepted.peer_maximum_length,
            implementation_class=accepted.peer_implementation_class,
            implementation_version=accepted.peer_implementation_version,
            **({"refused": refused_words(accepted.refused)} if accepted.refused else {}),
            **({"text": self._wrong_title()} if mistaken else {}),
        )

    def _wrong_title(self) -> str:
        own = self._policy.own_ae_title
        return f"the called AE title is not {own}: all but Verification is refused"

    def _reject(self, request: AssociateRequest, error: RejectedError) -> None:
        self._start_artim()
        rejection = error.rejection
        self._effects.append(Send(encode_associate_reject(rejection)))
        self._note(
            "warning",
            "association_rejected",
            calling_ae=request.calling_ae_title,
            called_ae=request.called_ae_title,
            result=rejection.result,
            source=rejection.source,
            reason=rejection.reason,
            text=error.text,
        )

    def _on_release_request(self) -> None:
        self._act(Event.Evt12)
        if self.outstanding:
            text = "A-RELEASE-RQ before the response to the last request"
            self._act(Event.Evt15, text=text)
            return
        self._note("info", "association_released")
        self._act(Event.Evt14)

    # --- messages: the hot path ------------------------------------------------------------------

    def _established(self) -> Exchange | None:
        """The exchange, if a part of a message may come now; else what the table says is done."""
        if self.state is ProtocolState.Sta6:
            self._step(Event.Evt10)
            return self._exchange
        text = f"P-DATA-TF PDU in {self.state.name}"
        self._act(Event.Evt10, AbortReason.UNEXPECTED_PDU, text)
        return None

    def _on_command(self, command: CommandReceived) -> None:
        exchange = self._established()
        if exchange is not None:
            self._respond(
                exchange.on_command(command.context_id, command.command_set, self._effects)
            )

    def _on_data_set(self, data_set: DatasetReceived) -> None:
        exchange = self._established()
        if exchange is not None:
            self._respond(exchange.on_data_set(data_set.context_id, self._effects))

    def _on_store_finished(self, store: StoreFinished) -> None:
        exchange = self._exchange
        assert exchange is not None, "nothing can be stored before the association"
        if self.state is ProtocolState.Sta6:
            self._respond(exchange.on_store_finished(store.status, store.comment))
        elif exchange.phase is Phase.COMMITTING:
            exchange.phase = Phase.IDLE
            self._note("warning", "store_not_acknowledged", status=f"{store.status:04X}")

    def _respond(self, response: bytes | None) -> None:
        if response is not None:
            self.touch(self._now)
            self._step(Event.Evt9)
            self._effects.append(Send(response))


# What the peer said. `now` is when it came.
_SPOKEN: Final = (PduReceived, CommandReceived, DatasetReceived, StreamFault)
_HANDLERS: Final[dict[type, Callable[[Association, Any], None]]] = {
    TransportOpened: Association._on_opened,
    PduReceived: Association._on_pdu,
    CommandReceived: Association._on_command,
    DatasetReceived: Association._on_data_set,
    StreamFault: Association._on_stream_fault,
    StoreFinished: Association._on_store_finished,
    TransportClosed: Association._on_closed,
    TimerExpired: Association._on_timer,
    DrainExpired: Association._on_drain,
    SlotWanted: Association._on_slot_wanted,
}
