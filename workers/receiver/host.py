"""What the parts of a receiver may ask of each other, so that no file needs to import its user.

A `Host` is the receiver as its connections and handshakes see it. A `Newcomer` is whatever was
accepted and has no association yet; a `Guest` is a connection, which may have one.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from engine.errors import LocalError
from engine.telemetry.counters import CounterBlock
from engine.upper_layer.negotiation import AcceptedAssociation, AcceptorPolicy
from native import _core
from workers.frame.child import Child
from workers.frame.spec import ReceiverSpec


class Newcomer(Protocol):
    """Accepted, and without an association: it may have to make room for a newer one."""

    def note(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        """A log line that says whose it is."""

    def crowd_out(self) -> None:
        """Make room for a newer one."""

    def close(self) -> None:
        """Give everything back, at once."""


class Guest(Newcomer, Protocol):
    """A connection: what its receiver tells it, and what it is known by."""

    key: int  # the reception's, never given twice
    slot: int | None  # of its ring, while it has an association
    opened: float  # by the loop's clock
    closed: bool
    peer: str  # its address
    accepted: AcceptedAssociation | None

    @property
    def progress(self) -> tuple[float, int, int]:
        """As `_core.Inlet.progress`."""

    @property
    def waits(self) -> bool:
        """For an answer of ours."""

    def give_way(self, reason: str) -> None:
        """Another one gets its slot: its association ends, and its slot is free, at once."""

    def take_received(self, code: int) -> None:
        """Reading has come to something that is not regular."""

    def stored(self, file_bytes: int) -> None:
        """The instance under way is durable."""

    def failed(self, error: LocalError) -> None:
        """Nothing of the instance under way remains."""

    def queue(self, data: bytes) -> None:
        """What the socket does not take now waits for it."""

    def expire_drain(self) -> None:
        """The time for finishing is over."""


class Host(Protocol):
    """The receiver: what all its connections share, and what they report to it."""

    child: Child[ReceiverSpec]
    loop: asyncio.AbstractEventLoop
    spec: ReceiverSpec
    counters: CounterBlock
    policy: AcceptorPolicy
    extra_tags: int  # the identity of what rules ask for besides
    now_ns: Callable[[], int]
    spool: _core.Spool
    reception: _core.Reception

    def await_request(self, guest: Guest) -> None:
        """Its transport stands; it has no association yet."""

    def forget(self, newcomer: Newcomer) -> None:
        """It is over; what became of it is a guest, or nothing."""

    def has_room(self, peer: str, accepted: AcceptedAssociation) -> bool:
        """Whether this association of a peer at that address may be accepted; another one may have
        to give way for it."""

    def establish(self, guest: Guest) -> int:
        """The association counts from now on; the slot of its ring."""

    def retire(self, guest: Guest) -> None:
        """Its association is over, and so is its claim to a slot; it waits for the peer's close."""

    def leave(self, guest: Guest) -> None:
        """The connection is closed."""

    def refusal(self) -> LocalError | None:
        """Why no instance can be taken now, if so."""
