"""`scai queue` from its command line to its exit code, and what the outbox holds afterwards."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine.index.writer import IndexWriter
from engine.outbox.outbox import Outbox
from engine.outbox.records import State
from engine.outbox.spool import spooled_path
from engine.outbox.writer import OutboxWriter
from tests.rigs.index_entries import make_entry
from tests.rigs.outbox_deliveries import new
from tools import cli
from tools.commands import queue as queue_command
from tools.face.terminal import Exit

CONFIGURATION = """
[[remotes]]
name = "PACS"
ae_title = "PACS"
host = "pacs.example"
port = 104

[[remotes]]
name = "Archive"
ae_title = "ARC"
host = "archive.example"
port = 104
paused = true
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Deliveries 1 to 6: waiting, failed, delivered, retrying, waiting (a copy), being sent."""
    (tmp_path / "scai.toml").write_text(CONFIGURATION)
    index = IndexWriter(tmp_path)
    index.commit(lambda batch: batch.put_instance(make_entry("1.1", "1.2.1", "1.2")))
    index.close()
    spooled_path(tmp_path, "copy.dcm").parent.mkdir()
    spooled_path(tmp_path, "copy.dcm").write_bytes(b"x")
    writer = OutboxWriter(tmp_path)
    writer.commit(_fill)
    writer.close()
    return tmp_path


def _fill(outbox: Outbox) -> None:
    for number in (1, 2, 3, 4):
        outbox.enqueue(new(f"1.{number}"), number)
    outbox.lease("PACS", 4, 10)
    outbox.attempt_failed(2, 11, "A700 \x1b[31mout of resources", 0xA700, None)
    outbox.delivered(3, 12, 0xB000, "coerced")
    outbox.attempt_failed(4, 13, "time-out", -1, 2_000_000_000 * 10**9)
    outbox.return_leases()
    outbox.enqueue(new("1.5", destination="Old", file="copy.dcm"), 14)
    outbox.enqueue(new("1.6", "1.9", "Archive"), 15)
    outbox.lease("Archive", 1, 16)


def run(data: Path, *arguments: str, said: str = "") -> Result:
    environment = {"SCAI_DATA": str(data), "SCAI_CONFIG": str(data / "scai.toml")}
    return CliRunner().invoke(
        queue_command.command, arguments, said, env=environment, standalone_mode=False
    )


def numbers(result: Result) -> list[int]:
    return [json.loads(line)["number"] for line in result.stdout.splitlines()]


def states(data: Path) -> dict[int, State]:
    writer = OutboxWriter(data)
    with writer.view() as outbox:
        found = {delivery.number: delivery.state for delivery in outbox.deliveries()}
    writer.close()
    return found


# --- looking --------------------------------------------------------------------------------------
def test_the_list_says_what_is_not_delivered(data: Path) -> None:
    result = run(data)
    assert result.return_value == Exit.OK, result.output
    summary, _, listed = result.stdout.partition("\n\n")
    rows = {line.split()[0]: line.split()[1:] for line in summary.splitlines()}
    assert rows["PACS"] == ["1", "0", "1", "1", "1", "0"]
    assert rows["Archive"] == ["0", "1", "0", "0", "0", "0", "paused", "by", "the", "configuration"]
    assert rows["Old"] == ["1", "0", "0", "0", "0", "0", "not", "in", "the", "configuration"]
    assert [line.split()[0] for line in listed.splitlines()[1:]] == ["1", "2", "4", "5", "6"]
    assert "A700 \\x1b[31mout of resources" in listed
    assert "\x1b[31m" not in result.stdout
    assert "2033-05-18T03:33:20Z" in listed


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), [1, 2, 4, 5, 6]),
        (("--limit", "2"), [1, 2]),
        (("--to", "PACS"), [1, 2, 4]),
        (("--state", "delivered"), [3]),
        (("--state", "sending", "--to", "Archive"), [6]),
        (("--study", "1.2"), [1, 2, 3, 4, 5]),
        (("--study", "1.2", "--state", "failed"), [2]),
        (("--to", "Nobody"), []),
    ],
)
def test_json_lines(data: Path, arguments: tuple[str, ...], expected: list[int]) -> None:
    result = run(data, *arguments, "--json")
    assert numbers(result) == expected
    assert result.return_value == (Exit.OK if expected else Exit.NEGATIVE)
    assert result.stdout.isascii()


def test_long_lists_come_in_portions(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_command, "outbox_page_max", 2)
    assert numbers(run(data, "--json")) == [1, 2, 4, 5, 6]
    assert numbers(run(data, "--json", "--limit", "3")) == [1, 2, 4]
    assert "the first 4; more" in run(data, "--limit", "4").stderr


def test_show(data: Path) -> None:
    result = run(data, "show", "3", "1", "--json")
    delivered, waiting = (json.loads(line) for line in result.stdout.splitlines())
    assert (delivered["status"], delivered["warning"]) == ("B000", True)
    assert waiting["status"] is None
    assert waiting["file"].endswith("/1.2/1.2.1/1.1.dcm")
    assert waiting["file"].startswith("store/")
    result = run(data, "show", "5", "77")
    assert result.return_value == Exit.NEGATIVE
    assert "77: no such delivery" in result.stderr
    assert "file                 outbox/copy.dcm" in result.stdout
    # Nobody is named: UIDs, remote AEs and answers are all there is.
    assert "Doe" not in run(data, "show", "1").stdout


# --- changing -------------------------------------------------------------------------------------
def test_retry(data: Path) -> None:
    result = run(data, "retry", "2", "4", "4", "6", "99")
    assert result.return_value == Exit.NEGATIVE
    assert result.stdout == "2 to PACS starts over\n4 to PACS starts over\n"
    assert result.stderr == "6: left alone, it is sending\n99: no such delivery\n"
    assert states(data)[2] is states(data)[4] is State.WAITING


def test_retry_all(data: Path) -> None:
    result = run(data, "retry", "--all", "--to", "Archive")
    assert (result.return_value, result.stdout) == (Exit.NEGATIVE, "0 deliveries start over\n")
    result = run(data, "retry", "--all")
    assert (result.return_value, result.stdout) == (Exit.OK, "1 delivery starts over\n")
    assert states(data)[2] is State.WAITING
    assert states(data)[4] is State.RETRYING


def test_who_is_away_is_shown_and_asked_at_once(data: Path) -> None:
    began_ns = 1_700_000_000 * 10**9
    writer = OutboxWriter(data)
    writer.commit(lambda outbox: outbox.note_away("PACS", began_ns, 1.0, "nobody \x1b[31m listens"))
    writer.close()
    shown = " ".join(run(data).stdout.split())
    assert "away since 2023-11-14T22:13:20Z: nobody \\x1b[31m listens; asked 1 time, next" in shown
    result = run(data, "retry", "1")
    assert (result.return_value, result.stdout) == (Exit.OK, "1 to PACS starts over\n")
    result = run(data, "retry", "--all", "--to", "PACS", "--study", "1")
    assert result.return_value == Exit.OK
    assert result.stdout.startswith("PACS, away since 2023-11-14T22:13:20Z, is asked at once\n")
    result = run(data, "retry", "--all", "--to", "Old")
    assert (result.return_value, result.stdout) == (Exit.NEGATIVE, "0 deliveries start over\n")
    writer = OutboxWriter(data)
    with writer.view() as outbox:
        assert outbox.asked().keys() == {"PACS"}
    writer.close()


def test_all_is_done_in_portions(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.commands.queue_change.outbox_portion_max", 2)
    writer = OutboxWriter(data)
    writer.commit(lambda outbox: [outbox.enqueue(new(f"2.{n}", "2"), 20) for n in range(5)])
    writer.close()
    assert run(data, "hold", "--all", "--study", "2").stdout == "5 deliveries are held\n"
    held = [number for number, state in states(data).items() if state is State.HELD]
    assert len(held) == 5
    assert run(data, "release", "--all").stdout == "5 deliveries are released\n"
    assert State.HELD not in states(data).values()


def test_hold_and_release(data: Path) -> None:
    assert run(data, "hold", "--all").stdout == "3 deliveries are held\n"
    assert [number for number, state in states(data).items() if state is State.HELD] == [1, 4, 5]
    assert run(data, "release", "1").return_value == Exit.OK
    assert states(data)[1] is State.WAITING
    assert run(data, "release", "1").return_value == Exit.NEGATIVE


def test_discard_asks(data: Path) -> None:
    result = run(data, "discard", "5", said="n\n")
    assert result.return_value == Exit.NEGATIVE
    assert "Discard delivery 5? What is discarded will not be sent" in result.output
    assert "--yes" in str(run(data, "discard", "5").exception), "nobody answers"
    assert 5 in states(data)
    assert run(data, "discard", "5", said="y\n").return_value == Exit.OK
    assert 5 not in states(data)
    assert not spooled_path(data, "copy.dcm").exists()


def test_discard_shows_what_and_whose_before_it_asks(data: Path) -> None:
    asked = run(data, "discard", "1", "2", said="n\n").stderr
    assert "1 to PACS: waiting: study 1.2 of patient 'P1', 'Doe^Jane'\n" in asked
    assert "2 to PACS: failed (A700 \\x1b[31mout of resources): study 1.2" in asked
    assert "\x1b" not in asked
    asked = run(data, "discard", "--all", "--state", "waiting", said="n\n").stderr
    assert "1 to PACS" in asked
    assert "5 to Old" in asked
    assert "Discard all that are waiting (2 of them)?" in asked
    writer = OutboxWriter(data)
    writer.commit(lambda outbox: [outbox.enqueue(new(f"2.{n}"), 20) for n in range(30)])
    writer.close()
    asked = run(data, "discard", "--all", "--state", "waiting", said="n\n").stderr
    assert "... and 12 more" in asked
    assert "(32 of them)?" in asked
    assert len(asked.splitlines()) < 25
    assert run(data, "discard", "--all", "--to", "Nobody", said="n\n").stderr.startswith(
        "Discard all that are failed to Nobody (0 of them)?"
    )


def test_discard_all_means_what_failed(data: Path) -> None:
    result = run(data, "discard", "--all", "--to", "PACS", "--yes")
    assert result.stdout == "1 delivery is discarded\n"
    assert sorted(states(data)) == [1, 3, 4, 5, 6]
    run(data, "discard", "--all", "--to", "PACS", "--state", "waiting", "--yes")
    assert sorted(states(data)) == [3, 4, 5, 6]


def test_pause_and_resume(data: Path) -> None:
    assert run(data, "pause", "PACS").return_value is None
    assert "paused" in run(data, "--to", "PACS").stdout
    assert run(data, "resume", "PACS").return_value == Exit.OK
    assert "paused" not in run(data, "--to", "PACS").stdout
    assert run(data, "pause", "Old").exception is None
    result = run(data, "resume", "Archive")
    assert result.return_value == Exit.NEGATIVE
    assert "stays paused" in result.stdout
    error = run(data, "pause", "Nobody\x1b").exception
    assert "'Nobody\\x1b' is no remote AE; there are: 'Archive', 'Old', 'PACS'" in str(error)
    assert "'患者' is no remote AE" in str(run(data, "pause", "患者").exception)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("retry",), "either NUMBERS or --all"),
        (("hold", "1", "--all"), "either NUMBERS or --all"),
        (("release", "1", "--to", "PACS"), "go with --all"),
        (("discard", "--all", "--state", "sending"), "'sending' is not one of"),
        (("retry", "0"), "0 is not in the range"),
        (("hold", str(2**64)), "is not in the range"),
        (("show", str(2**64)), "is not in the range"),
        (("--to", "PACS", "retry", "2"), "options of retry stand behind it"),
        (("show",), "Missing parameter: numbers"),
    ],
)
def test_wrong_command_lines(data: Path, arguments: tuple[str, ...], complaint: str) -> None:
    before = states(data)
    result = run(data, *arguments)
    assert complaint in str(result.exception)
    assert states(data) == before


def test_the_nearer_configuration_counts(data: Path) -> None:
    other = data / "other.toml"
    other.write_text(CONFIGURATION.replace("Archive", "Other"))
    path = str(other)
    assert run(data, "-c", path, "pause", "Other").exception is None
    assert run(data, "resume", "Other", "-c", path).return_value == Exit.NEGATIVE


def test_nothing_is_made_where_nothing_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scai.toml").write_text(CONFIGURATION)
    result = run(tmp_path)
    assert result.return_value == Exit.NEGATIVE
    assert result.stderr == "nothing was queued yet\n"
    assert run(tmp_path, "show", "1").return_value == Exit.NEGATIVE
    config = str(tmp_path / "scai.toml")
    line = ["queue", "retry", "--all", "-c", config]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCAI_DATA", str(tmp_path))
        assert cli.run_command_line(cli.scai, line, "scai") == Exit.OPERATOR
    assert "the service has not run here yet" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["scai.toml"]


_STRANGER = """
import os, sys
from pathlib import Path
from engine.errors import OperatorError
from engine.index.environment import NoIndexError, open_index_reader
from engine.outbox.writer import OutboxWriter
if os.getuid() == 0:
    os.setgroups([])
    os.setuid(65534)
for open_it in (open_index_reader, OutboxWriter):
    try:
        open_it(Path("."))
    except OperatorError as error:
        print(type(error) is not NoIndexError, error)
"""


def test_who_has_no_right_is_told_so(data: Path) -> None:
    data.chmod(0o755)
    (data / "index").chmod(0o755)
    for path in (data / "index").iterdir():
        path.chmod(0)  # to its owner as well: who runs the tests may not be root
    said = subprocess.run(
        [sys.executable, "-c", _STRANGER],
        cwd=data,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    read, changed = said.stdout.splitlines()
    assert read.startswith("True index: may not be read by this user")
    assert changed.startswith("True index: may not be changed by this user")
