"""When what an instance is sent with was corrected, and whether the user or a message did it."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.dictionary.attributes import BY_KEYWORD, PATIENT_ID, PATIENT_NAME
from engine.index.corrections import Target
from engine.index.edit import IndexEditor
from engine.index.occasions import Occasion, occasions
from tests.rigs.hl7_desk import Hl7Desk
from tests.rigs.hl7_messages import adt, order, pid

DESCRIPTION = BY_KEYWORD["StudyDescription"].tag
SERIES_DESCRIPTION = BY_KEYWORD["SeriesDescription"].tag


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Hl7Desk]:
    with closing(Hl7Desk(tmp_path)) as opened:
        opened.arrive("1.2.3.1", "ANNA", StudyDescription="Head")
        yield opened


def corrected_at(desk: Hl7Desk, when_ns: int, target: Target, **values: str) -> None:
    changes = {BY_KEYWORD[keyword]: text for keyword, text in values.items()}
    IndexEditor(desk.writer._environment).edit(target, changes, "tester", when_ns)


def told(desk: Hl7Desk, received_ns: int = 0) -> tuple[Occasion, ...]:
    with desk.writer.reader().view() as view:
        ((number, _),) = view.instances_of_uid("1.2.3.1")
        series = view.series(number)
        assert series is not None
        return occasions(view, view.study_of_series(number), series, received_ns)


def tags(*keywords: str) -> frozenset[int]:
    return frozenset(BY_KEYWORD[keyword].tag for keyword in keywords)


def test_each_time_is_an_occasion_whosever_information_it_was(desk: Hl7Desk) -> None:
    corrected_at(desk, 30, Target("patient", "ANNA"), PatientName="Anna", PatientSex="F")
    corrected_at(desk, 10, Target("study", "1.2"), StudyDescription="Skull")
    corrected_at(desk, 20, Target("series", "1.2.3"), SeriesDescription="Axial")
    assert told(desk) == (
        Occasion(10, True, tags("StudyDescription")),
        Occasion(20, True, tags("SeriesDescription")),
        Occasion(30, True, tags("PatientName", "PatientSex")),
    )


def test_the_stronger_correction_and_the_last_one_count(desk: Hl7Desk) -> None:
    corrected_at(desk, 10, Target("study", "1.2"), PatientName="In this study")
    corrected_at(desk, 20, Target("study", "1.2"), PatientName="In this study, too")
    corrected_at(desk, 30, Target("patient", "ANNA"), PatientName="Anna", PatientSex="F")
    assert told(desk) == (
        Occasion(20, True, tags("PatientName")),
        Occasion(30, True, tags("PatientSex")),
    )


def test_what_was_withdrawn_is_no_occasion(desk: Hl7Desk) -> None:
    corrected_at(desk, 10, Target("patient", "ANNA"), PatientName="Anna")
    desk.edit(Target("patient", "ANNA"), PatientName=None)
    assert told(desk) == ()


def test_an_instance_was_corrected_when_it_came_if_that_was_later(desk: Hl7Desk) -> None:
    corrected_at(desk, 10, Target("patient", "ANNA"), PatientName="Anna")
    corrected_at(desk, 30, Target("study", "1.2"), StudyDescription="Skull")
    assert [each.when_ns for each in told(desk, received_ns=20)] == [20, 30]


def test_a_message_is_told_from_the_user(desk: Hl7Desk) -> None:
    desk.edit(Target("study", "1.2"), StudyDescription="Skull")
    message = adt("A08", pid("ANNA", name="Anna^From^Message"))
    before_ns = time.time_ns()
    assert desk.take(message).edits
    by_message, by_user = sorted(told(desk), key=lambda each: each.by_user)
    assert PATIENT_NAME in by_message.tags
    assert by_message.when_ns < before_ns, "the time that the message tells"
    assert (by_user.by_user, by_user.tags) == (True, frozenset({DESCRIPTION}))
    desk.edit(Target("patient", "ANNA"), PatientName="Anna^From^User")
    assert {each.by_user for each in told(desk) if PATIENT_NAME in each.tags} == {True}


def test_what_came_to_expect_it_was_corrected_by_the_message(desk: Hl7Desk) -> None:
    """Said before its study came."""
    desk.take(order("BERTA", "A1", description="Expected"))
    desk.arrive("1.2.4.1", "BERTA", "1.3", AccessionNumber="A1", StudyDescription="Received")
    with desk.writer.reader().view() as view:
        ((number, _),) = view.instances_of_uid("1.2.4.1")
        made = occasions(view, view.study_of_series(number), view.series(number), 7)
    (occasion,) = made
    assert not occasion.by_user
    assert DESCRIPTION in occasion.tags


def test_a_correction_of_unknown_time_was_the_users(desk: Hl7Desk) -> None:
    """Release 0.2.0 had no messages, and its corrections may have no times."""
    corrected_at(desk, 10, Target("patient", "ANNA"), PatientID="A2")
    desk.writer.commit(
        lambda batch: [
            batch.drop_row("correction_times", key)
            for key, _ in [*batch.keys_from("correction_times", b"")]
        ]
    )
    assert told(desk, received_ns=5) == (Occasion(5, True, frozenset({PATIENT_ID})),)
