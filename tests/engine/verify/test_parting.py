"""What release 0.2.0 joined is found by its files, and parted; nothing is lost on the way."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.dictionary.patient_mark import patient_mark
from engine.dictionary.query_level import QueryLevel
from engine.files.tree import StoreTree, instance_path
from engine.index.query import Query, find
from engine.index.writer import IndexWriter
from engine.verify.findings import Finding, FindingKind
from engine.verify.repair import RepairResult, apply_actions
from engine.verify.verify import Verifier
from tests.rigs.index_entries import check_whole
from tests.rigs.two_patients import OF_RELEASE_0_2_0, Stored, file_bytes, lay, lay_out_release_0_2_0
from tools.commands import verify as verify_command
from tools.face.terminal import Exit

SEPARATE = {
    ("ANNA", "1.4.1", "1.2"),
    ("BERTA", "1.4.2", "1.2"),
    ("ANNA", "1.5.1", ""),
    ("BERTA", "1.5.2", ""),
    ("CARLA", "1.6.1", "2.2"),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    lay_out_release_0_2_0(tmp_path)
    return tmp_path


@pytest.fixture
def writer(data: Path) -> Iterator[IndexWriter]:
    with closing(IndexWriter(data)) as made:
        yield made


def findings(writer: IndexWriter, data: Path) -> list[Finding]:
    return Verifier(data, writer.reader(), content=True).run(pause_s=0).findings


def repaired(writer: IndexWriter, data: Path) -> list[RepairResult]:
    actions = [one.action for one in findings(writer, data) if one.action is not None]
    return apply_actions(writer, StoreTree(data), actions)


def stand(writer: IndexWriter) -> set[tuple[str, str, str]]:
    """(Patient ID as received, SOP, study) of all that is found."""
    with writer.reader().view() as view:
        check_whole(view)
        return {
            (
                match.study.patient_attributes[0x00100020],
                match.instance.sop_instance_uid,
                match.study.uid,
            )
            for match in find(view, Query(QueryLevel.IMAGE))
            if match.instance is not None
        }


def test_it_is_found_and_parted(writer: IndexWriter, data: Path) -> None:
    found = findings(writer, data)
    assert [(one.kind, one.study_uid) for one in found] == [
        (FindingKind.JOINED, "1.2"),
        (FindingKind.JOINED, ""),
    ]
    assert all(outcome.done for outcome in repaired(writer, data))
    assert stand(writer) == SEPARATE
    assert findings(writer, data) == []
    with writer.reader().view() as view:
        names = {
            match.study.patient_attributes[0x00100020]: match.values()["PatientName"]
            for match in find(view, Query(QueryLevel.STUDY))
        }
        berta = next(find(view, Query(QueryLevel.STUDY, {"PatientID": "B2"}))).study
        found_again = view.instance("1.4.1")
    assert names == {"ANNA": "ANNA^NAME", "BERTA": "BERTA^NAME", "CARLA": "Carla"}
    assert berta.uid in ("1.2", "")
    assert found_again is not None
    kept = found_again[1]
    assert (kept.calling_ae_title, kept.peer, kept.sequence) == ("CT1", "::1", 1)
    tree = StoreTree(data)
    for stored in OF_RELEASE_0_2_0:
        assert Path(tree.absolute(stored.plain_path)).read_bytes() == file_bytes(stored)


def test_what_came_again_meanwhile_is_the_newer_one(writer: IndexWriter, data: Path) -> None:
    tree = StoreTree(data)
    again = Stored("1.4.1", "ANNA", pixels=b"newer" * 20)
    mark = patient_mark("ANNA", "")
    path = instance_path("1.2", "1.3", "1.4.1", mark)
    entry = lay(tree, again, path)
    entry.mark_as(mark)
    writer.commit(lambda batch: batch.put_instance(entry))
    assert all(outcome.done for outcome in repaired(writer, data))
    assert stand(writer) == SEPARATE
    assert findings(writer, data) == []
    assert Path(tree.absolute(path)).read_bytes() == file_bytes(again)
    aside = data / "set_aside" / OF_RELEASE_0_2_0[0].plain_path
    assert aside.read_bytes() == file_bytes(OF_RELEASE_0_2_0[0])


def test_a_missing_file_is_forgotten_first(writer: IndexWriter, data: Path) -> None:
    Path(StoreTree(data).absolute("".join(OF_RELEASE_0_2_0[1].plain_path))).unlink()
    assert [one.kind for one in findings(writer, data)] == [
        FindingKind.MISSING,
        FindingKind.JOINED,
        FindingKind.JOINED,
    ]
    assert all(outcome.done for outcome in repaired(writer, data))
    assert stand(writer) == {one for one in SEPARATE if one[1] != "1.4.2"}


def test_a_file_that_cannot_be_read_leaves_its_study(writer: IndexWriter, data: Path) -> None:
    path = Path(StoreTree(data).absolute(OF_RELEASE_0_2_0[1].plain_path))
    path.write_bytes(bytes(len(path.read_bytes())))
    outcomes = repaired(writer, data)
    assert [outcome.done for outcome in outcomes] == [False, True]
    assert len(stand(writer)) == len(SEPARATE)


def test_the_command_says_it_and_does_it_once(data: Path) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(
            verify_command.command,
            arguments,
            env={"SCAI_DATA": str(data)},
            standalone_mode=False,
        )
        assert done.exception is None, done.output
        return done.return_value, done.output

    code, said = run()  # of the index as 0.2.0 left it: a reader migrates nothing
    assert code == Exit.NEGATIVE
    assert "2 x a study that holds instances of several patients" in said
    code, said = run("--repair")
    assert code == Exit.NEGATIVE
    assert "2 x a study that holds instances of several patients" in said
    assert "repaired 2, left 0" in said
    with closing(IndexWriter(data)) as writer, writer.reader().view() as view:
        assert view.unparted() == 0
    code, said = run()
    assert code == Exit.OK
    assert "2 patients have studies of one UID, kept apart: 1.2" in said


def test_files_of_a_lost_index_are_taken_in_each_under_its_patient(tmp_path: Path) -> None:
    tree = StoreTree(tmp_path)
    anna, berta = Stored("1.4.1", "ANNA"), Stored("1.4.1", "BERTA")
    mark = patient_mark("BERTA", "")
    for path, stored in (
        (instance_path("1.2", "1.3", "1.4.1", mark), berta),
        (anna.plain_path, anna),
    ):
        lay(tree, stored, path)
    with closing(IndexWriter(tmp_path)) as writer:
        assert [one.kind for one in findings(writer, tmp_path)] == [FindingKind.UNKNOWN] * 2
        assert all(outcome.done for outcome in repaired(writer, tmp_path))
        assert findings(writer, tmp_path) == []
        assert stand(writer) == {("ANNA", "1.4.1", "1.2"), ("BERTA", "1.4.1", "1.2")}
