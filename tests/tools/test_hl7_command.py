"""`scai hl7`: what a message would change is what it changes, and looking changes nothing."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.rigs.hl7_desk import Hl7Desk
from tests.rigs.hl7_messages import adt, order, pid
from tools.commands import hl7 as hl7_command
from tools.face.operators_log import orders
from tools.face.terminal import Exit


class Office:
    """A configuration, its data, and the command."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.config = directory / "scai.toml"
        self.message = directory / "message.hl7"
        self.config.write_text(f'data_directory = "{self.data}"\n')
        self.data.mkdir()

    def run(self, name: str, *arguments: str, said: str = "") -> Result:
        line = [name, "-c", str(self.config), *arguments]
        return CliRunner().invoke(hl7_command.command, line, said, standalone_mode=False)

    def test(self, content: bytes, *arguments: str) -> Result:
        self.message.write_bytes(content)
        return self.run("test", str(self.message), *arguments)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def rows(directory: Path) -> bytes:
    return (directory / "index" / "data.mdb").read_bytes()


def test_what_would_change_is_what_changes(office: Office) -> None:
    desk = Hl7Desk(office.data)
    desk.arrive("1.4.1", "ANNA", "1.1")
    desk.close()
    before = rows(office.data)
    message = adt("A40", pid("BERTA", "OF^BERTA"), "MRG|ANNA")
    answer = office.test(message, "--json")
    assert answer.return_value == Exit.OK, answer.output
    told = json.loads(answer.stdout)
    assert rows(office.data) == before, "it changes nothing"
    desk = Hl7Desk(office.data)
    try:
        desk.take(message)
        done = [(edit.keyword, edit.old, edit.new) for edit in desk.history()]
    finally:
        desk.close()
    assert [(each["keyword"], each["old"], each["new"]) for each in told["changes"]] == done
    assert ("PatientID", "ANNA", "BERTA") in done
    text = office.test(message.replace(b"|M1|", b"|M2|").replace(b"\r", b"\n")).stdout
    assert "AA: 0 studies would be corrected" in text


def test_a_refused_message_is_told(office: Office) -> None:
    desk = Hl7Desk(office.data)
    desk.close()
    answer = office.test(b"\x0b" + adt("A08", pid("", "A")) + b"\x1c\r")
    assert answer.return_value == Exit.NEGATIVE
    assert answer.stdout.startswith("AE: PID-3: ")


def test_a_local_authority_that_is_missing_is_hinted_at(office: Office) -> None:
    desk = Hl7Desk(office.data)
    desk.arrive("1.4.1", "1", "1.1")
    desk.close()
    answer = office.test(adt("A08", pid("1^^^HOSP^MR", "NEW^NAME")))
    assert "hl7.local_authorities" in answer.stdout
    office.config.write_text(
        f'data_directory = "{office.data}"\n[hl7]\nlocal_authorities = ["HOSP"]\n'
    )
    answer = office.test(adt("A08", pid("1^^^HOSP^MR", "NEW^NAME")))
    assert "hl7.local_authorities" not in answer.stdout
    assert "patient 1  PatientName: '1^NAME' -> 'NEW^NAME'" in answer.stdout


def test_what_is_kept_is_listed(office: Office) -> None:
    desk = Hl7Desk(office.data)
    desk.take(order("ANNA", "A1", "CT\\E\\ HEAD", control_id="1"))
    desk.take(adt("A08", pid("BERTA", "OF^BERTA"), control_id="2"))
    desk.close()
    listed = [json.loads(line) for line in office.run("unmatched", "--json").stdout.splitlines()]
    assert [each["patient_id"] for each in listed] == ["ANNA", "BERTA"]
    assert listed[0]["accession_number"] == "A1"
    assert listed[1]["says"] == {"PatientName": "OF^BERTA"}
    table = office.run("unmatched", "--limit", "1")
    assert "ANNA" in table.stdout
    assert "the oldest 1 of 2" in table.stderr


@pytest.fixture
def keeping(office: Office) -> Office:
    """ANNA's orders A1 (in two studies) and A2, BERTA's name, and a namesake of another issuer."""
    desk = Hl7Desk(office.data)
    desk.take(order("ANNA", "A1", "CT HEAD", control_id="1"))
    desk.take(order("ANNA", "A1", "CT NECK", control_id="2", uid="1.2"))
    desk.take(order("ANNA", "A2", "CT LEG", control_id="3"))
    desk.take(adt("A08", pid("BERTA", "OF^BERTA"), control_id="4"))
    desk.take(adt("A08", pid("CARLA^^^HOSP", "OF^CARLA"), control_id="5"))
    desk.close()
    return office


def kept(office: Office) -> list[tuple[str, str, str]]:
    lines = office.run("unmatched", "--json").stdout.splitlines()
    listed = [json.loads(line) for line in lines]
    return [(each["patient_id"], each["accession_number"], each["study_uid"]) for each in listed]


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--patient", "ANNA"], {"BERTA", "CARLA"}),
        (["--patient", "ANNA", "--accession", "A2"], {"ANNA A1", "ANNA A1 1.2", "BERTA", "CARLA"}),
        (["--patient", "ANNA", "--study", "1.2"], {"ANNA A1", "ANNA A2", "BERTA", "CARLA"}),
        (["--patient", "BERTA"], {"ANNA A1", "ANNA A1 1.2", "ANNA A2", "CARLA"}),
        (
            ["--patient", "CARLA", "--issuer", "HOSP"],
            {"ANNA A1", "ANNA A1 1.2", "ANNA A2", "BERTA"},
        ),
    ],
)
def test_what_is_wrong_is_forgotten_and_nothing_else(
    keeping: Office, arguments: list[str], left: set[str]
) -> None:
    done = keeping.run("forget", *arguments, "--yes", "--who", "me", "--json")
    assert done.return_value == Exit.OK, done.output
    assert {json.loads(line)["patient_id"] for line in done.stdout.splitlines()} == {arguments[1]}
    assert {" ".join(filter(None, each)) for each in kept(keeping)} == left
    (order_kept,) = orders(keeping.data)
    assert (order_kept["order"], order_kept["who"]) == ("hl7_forget", "me")
    text = str(order_kept)
    assert not [name for name in ("ANNA", "BERTA", "CARLA", "A2", "CT") if name in text]


def test_it_is_shown_before_it_is_forgotten(keeping: Office) -> None:
    before = kept(keeping)
    said_no = keeping.run("forget", "--patient", "ANNA", "--accession", "A2", said="n\n")
    assert said_no.return_value == Exit.NEGATIVE
    assert "patient ANNA, accession number A2: StudyDescription 'CT LEG" in said_no.stderr
    assert "\x1b" not in said_no.stderr
    assert "Forget 1 expectation?" in said_no.stderr
    assert kept(keeping) == before
    assert list(orders(keeping.data)) == []
    assert "--yes" in str(keeping.run("forget", "--patient", "ANNA").exception)
    other = keeping.run("forget", "--patient", "CARLA", "--yes")
    assert other.return_value == Exit.NEGATIVE
    assert "with the issuer 'HOSP' (--issuer)" in other.stderr
    assert "nothing of it is kept\n" in keeping.run("forget", "--patient", "X", "--yes").stderr


def test_nothing_is_made_where_nothing_was(office: Office) -> None:
    office.data.rmdir()
    refused = office.run("forget", "--patient", "X", "--yes")
    assert "nothing was stored yet" in str(refused.exception)
    assert not office.data.exists()


def test_without_a_listener(office: Office) -> None:
    answer = office.run("status", "--json")
    assert answer.return_value == Exit.NEGATIVE
    assert "hl7.enabled is false" in answer.stderr
