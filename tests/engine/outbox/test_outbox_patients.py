"""Deliveries of two patients' instances of the same UIDs: both go, neither in the other's place."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.outbox.records import NewDelivery, State
from engine.outbox.writer import OutboxWriter
from tests.rigs.outbox_deliveries import ask, new
from tests.rigs.outbox_tables import check_tables


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[OutboxWriter]:
    with closing(OutboxWriter(tmp_path)) as made:
        yield made


def of(patient: str, sop: str = "1.1", study: str = "1.2", file: str = "") -> NewDelivery:
    return new(sop, study, file=file)._replace(patient=patient)


def test_each_is_sent_with_its_own_file(writer: OutboxWriter) -> None:
    anna, berta = ask(writer, of("anna", file="a.dcm"), of("berta", file="b.dcm"))
    assert ask(writer, of("anna", file="c.dcm")) == [anna]  # a newer version of hers
    with writer.view() as outbox:
        check_tables(outbox)
        files = {one.patient: one.file for one in outbox.deliveries(State.WAITING)}
    assert files == {"anna": "c.dcm", "berta": "b.dcm"}
    leased = writer.commit(lambda outbox: outbox.lease("PACS", 9, 5))
    assert {one.number for one in leased} == {anna, berta}
    for one in leased:
        writer.commit(lambda outbox, number=one.number: outbox.delivered(number, 6))
    with writer.view() as outbox:
        check_tables(outbox)


def test_a_study_is_finished_before_another_patients_of_its_uid(writer: OutboxWriter) -> None:
    a1, b1, a2, b2 = ask(writer, of("a", "1.1"), of("b", "1.2"), of("a", "1.3"), of("b", "1.4"))
    leased = writer.commit(lambda outbox: outbox.lease("PACS", 9, 5))
    assert [one.number for one in leased] == [a1, a2, b1, b2]


def test_instances_without_a_study_wait_for_no_others(writer: OutboxWriter) -> None:
    numbers = ask(
        writer, of("a", "1.1", ""), of("a", "1.2", "1.7"), of("a", "1.3", ""), of("b", "1.4", "")
    )
    leased = writer.commit(lambda outbox: outbox.lease("PACS", 9, 5))
    assert [one.number for one in leased] == numbers
    writer.commit(lambda outbox: outbox.return_leases())
    with writer.view() as outbox:
        check_tables(outbox)
