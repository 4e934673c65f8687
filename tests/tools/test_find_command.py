"""`scai find` from its command line to its exit code."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine.index.writer import IndexWriter
from tests.rigs.index_entries import make_entry
from tools.commands import find as find_command
from tools.face.terminal import Exit


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    writer = IndexWriter(directory)
    entries = [
        make_entry("1.4.1", StudyDate="20240105", StudyDescription="HEAD\x07\x1b[31m", Rows="\0\2"),
        make_entry("1.4.2", "1.3.2", Modality="MR", SeriesDescription="T1"),
        make_entry("1.4.3", "1.3.3", Modality="PT\\CT"),
        make_entry(
            "1.5.1", "1.6", "1.7", PatientID="P2", PatientName="M\xfcller^\x9b", Modality="CT"
        ),
    ]
    writer.commit(lambda batch: [batch.put_instance(entry) for entry in entries])
    writer.close()
    return directory


def run(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        find_command.command, arguments, env={"SCAI_DATA": str(data)}, standalone_mode=False
    )


def lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_studies_as_json(data: Path) -> None:
    result = run(data, "--format", "json")
    assert result.return_value == Exit.OK
    first, second = lines(result)
    assert first["study_instance_uid"] == "1.2"
    assert first["modalities_in_study"] == "CT\\MR\\PT"
    assert (first["series"], first["instances"], first["file_bytes"]) == (3, 3, 300)
    assert second["patient_id"] == "P2"
    assert result.stdout.isascii()
    assert "\x1b" not in result.stdout


def test_images_as_json(data: Path) -> None:
    (row,) = lines(run(data, "--level", "image", "--format", "json", "--sop-uid", "1.4.1"))
    assert row["path"].endswith("/1.2/1.3/1.4.1.dcm")  # type: ignore[attr-defined]
    assert row["rows"] == "512"
    assert row["crc32c"] == "00000007"
    assert row["calling_ae_title"] == "CT1"
    assert str(row["received"]).endswith("Z")


def test_a_table_cannot_steer_the_terminal(data: Path) -> None:
    result = run(data)
    assert result.return_value == Exit.OK
    assert "HEAD\\x0731m" in result.stdout
    assert "\x1b" not in result.stdout
    assert "\x9b" not in result.stdout
    assert "Patient ID" in result.stdout
    assert "1.7" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["--patient-id", "P1"], 1),
        (["--patient-name", "muller*"], 1),
        (["--study-date", "20240101-20240131"], 1),
        (["--modality", "MR"], 1),
        (["--modality", "MR", "--level", "series"], 1),
        (["--modality", "CT"], 2),
        (["--modality", "PT"], 1),
        (["--modality", "PT", "--level", "series"], 1),
        (["--description", "T?", "--level", "series"], 1),
        (["--key", "StudyDescription=HEAD*"], 1),
        (["--study-uid", "1.7", "--level", "image"], 1),
        (["--limit", "1", "--level", "image"], 1),
        (["--limit", str(2**70), "--modality", "CT"], 2),
        (["--accession", "nothing"], 0),
    ],
)
def test_options(data: Path, arguments: list[str], count: int) -> None:
    result = run(data, "--format", "json", *arguments)
    assert len(lines(result)) == count
    assert result.return_value == (Exit.OK if count else Exit.NEGATIVE)


@pytest.mark.parametrize(
    "arguments", [["--key", "PatientID"], ["--key", "Nonsense=1"], ["--study-date", "soon"]]
)
def test_mistakes(data: Path, arguments: list[str]) -> None:
    from engine.errors import OperatorError

    assert isinstance(run(data, *arguments).exception, OperatorError)


def test_nothing_stored_yet(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.return_value == Exit.NEGATIVE
    assert "nothing was stored yet" in result.stderr
