"""Looking into the outbox: what the sender asks before it acts, and what people are shown."""

import heapq
from collections.abc import Iterable, Iterator
from typing import Final, Self

from engine.index.damage import IndexDamagedError
from engine.index.environment import View
from engine.index.rows import present, text_of
from engine.limits import outbox_page_max
from engine.outbox import records
from engine.outbox.records import BLOCKED, NUMBER, PAIR, Away, Delivery, State

# States whose places say nothing: there the queue is ordered by number within a destination.
_BY_NUMBER: Final = (State.FAILED, State.HELD)
_BY_PLACE: Final = (State.WAITING, State.SENDING, State.RETRYING)


class OutboxView(View):
    """One consistent state of the outbox, and of the index: of the instances that are sent."""

    @classmethod
    def within(cls, view: View) -> Self:
        """The outbox in the transaction of a view or a batch."""
        return cls(view._transaction, view._tables)

    def delivery(self, number: int) -> Delivery | None:
        value = self._get("deliveries", NUMBER.pack(number))
        if value is None:
            return None
        delivery = records.decode_delivery(value)
        if delivery.number != number:  # whoever goes on behind it would not come to an end
            raise IndexDamagedError("a delivery under the number of another")
        return delivery

    def counts(self) -> dict[tuple[str, State], int]:
        """{(destination, state): deliveries}, those above 0; as cheap as it is short."""
        start = len(records.COUNT)
        return {
            (records.destination_of(key, start + 1), records.state_in(key)): NUMBER.unpack(value)[0]
            for key, value in self.keys_with_prefix("outbox", records.COUNT)
        }

    def paused(self) -> set[str]:
        """The destinations that the user has paused."""
        keys = self.keys_with_prefix("outbox", records.PAUSED)
        return {records.destination_of(key, len(records.PAUSED)) for key, _ in keys}

    def away(self) -> dict[str, Away]:
        """The destinations that cannot be reached."""
        return {
            records.destination_of(key, len(records.AWAY)): records.decode_away(value)
            for key, value in self.keys_with_prefix("outbox", records.AWAY)
        }

    def away_of(self, destination: str) -> Away | None:
        """Since when it is away; None: it is not."""
        value = self._get("outbox", records.AWAY + records.destination_key(destination))
        return None if value is None else records.decode_away(value)

    def asked(self) -> dict[str, int]:
        """When the user last wanted a destination to be asked at once, in ns since 1970."""
        return {
            records.destination_of(key, len(records.ASKED)): NUMBER.unpack(value)[0]
            for key, value in self.keys_with_prefix("outbox", records.ASKED)
        }

    def overdue(self, destination: str, before_ns: int, limit: int) -> tuple[list[int], int | None]:
        """(up to `limit` that wait since before a time, since when the first of the others does:
        None without any, or when there may be more than `limit`)."""
        found: list[int] = []
        others: int | None = None
        for state in (State.WAITING, State.RETRYING):
            for _, number in self._places(state, destination):
                since_ns = self._load(number).due_ns
                if since_ns > before_ns:
                    others = since_ns if others is None else min(others, since_ns)
                elif len(found) >= limit:
                    return found, None
                else:
                    found.append(number)
        return found, others

    def next_due_ns(self, destination: str, now_ns: int) -> int | None:
        """When the first delivery is due that is to be tried again; None: there is none, or the
        destination is paused."""
        if destination in self.paused():
            return None
        if next(self._far(destination, now_ns), None) is not None:
            return now_ns
        return next((place for place, _ in self._places(State.RETRYING, destination)), None)

    def _far(self, destination: str, now_ns: int) -> Iterator[int]:
        """What is to be tried again at a time that a wrong clock has set."""
        start = NUMBER.pack(records.far_ns(now_ns) + 1)
        return (number for _, number in self._places(State.RETRYING, destination, start))

    def first_in_line(self, destination: str) -> Delivery | None:
        """The waiting delivery that would be leased first: its `queued_ns` tells the lag."""
        for place, number in self._places(State.WAITING, destination):
            return None if place == BLOCKED else self._load(number)
        return None

    def last_in_line(self, state: State, destination: str) -> Delivery | None:
        """The last in the queue's order; of delivered ones, the one that was delivered last."""
        prefix = records.queue_prefix(state, destination)
        cursor = self._transaction.cursor(db=self._tables["delivery_queue"])
        behind = prefix[:-1] + b"\1"  # the name ends with a NUL
        if not (cursor.set_range(behind) and cursor.prev()) and not cursor.last():
            return None
        key = bytes(cursor.key())
        if not key.startswith(prefix):
            return None
        return self._load(PAIR.unpack_from(key, len(prefix))[1])

    def deliveries(
        self,
        state: State | None = None,
        destination: str | None = None,
        study: str | None = None,
        after: int = 0,
        limit: int = outbox_page_max,
    ) -> Iterator[Delivery]:
        """By number, from the first above `after`: at most `limit` that fit all that is given."""
        found = 0
        for number in self._numbers(state, destination, study, after, limit):
            delivery = self._load(number)
            if (
                (state is None or delivery.state is state)
                and (destination is None or delivery.destination == destination)
                and (study is None or delivery.study_uid == study)
            ):
                if found >= limit:
                    return
                found += 1
                yield delivery

    def _numbers(
        self,
        state: State | None,
        destination: str | None,
        study: str | None,
        after: int,
        limit: int,
    ) -> Iterator[int]:
        """Of the deliveries that may fit, by the table that has the fewest others."""
        if study is not None:
            prefix = records.study_prefix(study)
            for key, _ in self.keys_from("delivery_studies", prefix + NUMBER.pack(after + 1)):
                if not key.startswith(prefix):
                    return
                if len(key) == len(prefix) + NUMBER.size:
                    yield NUMBER.unpack_from(key, len(prefix))[0]
            return
        if state in _BY_NUMBER or state in _BY_PLACE:
            assert state is not None
            names = self._destinations(state) if destination is None else [destination]
            if state in _BY_NUMBER:
                start = PAIR.pack(0, after + 1)
                runs = [self._places(state, name, start) for name in names]
                yield from (number for _, number in heapq.merge(*runs))
                return
            places = (place for name in names for place in self._places(state, name))
            yield from heapq.nsmallest(limit, (number for _, number in places if number > after))
            return
        for key, _ in self.keys_from("deliveries", NUMBER.pack(after + 1)):
            yield NUMBER.unpack(key)[0]

    def names_file(self, file: str) -> bool:
        """Whether a delivery that is not finished needs this file below the outbox directory."""
        prefix = records.file_prefix(file)
        return next(self.keys_with_prefix("delivery_files", prefix), None) is not None

    def was_taken(self, file: str) -> bool:
        """Whether what lies in a watched folder under this name has been queued already."""
        return self._get("outbox", records.TAKEN + file.encode()) is not None

    def taken_from(self, folder: bytes) -> list[str]:
        """The names of what is noted as taken from a folder."""
        notes = self.keys_with_prefix("outbox", records.TAKEN)
        return [text_of(key[len(records.TAKEN) :]) for key, value in notes if value == folder]

    def destinations_with_open(self) -> list[str]:
        """Those that something is still to be sent to, or could not be."""
        return sorted({name for name, state in self.counts() if state is not State.DELIVERED})

    def open_of(
        self, sop_instance_uid: str, patient: str, destinations: Iterable[str]
    ) -> list[Delivery]:
        """The deliveries of an instance to these that have not ended well."""
        found = []
        for destination in destinations:
            for whose in dict.fromkeys((patient, "")):  # what 0.2.0 queued names no patient
                target = records.target_key(destination, sop_instance_uid, whose)
                found += [self._load(number) for number in self._target(target) if number]
        return found

    # --- tables ---
    def _load(self, number: int) -> Delivery:
        return present(self.delivery(number), "the queue names it")

    def _places(
        self, state: State, destination: str, start: bytes = b""
    ) -> Iterator[tuple[int, int]]:
        """(place, number) of the deliveries in a state, in the queue's order."""
        prefix = records.queue_prefix(state, destination)
        for key, _ in self.keys_from("delivery_queue", prefix + start):
            if not key.startswith(prefix):
                return
            yield PAIR.unpack_from(key, len(prefix))

    def _destinations(self, state: State) -> list[str]:
        """Those with deliveries in a state."""
        prefix = records.COUNT + bytes((state,))
        keys = self.keys_with_prefix("outbox", prefix)
        return [records.destination_of(key, len(prefix)) for key, _ in keys]

    def _target(self, key: bytes) -> tuple[int, int]:
        """(the open delivery, the one being sent), 0 for none."""
        value = self._get("delivery_targets", key)
        if value is None:
            return 0, 0
        opened, sending = PAIR.unpack(value)
        return opened, sending
