"""Who holds a slot, and who gives way when all are taken: a policy, pure, as data.

There are only a few slots (PS3.4 leaves their number to us, the conformance statement has five). A
peer that holds one and does nothing would shut everybody else out for as long as it likes, so:

- What can only verify has slots of its own beside those that store.
- Whoever finds a free slot gets it. What follows is about the moment when there is none.
- A holder without progress gives way: how soon is in `PATIENCE`, by the standing of who asks and
  of who holds, and by whether both are of one host. The least useful one goes first.
- One host may keep so many slots; what it has beyond them gives way to another host, progress or
  not, unless that one had a slot in vain.

Progress is an instance that became durable, or bytes of data sets. What only verifies makes none:
a C-ECHO takes a moment, and whoever stays behind it has the place of the next one.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address, ip_address
from typing import Final

from engine import limits


class Standing(IntEnum):
    """What is known of a peer, from the least to the most."""

    BARREN = 0  # its host held a slot in vain lately
    UNKNOWN = 1
    STORED = 2  # its host has stored an instance before
    CONFIGURED = 3  # title and address are those of a remote AE of the configuration


@dataclass(frozen=True, slots=True)
class Holder:
    """An association that has a slot."""

    key: int
    host: str
    standing: Standing
    accepted: float
    progress: float  # when it last made some; 0: never
    data_bytes: int = 0
    stored: int = 0  # instances
    waits: bool = False  # for our answer: it is we who are slow


@dataclass(frozen=True, slots=True)
class Wish:
    """Whoever wants a slot."""

    host: str
    standing: Standing


@dataclass(frozen=True, slots=True)
class Slots:
    """So many of one kind, and how many of them one host may keep while others ask."""

    count: int
    per_host: int

    @classmethod
    def of(cls, count: int, per_host: int) -> "Slots":
        """`per_host` 0: all but one."""
        return cls(count, min(count, per_host or max(1, count - 1)))


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a holder may do nothing until it gives way; None: it never does."""

    fresh_s: float | None  # since it was accepted, if it never made progress
    quiet_s: float | None  # since its last progress
    # From the tenth second on it has to have made so many bytes a second, or an instance in ten
    # seconds: what trickles in holds a slot that somebody else would fill.
    bytes_per_s: int = 0


_NEVER: Final = Patience(None, None)
_EQUAL: Final = Patience(5, 5, limits.slot_bytes_per_s)
_LOW: Final = Patience(60, 60)
_HIGH: Final = Patience(0, 2, limits.slot_bytes_per_s)
_OWED: Final = Patience(0, 0.25, limits.slot_bytes_per_s)
# Another host asks. Rows: its standing; columns: the holder's, as in `Standing`.
#   Equals: five seconds are ten times what a scanner pauses between two images, and less than any
#   peer's own time-out. From above: at once, if nothing was begun; two seconds amid a series.
#   Who had a slot in vain and owes for it: as soon as it pauses.
#   From below: ten seconds until one that stored gives way to a stranger, thirty until a configured
#   one gives way to it, else a minute.
PATIENCE: Final[dict[Standing, tuple[Patience, Patience, Patience, Patience]]] = {
    Standing.BARREN: (_LOW, _LOW, _LOW, _NEVER),
    Standing.UNKNOWN: (_OWED, _EQUAL, Patience(5, 10), _LOW),
    Standing.STORED: (_OWED, _HIGH, _EQUAL, Patience(5, 30)),
    Standing.CONFIGURED: (_OWED, _HIGH, Patience(1, 2, limits.slot_bytes_per_s), _EQUAL),
}
# The same host asks: a scanner that was switched off leaves connections behind that nobody closes.
# Who is not known takes no place from itself: it would hold all of them by turns.
SAME_HOST: Final[dict[Standing, Patience]] = {
    Standing.BARREN: _NEVER,
    Standing.UNKNOWN: _NEVER,
    Standing.STORED: Patience(30, 30),
    Standing.CONFIGURED: Patience(30, 30),
}
_judged_s: Final = 10.0  # before that, bytes a second say nothing


@dataclass(frozen=True, slots=True)
class Ruling:
    """Whether there is room, and for that, who gives way and why."""

    room: bool
    gives_way: int | None = None  # the key of a holder
    reason: str = ""


def decide(wish: Wish, holders: Sequence[Holder], slots: Slots, now: float) -> Ruling:
    """Who of `holders`, all of one kind of slot, gives way to `wish`, if somebody has to."""
    if len(holders) < slots.count:
        return Ruling(True)
    held = Counter(holder.host for holder in holders)
    found: list[tuple[tuple[float, ...], Holder, str]] = []
    for holder in holders:
        reason = _reason(wish, holder, held, slots, now)
        if reason:
            found.append((_usefulness(holder, held), holder, reason))
    if not found:
        return Ruling(False)
    _, holder, reason = min(found, key=lambda one: one[0])
    return Ruling(True, holder.key, reason)


def _reason(wish: Wish, holder: Holder, held: Counter[str], slots: Slots, now: float) -> str:
    """Why this one may have to give way; empty: it need not."""
    if holder.waits:
        return ""
    same = holder.host == wish.host
    if not same and held[wish.host] >= slots.per_host:
        return ""
    patience = SAME_HOST[wish.standing] if same else PATIENCE[wish.standing][holder.standing]
    idle = now - (holder.progress or holder.accepted)
    limit = patience.quiet_s if holder.progress else patience.fresh_s
    if limit is not None and idle >= limit:
        return f"no progress for {idle:.1f} s"
    age = now - holder.accepted
    trickles = holder.data_bytes < patience.bytes_per_s * age and holder.stored * _judged_s < age
    if limit is not None and age >= _judged_s and trickles:
        return f"{holder.data_bytes} bytes in {age:.0f} s are little progress"
    earned = wish.standing >= min(holder.standing, Standing.UNKNOWN)
    if not same and held[holder.host] > slots.per_host and earned:
        return f"its host keeps {slots.per_host} of {slots.count} places while others ask"
    return ""


def _usefulness(holder: Holder, held: Counter[str]) -> tuple[float, ...]:
    """The least goes first: of low standing, without an instance, of a host that has many, and
    quiet for longest."""
    return (
        holder.standing,
        min(holder.stored, 1),
        -held[holder.host],
        holder.progress or holder.accepted,
    )


def host_of(peer: str) -> str:
    """What counts as one host: an IPv4 address, or the network of 64 bits that a site gives an
    IPv6 host, in which that may take any address it likes (RFC 7421)."""
    try:
        address = ip_address(peer)
    except ValueError:
        return peer
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        if not (address.is_link_local or address.is_loopback):
            return str(IPv6Address(int(address) >> 64 << 64)) + "/64"
    return peer
