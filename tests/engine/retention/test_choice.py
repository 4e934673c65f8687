"""The choice: what keeps a study, and why one goes."""

import pytest

from engine.retention.choice import (
    Facts,
    Kept,
    Policy,
    Reason,
    bytes_to_free,
    is_too_old,
    judge,
    turn_of,
)
from engine.settings.retention import Retention, watermark_bytes

DAY = 86_400_000_000_000
NOW = 1000 * DAY
POLICY = Policy(7 * DAY, None, None)
DELIVERED = Facts(NOW - 30 * DAY, False, False, 0, 0, False, False, False)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, Reason.DELIVERED),
        ({"fetched": True}, Reason.UNUSED),
        ({"fetched": True, "used": True}, Reason.DELIVERED),
        ({"pinned": True, "fetched": True}, Kept.PINNED),
        ({"open_deliveries": 1}, Kept.OPEN),
        ({"being_fetched": True}, Kept.FETCHED_NOW),
        ({"joined": True}, Kept.JOINED),
        ({"uncovered": 1}, Kept.UNDELIVERED),
        ({"last_received_ns": NOW - 7 * DAY + 1}, Kept.YOUNG),
        ({"last_received_ns": NOW - 7 * DAY}, Reason.DELIVERED),
        ({"last_received_ns": NOW + DAY}, Kept.YOUNG),
    ],
)
def test_what_keeps_a_study(change: dict[str, int], verdict: Reason | Kept) -> None:
    assert judge(DELIVERED._replace(**change), POLICY, NOW) is verdict


def test_what_nobody_got_goes_only_after_the_time_that_is_said() -> None:
    facts = DELIVERED._replace(uncovered=1)
    assert judge(facts, POLICY._replace(undelivered_after_ns=31 * DAY), NOW) is Kept.UNDELIVERED
    assert judge(facts, POLICY._replace(undelivered_after_ns=30 * DAY), NOW) is Reason.UNDELIVERED
    waits = facts._replace(open_deliveries=1)
    assert judge(waits, POLICY._replace(undelivered_after_ns=DAY), NOW) is Kept.OPEN


def test_what_was_fetched_and_not_used_goes_first_then_the_oldest() -> None:
    turns = [
        turn_of(1, 50, False, False),
        turn_of(2, 90, True, False),
        turn_of(3, 10, False, False),
        turn_of(4, 5, True, True),
    ]
    assert [turn.number for turn in sorted(turns)] == [2, 4, 3, 1]


def test_most_age() -> None:
    assert not is_too_old(DELIVERED, POLICY, NOW)
    assert is_too_old(DELIVERED, POLICY._replace(most_age_ns=30 * DAY), NOW)
    assert not is_too_old(DELIVERED, POLICY._replace(most_age_ns=30 * DAY + 1), NOW)


def test_nothing_is_freed_below_the_high_watermark_and_down_to_the_low_one_above() -> None:
    assert bytes_to_free(84, 85, 75) == 0
    assert bytes_to_free(85, 85, 75) == 10
    retention = Retention(high_watermark="85 %", low_watermark="75%")
    assert retention.bytes_to_free(1000, 849) == 0
    assert retention.bytes_to_free(1000, 860) == 110
    assert Retention().bytes_to_free(1000, 1000) == 0


def test_watermarks_are_shares_or_sizes() -> None:
    assert watermark_bytes("85 %", 2000) == 1700
    assert watermark_bytes("3 GiB", 1) == 3 << 30
    assert watermark_bytes("512MiB", 1) == 512 << 20


def test_the_settings_become_a_policy() -> None:
    given = Retention(least_age_days=2, most_age_days=9, undelivered="evict after 90 days")
    assert given.policy == Policy(2 * DAY, 9 * DAY, 90 * DAY)
    assert Retention().policy == Policy(7 * DAY, None, None)
