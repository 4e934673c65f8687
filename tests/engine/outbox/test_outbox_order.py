"""Study after study: what keeps a study's place in the queue, and what is sent from it first."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.outbox.writer import OutboxWriter
from tests.rigs.outbox_deliveries import ask, new


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[OutboxWriter]:
    opened = OutboxWriter(tmp_path)
    yield opened
    opened.close()


def lease(writer: OutboxWriter, count: int, now_ns: int = 10) -> list[str]:
    """The SOP Instance UIDs in the order leased."""
    leased = writer.commit(lambda outbox: outbox.lease("PACS", count, now_ns))
    return [delivery.sop_instance_uid for delivery in leased]


def fail(writer: OutboxWriter, number: int, due_ns: int) -> None:
    assert writer.commit(lambda outbox: outbox.attempt_failed(number, 20, "x", -1, due_ns))


def finish(writer: OutboxWriter, number: int) -> None:
    assert writer.commit(lambda outbox: outbox.delivered(number, 20))


def number_of(writer: OutboxWriter, uid: str) -> int:
    with writer.view() as outbox:
        (number,) = (one.number for one in outbox.deliveries() if one.sop_instance_uid == uid)
    return number


def test_a_study_begun_is_finished_before_the_next(writer: OutboxWriter) -> None:
    ask(writer, new("a1", "A"), new("b1", "B"), new("a2", "A"), new("b2", "B"))
    assert lease(writer, 1) == ["a1"]
    ask(writer, new("a3", "A"))
    assert lease(writer, 3) == ["a2", "a3", "b1"]
    ask(writer, new("a4", "A"))  # none of it waits any more, and it is being sent
    assert lease(writer, 1) == ["a4"]
    for uid in ("a1", "a2", "a3", "a4"):
        finish(writer, number_of(writer, uid))
    ask(writer, new("a5", "A"))  # it was all delivered: now it stands behind the other
    assert lease(writer, 5) == ["b2", "a5"]
    assert lease(writer, 5) == []


def test_what_was_leased_goes_back_to_where_it_stood(writer: OutboxWriter) -> None:
    """Not behind the studies of which the first instances are older than it."""
    ask(writer, new("a1", "A"), new("b1", "B"), new("a2", "A"), new("b2", "B"))
    assert lease(writer, 2) == ["a1", "a2"]
    finish(writer, number_of(writer, "a1"))
    writer.commit(lambda outbox: outbox.return_leases())
    assert lease(writer, 2) == ["a2", "b1"]


def test_what_is_tried_again_goes_where_it_stood(writer: OutboxWriter) -> None:
    """Its study has kept no rank: nothing else of it waited meanwhile."""
    ask(writer, new("a1", "A"), new("b1", "B"), new("a2", "A"), new("b2", "B"))
    assert lease(writer, 2) == ["a1", "a2"]
    finish(writer, number_of(writer, "a1"))
    fail(writer, number_of(writer, "a2"), due_ns=100)
    assert lease(writer, 1, now_ns=50) == ["b1"]
    assert lease(writer, 2, now_ns=100) == ["a2", "b2"]
