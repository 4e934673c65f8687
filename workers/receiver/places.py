"""The slots of a receiver: who has one, and whom the policy has give way.

`engine/upper_layer/slots.py` decides; this keeps the associations by kind, asks each how far it has
come, and tells the one that gives way. What the hosts are worth is kept for as long as the process
lives.
"""

from collections.abc import Callable
from dataclasses import dataclass

from engine.dictionary import uids
from engine.upper_layer.negotiation import AcceptedAssociation
from engine.upper_layer.slots import Holder, Slots, Standing, Wish, decide, host_of
from engine.upper_layer.standing import Hosts, Tenure
from workers.frame.spec import ReceiverSpec
from workers.receiver.host import Guest


@dataclass(slots=True)
class _Place:
    """What one association holds."""

    host: str
    title: str
    stores: bool  # or can only verify
    accepted: float
    gave_way: bool = False


class Places:
    """The associations of a receiver that have a slot. `clock` is the event loop's."""

    def __init__(self, spec: ReceiverSpec, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._held: dict[Guest, _Place] = {}
        self._hosts = Hosts(spec.known_peers)
        self.configure(spec)

    def configure(self, spec: ReceiverSpec) -> None:
        """Who has a place keeps it."""
        self._slots = {
            True: Slots.of(spec.association_limit, spec.host_limit),
            False: Slots.of(spec.verification_limit, spec.host_limit),
        }
        self._hosts.configure(spec.known_peers)

    @property
    def guests(self) -> list[Guest]:
        """All that have a place."""
        return list(self._held)

    def count(self, stores: bool) -> int:
        """How many have a place of this kind."""
        return sum(place.stores is stores for place in self._held.values())

    def find_room(self, peer: str, accepted: AcceptedAssociation) -> bool:
        """Whether there is a place for it; whoever has to give way for it has, when this returns.

        A receiver's associations change nowhere but in its one thread: what was found free here is
        free until `take()`."""
        now = self._clock()
        stores = _stores(accepted)
        self._note_stored(now)
        wish = Wish(host_of(peer), self._standing(host_of(peer), accepted.calling_ae_title))
        guests = {guest.key: guest for guest, at in self._held.items() if at.stores is stores}
        holders = [self._holder(guest, now) for guest in guests.values()]
        ruling = decide(wish, holders, self._slots[stores], now)
        if ruling.gives_way is not None:
            leaving = guests[ruling.gives_way]
            self._held[leaving].gave_way = True
            leaving.give_way(f"{ruling.reason}; {wish.standing.name.lower()} {peer} asks")
        return ruling.room and self.count(stores) < self._slots[stores].count

    def take(self, guest: Guest, peer: str, accepted: AcceptedAssociation) -> None:
        """It has one from now on."""
        title = accepted.calling_ae_title
        self._held[guest] = _Place(host_of(peer), title, _stores(accepted), self._clock())

    def give_up(self, guest: Guest) -> float | None:
        """How long it had its place, in seconds; None: it had none."""
        place = self._held.pop(guest, None)
        if place is None:
            return None
        now = self._clock()
        if place.stores:
            progress, _, stored = guest.progress
            useful_s = max(0.0, min(progress, now) - place.accepted)
            tenure = Tenure(stored, now - place.accepted, useful_s, place.gave_way)
            self._hosts.note_ended(place.host, tenure, now)
        return now - place.accepted

    def _note_stored(self, now: float) -> None:
        """A regular store is told to nobody: it is asked for where it counts."""
        for guest, place in self._held.items():
            if place.stores and guest.progress[2]:
                self._hosts.note_stored(place.host, now)

    def _standing(self, host: str, title: str) -> Standing:
        return self._hosts.standing(host, title, self._clock())

    def _holder(self, guest: Guest, now: float) -> Holder:
        place = self._held[guest]
        standing = self._standing(place.host, place.title)
        if not place.stores:
            return Holder(guest.key, place.host, standing, place.accepted, 0.0)
        progress, data_bytes, stored = guest.progress
        return Holder(
            guest.key,
            place.host,
            standing,
            place.accepted,
            progress,
            data_bytes,
            stored,
            # The reception says "now" for a regular store that waits for the disk.
            guest.waits or progress >= now,
        )


def _stores(accepted: AcceptedAssociation) -> bool:
    """Whether it can do more than verify."""
    contexts = accepted.contexts.values()
    return any(context.abstract_syntax != uids.verification for context in contexts)
