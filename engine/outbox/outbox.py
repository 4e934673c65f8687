"""The outbox: what is to be sent, what could not be, and what was; over one LMDB transaction.

The indexer enqueues in the transaction that takes an instance into the index, so an instance that
can be found is one whose deliveries are queued. The sender leases, sends, and says what became of
it; a lease is a committed state, so it survives its holder and is returned by the next one. Nothing
leaves the outbox but by `delivered` and a time in its history, or by the user's `discard`.

At most one delivery of an instance to a destination is open (waiting, retrying, held or failed):
asking again renews it. One more may be under way meanwhile; then the open one waits for its end, so
that two versions of an instance never race. If the one under way fails, the newer one replaces it.
"""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import islice

from engine.index.damage import IndexDamagedError
from engine.limits import delivery_deaths_max, outbox_portion_max, probe_looked_at_max
from engine.outbox import records
from engine.outbox.delivered import DELIVERED_INSTANCES, row_of
from engine.outbox.records import (
    BLOCKED,
    NUMBER,
    PAIR,
    Away,
    Delivery,
    InstanceKind,
    NewDelivery,
    State,
    instance_kind,
)
from engine.outbox.view import OutboxView
from engine.prefetch.hit_rate import HitRate
from engine.settings.send import FOLDER, USER


class Outbox(OutboxView):
    """The outbox in a write transaction. Lists of numbers may name deliveries that are gone or in
    another state than the call is for: those are left alone and are missing from the answer.
    """

    # --- asking ---
    def enqueue(self, new: NewDelivery, now_ns: int) -> int:
        """Ask for a delivery; its number. One that is open is renewed: what it is about to send is
        what the instance is now, and it starts over, unless it is held."""
        target = records.target_key(new.destination, new.sop_instance_uid, new.patient)
        opened, sending = self._target(target)
        state = State.WAITING
        if opened:
            earlier = self._load(opened)
            if earlier.study_uid == new.study_uid:
                self._renew(earlier, new, now_ns)
                return opened
            # A number belongs to one study for good: ranks are made of numbers.
            self._remove(earlier)
            state = State.HELD if earlier.state is State.HELD else state
        number = self._take_number()
        times = (now_ns, now_ns, now_ns)
        delivery = Delivery(number, *new[:9], state, 0, *times, patient=new.patient)
        self._set_target(target, number, sending)
        self._put("delivery_studies", records.study_prefix(new.study_uid) + NUMBER.pack(number))
        self._name_file(delivery)
        self._enter(delivery)
        return number

    def _renew(self, delivery: Delivery, new: NewDelivery, now_ns: int) -> None:
        """What waits or is held stays where it stands, with its study's rank."""
        self._leave(delivery)
        if delivery.file != new.file:
            self._forget_file(delivery)
            delivery.file = new.file
            self._name_file(delivery)
        delivery.sop_class_uid = new.sop_class_uid
        delivery.series_uid = new.series_uid
        delivery.transfer_syntax_uid = new.transfer_syntax_uid
        delivery.file_bytes = new.file_bytes
        delivery.origin = new.origin
        if delivery.state is not State.HELD:
            self._start_over(delivery, now_ns)
        self._enter(delivery)

    # --- sending ---
    def lease(self, destination: str, count: int, now_ns: int) -> list[Delivery]:
        """Take up to `count` deliveries to send now, by study, then by age. None while paused."""
        if count <= 0 or destination in self.paused():
            return []
        self._wake_due(destination, count, now_ns)
        return self._lease(islice(self._first(destination), count), now_ns)

    def lease_other(
        self, destination: str, kinds: AbstractSet[InstanceKind], now_ns: int
    ) -> list[Delivery]:
        """Take the first delivery that is of none of these kinds; none where there is none among
        the first ones that wait."""
        if destination in self.paused():
            return []
        self._wake_due(destination, 1, now_ns)
        looked_at = islice(self._first(destination), probe_looked_at_max)
        others = (number for number in looked_at if instance_kind(self._load(number)) not in kinds)
        return self._lease(islice(others, 1), now_ns)

    def _first(self, destination: str) -> Iterator[int]:
        """What waits for its turn, in its order."""
        for place, number in self._places(State.WAITING, destination):
            if place == BLOCKED:
                return
            yield number

    def _lease(self, found: Iterable[int], now_ns: int) -> list[Delivery]:
        numbers = [*found]
        leased = []
        for number in numbers:
            delivery = self._load(number)
            self._move(delivery, State.SENDING, now_ns)
            self._set_target(_target_of(delivery), 0, number)
            leased.append(delivery)
        return leased

    def _wake_due(self, destination: str, count: int, now_ns: int) -> None:
        due: list[int] = []
        for due_ns, number in self._places(State.RETRYING, destination):
            if due_ns > now_ns or len(due) >= count:
                break
            due.append(number)
        due += islice(self._far(destination, now_ns), max(0, count - len(due)))
        for number in due:
            self._move(self._load(number), State.WAITING, now_ns)

    def delivered(self, number: int, now_ns: int, status: int = 0, reason: str = "") -> bool:
        """A lease ended well; any status but 0000 is a warning. False: it was no lease any more."""
        delivery = self._leased(number)
        if delivery is None:
            return False
        delivery.attempts += 1
        delivery.deaths = 0
        delivery.status = status
        delivery.warning = status != 0
        delivery.reason = reason
        self._forget_file(delivery)
        delivery.file = ""
        self._end_lease(delivery)
        self._move(delivery, State.DELIVERED, now_ns)
        # What rules send, of prefetching too, would have gone out whether anybody needed it or not.
        if delivery.origin in (USER, FOLDER):
            HitRate.within(self).note_used(delivery.study_uid, now_ns)
        return True

    def attempt_failed(
        self, number: int, now_ns: int, reason: str, status: int, due_ns: int | None
    ) -> bool:
        """A lease ended badly; tried again at `due_ns`, or never (None). `status` -1: none came.

        False: it was no lease any more. One whose instance was asked for again meanwhile is gone:
        the newer one is in its place.
        """
        delivery = self._leased(number)
        if delivery is None:
            return False
        delivery.attempts += 1
        delivery.deaths = 0  # it was survived
        delivery.status = status
        delivery.reason = reason
        delivery.due_ns = now_ns if due_ns is None else due_ns
        state = State.FAILED if due_ns is None else State.RETRYING
        self._give_back(delivery, state, now_ns)
        return True

    def give_up(self, numbers: Iterable[int], now_ns: int, reason: str) -> int:
        """These have failed, waiting for a destination that is away: their attempts stay as they
        are, and so does what an attempt of theirs came to. How many."""
        count = 0
        for delivery in self._in_states(numbers, (State.WAITING, State.RETRYING)):
            delivery.reason = f"{reason}; before: {delivery.reason}" if delivery.reason else reason
            self._move(delivery, State.FAILED, now_ns)
            count += 1
        return count

    def note_away(self, destination: str, now_ns: int, pause_s: float, reason: str) -> None:
        """It was asked and not reached, and is asked again after a pause."""
        earlier = self.away_of(destination)
        since_ns, asked = (now_ns, 0) if earlier is None else (earlier.since_ns, earlier.asked)
        due_ns = now_ns + int(pause_s * 1_000_000_000)
        away = Away(since_ns, asked + 1, now_ns, due_ns, reason)
        key = records.AWAY + records.destination_key(destination)
        self._put("outbox", key, records.encode(away))

    def forget_away(self, *destinations: str) -> None:
        """They are back, or are not asked any more."""
        for destination in destinations:
            self._delete("outbox", records.AWAY + records.destination_key(destination))

    def return_leases(self, numbers: Iterable[int] | None = None) -> int:
        """Let these, or everything that is being sent, wait again; how many. For what was leased
        and not begun, and for a sender that starts: its predecessor's attempts do not count."""
        if numbers is None:
            numbers = [
                number
                for destination in self._destinations(State.SENDING)
                for _, number in self._places(State.SENDING, destination)
            ]
        returned = 0
        for number in numbers:
            delivery = self._leased(number)
            if delivery is not None:
                self._give_back(delivery, State.WAITING, delivery.changed_ns)
                returned += 1
        return returned

    def died_with(self, numbers: Iterable[int], now_ns: int) -> list[Delivery]:
        """The sender ended while it had these in hand: they wait again, to be tried by themselves.
        At the last of `delivery_deaths_max` times one has failed. As they are now."""
        blamed = []
        for delivery in self._in_states(numbers, (State.SENDING, State.WAITING, State.RETRYING)):
            delivery.deaths += 1
            failed = delivery.deaths >= delivery_deaths_max
            times = f"{delivery.deaths} times" if delivery.deaths > 1 else "once"
            delivery.reason = f"its sender died or hung while it was sent, {times}"
            if failed:
                delivery.reason += ", the last time with nothing else in hand"
            if delivery.state is State.SENDING:
                self._give_back(delivery, State.FAILED if failed else State.WAITING, now_ns)
            elif failed:
                self._move(delivery, State.FAILED, now_ns)
            else:
                self._store(delivery)
            blamed.append(delivery)
        return blamed

    # --- the user's hand ---
    def hold(self, numbers: Iterable[int], now_ns: int) -> list[Delivery]:
        """Waiting and retrying ones are not sent until released. As they are now."""
        return self._change(numbers, (State.WAITING, State.RETRYING), State.HELD, now_ns)

    def release(self, numbers: Iterable[int], now_ns: int) -> list[Delivery]:
        """Held ones wait again; their attempts are kept. As they are now."""
        return self._change(numbers, (State.HELD,), State.WAITING, now_ns)

    def retry(self, numbers: Iterable[int], now_ns: int) -> list[Delivery]:
        """Failed and retrying ones start over at once, with all their attempts, and so do those
        that wait for a destination that is away; it is asked at once. As they are now."""
        retried = []
        states = (State.FAILED, State.RETRYING, State.WAITING)
        for delivery in self._in_states(numbers, states):
            if delivery.state is State.WAITING and self.away_of(delivery.destination) is None:
                continue  # its turn comes
            self._leave(delivery)
            self._start_over(delivery, now_ns)
            self._enter(delivery)
            retried.append(delivery)
        for destination in {delivery.destination for delivery in retried}:
            self.ask_now(destination, now_ns)
        return retried

    def ask_now(self, destination: str, now_ns: int) -> None:
        """End the pause after which a destination in trouble would be asked again."""
        key = records.ASKED + records.destination_key(destination)
        self._put("outbox", key, NUMBER.pack(now_ns))

    def discard(self, numbers: Iterable[int], now_ns: int) -> list[Delivery]:
        """Take deliveries out, in whatever state but being sent. As they were."""
        del now_ns
        discarded = []
        for delivery in self._in_states(numbers, frozenset(State) - {State.SENDING}):
            self._remove(delivery)
            if delivery.state is not State.DELIVERED:
                target = _target_of(delivery)
                self._set_target(target, 0, self._target(target)[1])
            discarded.append(delivery)
        return discarded

    def pause(self, destination: str, paused: bool) -> None:
        """Lease nothing more to a destination, or again. What is being sent is finished."""
        key = records.PAUSED + records.destination_key(destination)
        if paused:
            self._put("outbox", key)
        else:
            self._delete("outbox", key)

    def note_taken(self, file: str, folder: bytes = b"") -> None:
        """In the transaction that queues what a watched folder gave: the file there is done with,
        so that it is not queued again when it could not be removed before a crash."""
        self._put("outbox", records.TAKEN + file.encode(), folder)

    def forget_taken(self, files: Iterable[str]) -> None:
        """They are gone from their folders."""
        for file in files:
            self._delete("outbox", records.TAKEN + file.encode())

    # --- history ---
    def prune_delivered(self, before_ns: int, limit: int = outbox_portion_max) -> int:
        """Forget up to `limit` of what was delivered before a time; how many. That an instance was
        delivered is remembered in short for as long as it is here."""
        numbers: list[int] = []
        for destination in self._destinations(State.DELIVERED):
            for delivered_ns, number in self._places(State.DELIVERED, destination):
                if delivered_ns >= before_ns or len(numbers) >= limit:
                    break
                numbers.append(number)
        for number in numbers:
            delivery = self._load(number)
            row = row_of(self, delivery)
            if row is not None:
                self._put(DELIVERED_INSTANCES, *row)
            self._remove(delivery)
        return len(numbers)

    # --- leases ---
    def _leased(self, number: int) -> Delivery | None:
        delivery = self.delivery(number)
        return None if delivery is None or delivery.state is not State.SENDING else delivery

    def _give_back(self, delivery: Delivery, state: State, now_ns: int) -> None:
        """What was leased is open again, unless a newer one is."""
        if self._target(_target_of(delivery))[0]:
            self._end_lease(delivery)
            self._remove(delivery)
        else:
            self._set_target(_target_of(delivery), delivery.number, 0)
            self._move(delivery, state, now_ns)

    def _end_lease(self, delivery: Delivery) -> None:
        """Let the open delivery of the same instance, if there is one, take its place, while that
        keeps the study's rank."""
        target = _target_of(delivery)
        opened, _ = self._target(target)
        self._set_target(target, opened, 0)
        if opened:
            waiting = self._load(opened)
            self._leave(waiting)
            self._enter(waiting)

    # --- states ---
    def _in_states(self, numbers: Iterable[int], states: Iterable[State]) -> Iterator[Delivery]:
        wanted = frozenset(states)
        for number in tuple(numbers):
            delivery = self.delivery(number)
            if delivery is not None and delivery.state in wanted:
                yield delivery

    def _change(
        self, numbers: Iterable[int], states: Iterable[State], state: State, now_ns: int
    ) -> list[Delivery]:
        changed = []
        for delivery in self._in_states(numbers, states):
            self._move(delivery, state, now_ns)
            changed.append(delivery)
        return changed

    def _move(self, delivery: Delivery, state: State, now_ns: int) -> None:
        self._leave(delivery)
        delivery.state = state
        delivery.changed_ns = now_ns
        self._enter(delivery)

    def _enter(self, delivery: Delivery) -> None:
        """Write a delivery, and its place among those in its state."""
        delivery.place = self._place_for(delivery)
        self._put("delivery_queue", _queue_key(delivery))
        self._store(delivery)
        self._count(delivery, 1)
        self._drop_rank(delivery)

    def _leave(self, delivery: Delivery) -> None:
        """Take a delivery from its place; its record and its study's rank are left to _enter() or
        _remove()."""
        self._delete("delivery_queue", _queue_key(delivery))
        self._count(delivery, -1)

    def _remove(self, delivery: Delivery) -> None:
        number = NUMBER.pack(delivery.number)
        self._leave(delivery)
        self._drop_rank(delivery)
        self._delete("deliveries", number)
        self._delete("delivery_studies", records.study_prefix(delivery.study_uid) + number)
        self._forget_file(delivery)

    def _place_for(self, delivery: Delivery) -> int:
        match delivery.state:
            case State.WAITING:
                if self._target(_target_of(delivery))[1]:
                    return BLOCKED
                return self._rank_of(delivery)
            case State.SENDING:
                return self._rank_of(delivery)
            case State.RETRYING:
                return delivery.due_ns
            case State.DELIVERED:
                return delivery.changed_ns
            case _:
                return 0

    def _rank_of(self, delivery: Delivery) -> int:
        """The study's; where it has none, the one that this delivery has had, or its number."""
        key = _rank_key_of(delivery)
        stored = self._get("delivery_ranks", key)
        if stored is not None:
            delivery.rank = NUMBER.unpack(stored)[0]
        else:
            delivery.rank = delivery.rank or delivery.number
            self._put("delivery_ranks", key, NUMBER.pack(delivery.rank))
        return delivery.rank

    def _drop_rank(self, delivery: Delivery) -> None:
        """Unless something of its study waits or is being sent."""
        key = _rank_key_of(delivery)
        rank = self._get("delivery_ranks", key)
        if rank is None:
            return
        for state in (State.WAITING, State.SENDING):
            prefix = records.queue_prefix(state, delivery.destination) + rank
            if next(self.keys_with_prefix("delivery_queue", prefix), None) is not None:
                return
        self._delete("delivery_ranks", key)

    def _start_over(self, delivery: Delivery, now_ns: int) -> None:
        """As if it had just been asked for; its place is the caller's to see to."""
        delivery.state = State.WAITING
        delivery.attempts = delivery.deaths = 0
        delivery.due_ns = delivery.changed_ns = now_ns
        delivery.reason, delivery.status = "", -1

    # --- tables ---
    def _set_target(self, key: bytes, opened: int, sending: int) -> None:
        if opened or sending:
            self._put("delivery_targets", key, PAIR.pack(opened, sending))
        else:
            self._delete("delivery_targets", key)

    def _take_number(self) -> int:
        stored = self._get("outbox", records.NEXT_NUMBER)
        number: int = 1 if stored is None else NUMBER.unpack(stored)[0]
        self._put("outbox", records.NEXT_NUMBER, NUMBER.pack(number + 1))
        return number

    def _store(self, delivery: Delivery) -> None:
        self._put("deliveries", NUMBER.pack(delivery.number), records.encode(delivery))

    def _count(self, delivery: Delivery, change: int) -> None:
        key = records.count_key(delivery.state, delivery.destination)
        stored = self._get("outbox", key)
        count = change if stored is None else NUMBER.unpack(stored)[0] + change
        if count < 0:
            raise IndexDamagedError("a delivery that leaves a state it was not in")
        if count:
            self._put("outbox", key, NUMBER.pack(count))
        else:
            self._delete("outbox", key)

    def _name_file(self, delivery: Delivery) -> None:
        if delivery.file:
            self._put("delivery_files", _file_key(delivery))

    def _forget_file(self, delivery: Delivery) -> None:
        if delivery.file:
            self._delete("delivery_files", _file_key(delivery))

    def _put(self, table: str, key: bytes, value: bytes = b"") -> None:
        self._transaction.put(key, value, db=self._tables[table])

    def _delete(self, table: str, key: bytes) -> None:
        self._transaction.delete(key, db=self._tables[table])


def _target_of(delivery: Delivery) -> bytes:
    return records.target_key(delivery.destination, delivery.sop_instance_uid, delivery.patient)


def _rank_key_of(delivery: Delivery) -> bytes:
    return records.rank_key(
        delivery.destination, delivery.study_uid, delivery.sop_instance_uid, delivery.patient
    )


def _queue_key(delivery: Delivery) -> bytes:
    prefix = records.queue_prefix(delivery.state, delivery.destination)
    return prefix + PAIR.pack(delivery.place, delivery.number)


def _file_key(delivery: Delivery) -> bytes:
    return records.file_prefix(delivery.file) + NUMBER.pack(delivery.number)
