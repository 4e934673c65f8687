"""One message after another: what is counted and told, and a disk that fails for a while."""

import errno
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import hl7
import pytest

from engine.hl7.store import MessageStore
from engine.settings.hl7 import Hl7
from engine.telemetry.counters import CounterBlock, CounterSegment
from engine.telemetry.metrics import Counter, Gauge
from tests.peers.mllp import code_of
from tests.rigs.hl7_messages import adt, pid
from workers.frame.child import Child
from workers.frame.spec import Hl7Spec
from workers.hl7.desk import Answered, Desk


class Log:
    """What was logged: events and fields."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def error(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    info = warning = error


class Office:
    """A desk without its process."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        (directory / "index").mkdir()
        self.log = Log()
        self.segment = CounterSegment.create(blocks=1)
        self.segment.claim("hl7", "hl7", "")
        self.counters: CounterBlock = self.segment.block(0)
        spec = SimpleNamespace(
            data_directory=str(directory), settings=Hl7(enabled=True, **settings), outgoing_sets=()
        )
        child = SimpleNamespace(spec=spec, counters=self.counters, log=self.log)
        self.desk = Desk(cast(Child[Hl7Spec], child))


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.desk.close()


def parsed(answered: Answered) -> hl7.Message:
    return hl7.parse(answered.content, encoding="utf-8")


def test_answers_are_counted_by_kind(office: Office) -> None:
    office.desk.answer(adt("A08", pid("A", "OF^A"), control_id="1"))
    office.desk.answer(adt("A40", pid("B", "OF^B"), "MRG|A", control_id="2"))
    office.desk.answer(adt("A08", pid(""), control_id="3"))
    office.desk.answer(adt("A01", pid("A"), control_id="4"))
    office.desk.answer(b"\xff\xfe")
    counted = {
        item.name: office.counters.get(item)
        for item in Counter
        if item.row.family == "hl7_messages_total" and office.counters.get(item)
    }
    assert counted == {
        "HL7_UPDATE_AA": 1,
        "HL7_MERGE_AA": 1,
        "HL7_UPDATE_AE": 1,
        "HL7_OTHER_AR": 2,
    }
    assert office.counters.get(Counter.HL7_UNMATCHED) == 2
    office.desk.keep_house()
    assert office.counters.get(Gauge.HL7_KEPT) == 2


def test_an_answer_is_a_message_of_its_own(office: Office) -> None:
    """And what was wrong is said without a value of the message."""
    content = adt("A08", pid("", "SECRET^NAME"), control_id="77", sender="RIS|HOSP")
    answered = office.desk.answer(content)
    answer = parsed(answered)
    header = answer.segment("MSH")
    assert [str(header[number]) for number in (3, 4, 5, 6)] == ["SCAI", "PACS", "RIS", "HOSP"]
    assert str(header[9]) == "ACK^A08"
    assert [str(answer.segment("MSA")[number]) for number in (1, 2)] == ["AE", "77"]
    assert str(answer.segment("ERR")[3]).startswith("101^")
    assert "SECRET" not in str(answer) + str(answered.fields)


def test_batches_are_refused_in_words_and_by_their_own_number(office: Office) -> None:
    batch = b"BHS|^~\\&|KIS|HOSP|PACS|RAD|2026||batch||B77\r" + adt("A08", pid("1", "A"))
    answer = parsed(office.desk.answer(batch + b"BTS|1\r"))
    assert (str(answer["MSA"][0][1]), str(answer["MSA"][0][2])) == ("AR", "B77")
    assert "send each message by itself" in str(answer["MSA"][0][3])
    assert str(answer["MSH"][0][5]) == "KIS"
    trailer = parsed(office.desk.answer(b"FTS|1\r"))
    assert str(trailer["MSA"][0][1]) == "AR"
    assert "send each message by itself" in str(trailer["MSA"][0][3])
    two = parsed(office.desk.answer(adt("A08", pid("1", "A")) + adt("A08", pid("2", "B"))))
    assert str(two["MSA"][0][1]) == "AE"
    assert "a second message begins in this block" in str(two["MSA"][0][3])


def test_before_version_2_5_the_error_has_one_field(office: Office) -> None:
    content = adt("A08", pid("", "A")).replace(b"|2.5.1", b"|2.3")
    answer = parsed(office.desk.answer(content))
    assert str(answer.segment("ERR")[1]) == "PID^1^3^101&Required field missing"


def test_other_kinds_are_acknowledged_where_the_operator_says_so(tmp_path: Path) -> None:
    office = Office(tmp_path, acknowledge_others=True, messages=("ADT^A08",))
    try:
        assert code_of(parsed(office.desk.answer(adt("A01", pid("A"))))) == "AA"
        assert code_of(parsed(office.desk.answer(adt("A40", pid("B"), "MRG|A")))) == "AA"
        office.desk.keep_house()
        assert office.counters.get(Gauge.HL7_KEPT) == 0
    finally:
        office.desk.close()


def test_a_disk_that_fails_for_a_while(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    message = adt("A08", pid("A", "OF^A"))

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as broken:
        broken.setattr(MessageStore, "take", fail)
        for _ in range(2):
            answer = parsed(office.desk.answer(message))
            assert code_of(answer) == "AE"
            assert "send it again" in str(answer)
    assert office.counters.get(Gauge.HL7_FAULT) == errno.ENOSPC
    assert [event for event, _ in office.log.lines] == ["hl7_fault"], "once"
    answer = parsed(office.desk.answer(message))
    assert code_of(answer) == "AA"
    assert "taken before" not in str(answer)
    assert office.counters.get(Gauge.HL7_FAULT) == 0
    assert [event for event, _ in office.log.lines] == ["hl7_fault", "hl7_recovered"]
