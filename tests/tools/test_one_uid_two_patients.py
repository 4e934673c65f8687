"""UIDs that two patients have, at the command line: shown, and touched only by saying whose."""

import json
from contextlib import closing
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from engine.config.loading import Remote
from engine.dictionary.patient_mark import patient_mark
from engine.errors import OperatorError
from engine.index.writer import IndexWriter
from engine.outbox.writer import OutboxWriter
from tests.rigs.index_entries import make_entry
from tools.commands import edit as edit_command
from tools.commands import find as find_command
from tools.commands.selection import Selection
from tools.commands.send_queueing import Queueing, Wanted
from tools.face.terminal import Exit


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with closing(IndexWriter(tmp_path)) as writer:
        entries = [
            make_entry("1.4.1", PatientID="ANNA"),
            make_entry("1.4.2", PatientID="BERTA"),
            make_entry("1.4.1", PatientID="BERTA"),
            make_entry("1.5.1", "1.6", "1.7", PatientID="CARLA"),
        ]
        writer.commit(lambda batch: [batch.put_instance(entry) for entry in entries])
    return tmp_path


def run(command: click.Command, data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        command, arguments, env={"SCAI_DATA": str(data)}, standalone_mode=False
    )


def rows(data: Path, *arguments: str) -> list[dict[str, object]]:
    found = run(find_command.command, data, "--format", "json", *arguments)
    return [json.loads(line) for line in found.stdout.splitlines()]


def test_find_marks_them(data: Path) -> None:
    marked = {row["patient_id"]: row.get("patients_of_study_uid") for row in rows(data)}
    assert marked == {"ANNA": 2, "BERTA": 2, "CARLA": None}
    shown = run(find_command.command, data)
    assert "Patients of this Study UID" in shown.output
    alone = run(find_command.command, data, "--patient-id", "CARLA")
    assert "Patients of this" not in alone.output
    twins = rows(data, "--level", "image", "--sop-uid", "1.4.1")
    assert {str(row["path"]).rpartition("/")[2] for row in twins} == {
        "1.4.1.dcm",
        f"1.4.1-{patient_mark('BERTA', '')}.dcm",
    }


def test_edit_asks_whose(data: Path) -> None:
    arguments = ("--study", "1.2", "StudyDescription=x", "--yes", "--who", "me")
    refused = run(edit_command.command, data, *arguments)
    assert isinstance(refused.exception, OperatorError)
    assert "2 patients have a study of this UID" in str(refused.exception)
    done = run(edit_command.command, data, *arguments, "--patient", "ANNA")
    assert done.return_value == Exit.OK, done.output
    described = {row["patient_id"]: row.get("study_description") for row in rows(data)}
    assert described == {"ANNA": "x", "BERTA": None, "CARLA": None}
    told = run(edit_command.command, data, "--study", "1.2", "--patient", "BERTA", "--history")
    assert told.return_value == Exit.NEGATIVE


def queued(data: Path, **wanted: object) -> list[tuple[str, str]]:
    """(SOP Instance UID, whose) of what `scai send` queues."""
    remote = Remote(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
    asked = Wanted([remote], (), Selection(**wanted))  # type: ignore[arg-type]
    with closing(OutboxWriter(data)) as writer:
        queueing = Queueing(writer, data, lambda done, total: None)
        queueing.run(asked)
        with writer.view() as outbox:
            found = [outbox.delivery(number) for number in queueing.numbers]
    return sorted((one.sop_instance_uid, one.patient) for one in found if one is not None)


@pytest.mark.parametrize(
    "wanted", [{"studies": ["1.2"]}, {"series": ["1.3"]}, {"instances": ["1.4.1"]}]
)
def test_send_asks_whose(data: Path, wanted: dict[str, object]) -> None:
    with pytest.raises(OperatorError, match="2 patients have a"):
        queued(data, **wanted)
    with pytest.raises(OperatorError, match="is that patient's"):
        queued(data, **wanted, patient="CARLA")
    assert queued(data, **wanted, patient="ANNA") == [("1.4.1", patient_mark("ANNA", ""))]


def test_what_only_one_has_needs_no_name(data: Path) -> None:
    berta = patient_mark("BERTA", "")
    assert queued(data, instances=["1.4.2"]) == [("1.4.2", berta)]
    assert queued(data, studies=["1.7"]) == [("1.5.1", patient_mark("CARLA", ""))]
