"""`scai rules` and `scai remotes`: what they say of real files, and of a queue."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydicom.data import get_testdata_file

from engine.outbox.outbox import Outbox
from engine.outbox.records import NewDelivery
from engine.outbox.writer import OutboxWriter
from tools.cli import scai
from tools.face.terminal import Exit

_CT = str(get_testdata_file("CT_small.dcm"))
_RULES = """
[[remotes]]
name = "archive"
ae_title = "PACS"
host = "pacs.example.org"
port = 104
[[remotes]]
name = "viewer"
ae_title = "VIEW"
host = "::1"
port = 11112
paused = true
transfer_syntaxes = ["1.2.840.10008.1.2.4.70"]
[[rules]]
name = "ct"
to = ["archive"]
when = { Modality = ["CT", "MR"], KVP = { from = 100 } }
[[rules]]
name = "night"
to = ["viewer", "archive"]
when = { time = "18:00-06:00", calling_ae_title = "CT_?", SliceLocation = { to = 0 } }
[[rules]]
name = "head"
to = ["archive"]
when = { BodyPartExamined = "HEAD" }
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "scai.toml"
    path.write_text(f'data_directory = "{tmp_path / "data"}"\n{_RULES}')
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(scai, arguments, standalone_mode=False, catch_exceptions=False)


def test_rules_are_listed(config: Path) -> None:
    result = run("rules", "-c", str(config))
    assert "ct -> archive\n" in result.output
    assert "    SliceLocation = { to = 0 }\n" in result.output
    lines = [
        json.loads(line) for line in run("rules", "-c", str(config), "--json").output.splitlines()
    ]
    assert [line["name"] for line in lines] == ["ct", "night", "head"]
    assert lines[0]["when"]["KVP"] == {"from": 100}


def test_a_file_is_tried_condition_by_condition(config: Path) -> None:
    result = run("rules", "test", _CT, "-c", str(config), "--at", "12:00", "--calling", "CT_1")
    assert result.return_value == Exit.OK
    text = result.output
    assert "rule ct: matches" in text
    assert "rule night: does not match" in text
    assert 'NO   time = "18:00-06:00"; it is "12:00"' in text
    assert 'yes  calling_ae_title = "CT_?"; it is "CT_1"' in text
    assert 'NO   BodyPartExamined = "HEAD"; it is absent' in text
    assert "to archive (PACS at pacs.example.org:104), by rule ct" in text
    assert "as Explicit VR Little Endian (1.2.840.10008.1.2.1), or else Implicit VR" in text
    assert "viewer" not in text.split("would be sent")[1]


def test_what_matches_at_night_goes_to_both(config: Path) -> None:
    arguments = ("--at", "2024-01-31 23:00", "--calling", "CT_1", "--json")
    told = json.loads(run("rules", "test", _CT, "-c", str(config), *arguments).output)
    sent = {each["to"]: each for each in told["would_send"]}
    assert sent["archive"]["rule"] == "ct"
    assert sent["viewer"]["rule"] == "night"
    assert (sent["archive"]["paused"], sent["viewer"]["paused"]) == (False, True)
    verdicts = {v["key"]: v["found"] for rule in told["rules"] for v in rule["conditions"]}
    assert verdicts["KVP"] == "120"
    assert float(verdicts["SliceLocation"]) == pytest.approx(-77.2040634155)


def test_what_is_never_sent_is_said_with_its_reason(config: Path, tmp_path: Path) -> None:
    import pydicom

    made = pydicom.dcmread(_CT)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    made.save_as(tmp_path / "enhanced.dcm")
    result = run("rules", "test", str(tmp_path / "enhanced.dcm"), "-c", str(config))
    assert "but cannot be sent: Enhanced CT Image Storage is received only" in result.output
    assert result.return_value == Exit.NEGATIVE


def test_a_prefetch_is_explained_and_counts_as_an_effect(config: Path, tmp_path: Path) -> None:
    text = config.read_text().split("[[rules]]")[0]
    rule = '[[prefetch]]\nname = "priors"\narchive = "archive"\nto = ["viewer"]\n'
    config.write_text(f'{text}{rule}when = {{ Modality = "CT" }}\nwithin = "5 years"\n')
    listed = run("rules", "-c", str(config)).output
    assert 'prefetch from archive: priors -> viewer\n    Modality = "CT"\n' in listed
    assert json.loads(run("rules", "-c", str(config), "--json").stdout)["archive"] == "archive"
    result = run("rules", "test", _CT, "-c", str(config))
    assert result.return_value == Exit.OK
    assert "prefetch priors: matches\n  yes  Modality" in result.output
    assert "(0010,0020) PatientID = '1CT1'  (single value)" in result.output
    assert "is here already, is sent to viewer" in result.output
    told = json.loads(run("rules", "test", _CT, "-c", str(config), "--json").output)
    (prefetch,) = told["prefetch"]
    assert (prefetch["name"], prefetch["matches"], prefetch["refused"]) == ("priors", True, "")
    asked = prefetch["would_ask"]
    assert [find["level"] for find in asked["find"]] == ["STUDY", "SERIES", "IMAGE"]
    assert {
        "tag": "(0008,0020)",
        "keyword": "StudyDate",
        "value": "19990119-20040119",
        "matching": "range",
    } in asked["find"][0]["keys"]
    assert asked["move"] == {
        "level": "STUDY",
        "keys": ["StudyInstanceUID"],
        "destination": "PrefetchAP",
    }
    assert asked["to"] == ["viewer"]
    back = run("rules", "test", _CT, "-c", str(config), "--receiving", "prefetch_scp")
    assert back.return_value == Exit.NEGATIVE
    assert 'NO   receiving_ae = not "prefetch_scp"' in back.output


def test_values_cannot_steer_the_terminal(config: Path, tmp_path: Path) -> None:
    import pydicom

    made = pydicom.dcmread(_CT)
    with pytest.warns(UserWarning, match="Invalid value"):
        made.BodyPartExamined = "A\x1b[2J\nrule x: matches"
    made.save_as(tmp_path / "hostile.dcm")
    output = run("rules", "test", str(tmp_path / "hostile.dcm"), "-c", str(config)).output
    assert "\x1b" not in output
    assert "\nrule x" not in output


def test_what_is_no_dicom_file_is_the_operators(config: Path, tmp_path: Path) -> None:
    from engine.errors import OperatorError

    other = tmp_path / "text"
    other.write_text("text")
    big = get_testdata_file("MR_small_bigendian.dcm")
    for path, text in (
        (str(other), "not a DICOM file"),
        (str(tmp_path / "none"), "cannot be read"),
        (str(big), "its transfer syntax is never accepted"),
    ):
        with pytest.raises(OperatorError, match=text):
            run("rules", "test", path, "-c", str(config))
    with pytest.raises(OperatorError, match="is no time"):
        run("rules", "test", _CT, "-c", str(config), "--at", "noon")
    with pytest.raises(OperatorError, match="AE title"):
        run("rules", "test", _CT, "-c", str(config), "--calling", "a" * 17)


def test_remotes_are_listed_before_anything_was_stored(config: Path) -> None:
    rows = [
        json.loads(line) for line in run("remotes", "-c", str(config), "--json").output.splitlines()
    ]
    assert [(row["name"], row["state"], row["waiting"]) for row in rows] == [
        ("archive", "open", 0),
        ("viewer", "paused by the configuration", 0),
    ]
    empty = config.with_name("empty.toml")
    empty.write_text("")
    assert run("remotes", "-c", str(empty)).return_value == Exit.NEGATIVE


def test_remotes_show_what_waits_and_what_failed(config: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    writer = OutboxWriter(data)
    now = 1_700_000_000_000_000_000

    def work(outbox: Outbox) -> None:
        for number in range(4):
            new = NewDelivery(
                "archive", f"1.{number}", "1.2", "1", "2", "1.2.840.10008.1.2", 9, "ct"
            )
            outbox.enqueue(new, now)
        sent, failed, again = outbox.lease("archive", 3, now)
        outbox.delivered(sent.number, now + 1_000_000_000, 0)
        outbox.attempt_failed(failed.number, now + 2_000_000_000, "older", 0xA700, None)
        outbox.attempt_failed(again.number, now + 3_000_000_000, "no\x1b[2J room", 0xA700, now * 2)
        outbox.pause("archive", True)

    writer.commit(work)
    writer.close()
    row = json.loads(run("remotes", "-c", str(config), "--json").output.splitlines()[0])
    counts = (row["waiting"], row["retrying"], row["failed"], row["delivered"], row["state"])
    assert counts == (1, 1, 1, 1, "paused")
    assert row["last_success"] == "2023-11-14T22:13:21Z"
    assert (row["last_failure"], row["last_failure_reason"]) == (
        "2023-11-14T22:13:23Z",
        "no\x1b[2J room",
    )
    table = run("remotes", "-c", str(config)).output
    assert "\\x1b[2J room" in table
    assert "\x1b" not in table
