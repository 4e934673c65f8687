"""Who gets a slot when all are taken, as a table; and what the hosts are worth."""

from dataclasses import replace
from itertools import product

import pytest

from engine import limits
from engine.upper_layer.slots import Holder, Slots, Standing, Wish, decide, host_of
from engine.upper_layer.standing import Hosts, Tenure

NOW = 10_000.0
BARREN, UNKNOWN, STORED, CONFIGURED = Standing
FIVE = Slots.of(5, 0)
SCANNER = "192.0.2.1"


def holder(key: int, standing: Standing = UNKNOWN, **more: object) -> Holder:
    """It has just been accepted, from a host of its own."""
    return replace(Holder(key, f"198.51.100.{key}", standing, NOW, 0.0), **more)  # type: ignore[arg-type]


def working(key: int, standing: Standing = STORED, **more: object) -> Holder:
    """It stores."""
    facts = {"accepted": NOW - 100, "progress": NOW, "data_bytes": 10**8, "stored": 100}
    return holder(key, standing, **{**facts, **more})


def given_way(wish: Wish, *holders: Holder, slots: Slots | None = None) -> int | None:
    slots = slots or Slots.of(len(holders), 0)
    ruling = decide(wish, holders, slots, NOW)
    assert ruling.room is (ruling.gives_way is not None)
    assert bool(ruling.reason) is ruling.room
    return ruling.gives_way


@pytest.mark.parametrize("standing", Standing)
def test_a_free_slot_is_anybodys(standing: Standing) -> None:
    same = [working(key, host=SCANNER) for key in range(4)]
    ruling = decide(Wish(SCANNER, standing), same, FIVE, NOW)
    assert ruling.room
    assert ruling.gives_way is None


# wish, holder, seconds without progress -> it gives way; fresh: it never made any.
TABLE = [
    # from above
    *[(wish, held, "fresh", 0.0) for wish, held in [(UNKNOWN, BARREN), (STORED, BARREN)]],
    *[(wish, held, "fresh", 0.0) for wish, held in [(STORED, UNKNOWN), (CONFIGURED, UNKNOWN)]],
    (CONFIGURED, BARREN, "fresh", 0.0),
    (CONFIGURED, STORED, "fresh", 1.0),
    (STORED, UNKNOWN, "quiet", 2.0),
    (CONFIGURED, UNKNOWN, "quiet", 2.0),
    (CONFIGURED, STORED, "quiet", 2.0),
    *[(wish, BARREN, "quiet", 0.25) for wish in (UNKNOWN, STORED, CONFIGURED)],
    # among equals
    *[(one, one, how, 5.0) for one in (UNKNOWN, STORED, CONFIGURED) for how in ("fresh", "quiet")],
    (BARREN, BARREN, "fresh", 60.0),
    # from below
    (UNKNOWN, STORED, "fresh", 5.0),
    (UNKNOWN, STORED, "quiet", 10.0),
    (STORED, CONFIGURED, "quiet", 30.0),
    (UNKNOWN, CONFIGURED, "quiet", 60.0),
    (BARREN, UNKNOWN, "quiet", 60.0),
    (BARREN, STORED, "quiet", 60.0),
    (BARREN, CONFIGURED, "quiet", None),
]


@pytest.mark.parametrize(("wish", "held", "how", "seconds"), TABLE)
def test_how_soon_one_gives_way(
    wish: Standing, held: Standing, how: str, seconds: float | None
) -> None:
    def after(idle: float) -> int | None:
        came = {"accepted": NOW - idle} if how == "fresh" else {"progress": NOW - idle}
        base = holder(1, held) if how == "fresh" else working(1, held)
        return given_way(Wish(SCANNER, wish), replace(base, **came))  # type: ignore[arg-type]

    if seconds is None:
        assert after(10**6) is None
        return
    assert after(seconds) == 1
    if seconds:
        assert after(seconds - 0.1) is None


@pytest.mark.parametrize(("wish", "held"), [*product(Standing, Standing)])
def test_nobody_is_ended_in_the_middle_of_good_work(wish: Standing, held: Standing) -> None:
    holders = [working(key, held) for key in range(5)]
    assert given_way(Wish(SCANNER, wish), *holders, slots=FIVE) is None


@pytest.mark.parametrize("wish", Standing)
def test_nobody_is_ended_for_the_disks_slowness(wish: Standing) -> None:
    waits = working(1, BARREN, progress=NOW - 1000, waits=True)
    assert given_way(Wish(SCANNER, wish), waits) is None


def test_the_least_useful_goes_first() -> None:
    quiet = {"progress": NOW - 100}
    by_usefulness = [
        holder(1, BARREN, accepted=NOW - 50),
        holder(2, accepted=NOW - 90, host="h"),
        holder(3, accepted=NOW - 70, host="h"),
        holder(4, accepted=NOW - 95),
        holder(5, accepted=NOW - 80),
        working(6, UNKNOWN, **quiet),
        working(7, STORED, progress=NOW - 110),
        working(8, STORED, **quiet),
    ]
    wish = Wish(SCANNER, CONFIGURED)
    order = []
    while by_usefulness:
        # Turned around, so that the order is not that of the list.
        key = given_way(wish, *reversed(by_usefulness))
        order.append(key)
        by_usefulness = [one for one in by_usefulness if one.key != key]
    assert order == [1, 2, 4, 5, 3, 6, 7, 8]


@pytest.mark.parametrize(
    ("wish", "data_bytes", "stored", "gives_way"),
    [
        (STORED, 0, 0, True),
        (STORED, 60 * limits.slot_bytes_per_s - 1, 0, True),
        (STORED, 60 * limits.slot_bytes_per_s, 0, False),
        (STORED, 60_000, 5, True),
        (STORED, 60_000, 6, False),  # small ones, but they come
        (UNKNOWN, 60_000, 0, True),
        (BARREN, 60_000, 0, False),
    ],
)
def test_what_trickles_in_is_no_progress_to_whoever_is_known(
    wish: Standing, data_bytes: int, stored: int, gives_way: bool
) -> None:
    slow = holder(1, accepted=NOW - 60, progress=NOW, data_bytes=data_bytes, stored=stored)
    assert (given_way(Wish(SCANNER, wish), slow) == 1) is gives_way
    fresh = replace(slow, accepted=NOW - 9)
    assert given_way(Wish(SCANNER, wish), fresh) is None


def test_what_a_host_has_beyond_its_share_gives_way_at_work() -> None:
    greedy = [working(key, host="198.51.100.9") for key in range(5)]
    assert given_way(Wish(SCANNER, STORED), *greedy, slots=FIVE) in range(5)
    assert given_way(Wish(SCANNER, CONFIGURED), *greedy, slots=FIVE) in range(5)
    assert given_way(Wish(SCANNER, UNKNOWN), *greedy, slots=FIVE) in range(5)
    assert given_way(Wish(SCANNER, BARREN), *greedy, slots=FIVE) is None
    assert given_way(Wish("198.51.100.9", STORED), *greedy, slots=FIVE) is None
    share = [*greedy[:4], working(7)]
    assert given_way(Wish(SCANNER, CONFIGURED), *share, slots=FIVE) is None
    assert given_way(Wish(SCANNER, STORED), *share, slots=Slots.of(5, 2)) in range(4)


def test_who_has_its_share_takes_from_nobody_else() -> None:
    own = [holder(key, STORED, host=SCANNER) for key in range(4)]
    idle = holder(9, BARREN, accepted=NOW - 10**6)
    assert given_way(Wish(SCANNER, CONFIGURED), *own, idle, slots=FIVE) is None
    stale = replace(own[2], accepted=NOW - 31)
    assert given_way(Wish(SCANNER, STORED), *own[:2], stale, own[3], idle, slots=FIVE) == 2


@pytest.mark.parametrize("standing", Standing)
def test_a_scanner_that_was_switched_off_gets_its_places_again(standing: Standing) -> None:
    left = [working(key, host=SCANNER, progress=NOW - 40) for key in range(5)]
    expected = 0 if standing >= STORED else None
    assert given_way(Wish(SCANNER, standing), *left, slots=FIVE) == expected


def test_the_share_of_one_host() -> None:
    assert [Slots.of(count, 0).per_host for count in (1, 2, 5)] == [1, 1, 4]
    assert [Slots.of(5, given).per_host for given in (1, 5, 9)] == [1, 5, 5]


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1", "fe80::1"),
        ("::1", "::1"),
        ("scanner", "scanner"),
    ],
)
def test_what_counts_as_one_host(peer: str, host: str) -> None:
    assert host_of(peer) == host


def ended(
    hosts: Hosts, stored: int = 0, gave_way: bool = False, useful_s: float = 0.0, at: float = NOW
) -> Standing:
    """An association of ten seconds has ended; the scanner's standing then."""
    hosts.note_ended(SCANNER, Tenure(stored, 10.0, useful_s, gave_way), at)
    return hosts.standing(SCANNER, "CT", at)


def test_a_host_earns_its_standing_by_storing() -> None:
    hosts = Hosts([])
    assert hosts.standing(SCANNER, "CT", NOW) is UNKNOWN
    hosts.note_stored(SCANNER, NOW)
    assert hosts.standing(SCANNER, "CT", NOW) is STORED
    # Nothing this time, or little, but nobody had to show it out.
    assert ended(hosts) is STORED
    assert ended(hosts, stored=1, useful_s=0.1) is STORED
    # It was of use for a quarter of the time before it paused.
    assert ended(hosts, stored=7, gave_way=True, useful_s=2.5) is STORED
    assert ended(hosts, stored=7, gave_way=True, useful_s=2.4) is BARREN


def test_who_is_shown_out_at_once_is_not_judged() -> None:
    hosts = Hosts([])
    hosts.note_ended(SCANNER, Tenure(0, 1.9, 0.0, True), NOW)
    assert hosts.standing(SCANNER, "CT", NOW) is UNKNOWN
    hosts.note_ended(SCANNER, Tenure(0, 2.0, 0.0, True), NOW)
    assert hosts.standing(SCANNER, "CT", NOW) is BARREN


def test_who_held_a_slot_in_vain_has_to_be_useful_for_a_while() -> None:
    hosts = Hosts([])
    assert ended(hosts) is BARREN
    hosts.note_stored(SCANNER, NOW)
    assert hosts.standing(SCANNER, "CT", NOW) is BARREN, "one instance does not buy it"
    assert ended(hosts, stored=5, useful_s=6.0) is BARREN
    assert ended(hosts, stored=5, useful_s=4.0) is STORED
    assert ended(hosts, gave_way=True) is BARREN
    assert hosts.standing(SCANNER, "CT", NOW + limits.barren_s) is UNKNOWN
    hosts.note_stored(SCANNER, NOW + limits.barren_s)
    assert hosts.standing(SCANNER, "CT", NOW + limits.barren_s) is STORED


def test_one_instance_in_debt_makes_nobody_known_when_it_ends() -> None:
    hosts = Hosts([])
    assert ended(hosts) is BARREN
    hosts.note_stored(SCANNER, NOW)
    assert hosts.standing(SCANNER, "CT", NOW + limits.barren_s) is UNKNOWN


def test_a_configured_one_is_known_by_title_and_address() -> None:
    hosts = Hosts([("PACS", "192.0.2.9")])
    assert hosts.standing("192.0.2.9", "PACS", NOW) is CONFIGURED
    assert hosts.standing("192.0.2.9", "OTHER", NOW) is UNKNOWN
    assert hosts.standing("192.0.2.8", "PACS", NOW) is UNKNOWN
    hosts.note_ended("192.0.2.9", Tenure(0, 10.0, 0.0, True), NOW)
    assert hosts.standing("192.0.2.9", "PACS", NOW) is CONFIGURED
    hosts.note_stored(SCANNER, NOW)
    hosts.configure([])
    assert hosts.standing("192.0.2.9", "PACS", NOW) is BARREN
    assert hosts.standing(SCANNER, "CT", NOW) is STORED


def test_what_is_known_of_hosts_is_bounded() -> None:
    hosts = Hosts(())
    hosts.note_stored(SCANNER, NOW)
    for number in range(limits.hosts_known_max + 5):
        hosts.note_ended(f"h{number}", Tenure(0, 10.0, 0.0, False), NOW)
    assert hosts.standing(SCANNER, "CT", NOW) is STORED, "strangers crowd nobody out who stored"
    assert hosts.standing("h4", "CT", NOW) is UNKNOWN
    assert hosts.standing("h5", "CT", NOW) is BARREN
