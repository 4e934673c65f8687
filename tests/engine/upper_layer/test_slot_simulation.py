"""Hostile hosts against scanners, in virtual time: the policy as the receiver uses it."""

from typing import Any

import pytest

from engine.upper_layer.slots import Ruling
from tests.rigs.slot_contest import ATTACKS, STORES, VERIFIES, Contest, Party, places_of, shares
from workers.receiver import places as places_module

ENOUGH = 0.95


@pytest.mark.parametrize("attacks", [*[(attack,) for attack in ATTACKS], ATTACKS])
def test_scanners_store_as_if_they_were_alone(attacks: tuple[str, ...]) -> None:
    """Twenty hostile hosts, five scanners, from the second minute on."""
    assert min(shares(Contest(attacks=attacks))) >= ENOUGH


@pytest.mark.parametrize("hostile", [1, 5, 100])
def test_however_many_they_are(hostile: int) -> None:
    # Those who never had a slot yet are strangers, not debtors: a hundred take longer to be known.
    warm_up = 60.0 if hostile < 100 else 240.0
    assert min(shares(Contest(hostile=hostile, warm_up_s=warm_up))) >= ENOUGH


def test_on_a_receiver_with_one_place() -> None:
    assert min(shares(Contest(slots=1, scanners=1, hostile=20, warm_up_s=240))) >= ENOUGH


def test_without_the_policy_they_starve(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_come(_: Any, holders: list[Any], slots: Any, now: float) -> Ruling:
        return Ruling(len(holders) < slots.count)

    contest = Contest(attacks=("quiet",))
    monkeypatch.setattr(places_module, "decide", first_come)
    assert max(shares(contest)) < 0.3


def test_what_can_only_verify_has_places_of_its_own() -> None:
    places = places_of(2, lambda: 1.0)
    for number, agreed in enumerate([STORES, VERIFIES, STORES, VERIFIES]):
        assert places.find_room("192.0.2.1", agreed)
        places.take(Party(number, "192.0.2.1"), "192.0.2.1", agreed)  # type: ignore[arg-type]
    assert (places.count(stores=True), places.count(stores=False)) == (2, 2)
    assert not places.find_room("192.0.2.1", STORES)
    assert not places.find_room("192.0.2.1", VERIFIES)
    assert places.give_up(places.guests[1]) == 0.0
    assert places.find_room("192.0.2.1", VERIFIES)
    assert not places.find_room("192.0.2.1", STORES)


def test_nobody_gives_way_whose_instance_the_disk_has() -> None:
    """A regular store is the reception's, and the protocol core knows nothing of it."""
    now = 1000.0
    places = places_of(1, lambda: now)
    waits = Party(1, "192.0.2.1", progress=(now + 0.001, 10, 0))
    places.take(waits, waits.peer, STORES)  # type: ignore[arg-type]
    now += 100
    waits.progress = (now + 0.001, 10, 0)
    assert not places.find_room("192.0.2.2", STORES)
    waits.progress = (now - 50, 10, 0)
    assert not places.find_room("192.0.2.1", STORES), "a stranger, and of the same host"

    def shown_out() -> None:
        places.give_up(waits)  # type: ignore[arg-type]

    waits.left_early = shown_out
    assert places.find_room("192.0.2.2", STORES)
    (reason,) = waits.reasons
    assert reason == "no progress for 50.0 s; unknown 192.0.2.2 asks"
