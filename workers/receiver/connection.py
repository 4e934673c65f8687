"""One connection of a storage AE: joins socket, native cutter, protocol core and spool.

The core decides, this module carries out: it hands the core what the reception did not decide by
itself, and applies the effects. It never waits: an unsent response waits for the socket, within a
time limit, and nothing is read meanwhile. Nothing of a data set passes through here.

Where the state of an association lies, each thing once:

    the core (engine/association)      state of table 9-10, phase of the one message, the deadline
    the inlet and its cutter (native)  where the stream stands, whether it is read, since when it is
                                       the peer's turn, and a regular store unknown to the core
    the spool's slot (native)          what the disk has of the instance under way
    here                               what of our answers the socket has not taken, and what is to
                                       be counted and logged of the store the core knows

`_handle()` is the only way to the core, and tells it first what it has not heard of: nothing here
can forget that, and nothing is decided by what the core knew before.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from engine import limits
from engine.association import events
from engine.association.acceptor import Association
from engine.association.store_lane import MARK, permit_stores
from engine.errors import AbortSource, LocalError
from engine.files.arrival import Arrival, encode_arrival
from engine.files.part10 import part10_head
from engine.telemetry.metrics import Counter, Histogram
from engine.upper_layer.negotiation import AcceptedAssociation
from engine.upper_layer.table import ProtocolState
from native import _core
from workers.receiver.admission import counter_of
from workers.receiver.host import Host
from workers.receiver.transport import ConnectionLostError, Transport

_client_hello: Final = 0x16  # RFC 8446 5.1: the type of TLS's first record, read as a PDU's
# By the kinds of TlsSession.fault that a session which stood can have.
_broken: Final = {
    "integrity": Counter.BROKEN_INTEGRITY,
    "renegotiation": Counter.BROKEN_RENEGOTIATION,
    "peer_alert": Counter.BROKEN_PEER_ALERT,
}
# What an abort of the service's own is counted as, by the note before it.
_causes: Final = {
    "idle_expired": Counter.ABORTS_SENT_IDLE,
    "message_expired": Counter.ABORTS_SENT_MESSAGE,
}


class _Store:
    """What is to be counted and logged of a store, and done at its end."""

    __slots__ = ("began", "ended", "refusal", "request", "revealed")

    def __init__(self, revealed: bool = False) -> None:
        self.revealed = revealed  # the reception began it, the core hears of it late
        self.began = time.perf_counter()
        self.ended = self.began  # when the data set was whole
        self.request: events.StoreRequest | None = None
        self.refusal: LocalError | None = None  # its data set is dropped, then this is the answer


class Connection:
    """From accept() to close(); `slot` is its ring while it has an association."""

    def __init__(self, host: Host, transport: Transport, peer: str, number: str) -> None:
        now = host.loop.time()
        self.peer = peer
        self.slot: int | None = None
        self.accepted: AcceptedAssociation | None = None
        self.opened = now
        self.closed = False
        self._host = host
        self._transport = transport
        self._descriptor = transport.descriptor
        self._number = number
        self._cutter = _core.PduCutter(
            limits.associate_bytes_max,
            limits.command_bytes_max,
            limits.pdu_bytes_tolerated,
            limits.pdu_bytes_advertised,
            limits.uid_characters_max,
        )
        self._association = Association(
            host.policy,
            peer,
            host.spec.application_timeout_s,
            host.spec.idle_timeout_s,
            host.spec.message_timeout_s,
            # Nothing of ours in it: a cycle would be freed by a collection alone, and late.
            lambda accepted: host.has_room(peer, accepted),
            now,
        )
        self._unsent = bytearray()
        self._unsent_since = 0.0
        self._oversized_counted = 0
        self._store = _Store()
        self._timer: asyncio.TimerHandle | None = None
        self._abort_counter: Counter | None = None  # for an abort of ours that is nobody's fault
        self._inlet = _core.Inlet(host.reception, self._cutter, transport.source)
        self.key = self._inlet.key
        self._handle(events.TransportOpened())

    @property
    def _deaf(self) -> bool:
        """What still comes is read and dropped until the peer closes."""
        return self._association.state is ProtocolState.Sta13

    @property
    def progress(self) -> tuple[float, int, int]:
        """As `_core.Inlet.progress`."""
        return self._inlet.progress

    @property
    def waits(self) -> bool:
        """For an answer of ours: the disk has the word. Not who does not read what we say."""
        return self._association.committing and not self._unsent

    # --- from the reception

    def take_received(self, code: int) -> None:
        """Reading has come to something that is not regular: `_core.RECEIVED_EVENT` or an end."""
        if self._deaf:
            return  # its last word is said; what it had to tell was read before
        while code == _core.RECEIVED_EVENT:
            self._take_event()
            if self.closed or self._deaf or self._unsent:
                return
            code = self._inlet.receive()
        if code == _core.RECEIVED_BROKEN:
            self._note_broken()
        elif code != _core.RECEIVED_END:
            return
        self._handle(events.TransportClosed())

    def _note_broken(self) -> None:
        """PS3.15 B.9 to B.11: the connection is dropped, and both sides indicate an A-P-ABORT. Ours
        is this line; its provider reason is the kind of the fault. No A-ABORT can be sent."""
        kind, text = self._transport.fault
        self._host.counters.add(_broken.get(kind, Counter.BROKEN_PROTOCOL))
        source = int(AbortSource.SERVICE_PROVIDER)
        self.note("error", "tls_broken", {"source": source, "provider_reason": kind, "text": text})

    def _take_event(self) -> None:
        event = self._cutter.next_event()
        if event is None:
            return
        kind, number, rest = event
        if kind == _core.EVENT_COMMAND:
            self._handle(events.CommandReceived(number, rest))  # type: ignore[arg-type]
        elif kind == _core.EVENT_DATASET:
            self._note_oversized()
            self._store.ended = time.perf_counter()
            self._handle(events.DatasetReceived(number, rest))  # type: ignore[arg-type]
            refusal, self._store.refusal = self._store.refusal, None
            if refusal is not None and not self.closed:
                self._finish_store(refusal.status, refusal.comment, 0)
        elif kind == _core.EVENT_PDU:
            if number == _client_hello and self.accepted is None:
                self._host.counters.add(Counter.TLS_ON_PLAIN)
            self._handle(events.PduReceived(number, rest))  # type: ignore[arg-type]
        else:
            self._handle(events.StreamFault(number, rest))  # type: ignore[arg-type]

    def _note_oversized(self) -> None:
        oversized = self._cutter.pdata_pdus_oversized - self._oversized_counted
        if oversized:
            if not self._oversized_counted:
                self.note("warning", "pdu_longer_than_advertised", {})
            self._oversized_counted += oversized
            self._host.counters.add(Counter.PDUS_OVERSIZED, oversized)

    def _drop_input(self) -> None:
        if self.closed:
            return
        code = self._transport.drop_input()
        if code == _core.RECEIVED_END:
            self._handle(events.TransportClosed())
        elif code == _core.RECEIVED_BUDGET:
            # No event has to come for what is left: it may lie in front of a reset, of which the
            # loop tells only once.
            self._host.loop.call_soon(self._drop_input)

    def stored(self, file_bytes: int) -> None:
        """The instance under way is durable: only now the peer is told."""
        duration = time.perf_counter() - self._store.ended
        self._host.counters.observe(Histogram.COMMIT_DURATION, duration)
        self._finish_store(0x0000, "", file_bytes)

    def failed(self, error: LocalError) -> None:
        """Nothing of the instance under way remains."""
        self._finish_store(error.status, error.comment, 0)

    def _finish_store(self, status: int, comment: str, file_bytes: int) -> None:
        self._handle(events.StoreFinished(status, comment))
        if self._deaf:
            self._retire()  # the disk is done with what came before our last word
        host, store = self._host, self._store
        request, store.request = store.request, None
        seconds = time.perf_counter() - store.began
        host.counters.observe(Histogram.STORE_DURATION, seconds)
        success = status == 0
        host.counters.add(Counter.STORE_SUCCESS if success else Counter.STORE_FAILURE)
        if request is not None and (host.spec.log_instances or not success):
            fields = {
                "sop_instance_uid": request.sop_instance,
                "status": f"{status:04X}",
                "bytes": file_bytes,
                "seconds": round(seconds, 6),
            }
            if success:
                self.note("info", "instance_stored", fields)
            else:
                self.note("error", "instance_refused", {**fields, "reason": comment})

    # --- to and from the core

    def expire_drain(self) -> None:
        """The time for finishing is over."""
        self._abort_counter = Counter.ABORTS_SENT_DRAIN
        self._handle(events.DrainExpired())

    def give_way(self, reason: str) -> None:
        """Another one gets its slot: its association ends, and its slot is free, at once."""
        self._abort_counter = Counter.ABORTS_SENT_GAVE_WAY
        self._handle(events.SlotWanted(reason))

    def note(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        """A log line that says whose it is."""
        self._host.child.log.note(level, event, self._told_of(fields))

    def _told_of(self, fields: Mapping[str, object]) -> dict[str, object]:
        told: dict[str, object] = {"association": self._number, "peer": self.peer}
        if self.accepted is not None:
            told["calling_ae"] = self.accepted.calling_ae_title
            told["called_ae"] = self.accepted.called_ae_title
        return {**told, **fields}

    def _handle(self, event: events.Input) -> None:
        """The one way to the core."""
        if self.closed:
            return
        self._association.touch(self._inlet.quiet_since)
        self._association.expect_end(*self._inlet.message)
        self._catch_up()
        if type(event) is events.CommandReceived:
            self._store = _Store()
        self._tell_core(event, self._host.loop.time())

    def _catch_up(self) -> None:
        """The core hears of a store that the reception began. It came when the peer last spoke, not
        now: no deadline moves by being told late."""
        store = self._cutter.reveal_store()
        if store is None:
            return
        context_id, command_set, length, ended = store
        self._store = _Store(revealed=True)
        came = self._inlet.quiet_since
        self._tell_core(events.CommandReceived(context_id, command_set), came)
        if ended:
            self._tell_core(events.DatasetReceived(context_id, length), came)

    def _tell_core(self, event: events.Input, now: float) -> None:
        if self.closed:
            return
        was_deaf = self._deaf
        for effect in self._association.handle(event, now):
            self._apply(effect)
            if self.closed:
                return
        if self._deaf and not was_deaf:
            self._stop_listening()
        self._arm_timer()

    def _apply(self, effect: events.Effect) -> None:
        if isinstance(effect, events.Send):
            self._send(effect.data)
        elif isinstance(effect, events.BeginStore):
            self._begin_store(effect.request)
        elif isinstance(effect, events.ExpectCommand):
            self._cutter.expect_command()
        elif isinstance(effect, events.DiscardDataset):
            self._discard(effect.context_id)
        elif isinstance(effect, events.Established):
            self.accepted = effect.accepted
            for context in effect.accepted.refused:
                self._host.counters.note_refused(context.abstract_syntax, self._host.now_ns())
            self.slot = self._host.establish(self)
            self._inlet.attach(self.slot)
            fields = self._told_of({"sop_instance_uid": MARK, "status": "0000"})
            log = self._host.child.log
            self._inlet.log_as(*log.pieces("info", "instance_stored", fields, MARK))
            self._transport.widen()
            permit_stores(self._cutter, effect.accepted, self.peer, self._host.extra_tags)
        elif isinstance(effect, events.CancelStore):
            self._host.counters.add(Counter.CANCELLED_INSTANCES)
        elif isinstance(effect, events.CloseTransport):
            self.close()
        elif isinstance(effect, events.Note):
            self._abort_counter = _causes.get(effect.event, self._abort_counter)
            counter = counter_of(effect.event, effect.fields)
            if counter is Counter.ABORTS_SENT_SERVICE and self._abort_counter is not None:
                counter = self._abort_counter
            if counter is not None:
                self._host.counters.add(counter)
            self.note(effect.level, effect.event, effect.fields)

    def _begin_store(self, request: events.StoreRequest) -> None:
        store = self._store
        store.request = request
        if store.revealed:
            return  # it is under way already
        store.refusal = self._host.refusal()
        if store.refusal is not None:
            self._discard(request.context_id)
            return
        assert self.slot is not None
        head = part10_head(
            request.sop_class,
            request.sop_instance,
            request.transfer_syntax,
            request.calling_ae_title,
        )
        prologue = encode_arrival(
            Arrival(
                request.sop_class,
                request.sop_instance,
                request.transfer_syntax,
                request.calling_ae_title,
                request.called_ae_title,
                self.peer,
                self._host.now_ns(),
                len(head),
                self._host.extra_tags,
            )
        )
        self._host.spool.begin(self.slot, head, prologue, request.explicit_vr)
        self._cutter.expect_data(request.context_id)

    def _discard(self, context_id: int) -> None:
        assert self.slot is not None
        self._host.spool.discard(self.slot)
        self._cutter.expect_data(context_id)

    # --- to the socket

    def _send(self, data: bytes) -> None:
        if not self._unsent:
            try:
                sent = self._transport.send(data)
            except ConnectionLostError:
                # The peer is gone; reading will say so, and the core will be told then.
                return
            if sent == len(data):
                return
            data = data[sent:]
        self.queue(data)

    def queue(self, data: bytes) -> None:
        """What the socket does not take now waits for it."""
        if not self._unsent:
            self._unsent_since = self._host.loop.time()
            self._host.loop.add_writer(self._descriptor, self._writable)
            # Who does not take responses is not asked for requests: this buffer stays small.
            self._inlet.hold()
        self._unsent += data
        self._arm_timer()

    def _writable(self) -> None:
        try:
            sent = self._transport.send(self._unsent)
        except ConnectionLostError:
            sent = len(self._unsent)
        del self._unsent[:sent]
        if not self._unsent:
            self._host.loop.remove_writer(self._descriptor)
            if self._deaf:
                self._transport.say_end()
            else:
                self._inlet.release()

    def _stop_listening(self) -> None:
        """Sta13: our last word is said; the peer hears the end of the stream behind it. The slot is
        free: who does not close keeps nobody out."""
        self._inlet.hold()
        if not self._association.committing:
            self._retire()
        self._host.loop.add_reader(self._descriptor, self._drop_input)
        # The peer's close may be behind bytes already there.
        self._host.loop.call_soon(self._drop_input)
        if not self._unsent:
            self._transport.say_end()

    def _retire(self) -> None:
        self._inlet.leave()
        self._host.retire(self)

    def crowd_out(self) -> None:
        """Make room for a newer one."""
        self.close()

    def close(self) -> None:
        """Give everything back, at once."""
        if self.closed:
            return
        self.closed = True
        self._inlet.leave()
        self._host.loop.remove_reader(self._descriptor)
        self._host.loop.remove_writer(self._descriptor)
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()
        self._note_oversized()
        cancels = self._association.cancels_ignored
        if cancels:
            self._host.counters.add(Counter.CANCELS_IGNORED, cancels)
        self._host.leave(self)

    # --- time

    def _arm_timer(self) -> None:
        """By what the core knows, which may be too early: then the timer is armed again."""
        deadline = self._association.deadline
        if self._unsent:
            limit = self._unsent_since + limits.send_timeout_s
            deadline = limit if deadline is None else min(deadline, limit)
        # One timer at a time: it looks again when it fires, so activity costs nothing.
        if deadline is not None and self.slot is not None:
            # A message that begins meanwhile is told of when the timer looks again.
            looks_again = self._host.loop.time() + self._host.spec.message_timeout_s
            deadline = min(deadline, looks_again)
        if deadline is None or (self._timer is not None and self._timer.when() <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._host.loop.call_at(deadline, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        now = self._host.loop.time()
        if self._unsent and now >= self._unsent_since + limits.send_timeout_s:
            self.note("warning", "peer_does_not_read", {})
            self._handle(events.TransportClosed())
            self.close()
            return
        self._handle(events.TimerExpired())
