"""The receiver: one process for one storage AE and port. Accepts, receives, makes durable, answers.

Everything that may block, the disk above all, is done by native threads behind the spool; this loop
only moves decisions. It ends when it is told to drain and its associations have ended or their
time is over.
"""

import asyncio
import errno
import os
import socket
import time
from pathlib import Path
from typing import Any, Final

from engine import limits
from engine.dictionary.attributes import WANTED_TAGS
from engine.dictionary.elements import identity_of
from engine.errors import LocalError
from engine.files.journal_damage import damage_of
from engine.telemetry.metrics import Counter, Gauge, Histogram
from engine.upper_layer.negotiation import AcceptedAssociation, AcceptorPolicy
from native import _core
from workers.frame.child import Child
from workers.frame.spec import ReceiverSpec
from workers.receiver.admission import policy_of
from workers.receiver.connection import Connection
from workers.receiver.host import Guest, Newcomer
from workers.receiver.places import Places
from workers.receiver.reception import reception_of
from workers.receiver.secured_listener import SecuredListener
from workers.receiver.storage_fault import low_disk, standing_fault, storage_fault
from workers.receiver.transport import Transport

_accepts_per_turn: Final = 64
_accept_pause_s: Final = 0.1  # when the process has no descriptor left
_exhausted: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
# accept(2) also tells what went wrong with a connection before it was taken; EPERM is a firewall's.
_lost_before_accept: Final = (
    errno.ECONNABORTED,
    errno.EPERM,
    errno.EPROTO,
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENONET,
    errno.ETIMEDOUT,
)


class Receiver:
    """The state of the process: its connections, its slots, its way to the disk."""

    def __init__(self, child: Child[ReceiverSpec], loop: asyncio.AbstractEventLoop) -> None:
        spec = child.spec
        self.child = child
        self.loop = loop
        self.spec = spec
        self.counters = child.counters
        self.policy: AcceptorPolicy = policy_of(spec)
        self.extra_tags = identity_of(spec.extra_tags)
        self.now_ns = time.time_ns
        self._indexer = child.segment.block(spec.indexer_block)
        self.spool = _core.Spool(
            spec.incoming_directory,
            spec.journal_directory,
            spec.ring_descriptor,
            spec.ring_slots,
            spec.ring_bytes,
            limits.inline_bytes_max,
            limits.journal_segment_bytes,
            limits.journal_segments_max,
            limits.journal_wait_ms_max,
            spec.durability == "sync",
            sorted({*WANTED_TAGS, *spec.extra_tags}),
            limits,
        )
        self.reception = reception_of(self.spool, self.counters)
        self._listeners = [socket.socket(fileno=fd) for fd in spec.listen_descriptors]
        self._free_slots = list(range(spec.ring_slots))
        self._by_key: dict[int, Guest] = {}
        # In the order of their arrival: a handshake that ends begins anew as a connection.
        self._pending: dict[Newcomer, None] = {}
        self._places = Places(spec, loop.time)
        self._serial = 0
        self._doorbell_due = False
        self._idle = asyncio.Event()
        self._report_recovery()
        self._configure_log()
        loop.add_reader(self.reception.descriptor, self._turn)
        self._secured = SecuredListener(self) if spec.tls_descriptor >= 0 else None
        child.reconfigured(self._reconfigure)
        self._refresh_admission()

    def _report_recovery(self) -> None:
        records, torn, removed, adopted = self.spool.recovery()
        self.counters.add(Counter.JOURNAL_RECOVERED, records)
        self.counters.add(Counter.JOURNAL_TORN, torn)
        self.counters.add(Counter.INCOMING_REMOVED, removed)
        self.counters.add(Counter.INCOMING_ADOPTED, adopted)
        self.counters.set(Gauge.ASSOCIATIONS_LIMIT, self.spec.association_limit)
        self._publish_durable()
        self._report_damage()
        if records or torn or removed or adopted:
            self.child.log.info(
                "journal_opened",
                records=records,
                torn=torn,
                incoming_removed=removed,
                incoming_adopted=adopted,
            )

    def _report_damage(self) -> None:
        """At each start, until somebody has looked and moved `damaged/` away."""
        damage = damage_of(Path(self.spec.journal_directory))
        self.counters.set(Gauge.JOURNAL_DAMAGE, len(damage))
        for one in damage:
            self.child.log.error(
                "journal_damaged",
                found=one.found,
                segment=one.segment,
                byte=one.byte,
                lost=one.lost,
                taken_in=one.taken,
                text=one.text,
            )

    def _reconfigure(self, spec: ReceiverSpec) -> None:
        """Associations that are open keep the policy they were accepted under."""
        self.spec = spec
        self.policy = policy_of(spec)
        self._places.configure(spec)
        self._configure_log()
        if self._secured is not None:
            self._secured.reload()

    def _configure_log(self) -> None:
        self.reception.log(self.spec.log_instances)

    # --- connections

    def listen(self) -> None:
        """Take connections from now on."""
        for listener in self._listeners:
            listener.setblocking(False)
            self.loop.add_reader(listener.fileno(), self._accept, listener)

    def stop_listening(self) -> None:
        """Close our copies of the listening sockets; the supervisor keeps its own."""
        for listener in self._listeners:
            self.loop.remove_reader(listener.fileno())
            listener.close()
        self._listeners = []

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_accepts_per_turn):
            try:
                connection, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _lost_before_accept:
                    continue
                if error.errno not in _exhausted:
                    raise  # a fault of ours
                self.child.log.error("cannot_accept", text=os.strerror(error.errno))
                self.loop.remove_reader(listener.fileno())
                self.loop.call_later(_accept_pause_s, self._listen_again, listener)
                return
            self._open(connection, str(address[0]))

    def _listen_again(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            self.loop.add_reader(listener.fileno(), self._accept, listener)

    def _await(self, newcomer: Newcomer) -> None:
        """It has no association, or none any more. There are so many places for those."""
        if len(self._pending) >= limits.connections_pending_max:
            oldest = next(iter(self._pending))
            self.counters.add(Counter.CONNECTIONS_CROWDED_OUT)
            oldest.note("warning", "connection_crowded_out", {})
            oldest.crowd_out()
        self._pending[newcomer] = None
        self._count_connections()

    def _open(self, connection: socket.socket, peer: str) -> None:
        connection.setblocking(False)
        # One small response a request: it must not wait for the peer's delayed acknowledgement.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # A peer that does not read is found out when this is full, not when 4 MiB are.
        buffer = socket.SO_SNDBUF, limits.answer_buffer_bytes
        connection.setsockopt(socket.SOL_SOCKET, *buffer)
        self._serial += 1
        self.counters.add(Counter.CONNECTIONS)
        peer = peer.removeprefix("::ffff:")
        number = f"{os.getpid()}-{self._serial}"
        if self._secured is None:
            self.await_request(Connection(self, Transport(connection), peer, number))
        else:
            self._await(self._secured.open(connection, peer, number))

    def await_request(self, guest: Guest) -> None:
        """Its transport stands; it has no association yet."""
        if not guest.closed:
            self._by_key[guest.key] = guest
            self._await(guest)

    def forget(self, newcomer: Newcomer) -> None:
        """It is over; what became of it is a connection, or nothing."""
        self._pending.pop(newcomer, None)
        self._count_connections()

    def has_room(self, peer: str, accepted: AcceptedAssociation) -> bool:
        """Whether this association may be accepted; another one may have to give way for it."""
        return self._places.find_room(peer, accepted) and bool(self._free_slots)

    def establish(self, guest: Guest) -> int:
        """The association counts from now on; the slot of its ring."""
        assert guest.accepted is not None
        self._pending.pop(guest, None)
        self._places.take(guest, guest.peer, guest.accepted)
        slot = self._free_slots.pop()
        self._count_connections()
        return slot

    def retire(self, guest: Guest) -> None:
        """Its association is over, and so is its claim to a slot; it waits for the peer's close."""
        if self._give_up(guest):
            self._await(guest)

    def leave(self, guest: Guest) -> None:
        """The connection is closed."""
        self._by_key.pop(guest.key, None)
        self._pending.pop(guest, None)
        self._give_up(guest)
        self._count_connections()

    def _give_up(self, guest: Guest) -> bool:
        """Its ring is free as soon as the spool is done with it. Whether it had one."""
        seconds = self._places.give_up(guest)
        slot, guest.slot = guest.slot, None
        if seconds is None or slot is None:
            return False
        self.counters.observe(Histogram.ASSOCIATION_DURATION, seconds)
        if self.spool.cancel(slot):
            self._free_slots.append(slot)
        return True

    def _count_connections(self) -> None:
        self.counters.set(Gauge.CONNECTIONS_PENDING, len(self._pending))
        self.counters.set(Gauge.ASSOCIATIONS_ACTIVE, self._places.count(stores=True))
        self.counters.set(Gauge.VERIFICATIONS_ACTIVE, self._places.count(stores=False))
        if self._is_idle():
            self._idle.set()

    def _is_idle(self) -> bool:
        return not self._places.guests and len(self._free_slots) == self.spec.ring_slots

    # --- instances

    def refusal(self) -> LocalError | None:
        """Why no instance can be taken now, if so: its bytes would only be thrown away."""
        status = self.spec.out_of_resources_status
        if self._indexer.get(Gauge.DISK_LOW):
            return low_disk(status)
        if fault := self._indexer.get(Gauge.INDEX_FAULT):
            return standing_fault("The index cannot go on", fault, status)
        if fault := self.counters.get(Gauge.JOURNAL_FAULT):
            return standing_fault("The journal cannot be read", fault, status)
        return None

    def _refresh_admission(self) -> None:
        """Regular stores ask nobody: they are told beforehand, twenty times a second."""
        self.spool.admit(self.refusal() is None)
        if not self._doorbell_due:
            self.spool.settle()  # what the journal did not take when it was asked
        self.loop.call_later(limits.heartbeat_ms / 1000, self._refresh_admission)

    def _publish_durable(self) -> None:
        self.counters.set(Gauge.JOURNAL_DURABLE_SEQUENCE, self.spool.durable_sequence)
        acknowledged = self.spool.acknowledged_sequence
        self.counters.set(Gauge.JOURNAL_ACKNOWLEDGED_SEQUENCE, acknowledged)

    def _turn(self) -> None:
        """Sockets have bytes, or instances are durable; the reception sees to what is regular."""
        stored, settled, notices, lines = self.reception.turn()
        if lines:
            self.child.log.add("info", lines)
        for kind, key, what in notices:
            if kind == _core.NOTICE_FREED:
                self._free_slots.append(what)
                self._count_connections()
            elif key in self._by_key:  # what was told before may have ended it
                self._tell(self._by_key[key], kind, what)
        # What Python began in this turn has ended: it shares one sync as well.
        if self.spool.unflushed:
            self.spool.flush()
        # After the answers, and once for all that come meanwhile: peers wait for those, nobody
        # waits for the index, and waking it for each instance cost a third of our time.
        if stored and not self._doorbell_due:
            self._doorbell_due = True
            self.loop.call_later(limits.doorbell_delay_ms / 1000, self._ring)
        if settled:
            os.eventfd_write(self.spec.doorbell_descriptor, 1)

    def _tell(self, guest: Guest, kind: int, what: Any) -> None:
        if kind == _core.NOTICE_RECEIVED:
            guest.take_received(what)
        elif kind == _core.NOTICE_STORED:
            guest.stored(what)
        elif kind == _core.NOTICE_FAILED:
            guest.failed(storage_fault(what, self.spec.out_of_resources_status))
        elif kind == _core.NOTICE_UNSENT:
            guest.queue(what)

    def _ring(self) -> None:
        self._doorbell_due = False
        if not self.spool.settle():
            os.eventfd_write(self.spec.doorbell_descriptor, 1)

    # --- the end

    async def drain(self) -> None:
        """Let associations finish, within the deadline; then end them."""
        self.stop_listening()
        for connection in list(self._pending):
            connection.close()
        if not self._is_idle():
            self._idle.clear()
            seconds = max(0.0, self.child.drain_deadline - self.loop.time())
            try:
                await asyncio.wait_for(self._idle.wait(), seconds)
            except TimeoutError:
                await self._end_associations()
        if self._secured is not None:
            self._secured.farewells.close()
        self.loop.remove_reader(self.reception.descriptor)
        self.spool.close()
        self._publish_durable()
        os.eventfd_write(self.spec.doorbell_descriptor, 1)

    async def _end_associations(self) -> None:
        guests = self._places.guests
        self.child.log.warning("drain_time_over", associations=len(guests))
        for connection in guests:
            connection.expire_drain()
        # A moment for the aborts to leave; what the disk still has under way is closed with it.
        await asyncio.sleep(limits.abort_linger_s)
        for connection in guests:
            connection.close()


async def run(child: Child[ReceiverSpec]) -> None:
    """The life of the process, from its spec to the end of its drain."""
    receiver = Receiver(child, asyncio.get_running_loop())
    receiver.listen()
    child.ready()
    await child.draining.wait()
    await receiver.drain()
