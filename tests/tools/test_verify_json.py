"""`scai verify` for programs: every difference, every remedy and the counts as JSON lines."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine.index.writer import IndexWriter
from tests.rigs.index_entries import make_entry
from tools.commands.verify import command
from tools.face.terminal import Exit

_STRAYS = 25  # more than people are shown of a kind


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An indexed instance whose file is gone, and files that are no instances."""
    with closing(IndexWriter(tmp_path)) as writer:
        writer.commit(lambda batch: batch.put_instance(make_entry("1.1", "1.3", "1.2")))
    (tmp_path / "store" / "deep" / "er").mkdir(parents=True)
    for number in range(_STRAYS):
        (tmp_path / "store" / "deep" / "er" / f"{number}\x1b.txt").write_bytes(b"x")
    return tmp_path


def run(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        command,
        ("--json", "--who", "me", *arguments),
        env={"SCAI_DATA": str(data)},
        standalone_mode=False,
    )


def told(result: Result) -> dict[str, list[dict[str, object]]]:
    """Its lines, by what each tells."""
    assert result.exception is None
    assert result.stdout.isascii()
    lines: dict[str, list[dict[str, object]]] = {}
    for line in result.stdout.splitlines():
        fields = json.loads(line)
        lines.setdefault(fields.pop("told"), []).append(fields)
    return lines


def test_every_difference_is_told(data: Path) -> None:
    result = run(data)
    assert result.return_value == Exit.NEGATIVE
    lines = told(result)
    kinds = [line["kind"] for line in lines["difference"]]
    assert (kinds.count("missing"), kinds.count("foreign")) == (1, _STRAYS)
    (missing,) = (line for line in lines["difference"] if line["kind"] == "missing")
    assert missing["sop_instance_uid"] == "1.1"
    assert "the row is taken out" in str(missing["remedy"])
    (counts,) = lines["checked"]
    assert (counts["instances"], counts["files"]) == (1, _STRAYS)
    assert counts["differences"] == _STRAYS + 1
    assert "repairs" not in lines


def test_every_repair_is_told(data: Path) -> None:
    result = run(data, "--repair")
    assert result.return_value == Exit.NEGATIVE, "there were differences"
    lines = told(result)
    done = [(line["action"], line["done"]) for line in lines["repair"]]
    assert (done.count(("forget", True)), done.count(("set_aside", True))) == (1, _STRAYS)
    assert lines["repairs"] == [{"repaired": _STRAYS + 1, "left": 0}]
    again = run(data, "--repair")
    assert (again.return_value, list(told(again))) == (Exit.OK, ["checked"])


def test_files_without_an_index(tmp_path: Path) -> None:
    assert run(tmp_path).return_value == Exit.OK
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "one").write_bytes(b"x")
    result = run(tmp_path)
    assert result.return_value == Exit.NEGATIVE
    (counts,) = told(result)["checked"]
    assert (counts["instances"], counts["files"], counts["differences"]) == (0, 1, 1)
    assert "there is no index, but 1 file is in store/" in str(counts["text"])
