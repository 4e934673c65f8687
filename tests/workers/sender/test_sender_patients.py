"""What an instance is sent with is its own patient's, whoever else has its UIDs."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from engine.dictionary.attributes import BY_KEYWORD, PATIENT_ID
from engine.dictionary.patient_mark import patient_mark
from engine.files.tree import StoreTree
from engine.index.corrections import Target
from engine.index.edit import IndexEditor
from engine.index.writer import IndexWriter
from engine.outbox.records import NewDelivery
from tests.rigs.sending import POLICY
from tests.rigs.two_patients import CT, EXPLICIT, Stored, lay, lay_out_release_0_2_0
from workers.sender.ledger import Ledger

ANNA, BERTA = Stored("1.4.1", "ANNA"), Stored("1.4.2", "BERTA")
TWIN = Stored("1.4.1", "BERTA")  # of ANNA's instance


def delivery(stored: Stored, file: str = "") -> NewDelivery:
    return NewDelivery(
        "PACS",
        stored.sop,
        CT,
        stored.study,
        stored.series,
        EXPLICIT,
        1,
        "user",
        file,
        patient_mark(stored.patient, stored.issuer),
    )


def sent_with(directory: Path, *asked: NewDelivery) -> dict[str, tuple[str, Mapping[int, str]]]:
    """{SOP Instance UID, patient's mark: (file's name or what hinders it, changes)}."""
    with closing(Ledger(directory)) as ledger:
        for one in asked:
            ledger.writer.commit(lambda outbox, one=one: outbox.enqueue(one, 1))
        ledger.look()
        leased, _ = ledger.keep_books({"PACS": 9}, POLICY)
        return {
            f"{errand.delivery.sop_instance_uid} {errand.delivery.patient}": (
                errand.problem or Path(errand.path).stem,
                errand.corrections,
            )
            for errand in leased["PACS"]
        }


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """ANNA's, BERTA's and BERTA's of ANNA's UIDs, stored; BERTA is corrected."""
    with closing(IndexWriter(tmp_path)) as writer:
        tree = StoreTree(tmp_path)
        entries = [lay(tree, ANNA), lay(tree, BERTA)]
        marked = patient_mark("BERTA", "")
        entries.append(lay(tree, TWIN, TWIN.plain_path.replace(".dcm", f"-{marked}.dcm")))
        writer.commit(lambda batch: [batch.put_instance(entry) for entry in entries])
        editor = IndexEditor(writer._environment)
        correction = {BY_KEYWORD["PatientID"]: "B2"}
        editor.edit(Target("patient", "BERTA"), correction, "tester", 1)
    return tmp_path


def test_corrections_of_one_are_not_sent_with_the_other(directory: Path) -> None:
    of = {who: patient_mark(who, "") for who in ("ANNA", "BERTA")}
    assert sent_with(directory, delivery(ANNA), delivery(BERTA), delivery(TWIN)) == {
        f"1.4.1 {of['ANNA']}": ("1.4.1", {}),
        f"1.4.2 {of['BERTA']}": ("1.4.2", {PATIENT_ID: "B2"}),
        f"1.4.1 {of['BERTA']}": (f"1.4.1-{of['BERTA']}", {PATIENT_ID: "B2"}),
    }


def test_another_patients_is_not_sent_in_the_place_of_one_that_is_gone(directory: Path) -> None:
    with closing(IndexWriter(directory)) as writer:
        writer.commit(lambda batch: batch.remove_instance("1.4.1"))
    ((problem, _),) = sent_with(directory, delivery(ANNA)).values()
    assert problem == "the instance is not stored here any more"


def test_files_of_applications_are_corrected_as_their_own_patient(directory: Path) -> None:
    asked = [delivery(one, f"{one.patient}.dcm") for one in (ANNA, BERTA)]
    changes = {
        key.split()[0]: changes for key, (_, changes) in sent_with(directory, *asked).items()
    }
    assert changes == {"1.4.1": {}, "1.4.2": {PATIENT_ID: "B2"}}


def test_what_0_2_0_joined_goes_as_its_file_says(tmp_path: Path) -> None:
    lay_out_release_0_2_0(tmp_path)
    berta = delivery(BERTA)._replace(patient="")
    assert sent_with(tmp_path, berta) == {
        "1.4.1 ": ("1.4.1", {}),  # ANNA's, under the name of BERTA, who is corrected
        "1.4.2 ": ("1.4.2", {PATIENT_ID: "B2"}),
        "1.6.1 ": (
            "1.6.1",
            {
                BY_KEYWORD["PatientName"].tag: "Carla",
                BY_KEYWORD["StudyDescription"].tag: "CORRECTED",
                BY_KEYWORD["SeriesDescription"].tag: "of her series",
            },
        ),
    }
