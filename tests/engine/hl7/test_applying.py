"""What messages change: the patient named and nobody else, whatever comes first."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.hl7.instructions import Terms
from engine.hl7.refusal import RefusedError
from engine.index.corrections import Target
from tests.rigs.hl7_desk import Hl7Desk
from tests.rigs.hl7_messages import adt, built, order, pid

_numbers = itertools.count()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Hl7Desk]:
    made = Hl7Desk(tmp_path)
    yield made
    made.close()


def at(second: int) -> str:
    return f"202601101200{second:02d}"


def update(patient: str, name: str, second: int = 0, trigger: str = "A08", born: str = "") -> bytes:
    number = f"M{next(_numbers)}"
    return adt(trigger, pid(patient, name, born), moment=at(second), control_id=number)


def merge(prior: str, into: str, name: str = "", second: int = 0, trigger: str = "A40") -> bytes:
    number = f"M{next(_numbers)}"
    return adt(trigger, pid(into, name), f"MRG|{prior}", moment=at(second), control_id=number)


def ordered(patient: str, accession: str, text: str, second: int = 0, **options: str) -> bytes:
    number = f"M{next(_numbers)}"
    return order(patient, accession, text, moment=at(second), control_id=number, **options)


@pytest.mark.parametrize("trigger", ["A08", "A31"])
def test_an_update_corrects_the_patient_named(desk: Hl7Desk, trigger: str) -> None:
    desk.arrive("1.4.1", "ANNA", "1.2")
    desk.arrive("1.4.2", "BERTA", "1.2")  # the same Study UID
    taken = desk.take(update("ANNA", "NEW^ANNA", trigger=trigger, born="19700101"))
    assert (taken.studies, taken.matched, taken.edits) == (1, 1, 2)
    assert desk.patient("1.4.1") == ("ANNA", "NEW^ANNA")
    assert desk.shown("1.4.1")["PatientBirthDate"] == "19700101"
    assert desk.patient("1.4.2") == ("BERTA", "BERTA^NAME")
    assert next((edit.who, edit.old, edit.new) for edit in desk.history()) == (
        "RIS/HOSP",
        "ANNA^NAME",
        "NEW^ANNA",
    )


def test_issuers_count(desk: Hl7Desk) -> None:
    desk.arrive("1.4.1", "1", "1.1", IssuerOfPatientID="HOSP")
    desk.arrive("1.4.2", "1", "1.2")
    desk.take(update("1^^^HOSP^MR", "OF^HOSP"))
    assert (desk.patient("1.4.1")[1], desk.patient("1.4.2")[1]) == ("OF^HOSP", "1^NAME")
    desk.take(update("1^^^OTHER^MR", "OF^OTHER", 1))
    assert (desk.patient("1.4.1")[1], desk.patient("1.4.2")[1]) == ("OF^HOSP", "1^NAME")
    desk.take(update("1", "OF^NOBODY", 2))
    assert (desk.patient("1.4.1")[1], desk.patient("1.4.2")[1]) == ("OF^HOSP", "OF^NOBODY")


def test_a_local_authority_stands_for_images_without_an_issuer(desk: Hl7Desk) -> None:
    desk.terms = Terms(local_authorities=("HOSP",))
    desk.arrive("1.4.1", "1", "1.1", IssuerOfPatientID="HOSP")
    desk.arrive("1.4.2", "1", "1.2")
    desk.take(update("1^^^HOSP^MR~99^^^SSA^SS", "OF^HOSP"))
    assert {desk.patient("1.4.1")[1], desk.patient("1.4.2")[1]} == {"OF^HOSP"}
    desk.take(merge("1^^^HOSP", "2^^^HOSP", second=1))
    assert (desk.shown("1.4.1")["PatientID"], desk.shown("1.4.1")["IssuerOfPatientID"]) == (
        "2",
        "HOSP",
    )
    assert (desk.shown("1.4.2")["PatientID"], desk.shown("1.4.2")["IssuerOfPatientID"]) == ("2", "")


@pytest.mark.parametrize("trigger", ["A18", "A34", "A40", "A47"])
def test_a_merge_moves_the_prior_patients_studies(desk: Hl7Desk, trigger: str) -> None:
    desk.arrive("1.4.1", "ANNA", "1.1", PatientBirthDate="19700101")
    desk.arrive("1.4.2", "BERTA", "1.1", PatientBirthDate="19600606")  # the same Study UID
    desk.arrive("1.4.3", "CARLA", "1.1")
    desk.take(merge("ANNA", "BERTA", trigger=trigger))
    assert desk.patient("1.4.1") == ("BERTA", "BERTA^NAME")
    assert desk.shown("1.4.1")["PatientBirthDate"] == "19600606", "nothing of ANNA stays beside it"
    assert desk.patient("1.4.2") == ("BERTA", "BERTA^NAME")
    assert desk.patient("1.4.3") == ("CARLA", "CARLA^NAME")
    assert desk.found(PatientID="ANNA") == set()
    desk.arrive("1.4.4", "ANNA", "1.5")  # a scanner that still has the old identifier
    assert desk.patient("1.4.4") == ("BERTA", "BERTA^NAME")
    assert not [edit for edit in desk.history() if edit.identifier != "ANNA"]


def test_an_update_after_a_merge_reaches_all_that_is_shown_as_the_patients(desk: Hl7Desk) -> None:
    desk.arrive("1.4.1", "ANNA", "1.1")
    desk.arrive("1.4.2", "BERTA", "1.2")
    desk.take(merge("ANNA", "BERTA", "BERTA^B"))
    desk.take(update("BERTA", "BERTA^MARRIED", 1))
    assert desk.patient("1.4.1") == desk.patient("1.4.2") == ("BERTA", "BERTA^MARRIED")
    taken = desk.take(update("ANNA", "ANNA^AGAIN", 2))
    assert taken.matched == 0
    assert "merged" in taken.text
    desk.arrive("1.4.3", "ANNA", "1.3")
    assert desk.patient("1.4.3") == ("BERTA", "BERTA^MARRIED")


def test_merges_in_a_row_and_before_anything_is_here(desk: Hl7Desk) -> None:
    desk.take(merge("A", "B", "OF^B", 0))
    desk.take(merge("B", "C", "OF^C", 1))
    desk.take(update("C", "NEW^C", 2))
    for number, patient in enumerate("ABC"):
        desk.arrive(f"1.4.{number}", patient, f"1.{number}")
        assert desk.patient(f"1.4.{number}") == ("C", "NEW^C")


def test_several_merges_of_one_message(desk: Hl7Desk) -> None:
    desk.arrive("1.4.1", "A", "1.1")
    desk.arrive("1.4.2", "D", "1.2")
    desk.take(adt("A40", pid("B", "OF^B"), "MRG|A", pid("C", "OF^C"), "MRG|B", pid("E"), "MRG|D"))
    assert desk.patient("1.4.1") == ("C", "OF^C")
    assert desk.patient("1.4.2")[0] == "E"


def test_a_merge_back(desk: Hl7Desk) -> None:
    desk.arrive("1.4.1", "A", "1.1")
    desk.arrive("1.4.2", "B", "1.2")
    desk.take(merge("A", "B", "OF^B", 0))
    desk.take(merge("B", "A", "OF^A", 1))
    assert desk.patient("1.4.1") == desk.patient("1.4.2") == ("A", "OF^A")


def _all_orders() -> list[tuple[int, ...]]:
    return list(itertools.permutations(range(4)))


@pytest.mark.parametrize("arrival", _all_orders())
def test_messages_in_any_order_end_alike(tmp_path: Path, arrival: tuple[int, ...]) -> None:
    messages = [
        update("A", "OLD^A", 0),
        merge("A", "B", "OF^B", 1),
        update("B", "NEW^B", 2),
        merge("B", "C", "OF^C", 3),
    ]
    desk = Hl7Desk(tmp_path)
    try:
        desk.arrive("1.4.1", "A", "1.1")
        desk.arrive("1.4.2", "C", "1.2")
        for number in arrival:
            desk.take(messages[number])
        assert desk.patient("1.4.1") == desk.patient("1.4.2") == ("C", "OF^C")
    finally:
        desk.close()


def test_an_older_message_says_nothing_of_what_a_newer_one_said(desk: Hl7Desk) -> None:
    desk.arrive("1.4.1", "ANNA")
    desk.take(update("ANNA", "NEW^ANNA", 5))
    older = desk.take(update("ANNA", "OLD^ANNA", 4, born="19700101"))
    shown = desk.shown("1.4.1")
    assert (shown["PatientName"], shown["PatientBirthDate"]) == ("NEW^ANNA", "19700101")
    assert older.edits == 1
    desk.arrive("1.4.2", "ANNA", "1.9")
    assert desk.patient("1.4.2") == ("ANNA", "NEW^ANNA")


def test_an_older_message_does_not_undo_the_user(desk: Hl7Desk) -> None:
    desk.arrive("1.4.1", "ANNA")
    desk.edit(Target("patient", "ANNA"), PatientName="BY^USER")
    desk.take(update("ANNA", "BY^MESSAGE"))
    assert desk.patient("1.4.1")[1] == "BY^USER"


def test_a_replay_is_known_and_changes_nothing(desk: Hl7Desk) -> None:
    desk.arrive("1.4.1", "ANNA")
    message = update("ANNA", "NEW^ANNA")
    desk.take(message)
    desk.take(update("ANNA", "NEWER^ANNA"))  # in the same second
    again = desk.take(message)
    assert again.replayed
    assert again.edits == 0
    assert desk.patient("1.4.1")[1] == "NEWER^ANNA"
    # The sender may write the time anew, and another sender may use the same number.
    later = message.replace(b"|20260110120000||ADT", b"|20260110120009||ADT", 1)
    assert later != message
    assert desk.take(later).replayed
    assert not desk.take(message.replace(b"RIS|HOSP", b"RIS|OTHER", 1)).replayed


def test_a_number_that_is_used_again_for_another_message_is_no_replay(desk: Hl7Desk) -> None:
    desk.arrive("1.4.1", "ANNA")
    desk.take(adt("A08", pid("ANNA", "FIRST^A"), moment=at(0), control_id="1"))
    desk.take(adt("A08", pid("ANNA", "SECOND^A"), moment=at(1), control_id="1"))
    assert desk.patient("1.4.1")[1] == "SECOND^A"


def test_what_no_study_contradicts_is_no_correction_until_one_does(desk: Hl7Desk) -> None:
    desk.arrive("1.4.1", "ANNA", "1.1")
    taken = desk.take(update("ANNA", "ANNA^NAME"))
    assert (taken.edits, taken.kept) == (0, 1)
    assert not desk.history()
    desk.arrive("1.4.2", "ANNA", "1.2", PatientName="STALE^ANNA")
    assert desk.patient("1.4.2") == ("ANNA", "ANNA^NAME")
    assert [(edit.old, edit.new, edit.who) for edit in desk.history()] == [
        ("STALE^ANNA", "ANNA^NAME", "RIS/HOSP")
    ]
    assert not desk.kept(), "it is a correction now"
    # It holds for the study that did not contradict it, too.
    desk.arrive("1.4.9", "ANNA", "1.1", PatientName="STALE^ANNA")
    assert desk.patient("1.4.1") == ("ANNA", "ANNA^NAME")
    # A later instance of a study that is here, too.
    desk.take(update("ANNA", "ANNA^NAME", 1, born="19700101"))
    desk.arrive("1.4.3", "ANNA", "1.1", PatientBirthDate="19700102")
    assert desk.shown("1.4.3")["PatientBirthDate"] == "19700101"


def test_an_order_describes_the_studies_of_its_accession_number(desk: Hl7Desk) -> None:
    desk.arrive("1.4.1", "ANNA", "1.1", AccessionNumber="A1", StudyDescription="raw")
    desk.arrive("1.4.2", "BERTA", "1.2", AccessionNumber="A1", StudyDescription="raw")
    desk.arrive("1.4.3", "ANNA", "1.3", AccessionNumber="A2", StudyDescription="raw")
    desk.arrive("1.4.4", "ANNA", "1.4", AccessionNumber="A11", StudyDescription="raw")
    taken = desk.take(ordered("ANNA", "A1", "CT HEAD"))
    assert taken.studies == 1
    shown = [desk.shown(f"1.4.{number}")["StudyDescription"] for number in (1, 2, 3, 4)]
    assert shown == ["CT HEAD", "raw", "raw", "raw"]
    assert desk.found(ReferringPhysicianName="REFERRER^RITA*") == {"1.1"}
    desk.arrive("1.4.5", "ANNA", "1.5", AccessionNumber="A1", StudyDescription="raw")
    assert desk.shown("1.4.5")["StudyDescription"] == "CT HEAD", "a second study of the order"
    desk.take(ordered("ANNA", "A1", "CT NECK", 1, control="CA"))
    assert desk.shown("1.4.5")["StudyDescription"] == "CT HEAD", "a cancelled order says nothing"


def test_an_order_that_names_its_study_means_that_one(desk: Hl7Desk) -> None:
    desk.arrive("1.4.1", "ANNA", "1.1", AccessionNumber="A1", StudyDescription="raw")
    desk.take(ordered("ANNA", "A1", "OF 1.2", uid="1.2"))
    assert desk.shown("1.4.1")["StudyDescription"] == "raw"
    desk.arrive("1.4.2", "ANNA", "1.2", AccessionNumber="A1", StudyDescription="raw")
    assert desk.shown("1.4.2")["StudyDescription"] == "OF 1.2"


def test_an_order_of_another_patient_is_told_and_touches_nothing(desk: Hl7Desk) -> None:
    desk.arrive("1.4.2", "BERTA", "1.2", AccessionNumber="A1", StudyDescription="raw")
    taken = desk.take(ordered("ANNA", "A1", "CT HEAD"))
    assert taken.studies == 0
    assert "another patient has this accession number" in taken.text
    assert desk.shown("1.4.2")["StudyDescription"] == "raw"


def test_an_order_follows_its_patient_through_a_merge(desk: Hl7Desk) -> None:
    desk.take(ordered("ANNA", "A1", "CT HEAD"))
    desk.take(merge("ANNA", "BERTA", second=1))
    desk.arrive("1.4.1", "ANNA", "1.1", AccessionNumber="A1", StudyDescription="raw")
    desk.arrive("1.4.2", "BERTA", "1.2", AccessionNumber="A1", StudyDescription="raw")
    for sop in ("1.4.1", "1.4.2"):
        assert desk.shown(sop)["PatientID"] == "BERTA"
        assert desk.shown(sop)["StudyDescription"] == "CT HEAD"
    (order_edit,) = [
        edit
        for edit in desk.history()
        if edit.identifier == "1.2" and edit.keyword == "StudyDescription"
    ]
    assert order_edit.who == "RIS/HOSP"


def test_an_order_by_an_identifier_that_was_merged_is_the_surviving_patients(desk: Hl7Desk) -> None:
    desk.arrive("1.4.1", "ANNA", "1.1", AccessionNumber="A1", StudyDescription="raw")
    desk.take(merge("ANNA", "BERTA"))
    desk.take(ordered("ANNA", "A1", "CT HEAD", 1))
    assert desk.shown("1.4.1")["StudyDescription"] == "CT HEAD"
    desk.arrive("1.4.2", "BERTA", "1.2", AccessionNumber="A1", StudyDescription="raw")
    assert desk.shown("1.4.2")["StudyDescription"] == "CT HEAD"


def test_the_accession_number_may_come_with_a_later_instance(desk: Hl7Desk) -> None:
    desk.take(ordered("ANNA", "A1", "CT HEAD"))
    desk.arrive("1.4.1", "ANNA", "1.1", StudyDescription="raw")
    assert desk.shown("1.4.1")["StudyDescription"] == "raw"
    desk.arrive("1.4.2", "ANNA", "1.1", AccessionNumber="A1", StudyDescription="raw")
    assert desk.shown("1.4.1")["StudyDescription"] == "CT HEAD"


def test_accounts_of_a_patient_change_no_image(desk: Hl7Desk) -> None:
    desk.arrive("1.4.1", "ANNA", "1.1")
    taken = desk.take(adt("A35", pid("ANNA", "OTHER^NAME"), "MRG|ANNA||ACC1"))
    assert (taken.edits, taken.kept) == (0, 0)


@pytest.mark.parametrize(
    ("structure", "trigger", "fields", "shown"),
    [
        ("ADT_A01", "ADT^A08^ADT_A01", {"pid.pid_5": "NEW^ANNA"}, ("ANNA", "NEW^ANNA")),
        ("ADT_A05", "ADT^A31^ADT_A05", {"pid.pid_5": "NEW^ANNA"}, ("ANNA", "NEW^ANNA")),
        (
            "ADT_A39",
            "ADT^A40^ADT_A39",
            {"pid.pid_3": "BERTA", "pid.pid_5": "OF^BERTA", "mrg.mrg_1": "ANNA"},
            ("BERTA", "OF^BERTA"),
        ),
        (
            "ADT_A30",
            "ADT^A47^ADT_A30",
            {"pid.pid_3": "BERTA", "pid.pid_5": "OF^BERTA", "mrg.mrg_1": "ANNA"},
            ("BERTA", "OF^BERTA"),
        ),
    ],
)
def test_messages_of_another_librarys_builder(
    desk: Hl7Desk, structure: str, trigger: str, fields: dict[str, str], shown: tuple[str, str]
) -> None:
    desk.arrive("1.4.1", "ANNA", "1.1")
    content = built(structure, trigger, {"evn.evn_2": "20260110", "pid.pid_3": "ANNA", **fields})
    taken = desk.take(content)
    assert taken.studies == 1
    assert desk.patient("1.4.1") == shown
    assert desk.history()[0].who == "BUILDER/LIBRARY"


@pytest.mark.parametrize(
    ("structure", "trigger", "fields"),
    [
        ("ORM_O01", "ORM^O01^ORM_O01", {"obr.obr_18": "A1"}),
        ("OMI_O23", "OMI^O23^OMI_O23", {"ipc.ipc_1": "A1", "ipc.ipc_3": "1.1"}),
    ],
)
def test_orders_of_another_librarys_builder(
    desk: Hl7Desk, structure: str, trigger: str, fields: dict[str, str]
) -> None:
    desk.arrive("1.4.1", "ANNA", "1.1", AccessionNumber="A1")
    common = {"pid.pid_3": "ANNA", "orc.orc_1": "NW", "obr.obr_4": "X^CT HEAD^L"}
    desk.take(built(structure, trigger, {**common, **fields}))
    assert desk.shown("1.4.1")["StudyDescription"] == "CT HEAD"


_PATIENTS = ("A", "B", "C")
_step = st.one_of(
    st.tuples(st.just("image"), st.sampled_from(_PATIENTS), st.sampled_from(("1.1", "1.2"))),
    st.tuples(st.just("update"), st.sampled_from(_PATIENTS), st.just("")),
    st.tuples(st.just("merge"), st.sampled_from(_PATIENTS), st.sampled_from(_PATIENTS)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_step, max_size=12))
def test_whatever_comes_in_between_identifier_and_name_are_one_persons(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]]
) -> None:
    """A model of persons: each identifier has one, a merge gives it another's. Each image is shown
    as the person of its identifier, under the name last told of him."""
    desk = Hl7Desk(tmp_path_factory.mktemp("desk"))
    person = {patient: patient for patient in _PATIENTS}
    named: dict[str, str] = {}
    images: dict[str, str] = {}
    try:
        for second, (kind, one, other) in enumerate(steps):
            if kind == "image":
                images[f"1.4.{second}"] = one
                desk.arrive(f"1.4.{second}", one, other)
            elif kind == "update":
                desk.take(update(one, f"{one}^AT{second}", second))
                if person[one] == one:
                    named[one] = f"{one}^AT{second}"
            elif one != other:
                desk.take(merge(one, other, f"{other}^AT{second}", second))
                survives = person[other] if person[other] != one else other
                if survives != one:
                    if survives == other:
                        named[other] = f"{other}^AT{second}"
                    elif survives not in named:
                        named[survives] = ""
                    person = {
                        each: survives if whose == one else whose for each, whose in person.items()
                    }
            for sop, patient in images.items():
                shown, name = desk.patient(sop)
                assert shown == person[patient], (sop, steps)
                if named.get(shown):
                    assert name == named[shown], (sop, steps)
    finally:
        desk.close()


def test_what_could_not_be_sent_is_refused_when_it_is_said(desk: Hl7Desk) -> None:
    """As the user's own correction is."""
    desk.arrive("1.4.1", "ANNA", "1.1")
    message = update("ANNA", "ŁUKASIEWICZ^ANNA").replace(b"2.5.1||||||", b"2.5.1||||||UTF-8")
    with pytest.raises(RefusedError, match="cannot be sent"):
        desk.take(message)
    assert desk.patient("1.4.1") == ("ANNA", "ANNA^NAME")
    assert not desk.history()
    desk.terms = Terms(outgoing_sets=("ISO_IR 192",))
    desk.take(message)
    assert desk.patient("1.4.1") == ("ANNA", "ŁUKASIEWICZ^ANNA")


_told = st.one_of(
    st.tuples(st.just("update"), st.sampled_from(_PATIENTS), st.just("")),
    st.tuples(st.just("merge"), st.sampled_from(_PATIENTS), st.sampled_from(_PATIENTS)),
)


def _in_sense(steps: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Without what a hospital does not say: that who was merged away is merged again."""
    kept, gone = [], set[str]()
    for kind, one, other in steps:
        if kind == "merge" and (one == other or one in gone):
            continue
        if kind == "merge":
            gone.add(one)
            gone.discard(other)
        kept.append((kind, one, other))
    return kept


@settings(max_examples=80, deadline=None)
@given(st.lists(_told, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]], chance: Random
) -> None:
    messages = [
        update(one, f"{one}^AT{second}", second)
        if kind == "update"
        else merge(one, other, f"{other}^AT{second}", second)
        for second, (kind, one, other) in enumerate(_in_sense(steps))
    ]
    shown = []
    for shuffled in (False, True):
        desk = Hl7Desk(tmp_path_factory.mktemp("desk"))
        try:
            arriving = list(messages)
            if shuffled:
                chance.shuffle(arriving)
            for number, patient in enumerate(_PATIENTS):
                desk.arrive(f"1.4.{number}", patient, f"1.{number}")
            for message in arriving:
                desk.take(message)
            shown.append([desk.patient(f"1.4.{number}") for number in range(len(_PATIENTS))])
        finally:
            desk.close()
    assert shown[0] == shown[1], _in_sense(steps)


def test_a_merge_that_was_wrong_is_taken_back_by_the_user(desk: Hl7Desk) -> None:
    desk.arrive("1.4.1", "ANNA", "1.1", PatientBirthDate="19700101")
    desk.arrive("1.4.2", "BERTA", "1.2", PatientBirthDate="19700101")
    desk.take(merge("ANNA", "BERTA", "OF^BERTA"))
    desk.edit(Target("patient", "ANNA"), PatientID=None, PatientName=None)
    assert desk.patient("1.4.1") == ("ANNA", "ANNA^NAME")
    desk.take(update("BERTA", "NEW^BERTA", 9, born="19800808"))
    desk.arrive("1.4.3", "ANNA", "1.3", PatientBirthDate="19711111")
    assert desk.patient("1.4.1") == desk.patient("1.4.3") == ("ANNA", "ANNA^NAME")
    assert desk.shown("1.4.3")["PatientBirthDate"] == "19711111"
    assert desk.patient("1.4.2") == ("BERTA", "NEW^BERTA")
