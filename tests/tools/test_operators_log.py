"""What operators do is kept with who did it, durably, and without a patient's data."""

import fcntl
import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from engine.index.writer import IndexWriter
from engine.outbox.outbox import Outbox
from engine.outbox.writer import OutboxWriter
from tests.rigs.index_entries import make_entry
from tests.rigs.outbox_deliveries import new
from tests.rigs.sending import ct_files
from tools.commands import edit, queue, send, verify
from tools.face import operators_log
from tools.face.operators_log import LOG_NAME, note_order, orders
from tools.face.terminal import Exit

ROOT = Path(__file__).parents[2]
NAMES = ("ROE", "JANE", "P-4711", "Secret")  # nothing of this may be in the log
CONFIGURATION = """
[[remotes]]
name = "PACS"
ae_title = "PACS"
host = "pacs.example"
port = 104
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """One instance of a patient, and deliveries 1 to 3 of it: waiting, waiting, failed."""
    (tmp_path / "scai.toml").write_text(CONFIGURATION)
    entry = make_entry("1.1", "1.2.1", "1.2", PatientID="P-4711", PatientName="ROE^JANE")
    with closing(IndexWriter(tmp_path)) as index:
        index.commit(lambda batch: batch.put_instance(entry))
    with closing(OutboxWriter(tmp_path)) as writer:
        writer.commit(_fill)
    return tmp_path


def _fill(outbox: Outbox) -> None:
    for number in (3, 1, 2):
        outbox.enqueue(new(f"1.{number}"), 1)
        if number == 3:
            outbox.lease("PACS", 1, 2)
            outbox.attempt_failed(1, 3, "refused", 0xA700, None)


def run(command: click.Command, data: Path, *arguments: str, said: str = "") -> Result:
    environment = {"SCAI_DATA": str(data), "SCAI_CONFIG": str(data / "scai.toml")}
    return CliRunner().invoke(command, arguments, said, env=environment, standalone_mode=False)


def kept(data: Path) -> list[dict[str, object]]:
    return list(orders(data))


@pytest.mark.parametrize(
    ("arguments", "order", "fields"),
    [
        (("retry", "1"), "retry", {"deliveries": 1, "numbers": [1]}),
        (("retry", "--all"), "retry", {"deliveries": 1}),
        (("hold", "--all", "--to", "PACS"), "hold", {"deliveries": 2, "destination": "PACS"}),
        (("hold", "--all", "--study", "1.2"), "hold", {"deliveries": 2, "study_uid": "1.2"}),
        (("discard", "1", "--yes"), "discard", {"deliveries": 1, "numbers": [1]}),
        (("pause", "PACS"), "pause", {"destination": "PACS"}),
        (("resume", "PACS"), "resume", {"destination": "PACS"}),
    ],
)
def test_orders_to_the_queue(
    data: Path, arguments: tuple[str, ...], order: str, fields: dict[str, object]
) -> None:
    result = run(queue.command, data, *arguments, "--who", "Dr. Who")
    assert result.exception is None, result.output
    (line,) = kept(data)
    assert line.pop("time")
    assert line.pop("user")
    assert line == {"event": "operator_order", "who": "Dr. Who", "order": order} | fields
    told = run(queue.command, data, "history")
    assert told.return_value == Exit.OK
    assert "Dr. Who" in told.stdout
    assert order in told.stdout
    assert json.loads(run(queue.command, data, "history", "--json").stdout)["order"] == order


def test_release_and_sending(data: Path) -> None:
    run(queue.command, data, "hold", "2", "--who", "me")
    run(queue.command, data, "release", "2", "--who", "me")
    sent = run(send.command, data, "--to", "PACS", "--study", "1.2", "--no-wait", "--who", "me")
    assert sent.return_value == Exit.OK, sent.output
    assert [line["order"] for line in kept(data)] == ["hold", "release", "send"]
    assert kept(data)[-1]["study_uids"] == ["1.2"]
    assert kept(data)[-1]["destinations"] == ["PACS"]


def test_what_changed_nothing_is_no_order(data: Path) -> None:
    run(queue.command, data, "release", "1")
    run(queue.command, data, "hold", "--all", "--to", "Nobody")
    run(queue.command, data, "discard", "1", said="n\n")
    assert kept(data) == []
    told = run(queue.command, data, "history")
    assert (told.return_value, told.stderr) == (Exit.NEGATIVE, "nobody changed the queue\n")


def test_nothing_of_a_patient_is_kept(data: Path) -> None:
    (given,) = ct_files(data / "ROE", 1)
    given = given.rename(given.with_name("JANE.dcm"))
    sent = run(send.command, data, "--to", "PACS", str(given), "--no-wait", "--who", "me")
    assert sent.return_value == Exit.OK, sent.output
    stray = data / "store" / "JANE" / "ROE.dcm"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"no instance")
    by_patient = ("--patient", "P-4711", "PatientID=P-4711b", "PatientName=Secret^JANE", "--yes")
    assert run(edit.command, data, *by_patient, "--who", "me").return_value == Exit.OK
    by_study = ("--study", "1.2", "StudyDescription=Secret", "--yes", "--who", "me")
    assert run(edit.command, data, *by_study).return_value == Exit.OK
    run(verify.command, data, "--repair", "--who", "me")
    assert run(queue.command, data, "discard", "--all", said="y\n").return_value == Exit.OK
    lines = kept(data)
    assert [line["order"] for line in lines] == [
        *("send", "correct", "correct", "repair", "discard")
    ]
    assert lines[0]["paths"] == 1
    lines.pop(0)
    assert lines[0]["keywords"] == ["PatientID", "PatientName"]
    assert lines[1]["study_uid"] == "1.2"
    assert lines[2]["repaired"] == {"forget": 1, "set_aside": 1}
    text = (data / LOG_NAME).read_text()
    assert not [name for name in NAMES if name.lower() in text.lower()]
    shown = run(queue.command, data, "history").stdout
    assert "discard" in shown
    assert "correct" not in shown, "corrections have a history of their own"


def test_who_called_sudo_is_kept_whatever_is_said(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "anna")
    monkeypatch.setenv("LOGNAME", "scai")
    run(queue.command, data, "hold", "2")
    run(queue.command, data, "release", "2", "--who", "berta")
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    monkeypatch.delenv("SUDO_USER")
    run(queue.command, data, "hold", "2", "--who", "carla")
    first, second, third = kept(data)
    assert first["who"] == "anna (scai)"
    assert (second["who"], second["sudo_user"]) == ("berta", "anna")
    assert (third["who"], third["user"]) == ("carla", "4000000"), "a user without a name"


def test_nobody_known_must_say_who(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("no such user")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert "say --who NAME" in str(run(queue.command, data, "hold", "2").exception)
    assert run(queue.command, data, "hold", "2", "--who", "me").return_value == Exit.OK
    assert "no UTF-8" in str(run(queue.command, data, "hold", "3", "--who", "\udcff").exception)


def test_a_full_log_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators_log, "operators_log_bytes_max", 2000)
    for number in range(40):
        note_order(tmp_path, "me", "hold", number=number)
    assert {path.name for path in tmp_path.iterdir()} == {LOG_NAME, f"{LOG_NAME}.1"}
    assert all(path.stat().st_size < 2200 for path in tmp_path.iterdir())
    numbers = [line["number"] for line in orders(tmp_path)]
    assert numbers == list(range(int(str(numbers[0])), 40))
    assert len(numbers) > 10


def test_a_line_that_was_cut_short_takes_no_other_with_it(tmp_path: Path) -> None:
    note_order(tmp_path, "me", "hold", number=1)
    with (tmp_path / LOG_NAME).open("ab") as log:
        log.write(b'{"time": "2026-')
    note_order(tmp_path, "me", "hold", number=2)
    assert [line["number"] for line in orders(tmp_path)] == [1, 2]


def test_who_comes_while_another_makes_room_writes_into_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note_order(tmp_path, "me", "hold", number=1)
    asked: list[int] = []
    real = fcntl.flock

    def slow(descriptor: int, operation: int) -> None:
        real(descriptor, operation)
        if not asked:
            (tmp_path / LOG_NAME).replace(tmp_path / f"{LOG_NAME}.1")
        asked.append(operation)

    monkeypatch.setattr(fcntl, "flock", slow)
    note_order(tmp_path, "me", "hold", number=2)
    assert asked == [fcntl.LOCK_EX] * 2
    assert '"number": 2' in (tmp_path / LOG_NAME).read_text()
    assert [line["number"] for line in orders(tmp_path)] == [1, 2]


_WRITER = """
import sys
from pathlib import Path
from tools.face import operators_log
operators_log.operators_log_bytes_max = 4000
for number in range(60):
    operators_log.note_order(Path(sys.argv[1]), sys.argv[2], "hold", number=number)
"""


def test_several_write_at_once(tmp_path: Path) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path), who], cwd=ROOT)
        for who in "abc"
    ]
    assert [one.wait(120) for one in started] == [0, 0, 0]
    lines = list(orders(tmp_path))
    assert len(lines) > 20
    for who in "abc":  # nothing is lost in the middle
        numbers = [int(str(line["number"])) for line in lines if line["who"] == who]
        assert numbers == list(range(numbers[0], 60)) if numbers else True


def test_the_log_is_the_services_users_and_no_link(tmp_path: Path) -> None:
    note_order(tmp_path, "me", "hold")
    found = (tmp_path / LOG_NAME).stat()
    assert found.st_mode & 0o777 == 0o600
    if os.getuid() == 0:
        other = tmp_path / "other"
        other.mkdir()
        os.chown(other, 65534, 65534)
        note_order(other, "me", "hold")
        assert (other / LOG_NAME).stat().st_uid == 65534
    led = tmp_path / "led"
    led.mkdir()
    (led / LOG_NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        note_order(led, "me", "hold")
    assert not (tmp_path / "elsewhere").exists()
