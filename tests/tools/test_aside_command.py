"""`scai aside`: what was set aside is listed, taken back as if it came now, or discarded."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine.errors import OperatorError
from engine.files.part10 import part10_head
from engine.index.environment import open_index_reader
from engine.outbox.view import OutboxView
from tests.rigs.indexer_box import Box, data_set
from tools.commands.aside import command
from tools.face.operators_log import orders

_CONFIGURATION = """
[storage_scp]
ae_title = "GATE"
replace = "never"
[[remotes]]
name = "pacs"
ae_title = "P"
host = "127.0.0.1"
port = 104
[[rules]]
name = "all"
to = ["pacs"]
when = { called_ae_title = "GATE" }
"""
SECOND, THIRD = "set_aside/storage_scp/2-1.7.dcm", "set_aside/storage_scp/3-1.7.dcm"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three instances of one UID, of which two were set aside."""
    directory = tmp_path / "data"
    directory.mkdir()
    (tmp_path / "scai.toml").write_text(f'data_directory = "{directory}"\n{_CONFIGURATION}')
    box = Box(directory, ("storage_scp",))
    box.intake.replace = {"storage_scp": "never"}
    for fill in (b"a", b"b", b"c"):
        box.store("1.7", "storage_scp", fill=fill)
    box.index()
    assert box.intake.checkpoint()
    box.close()
    head = part10_head("1.2.840.10008.5.1.4.1.1.2", "1.7", "1.2.840.10008.1.2.1", "CT")
    for path, fill in ((SECOND, b"b"), (THIRD, b"c")):  # the box has no heads
        (directory / path).write_bytes(head + data_set("1.7", fill=fill))
    return directory


def run(data: Path, *words: str, answer: str | None = None) -> Result:
    arguments = ["-c", str(data.parent / "scai.toml"), *words]
    return CliRunner().invoke(command, arguments, standalone_mode=False, input=answer)


def code(done: Result) -> object:
    """None of click's own is 0."""
    assert done.exception is None, done.output
    return done.return_value or 0


def stored(data: Path) -> bytes:
    [file] = data.glob("store/*/*/*/*.dcm")
    return file.read_bytes()[-100:]


def aside(data: Path) -> list[str]:
    found = (path for path in (data / "set_aside").rglob("*") if path.is_file())
    return sorted(str(path.relative_to(data)) for path in found)


def queued(data: Path) -> list[str]:
    with closing(open_index_reader(data)) as reader, reader.view() as view:
        return [each.destination for each in OutboxView.within(view).deliveries(study="1.2")]


def test_the_list(data: Path) -> None:
    done = run(data)
    assert code(done) == 0
    assert [line.split()[2:] for line in done.output.splitlines()] == [
        ["1.7", SECOND],
        ["1.7", THIRD],
    ]
    rows = [json.loads(line) for line in run(data, "--json").output.splitlines()]
    assert [row["path"] for row in rows] == [SECOND, THIRD]
    assert {row["sop_instance_uid"] for row in rows} == {"1.7"}
    assert rows[0]["bytes"] == (data / SECOND).stat().st_size


def test_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "scai.toml").write_text(f'data_directory = "{tmp_path / "data"}"\n')
    assert code(run(tmp_path / "data")) == 1
    assert code(run(tmp_path / "data", "discard", "--all", "--yes")) == 1


def test_what_would_replace_stays_unless_it_is_said(data: Path) -> None:
    done = run(data, "take-back", SECOND)
    assert code(done) == 1
    assert "stays: one of its SOP Instance UID is stored" in done.output
    assert stored(data) == b"a" * 100
    assert aside(data) == [SECOND, THIRD]
    assert list(orders(data)) == []


def test_it_is_taken_back_as_if_it_came_now(data: Path) -> None:
    assert queued(data) == []
    done = run(data, "take-back", "--replace", "--who", "Ada", THIRD.removeprefix("set_aside/"))
    assert code(done) == 0, done.output
    assert stored(data) == b"c" * 100
    assert aside(data) == [SECOND]
    assert queued(data) == ["pacs"], "by the rules, whose AE it came to"
    [order] = orders(data)
    assert (order["who"], order["order"], order["path"]) == ("Ada", "take-back", THIRD)


def test_what_nothing_stands_in_the_way_of_is_taken_back(data: Path) -> None:
    """As what the indexer died of."""
    box = Box(data, ("storage_scp",))
    box.writer.commit(lambda batch: batch.remove_instance("1.7"))
    box.close()
    for file in data.glob("store/*/*/*/*.dcm"):
        file.unlink()
    assert code(run(data, "take-back", SECOND)) == 0
    assert stored(data) == b"b" * 100
    assert aside(data) == [THIRD]


@pytest.mark.parametrize("answer", ["y\n", "n\n"])
def test_discarding_asks_and_says_how_much(data: Path, answer: str) -> None:
    size = sum((data / path).stat().st_size for path in (SECOND, THIRD))
    done = run(data, "discard", "--all", "--who", "Ada", answer=answer)
    assert f"Discard 2 files, {size} bytes, for good?" in done.output
    assert code(done) == (0 if answer == "y\n" else 1)
    assert aside(data) == ([] if answer == "y\n" else [SECOND, THIRD])
    assert stored(data) == b"a" * 100
    told = [(order["who"], order["order"], order["path"]) for order in orders(data)]
    both = [("Ada", "discard-aside", SECOND), ("Ada", "discard-aside", THIRD)]
    assert told == (both if answer == "y\n" else [])


def test_only_what_was_set_aside_can_be_named(data: Path) -> None:
    [file] = data.glob("store/*/*/*/*.dcm")
    for path in (f"../{file.relative_to(data)}", str(file), "set_aside", "storage_scp"):
        for words in (("take-back",), ("discard", "--yes")):
            done = run(data, *words, path)
            assert isinstance(done.exception, OperatorError), path
    (data / "set_aside" / "link.dcm").symlink_to(file)
    done = run(data, "take-back", "--replace", "link.dcm")
    assert "stays: no plain file" in done.output
    assert code(run(data, "discard", "--yes", "link.dcm")) == 0
    assert stored(data) == b"a" * 100
