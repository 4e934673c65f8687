"""The user's corrections beside messages: whose a study is by them, and what is stronger."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.hl7.message import moment_ns
from engine.index.corrections import Target
from tests.rigs.hl7_desk import Hl7Desk
from tests.rigs.hl7_messages import adt, pid


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Hl7Desk]:
    made = Hl7Desk(tmp_path)
    yield made
    made.close()


def test_issuers_count_where_a_study_was_given_to_another_patient(desk: Hl7Desk) -> None:
    """An identifier of another hospital is another patient, whoever gave him the study."""
    desk.arrive("1.4.1", "ANNA", "1.1", IssuerOfPatientID="HOSP")
    desk.arrive("1.4.2", "ANNA", "1.2", IssuerOfPatientID="HOSP")
    now = moment_ns("20270101") or 0
    desk.edit(Target("study", "1.1"), PatientID="1", IssuerOfPatientID="HOSP")
    other = adt("A08", pid("1^^^OTHER^MR", "OF^OTHER"), moment="20261230", control_id="1")
    assert desk.take(other, now).matched == 0
    assert desk.patient("1.4.1") == ("1", "ANNA^NAME")
    away = adt("A40", pid("2^^^OTHER"), "MRG|1^^^OTHER", moment="20261230", control_id="2")
    assert desk.take(away, now).matched == 0
    assert desk.patient("1.4.1") == ("1", "ANNA^NAME")
    his = adt("A08", pid("1^^^HOSP^MR", "OF^HOSP"), moment="20261230", control_id="3")
    assert desk.take(his, now).matched == 1
    assert desk.patient("1.4.1") == ("1", "OF^HOSP")
    assert desk.patient("1.4.2") == ("ANNA", "ANNA^NAME")


def test_what_the_user_corrected_of_a_study_is_stronger_until_its_patient_changes(
    desk: Hl7Desk,
) -> None:
    desk.arrive("1.4.1", "ANNA", "1.1")
    desk.edit(Target("study", "1.1"), PatientName="BY^USER")
    now = moment_ns("20270101")
    desk.take(adt("A08", pid("ANNA", "BY^MESSAGE"), moment="20261231"), now or 0)
    assert desk.patient("1.4.1") == ("ANNA", "BY^USER")
    desk.take(
        adt("A40", pid("BERTA", "OF^BERTA"), "MRG|ANNA", moment="20261231", control_id="2"),
        now or 0,
    )
    assert desk.patient("1.4.1") == ("BERTA", "OF^BERTA")


def test_a_study_that_the_user_gave_to_another_patient_follows_that_one(desk: Hl7Desk) -> None:
    desk.arrive("1.4.1", "ANNA", "1.1")
    desk.arrive("1.4.2", "ANNA", "1.2")
    desk.edit(Target("study", "1.1"), PatientID="BERTA")
    now = moment_ns("20270101") or 0
    desk.take(adt("A08", pid("ANNA", "NEW^ANNA"), moment="20261230", control_id="1"), now)
    assert desk.patient("1.4.1") == ("BERTA", "ANNA^NAME"), "it is not ANNA's any more"
    assert desk.patient("1.4.2") == ("ANNA", "NEW^ANNA")
    # Whatever makes its corrections be read anew: an edit, or what a later instance says.
    desk.edit(Target("study", "1.1"), StudyDescription="BY^USER")
    desk.arrive("1.4.3", "ANNA", "1.1", PatientBirthDate="19700101")
    assert desk.patient("1.4.1") == ("BERTA", "ANNA^NAME"), "it stays so"
    desk.take(adt("A08", pid("BERTA", "OF^BERTA"), moment="20261231", control_id="2"), now)
    assert desk.patient("1.4.2") == ("ANNA", "NEW^ANNA")
    desk.take(
        adt("A40", pid("CARLA", "OF^CARLA"), "MRG|BERTA", moment="20261231", control_id="3"), now
    )
    assert desk.patient("1.4.1") == ("CARLA", "OF^CARLA")
    assert desk.patient("1.4.2") == ("ANNA", "NEW^ANNA")


def test_a_merge_that_was_taken_back_is_not_half_made_by_an_older_message(desk: Hl7Desk) -> None:
    """Neither identifier nor what it says besides: those are of two people."""
    desk.arrive("1.4.1", "ANNA", "1.1", PatientBirthDate="19700101")
    now = moment_ns("20270101") or 0
    wrong = "MRG|ANNA"
    desk.take(adt("A40", pid("BERTA", "OF^BERTA"), wrong, moment="20260110", control_id="1"), now)
    desk.edit(Target("patient", "ANNA"), PatientID=None, PatientName=None)
    born = pid("BERTA", "OF^BERTA", "19600606")
    desk.take(adt("A40", born, wrong, moment="20260111", control_id="2"), now)
    assert desk.patient("1.4.1") == ("ANNA", "ANNA^NAME")
    assert desk.shown("1.4.1")["PatientBirthDate"] == "19700101"
