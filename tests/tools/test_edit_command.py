"""`scai edit` asks before it corrects: whose, what it is and would be, and how much."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine.index.writer import IndexWriter
from tests.rigs.index_entries import make_entry
from tools.commands import edit as edit_command
from tools.face.terminal import Exit


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """ANNA has two studies of three instances, in which her name is written in two ways."""
    anna = {"PatientID": "ANNA", "StudyDescription": "Head"}
    entries = [
        make_entry("1.1", "1.2.1", "1.2", PatientName="ROE^ANNA", **anna),
        make_entry("1.2", "1.2.1", "1.2", PatientName="ROE^ANNA", **anna),
        make_entry("1.3", "1.3.1", "1.3", PatientName="ROE^ANNA^MARIA", **anna),
        make_entry("1.4", "1.4.1", "1.4", PatientID="BERTA", PatientName="DOE^BERTA"),
    ]
    with closing(IndexWriter(tmp_path)) as writer:
        writer.commit(lambda batch: [batch.put_instance(entry) for entry in entries])
    return tmp_path


def run(data: Path, *arguments: str, said: str = "") -> Result:
    return CliRunner().invoke(
        edit_command.command,
        (*arguments, "--who", "me"),
        said,
        env={"SCAI_DATA": str(data)},
        standalone_mode=False,
    )


def test_a_patient_is_shown_with_all_that_is_touched(data: Path) -> None:
    asked = run(data, "--patient", "ANNA", "PatientName=DOE^ANNA", "PatientSex=F", said="n\n")
    assert asked.return_value == Exit.NEGATIVE
    shown = asked.stderr
    assert "patient 'ANNA', 'ROE^ANNA'" in shown
    assert "PatientName: 'ROE^ANNA' or 'ROE^ANNA^MARIA' -> 'DOE^ANNA'" in shown
    assert "PatientSex: '' -> 'F'" in shown
    assert "Correct patient ANNA (2 studies, 3 instances)? [y/N]" in shown
    assert "BERTA" not in shown
    assert asked.stdout == ""
    assert run(data, "--patient", "ANNA").return_value == Exit.NEGATIVE, "nothing was changed"


def test_a_study_and_a_series(data: Path) -> None:
    asked = run(data, "--study", "1.2", "StudyDescription=Neck", said="n\n").stderr
    assert "patient 'ANNA', 'ROE^ANNA'" in asked
    assert "StudyDescription: 'Head' -> 'Neck'" in asked
    assert "Correct study 1.2 of patient 'ANNA' (1 study, 2 instances)?" in asked
    asked = run(data, "--series", "1.2.1", "SeriesDescription=Neck", said="n\n").stderr
    assert "patient 'ANNA', 'ROE^ANNA'" in asked
    assert "SeriesDescription: '' -> 'Neck'" in asked
    assert "Correct series 1.2.1 of patient 'ANNA' (2 instances)?" in asked


def test_what_is_withdrawn_is_shown_as_it_stands(data: Path) -> None:
    assert run(data, "--study", "1.2", "StudyDescription=Neck", said="y\n").return_value == Exit.OK
    asked = run(data, "--study", "1.2", "--withdraw", "StudyDescription", said="y\n")
    assert "StudyDescription: 'Neck' -> as received" in asked.stderr
    assert asked.return_value == Exit.OK


def test_nobody_answers(data: Path) -> None:
    refused = run(data, "--study", "1.2", "StudyDescription=Neck")
    assert "--yes" in str(refused.exception)
    assert run(data, "--study", "1.2").return_value == Exit.NEGATIVE, "nothing was changed"


def test_json_is_for_programs_also_where_one_is_asked(data: Path) -> None:
    arguments = ("--patient", "ANNA", "PatientName=DOE^ANNA")
    done = run(data, *arguments, "--json", said="y\n")
    (line,) = (json.loads(line) for line in done.stdout.splitlines())
    assert (line["keyword"], line["old"], line["new"]) == ("PatientName", "ROE^ANNA", "DOE^ANNA")
    standing = json.loads(run(data, "--patient", "ANNA", "--json").stdout)
    assert (standing["keyword"], standing["value"]) == ("PatientName", "DOE^ANNA")
    (told,) = run(data, "--patient", "ANNA", "--history", "--json").stdout.splitlines()
    assert json.loads(told)["who"] == "me"
    again = run(data, *arguments, "--json", "--yes")
    assert "nothing to change" in json.loads(again.stdout)["text"]
