"""Who may send next, and what the end of an attempt means."""

from collections import Counter, deque
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import limits
from engine.errors import Rejection
from engine.sending.schedule import Schedule
from engine.sending.verdict import Ending, answered, impossible, unanswered
from engine.upper_layer.failure import FailureKind, ScuFailure, aborted, rejected

GOOD: Final = answered(0x0000, "")
DEAD: Final = unanswered(ScuFailure(FailureKind.TIMEOUT, "silence"), was_offered=True)


def filled(*destinations: str, count: int = 50) -> Schedule[int]:
    schedule: Schedule[int] = Schedule()
    schedule.open_for(destinations)
    for destination in destinations:
        schedule.put(destination, range(count))
    return schedule


def take_all(schedule: Schedule[int], now: float = 0.0) -> Counter[str]:
    """Until no lane may begin anything."""
    taken: Counter[str] = Counter()
    while (turn := schedule.take(now)) is not None:
        taken[turn[0]] += 1
    return taken


# --- sharing lanes -------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_every_destination_with_work_gets_a_lane(count: int) -> None:
    names = [f"pacs{number}" for number in range(count)]
    taken = take_all(filled(*names))
    assert taken.total() == limits.associations_sending_max
    assert len(taken) == min(count, limits.associations_sending_max)


def test_one_alone_has_all_lanes_and_leaves_one_to_a_newcomer() -> None:
    assert take_all(filled("only")) == {"only": 5}
    schedule = filled("busy")
    schedule.open_for(["busy", "idle"])
    assert take_all(schedule) == {"busy": 4}
    schedule.put("idle", [1])
    assert take_all(schedule) == {"idle": 1}, "it need not wait for the busy one"


def test_one_alone_has_as_many_lanes_as_the_operator_chose() -> None:
    schedule: Schedule[int] = Schedule(50)
    schedule.open_for(["only"])
    schedule.put("only", range(60))
    assert take_all(schedule) == {"only": 50}


def test_two_that_are_busy_leave_a_lane_to_a_third() -> None:
    schedule = filled("slow", "hung")
    schedule.open_for(["slow", "hung", "quick"])
    assert take_all(schedule).total() == limits.associations_sending_max - 1
    for _ in range(20):
        schedule.put("quick", [1])
        assert take_all(schedule) == {"quick": 1}, "it waits for nobody's end"
        schedule.ended("quick", GOOD, 0.01, 0.0)
        assert take_all(schedule) == {}, "its lane is there for its next instance"


def test_who_is_late_leaves_a_lane_to_who_is_between_two_instances() -> None:
    busy = [f"busy{number}" for number in range(4)]
    schedule = filled("dead", *busy, "quick", count=1)
    order = [turn[0] for turn in iter(lambda: schedule.take(0.0), None)]
    assert order == [*busy, "dead"]
    schedule.ended("dead", DEAD, 5.0, 5.0)
    assert take_all(schedule, 5.0) == {"quick": 1}
    schedule.ended("quick", GOOD, 0.01, 10.0)
    schedule.returned()
    schedule.put("dead", [1])
    assert take_all(schedule, 10.0) == {}
    schedule.put("quick", [1])
    assert take_all(schedule, 10.1) == {"quick": 1}
    schedule.ended("quick", GOOD, 0.01, 10.2)
    assert take_all(schedule, 10.3 + limits.sending_slow_s) == {"dead": 1}, "nobody else wants it"


def test_with_more_destinations_than_lanes_the_turns_go_round() -> None:
    names = [f"pacs{number}" for number in range(8)]
    schedule = filled(*names)
    under_way = deque()
    turns: Counter[str] = Counter()
    for _ in range(80):
        while (turn := schedule.take(0.0)) is not None:
            under_way.append(turn[0])
            turns[turn[0]] += 1
        schedule.ended(under_way.popleft(), GOOD, 0.1, 0.0)
    assert max(turns.values()) - min(turns.values()) <= 1


def test_a_failing_destination_has_one_lane_and_growing_pauses() -> None:
    schedule = filled("dead", "alive")
    taken = take_all(schedule)
    for _ in range(taken["dead"]):
        schedule.ended("dead", DEAD, 5.0, 10.0)
    assert len(schedule.returned()) == 50 - taken["dead"], "what waits is not kept leased"
    assert "dead" not in schedule.wanted(10.0)
    pauses = []
    now = 10.0
    for _ in range(12):
        due = schedule.next_try(now)
        assert due is not None
        pauses.append(round(due - now, 6))
        now = due
        assert schedule.next_try(now) is None, "lanes would wake for it without end"
        assert schedule.wanted(now)["dead"] == 1
        schedule.put("dead", [1])
        assert take_all(schedule, now)["dead"] == 1
        assert "dead" not in schedule.wanted(now), "one at a time"
        schedule.ended("dead", DEAD, 0.1, now + 0.1)
        schedule.returned()
        now += 0.1
    assert pauses == sorted(pauses)
    assert pauses[0] == limits.trouble_pause_s_first, "five that failed together are one failure"
    assert pauses[-1] == limits.trouble_pause_s_max
    now += limits.trouble_pause_s_max
    schedule.put("dead", [1])
    schedule.take(now)
    schedule.ended("dead", GOOD, 0.1, now)
    assert schedule.next_try(now) is None
    assert schedule.wanted(now)["dead"] >= 4, "it is as good as any other again"


def test_pauses_end_when_somebody_wants_it_and_outlast_their_process() -> None:
    schedule = filled("dead", count=1)
    schedule.resume("dead", 12, 300.0)
    assert take_all(schedule, 299.0) == {}
    assert schedule.next_try(299.0) == 300.0
    assert take_all(schedule, 300.0) == {"dead": 1}
    schedule.ended("dead", DEAD, 0.1, 300.1)
    schedule.returned()
    assert schedule.pause_s("dead", 300.1) == pytest.approx(limits.trouble_pause_s_max)
    schedule.ask_now("dead")
    assert schedule.pause_s("dead", 300.1) == 0
    assert schedule.wanted(300.1) == {"dead": 1}, "it is asked, by one"
    schedule.put("dead", [1])
    assert take_all(schedule, 300.1) == {"dead": 1}
    schedule.ended("dead", DEAD, 0.1, 300.3)
    assert schedule.pause_s("dead", 300.3) == 2 * limits.trouble_pause_s_first
    schedule.ask_now("nobody")
    schedule.resume("nobody", 1, 0.0)


def test_all_that_are_late_leave_a_lane() -> None:
    """Ten destinations that hang must not hold every lane."""
    dead = [f"dead{number}" for number in range(10)]
    schedule = filled(*dead, count=1)
    while (turn := schedule.take(0.0)) is not None:
        schedule.ended(turn[0], DEAD, 5.0, 0.0)
    now = 100.0
    schedule.returned()
    for name in dead:
        schedule.put(name, [1])
    assert take_all(schedule, now).total() == limits.associations_sending_max - 1
    schedule.open_for([*dead, "alive"])
    schedule.put("alive", [1])
    assert take_all(schedule, now) == {"alive": 1}


def test_slow_ones_come_after_quick_ones() -> None:
    names = [f"slow{number}" for number in range(6)]
    schedule = filled(*names)
    for name, _ in iter(lambda: schedule.take(0.0), None):
        schedule.ended(name, GOOD, 60.0, 0.0)
        if not any(schedule.ready(other) == 50 for other in names):
            break
    schedule.open_for([*names, "quick"])
    schedule.put("quick", [1])
    turn = schedule.take(0.0)
    assert turn is not None
    assert turn[0] == "quick"


def test_a_peer_that_lets_few_in_is_not_asked_for_more() -> None:
    schedule = filled("small")
    assert take_all(schedule) == {"small": 5}
    refusal = unanswered(rejected(Rejection(2, 3, 2)), was_offered=False)
    for _ in range(3):
        counted = schedule.ended("small", refusal, 0.1, 1.0)
        assert counted.ending is Ending.RETURNED, "that was our doing"
    assert schedule.active == 2
    assert take_all(schedule, 1.0) == {}
    schedule.ended("small", GOOD, 0.1, 1.1)
    assert take_all(schedule, 1.1) == {"small": 1}
    later = 2.0 + limits.crowding_forgotten_s
    schedule.ended("small", GOOD, 0.1, later)
    assert take_all(schedule, later) == {"small": 2}, "one more is tried now"


def test_who_was_not_let_in_is_next() -> None:
    """Ahead of what was leased behind it."""
    schedule = filled("small")
    turns = [schedule.take(0.0) for _ in range(5)]
    assert turns == [("small", number) for number in range(5)]
    refusal = unanswered(rejected(Rejection(2, 3, 2)), was_offered=False)
    schedule.ended("small", refusal, 0.1, 1.0)
    schedule.put_first("small", 4)
    schedule.ended("small", GOOD, 0.1, 1.1)
    assert schedule.take(1.1) == ("small", 4)
    schedule.open_for([])
    schedule.put_first("small", 4)
    assert 4 in schedule.returned(), "nothing is sent there any more"


def test_what_was_leased_behind_what_goes_back_goes_back_too() -> None:
    """It came from the outbox while its destination fell ill, and would go first."""
    schedule = filled("dead", count=5)
    taken = schedule.take(0.0)
    assert taken is not None
    schedule.ended("dead", DEAD, 0.1, 0.1)
    schedule.put("dead", [6, 7])
    assert schedule.wanted(100.0) == {}, "what goes back is not there yet"
    assert schedule.returned() == [1, 2, 3, 4, 6, 7]
    assert schedule.wanted(100.0) == {"dead": 1}
    schedule.put("dead", [0])
    assert schedule.take(100.0) == ("dead", 0)


def test_the_last_one_that_is_not_let_in_counts() -> None:
    schedule = filled("full")
    take_all(schedule)
    refusal = unanswered(rejected(Rejection(2, 3, 2)), was_offered=False)
    endings = [schedule.ended("full", refusal, 0.1, 1.0).ending for _ in range(5)]
    assert endings == [Ending.RETURNED] * 4 + [Ending.AWAY]


def test_a_destination_that_was_down_gets_all_its_lanes_back() -> None:
    schedule = filled("pacs")
    take_all(schedule)
    late = unanswered(ScuFailure(FailureKind.TIMEOUT, "no answer"), was_offered=False)
    for _ in range(5):
        schedule.ended("pacs", late, 5.0, 5.0)
    schedule.returned()
    schedule.put("pacs", range(10))
    assert take_all(schedule, 6.0) == {"pacs": 1}
    schedule.ended("pacs", GOOD, 0.1, 6.1)
    assert take_all(schedule, 6.1) == {"pacs": 5}
    nobody = unanswered(ScuFailure(FailureKind.REFUSED, "nobody listens"), was_offered=False)
    assert schedule.ended("pacs", nobody, 0.1, 6.2).ending is Ending.AWAY, "that is no crowd"


def test_one_that_others_kept_waiting_does_not_count() -> None:
    """A peer with room for one: the last that waits meets nobody, but its time went to others."""
    schedule = filled("single")
    take_all(schedule)
    for moment in (1.0, 1.1, 1.2, 1.3):
        schedule.ended("single", GOOD, moment, moment)
    late = unanswered(ScuFailure(FailureKind.TIMEOUT, "no answer"), was_offered=False)
    assert schedule.ended("single", late, 2.0, 2.0).ending is Ending.RETURNED
    assert take_all(schedule, 2.0) == {"single": 1}
    assert schedule.ended("single", late, 2.0, 4.0).ending is Ending.AWAY


def test_a_kept_association_is_preferred_while_nobody_waits() -> None:
    schedule = filled("a", "b")
    turn = schedule.take(0.0, keep="b")
    assert turn is not None
    assert turn[0] == "b"
    crowded = filled(*"abcdefg")
    first = crowded.take(0.0)
    assert first is not None
    crowded.ended(first[0], GOOD, 0.1, 0.0)
    second = crowded.take(0.0, keep=first[0])
    assert second is not None
    assert second[0] != first[0], "others wait for their turn"


def test_associations_that_are_kept_are_used_first() -> None:
    schedule = filled("a", count=1)
    assert schedule.take(0.0, kept=Counter(a=1)) is None, "the lane that has one will take it"
    assert schedule.take(0.0, keep="a") is not None
    schedule.put("a", range(10))
    refusal = unanswered(rejected(Rejection(2, 3, 2)), was_offered=False)
    counted = schedule.ended("a", refusal, 0.1, 0.0, kept=1)
    assert counted.ending is Ending.RETURNED
    assert schedule.take(0.0, kept=Counter(a=1)) is None, "it lets in no more than that one"
    assert schedule.take(0.0, keep="a") is not None


def test_paused_destinations_give_back_what_they_have() -> None:
    schedule = filled("a", "b", count=3)
    schedule.take(0.0, keep="a")
    schedule.open_for(["b"])
    assert schedule.returned() == [1, 2]
    assert schedule.returned() == []
    schedule.put("a", [7])
    assert schedule.returned() == [7], "leased while it was being paused"
    schedule.ended("a", GOOD, 0.1, 0.0)
    assert take_all(schedule) == {"b": 3}


def test_leases_follow_what_is_used() -> None:
    schedule = filled("a", count=0)
    assert schedule.wanted(0.0) == {"a": limits.associations_sending_max}
    schedule.put("a", range(200))
    for _ in range(200):
        turn = schedule.take(0.0)
        assert turn is not None
        schedule.ended("a", GOOD, 0.001, 0.0)
    assert schedule.wanted(0.0) == {"a": limits.leases_ahead_max}
    assert schedule.wanted(0.0) == {"a": limits.associations_sending_max}


def test_what_is_leased_and_waits_goes_back() -> None:
    schedule = filled("a", count=0)
    schedule.wanted(0.0)
    schedule.put("a", range(100))
    for _ in range(limits.associations_sending_max):
        assert schedule.take(0.1) is not None
    quiet = 0.1 + limits.lease_patience_s
    assert schedule.wanted(quiet) == {}
    assert schedule.returned() == []
    assert schedule.wanted(quiet + 0.01) == {}
    assert schedule.returned() == [*range(6, 100)], "all but what a lane that gets free takes"
    assert schedule.wanted(quiet + 1) == {}
    assert schedule.returned() == []
    schedule.ended("a", GOOD, 0.7, quiet + 1)
    assert schedule.take(quiet + 1) == ("a", 5)
    assert schedule.wanted(quiet + 1) == {"a": limits.associations_sending_max}
    schedule.put("a", [6, 7])
    assert schedule.wanted(quiet + 1.1) == {"a": 3}
    assert schedule.returned() == []


ACTIONS: Final = st.lists(
    st.tuples(
        st.integers(0, 7), st.sampled_from(["put", "take", "good", "dead", "crowd", "pause"])
    ),
    max_size=120,
)


@given(ACTIONS)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_and_nobody_has_too_much(actions: list[tuple[int, str]]) -> None:
    names = [f"d{number}" for number in range(8)]
    schedule: Schedule[int] = Schedule()
    schedule.open_for(names)
    put = taken = 0
    active: list[str] = []
    now = 0.0
    crowd = unanswered(aborted(2, 0), was_offered=False)
    for which, action in actions:
        now += 0.3
        name = names[which]
        if action == "put":
            schedule.put(name, [put])
            put += 1
        elif action == "take" and (turn := schedule.take(now, keep=name)):
            active.append(turn[0])
            taken += 1
        elif action in ("good", "dead", "crowd") and active:
            verdict = {"good": GOOD, "dead": DEAD, "crowd": crowd}[action]
            schedule.ended(active.pop(which % len(active)), verdict, which, now)
        elif action == "pause":
            schedule.open_for([other for other in names if other != name])
        schedule.wanted(now)
        put -= len(schedule.returned())
        assert schedule.active == len(active) <= limits.associations_sending_max
        in_work = {*active, *(other for other in names if schedule.ready(other))}
        assert max(Counter(active).values(), default=0) <= 5
        assert sum(schedule.ready(other) for other in names) + taken == put
        assert len(in_work) <= len(names)


# --- what an end means ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("status", "ending", "is_trouble"),
    [
        (0x0000, Ending.DELIVERED, False),
        (0xB000, Ending.WARNING, False),
        (0xB006, Ending.WARNING, False),
        (0xB007, Ending.WARNING, False),
        (0xA700, Ending.REFUSED, True),
        (0xA701, Ending.REFUSED, True),
        (0xA900, Ending.REFUSED, False),
        (0xC000, Ending.REFUSED, False),
        (0xCFFF, Ending.REFUSED, False),
        (0x0110, Ending.REFUSED, False),
        (0x0122, Ending.REFUSED, False),
        (0xFF00, Ending.REFUSED, False),
        (0x4242, Ending.REFUSED, False),
    ],
)
def test_statuses(status: int, ending: Ending, is_trouble: bool) -> None:
    verdict = answered(status, "of the peer")
    assert (verdict.ending, verdict.is_trouble, verdict.status) == (ending, is_trouble, status)
    assert not verdict.is_permanent, "every failure status is a failed attempt"
    assert verdict.is_delivered == (ending in (Ending.DELIVERED, Ending.WARNING))
    if status:
        assert f"{status:04X}" in verdict.reason
        assert verdict.reason.endswith("of the peer")
        assert "of the peer" not in verdict.words, "a peer's own words are not logged"


def test_failures_of_associations() -> None:
    permanent = unanswered(rejected(Rejection(1, 1, 7)), was_offered=False)
    assert (permanent.ending, permanent.is_permanent) == (Ending.BROKEN, True)
    assert not permanent.is_crowding
    assert "called AE title not recognized" in permanent.reason
    no_context = unanswered(
        ScuFailure(FailureKind.NO_CONTEXT, "none", permanent=True), was_offered=False
    )
    assert (no_context.ending, no_context.is_trouble) == (Ending.IMPOSSIBLE, False)
    stopped = unanswered(ScuFailure(FailureKind.INTERRUPTED, "us"), was_offered=True)
    assert stopped.ending is Ending.RETURNED
    assert impossible("Enhanced CT").is_permanent
    for kind in (FailureKind.NAME, FailureKind.REFUSED, FailureKind.TLS, FailureKind.LOST):
        assert unanswered(ScuFailure(kind, "x"), was_offered=True).is_trouble
    assert unanswered(ScuFailure(FailureKind.LOST, "x"), was_offered=True).ending is Ending.BROKEN


@pytest.mark.parametrize(
    "failure",
    [
        *(
            ScuFailure(kind, "x")
            for kind in FailureKind
            if kind not in (FailureKind.NO_CONTEXT, FailureKind.INTERRUPTED)
        ),
        rejected(Rejection(2, 3, 1)),
        aborted(0, 0),
    ],
)
def test_what_comes_before_the_offer_says_nothing_of_the_instance(failure: ScuFailure) -> None:
    verdict = unanswered(failure, was_offered=False)
    assert (verdict.ending, verdict.is_trouble) == (Ending.AWAY, True)
    assert not verdict.is_reached
    assert not verdict.is_permanent


def test_of_lanes_with_an_association_one_takes_what_comes() -> None:
    """They would wait for each other until they all let go of it."""
    schedule: Schedule[str] = Schedule(5)
    schedule.open_for(["a"])
    schedule.put("a", ["one"])
    assert schedule.take(1.0, "", {"a": 2}) is None, "a lane without one leaves it to them"
    assert schedule.take(1.0, "a", {"a": 1}) == ("a", "one")
