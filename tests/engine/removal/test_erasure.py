"""Erasing a patient: nothing of him is left in any table, and nothing of anybody else goes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.dictionary.attributes import PATIENT_NAME
from engine.dictionary.patient_mark import patient_mark
from engine.index import corrections, records, tombstones
from engine.index.batch import Batch
from engine.index.corrections import Edit, Target
from engine.index.expected import Expectation
from engine.outbox.outbox import Outbox
from engine.outbox.records import NewDelivery, State
from engine.outbox.spool import spooled_path
from engine.prefetch.jobs import Trigger
from engine.prefetch.records import Ask, JobState, StudyProgress
from engine.removal.erasure import Eraser
from engine.removal.orders import Order, Outcome, Progress
from tests.rigs.removals import NOW, RemovalBox, order

HIM, HER = "SECRET-HIM", "SECRET-HER"
SENT = ("1.2.840", "1.2", "1.2.3", "1.2.1", 1, "user")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[RemovalBox]:
    made = RemovalBox(tmp_path)
    (tmp_path / "outbox").mkdir()
    for number, patient in enumerate((HIM, HER), 1):
        _known(made, number, patient)
    yield made
    made.close()


def _known(box: RemovalBox, number: int, patient: str) -> None:
    """Everything that may be known of a patient."""
    uid = f"1.{number}"
    box.store(f"{uid}.1", study=uid, patient=patient)
    box.index()
    targets = [
        Target("patient", patient),
        Target("study", uid, "", patient),
        Target("series", f"{uid}.5", "", patient),
    ]

    def correct(batch: Batch) -> None:
        for target in targets:
            edit = Edit.of(target, PATIENT_NAME, "", patient, "Ann", NOW)
            values = {PATIENT_NAME: patient, 0x00100020: f"{patient}-NEW"}
            batch.put_correction(corrections.key_of(target), values, [edit])
            batch.note_times(target, {PATIENT_NAME: NOW})
        kept = Expectation("patient", patient, "", {PATIENT_NAME: patient}, {}, "KIS", NOW)
        batch.put_expected(kept)
        ordered = Expectation("order", patient, "", {}, {}, "KIS", NOW, accession="7")
        batch.put_expected(ordered)
        batch.put_alias((patient, ""), (f"{patient}-OLD", ""))

        for study, _ in batch.studies_of_uid(uid):
            batch.correct_study(study)
            for series, _ in list(batch.series_of(study)):
                batch.correct_series(series)

    box.writer.commit(correct)
    mark = patient_mark(patient, "")
    copy = f"{patient}.dcm"
    spooled_path(box.data, copy).write_bytes(b"x")
    (stored, of_file) = (
        NewDelivery("PACS", f"{uid}.1", SENT[0], uid, *SENT[2:], patient=mark),
        NewDelivery("ARC", f"{uid}.9", SENT[0], "9.9", *SENT[2:], copy, mark),
    )
    box.outbox(lambda outbox: outbox.enqueue(stored, NOW))
    for leased in box.lease():
        box.outbox(lambda outbox, leased=leased: outbox.delivered(leased, NOW))
    box.outbox(lambda outbox: outbox.enqueue(of_file, NOW))
    ask = Ask("archive", "study", patient, "", "", (), (), 5, uid)
    box.jobs(lambda jobs: jobs.trigger(Trigger("priors", ask, f"{uid}.1", "CT", 1, 1, 1), 0))
    job = box.jobs(lambda jobs: jobs.begin(NOW))
    assert job is not None
    job.progress.studies.append(StudyProgress("8.8", "", 4, 3))
    box.jobs(lambda jobs: jobs.end(job, JobState.DONE, NOW))


def rows(box: RemovalBox) -> dict[str, list[bytes]]:
    with box.reader.view() as view:
        return {
            table: [key + b"|" + value for key, value in view.keys_from(table, b"")]
            for table in records.TABLES
        }


def of(box: RemovalBox, patient: str) -> dict[str, list[bytes]]:
    """The rows that name a patient, or his mark, by table."""
    texts = patient.encode(), patient_mark(patient, "").encode()
    named = {
        table: [row for row in found if any(text in row for text in texts)]
        for table, found in rows(box).items()
    }
    return {table: found for table, found in named.items() if found}


def naming(box: RemovalBox, patient: str) -> list[str]:
    """The tables that name a patient, or his mark."""
    return list(of(box, patient))


def erase(box: RemovalBox, patient: str = HIM, name: str = "9") -> Outcome:
    eraser = Eraser(box.data, box.writer)
    asked = Order(name, "patient", patient, patient_mark(patient, ""), "Ann", "")
    while True:
        outcome = eraser.step(asked, NOW)
        if outcome.progress is not Progress.GOES_ON:
            return outcome


def remove_studies(box: RemovalBox, patient: str = HIM, uid: str = "1.1") -> None:
    asked = order(uid, name="8", patient=patient_mark(patient, ""), forced=True)
    assert box.remove(asked).progress is Progress.DONE
    box.remover.settle()


def test_nothing_of_him_is_left_and_hers_stays(box: RemovalBox) -> None:
    hers = of(box, HER)
    assert naming(box, HIM) == naming(box, HER)
    remove_studies(box)
    outcome = erase(box)
    assert outcome.progress is Progress.DONE
    assert naming(box, HIM) == []
    assert not spooled_path(box.data, f"{HIM}.dcm").exists()
    assert spooled_path(box.data, f"{HER}.dcm").exists()
    assert of(box, HER) == hers
    box.check()
    with box.reader.view() as view:
        lines = list(tombstones.removals_so_far(view))
        assert [(line.level, line.uid, line.patient) for line in lines] == [("patient", "", "")]
        assert lines[0].who == "Ann"
    assert outcome.erased == {
        "copies in outbox/": 1,
        "corrections": 7,
        "deliveries": 2,
        "lines of the history of removals": 1,
        "lines of their history": 3,
        "notes of messages": 3,
        "prefetches": 1,
        "tombstones": 1,
    }


def test_what_is_stored_of_him_goes_first(box: RemovalBox) -> None:
    before = rows(box)
    refused = erase(box)
    assert refused.texts == ("something of this patient is stored: remove that first",)
    assert rows(box) == before


def test_what_is_being_sent_of_him_is_waited_for(box: RemovalBox) -> None:
    remove_studies(box)
    assert len(box.lease("ARC")) == 2
    assert erase(box).texts == ("1 deliveries are under way",)
    box.outbox(Outbox.return_leases)
    assert erase(box, name="10").progress is Progress.DONE
    with box.reader.view() as view:
        states = [each.state for each in Outbox.within(view).deliveries()]
    assert states == [State.DELIVERED, State.WAITING], "hers"


def test_a_prefetch_of_him_is_waited_for(box: RemovalBox) -> None:
    remove_studies(box)
    ask = Ask("archive", "study", HIM, "", "", (), (), 5, "7.7")
    number = box.jobs(lambda jobs: jobs.trigger(Trigger("priors", ask, "7", "CT", 1, 1, 1), 0))
    assert erase(box).texts == (f"prefetch {number} has not ended",)


def test_an_order_that_a_crash_cut_is_gone_on_with(
    box: RemovalBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.removal.erasure.removal_portion_max", 2)
    remove_studies(box)
    asked = Order("9", "patient", HIM, patient_mark(HIM, ""), "Ann", "")
    for _ in range(3):
        Eraser(box.data, box.writer).step(asked, NOW)
        box.crash()
        box.index()
        box.check()
    assert erase(box).progress is Progress.DONE
    assert naming(box, HIM) == []
    assert not spooled_path(box.data, f"{HIM}.dcm").exists()
