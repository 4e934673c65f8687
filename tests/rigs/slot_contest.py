"""Hostile hosts against scanners for the slots of one receiver: the contest, and its simulation.

A `Contest` says who does what; `simulate()` plays it against the receiver's own `Places` in virtual
time, without a socket. tests/rigs/slot_contestants.py plays the same against a running service.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

from engine.upper_layer.negotiation import AcceptedAssociation, AcceptedContext
from tests.material import wire
from workers.frame.spec import ReceiverSpec
from workers.receiver.host import Guest
from workers.receiver.places import Places

# What a hostile host does with a slot. All but the last come back as soon as they were shown out.
ATTACKS = ("quiet", "drip", "echo", "churn", "trickle", "store_once")
STEP_S = 0.05


@dataclass(frozen=True)
class Contest:
    """Who takes part, and how fast they are."""

    attacks: tuple[str, ...] = ATTACKS  # dealt to the hostile hosts in turn
    hostile: int = 20
    scanners: int = 5
    slots: int = 5
    images: int = 20  # of a series, each series in an association of its own
    image_s: float = 0.1
    pause_s: float = 1.0  # between two series
    retry_s: float = 0.5  # after a rejection or an abort
    poll_s: float = 0.25  # likewise, of a hostile host
    churn_s: float = 0.9  # how long one keeps a slot that leaves before it is shown out
    warm_up_s: float = 60.0
    measured_s: float = 60.0
    seed: int = 1


STORES = AcceptedAssociation(
    calling_ae_title="ANY",
    called_ae_title="SCP_AE",
    contexts={1: AcceptedContext(wire.CT_IMAGE, wire.EXPLICIT)},
    refused=(),
    verification_only=False,
    peer_maximum_length=16378,
    peer_implementation_class="",
    peer_implementation_version="",
)
VERIFIES = AcceptedAssociation(
    **{
        **{name: getattr(STORES, name) for name in STORES.__slots__},
        "contexts": {1: AcceptedContext(wire.VERIFICATION, wire.EXPLICIT)},
        "verification_only": True,
    }
)


def places_of(slots: int, clock: Callable[[], float], per_host: int = 0) -> Places:
    """A receiver's, without the receiver."""
    spec = SimpleNamespace(
        association_limit=slots, verification_limit=slots, host_limit=per_host, known_peers=()
    )
    return Places(cast(ReceiverSpec, spec), clock)


@dataclass(eq=False)
class Party:
    """One host: what it wants, and how far it has come."""

    key: int
    peer: str
    attack: str = ""  # empty: a scanner
    due: float = 0.0  # when it does its next step
    holds: bool = False
    left: int = 0  # images of the series under way
    began: float = 0.0
    progress: tuple[float, int, int] = (0.0, 0, 0)
    waits: bool = False
    reasons: list[str] = field(default_factory=list)

    def give_way(self, reason: str) -> None:
        """As a connection does: its place is free when this returns."""
        self.reasons.append(reason)
        self.left_early()

    left_early: Callable[[], None] = lambda: None


def shares(contest: Contest) -> list[float]:
    """What each scanner stores, of what it stores with no hostile host."""
    alone = simulate(replace(contest, hostile=0))
    return [it / undisturbed for it, undisturbed in zip(simulate(contest), alone, strict=True)]


def simulate(contest: Contest) -> list[float]:
    """What each scanner stored while it was measured, in instances a second."""
    chance = random.Random(contest.seed)
    now = 1000.0
    begin = now + contest.warm_up_s
    end = begin + contest.measured_s
    places = places_of(contest.slots, lambda: now)
    stored: Counter[int] = Counter()
    parties = [Party(number, f"192.0.2.{number}") for number in range(contest.scanners)]
    for number in range(contest.hostile):
        attack = contest.attacks[number % len(contest.attacks)]
        parties.append(Party(1000 + number, f"198.51.100.{number}", attack))
    for party in parties:
        party.due = now + chance.random()

        def shown_out(party: Party = party) -> None:
            leave(party)
            party.due = now + (contest.poll_s if party.attack else contest.retry_s)

        party.left_early = shown_out

    def leave(party: Party) -> None:
        party.holds = False
        places.give_up(cast(Guest, party))

    def ask(party: Party) -> bool:
        party.holds = places.find_room(party.peer, STORES)
        if party.holds:
            party.progress, party.began = (0.0, 0, 0), now
            places.take(cast(Guest, party), party.peer, STORES)
        return party.holds

    def advance(party: Party) -> None:
        _, data_bytes, count = party.progress
        party.progress = now, data_bytes + 200_000, count + 1
        if not party.attack and begin <= now < end:
            stored[party.key] += 1

    while now < end:
        for party in chance.sample(parties, len(parties)):
            if party.due > now:
                continue
            act = _scan if not party.attack else _attack
            party.due = now + act(party, contest, ask, leave, advance, now)
        now += STEP_S
    return [stored[number] / contest.measured_s for number in range(contest.scanners)]


def _scan(party: Party, contest: Contest, ask: Any, leave: Any, advance: Any, now: float) -> float:
    """One step of a scanner; the seconds until its next one."""
    if not party.holds:
        party.left = party.left or contest.images
        return contest.image_s if ask(party) else contest.retry_s
    advance(party)
    party.left -= 1
    if party.left:
        return contest.image_s
    leave(party)
    return contest.pause_s


def _attack(
    party: Party, contest: Contest, ask: Any, leave: Any, advance: Any, now: float
) -> float:
    """Likewise, of a hostile host."""
    if not party.holds:
        if not ask(party):
            return contest.poll_s
        if party.attack == "store_once":
            advance(party)
        return contest.churn_s if party.attack == "churn" else 1.0
    if party.attack == "churn":
        leave(party)
        return contest.poll_s
    if party.attack == "trickle":
        _, data_bytes, count = party.progress
        party.progress = now, data_bytes + 16_000, count
    return 1.0
