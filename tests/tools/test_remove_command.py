"""`scai remove` from its command line to its exit code, without a service."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine.dictionary.patient_mark import patient_mark
from engine.errors import OperatorError
from engine.outbox.records import NewDelivery
from tests.rigs.removals import NOW, RemovalBox
from tests.rigs.two_patients import Stored, file_bytes
from tools.commands import find as find_command
from tools.commands import remove as remove_command
from tools.face.operators_log import orders
from tools.face.terminal import Exit


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Study 1.2: two instances that were delivered. Study 1.3: one that was not. Study 1.4: one of
    patient A, one of patient B."""
    box = RemovalBox(tmp_path)
    box.store("1.1")
    box.store("1.2")
    box.store("3.1", study="1.3")
    box.store("4.1", study="1.4", patient="A")
    box.store("4.1", study="1.4", patient="B")
    box.index()
    box.deliver("1.1", "1.2")
    box.close()
    return tmp_path


def run(data: Path, *arguments: str, said: str = "") -> Result:
    return CliRunner().invoke(
        remove_command.command,
        arguments,
        said,
        env={"SCAI_DATA": str(data), "SCAI_CONFIG": ""},
        standalone_mode=False,
    )


def stored(data: Path) -> list[str]:
    box = RemovalBox(data)
    try:
        box.index()
        box.check()
        with box.reader.view() as view:
            return sorted(each.sop_instance_uid for _, each in view.instances_after(b"", 100))
    finally:
        box.close()


def test_what_was_delivered_goes_and_is_remembered(data: Path) -> None:
    done = run(data, "--study", "1.2", "--who", "Ann", "--why", "a mistake", "--yes")
    assert done.return_value == Exit.OK, done.output
    assert "removed 2 instances" in done.stdout
    assert "they had been delivered to PACS (2, the last 1970-01-01T" in done.stdout
    assert stored(data) == ["3.1", "4.1", "4.1"]
    history = run(data, "--history")
    (noted,) = orders(data)
    assert (noted["order"], noted["who"], noted["study_uids"]) == ("remove", "Ann", ["1.2"])
    assert "Ann, 'a mistake'  study 1.2: 2 instances, delivered to PACS (2" in history.stdout


def test_programs_are_told_the_same(data: Path) -> None:
    done = run(data, "--study", "1.2", "--who", "Ann", "--why", "a mistake", "--yes", "--json")
    told = json.loads(done.stdout)
    assert (told["progress"], told["instances"], told["texts"]) == ("done", 2, [])
    assert told["delivered"].startswith("PACS (2, ")
    (line,) = run(data, "--history", "--json").stdout.splitlines()
    history = json.loads(line)
    assert (history["who"], history["why"], history["level"]) == ("Ann", "a mistake", "study")
    assert (history["uid"], history["instances"]) == ("1.2", 2)


def found(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        find_command.command,
        arguments,
        env={"SCAI_DATA": str(data), "SCAI_CONFIG": ""},
        standalone_mode=False,
    )


def test_find_says_until_when_it_was_here_and_who_has_it(data: Path) -> None:
    run(data, "--study", "1.2", "--who", "Ann", "--why", "a mistake", "--yes")
    plain = found(data, "--study-uid", "1.2")
    assert plain.return_value == Exit.NEGATIVE
    assert "study 1.2 of patient '' was here until 20" in plain.stderr
    assert "delivered to PACS (2, the last 1970-" in plain.stderr
    assert "removed by Ann (a mistake)" in plain.stderr
    listed = found(data, "--removed", "--format", "json")
    assert listed.return_value == Exit.OK
    line = json.loads(listed.stdout)
    assert (line["study_instance_uid"], line["removed_by"], line["here"]) == ("1.2", "Ann", False)
    assert line["delivered"]["PACS"]["instances"] == 2
    assert found(data, "--removed", "--patient-id", "A").return_value == Exit.NEGATIVE
    run(data, "--study", "1.4", "--patient", "A", "--who", "Bob", "--yes", "--force")
    of_one = found(data, "--removed", "--patient-id", "A")
    assert "study 1.4 of patient 'A' was here until" in of_one.stdout
    assert "delivered to nobody; removed by Bob\n" in of_one.stdout


def test_find_says_what_is_left_or_here_again(data: Path) -> None:
    run(data, "--instance", "1.1", "--who", "Ann", "--yes")
    part = found(data, "--removed", "--study-uid", "1.2")
    assert "(1 of 2 instances)" in part.stdout
    assert part.stdout.endswith("; the rest is here\n")
    run(data, "--instance", "3.1", "--who", "Ann", "--yes", "--force")
    box = RemovalBox(data)
    box.store("3.1", study="1.3")
    box.index()
    box.close()
    again = found(data, "--removed", "--study-uid", "1.3")
    assert again.stdout.endswith("; is here again\n")


def test_nothing_goes_without_a_yes(data: Path) -> None:
    asked = run(data, "--study", "1.2", "--who", "Ann", said="n\n")
    assert asked.return_value == Exit.NEGATIVE
    assert "study 1.2: 2 instances" in asked.stderr
    assert stored(data) == ["1.1", "1.2", "3.1", "4.1", "4.1"]
    assert run(data, "--study", "1.2", "--who", "Ann", said="y\n").return_value == Exit.OK
    assert stored(data) == ["3.1", "4.1", "4.1"]


def test_what_was_never_delivered_wants_force(data: Path) -> None:
    refused = run(data, "--instance", "3.1", "--who", "Ann", "--yes")
    assert refused.return_value == Exit.NEGATIVE
    assert "1 were never delivered to anybody" in refused.stderr
    assert "--force removes it nevertheless" in refused.stderr
    assert "3.1" in stored(data)
    done = run(data, "--instance", "3.1", "--who", "Ann", "--yes", "--force")
    assert done.return_value == Exit.OK
    assert "3.1" not in stored(data)


def test_what_is_being_sent_stays_even_with_force(data: Path) -> None:
    box = RemovalBox(data)
    box.queue("1.1")
    box.lease()
    box.close()
    refused = run(data, "--study", "1.2", "--who", "Ann", "--yes", "--force")
    assert refused.return_value == Exit.NEGATIVE
    assert "1 are being sent to PACS" in refused.stderr
    assert "try again when that has ended" in refused.stderr
    assert "1.1" in stored(data)


def test_a_patient_goes_with_all_that_is_known_of_him(data: Path) -> None:
    (data / "set_aside" / "scp").mkdir(parents=True)
    for number, patient in enumerate("AB"):
        kept = file_bytes(Stored(f"4.{number}", patient))
        (data / "set_aside" / "scp" / f"7-4.{number}.dcm").write_bytes(kept)
    asked = run(data, "--patient", "A", "--who", "Ann", said="n\n")
    assert asked.return_value == Exit.NEGATIVE
    done = run(data, "--patient", "A", "--who", "Ann", "--yes")
    assert done.return_value == Exit.OK, done.output
    assert "removed 1 study, 1 instance" in done.stdout
    assert "tombstones: 1 erased" in done.stdout
    assert "the journals' segments, until they are used again" in done.stdout
    assert "set_aside/scp/7-4.0.dcm: remove it by hand" in done.stdout
    assert done.stdout.count("remove it by hand") == 1
    assert stored(data) == ["1.1", "1.2", "3.1", "4.1"]
    assert found(data, "--removed").return_value == Exit.NEGATIVE
    history = run(data, "--history").stdout
    assert "Ann  patient" in history
    assert "1.4" not in history
    (noted,) = orders(data)
    assert (noted["order"], noted["studies"], noted["instances"]) == ("erase", 1, 1)
    again = run(data, "--patient", "A", "--who", "Ann", "--yes", "--json")
    assert again.return_value == Exit.OK
    told = json.loads(again.stdout)
    assert (told["studies"], told["instances"]) == (0, 0)
    assert any("remove it by hand" in text for text in told["left"])


def test_what_is_queued_of_a_patient_wants_force(data: Path) -> None:
    box = RemovalBox(data)
    mark = patient_mark("A", "")
    new = NewDelivery("PACS", "4.1", "1.2", "1.4", "", "1.2.1", 1, "user", patient=mark)
    box.outbox(lambda outbox: outbox.enqueue(new, NOW))
    box.close()
    refused = run(data, "--patient", "A", "--who", "Ann", "--yes")
    assert refused.return_value == Exit.NEGATIVE
    assert "study 1.4: 1 wait to be sent to PACS" in refused.stderr
    assert run(data, "--patient", "A", "--who", "Ann", "--yes", "--force").return_value == Exit.OK


def test_whose_it_is_must_be_said_where_two_have_it(data: Path) -> None:
    asked = run(data, "--study", "1.4", "--who", "Ann", "--yes", "--force")
    assert isinstance(asked.exception, OperatorError)
    assert "2 patients have a study of this UID" in str(asked.exception)
    done = run(data, "--study", "1.4", "--patient", "B", "--who", "Ann", "--yes", "--force")
    assert done.return_value == Exit.OK, done.output
    assert stored(data) == ["1.1", "1.2", "3.1", "4.1"]


def test_what_is_not_here_is_said(data: Path) -> None:
    asked = run(data, "--series", "7.7", "--who", "Ann", "--yes")
    assert "no series of this UID is stored here" in str(asked.exception)
    twice = run(data, "--study", "1.2", "--instance", "1.1", "--yes")
    assert "one of --study, --series and --instance, or" in str(twice.exception)


def test_nothing_was_stored(tmp_path: Path) -> None:
    asked = run(tmp_path, "--study", "1.2", "--who", "Ann", "--yes")
    assert isinstance(asked.exception, OperatorError)
