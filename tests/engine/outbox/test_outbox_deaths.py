"""What a sender died of, perhaps: counted where it lasts, forgotten once it is survived."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from engine.outbox import records
from engine.outbox.outbox import Outbox
from engine.outbox.records import Delivery, State
from engine.outbox.writer import OutboxWriter
from tests.rigs.outbox_deliveries import ask, new


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[OutboxWriter]:
    opened = OutboxWriter(tmp_path)
    yield opened
    opened.close()


def seen(writer: OutboxWriter, number: int) -> Delivery:
    with writer.view() as outbox:
        delivery = outbox.delivery(number)
    assert delivery is not None
    return delivery


def lease(writer: OutboxWriter, count: int = 1) -> list[int]:
    leased = writer.commit(lambda outbox: outbox.lease("PACS", count, 10))
    return [delivery.number for delivery in leased]


def die(writer: OutboxWriter, *numbers: int) -> list[Delivery]:
    def work(outbox: Outbox) -> list[Delivery]:
        blamed = outbox.died_with(numbers, 20)
        outbox.return_leases()
        return blamed

    return writer.commit(work)


def test_the_third_time_it_has_failed(writer: OutboxWriter) -> None:
    deadly, other = ask(writer, new("1.1"), new("1.2"))
    for deaths in (1, 2, 3):
        assert lease(writer, 2) == [deadly, other], "in its place"
        (blamed,) = die(writer, deadly)
        assert (blamed.number, blamed.deaths) == (deadly, deaths)
        assert seen(writer, other).state is State.WAITING
        assert seen(writer, other).deaths == 0
    delivery = seen(writer, deadly)
    assert (delivery.state, delivery.attempts, delivery.status) == (State.FAILED, 0, -1)
    assert delivery.reason.startswith("its sender died or hung while it was sent, 3 times")
    with writer.view() as outbox:
        assert outbox.counts() == {("PACS", State.FAILED): 1, ("PACS", State.WAITING): 1}


@pytest.mark.parametrize("survived", ["refused", "delivered", "retried"])
def test_what_is_survived_is_forgotten(writer: OutboxWriter, survived: str) -> None:
    (number,) = ask(writer, new("1.1"))
    for _ in range(2):
        lease(writer)
        die(writer, number)
    assert seen(writer, number).deaths == 2
    lease(writer)
    if survived == "refused":
        writer.commit(lambda outbox: outbox.attempt_failed(number, 30, "A700", 0xA700, 40))
    elif survived == "delivered":
        writer.commit(lambda outbox: outbox.delivered(number, 30))
    else:
        die(writer, number)
        assert seen(writer, number).state is State.FAILED
        writer.commit(lambda outbox: outbox.retry([number], 30))
        assert seen(writer, number).reason == ""
    assert seen(writer, number).deaths == 0


def test_an_association_that_never_was_changes_nothing(writer: OutboxWriter) -> None:
    (number,) = ask(writer, new("1.1"))
    lease(writer)
    die(writer, number)
    lease(writer)
    writer.commit(lambda outbox: outbox.return_leases([number]))
    assert seen(writer, number).deaths == 1


def test_what_was_settled_before_is_left_alone(writer: OutboxWriter) -> None:
    delivered, held, waiting = ask(writer, new("1.1"), new("1.2"), new("1.3"))
    assert lease(writer) == [delivered]
    writer.commit(lambda outbox: outbox.delivered(delivered, 30))
    writer.commit(lambda outbox: outbox.hold([held], 30))
    assert [one.number for one in die(writer, delivered, held, waiting, 4711)] == [waiting]
    assert seen(writer, waiting).state is State.WAITING


def test_a_row_of_the_release_before_has_none() -> None:
    """0.2.0 wrote the fields up to the place."""
    row = ["PACS", "1.1", "1.2", "1.3", "1.4", "1.5", 1, "rule", "", 1, 0, 1, 1, 1, "", -1, False]
    old = records.decode_delivery(msgspec.msgpack.encode([7, *row, 7]))
    assert (old.place, old.patient, old.deaths) == (7, "", 0)
