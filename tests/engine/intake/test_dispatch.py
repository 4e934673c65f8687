"""From a record of the journal to the queue: nothing lost or doubled, whatever is interrupted."""

from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from engine.config.loading import Rule
from engine.dictionary.attributes import WANTED_TAGS
from engine.dictionary.elements import extra_tags, identity_of
from engine.files.arrival import Arrival, encode_arrival
from engine.files.part10 import part10_head
from engine.index.batch import Entry
from engine.intake.dispatch import Dispatcher
from engine.outbox.records import Delivery, State
from engine.outbox.view import OutboxView
from engine.rules.routing import Rules
from tests.rigs import spools
from tests.rigs.indexer_box import LARGE, Box, data_set, element

_KVP = 0x00180060
_CT = "1.2.840.10008.5.1.4.1.1.2"
_EXPLICIT = "1.2.840.10008.1.2.1"
_RULES = (
    Rule(name="ct", to=("archive",), when={"calling_ae_title": "CT"}),
    Rule(name="high", to=("viewer", "archive"), when={"KVP": {"from": 100}}),
    Rule(name="fetched", to=("viewer",), when={"receiving_ae": "prefetch_scp"}),
)


class Routed(Box):
    """A box whose intake follows rules; crashes forget what is not on the disk."""

    rules = Rules.compile(_RULES)

    def open(self) -> None:
        super().open()
        self.follow(self.rules)

    def follow(self, rules: Rules) -> None:
        self.rules = rules
        tags = extra_tags(rules.tags)
        self.intake.dispatcher = Dispatcher.of(self.intake.tree, rules, tags)

    def queue(self) -> list[Delivery]:
        with self.reader.view() as view:
            return list(OutboxView.within(view).deliveries())

    def queued(self) -> list[tuple[str, str]]:
        return sorted((each.sop_instance_uid, each.destination) for each in self.queue())

    def send(
        self,
        sop: str,
        kvp: str = "80",
        calling: str = "CT",
        table: str = "storage_scp",
        told: bool = True,
        size: int = 1000,
    ) -> None:
        """One instance, as a receiver stores it that was told (or was not) what rules ask for."""
        self.received += 1
        arrival = Arrival(
            _CT,
            sop,
            _EXPLICIT,
            calling,
            "SCP",
            "::1",
            self.received,
            0,
            identity_of(extra_tags(self.rules.tags)) if told else 0,
        )
        sent = data_set(sop, size=size)
        uid = element(0x00080018, b"UI", sop.encode())
        assert sent.startswith(uid)
        sent = uid + element(_KVP, b"DS", kvp.encode()) + sent[len(uid) :]
        completion = self.spools[table].store(sent, prologue=encode_arrival(arrival))
        assert completion[2] == 0


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Routed]:
    monkeypatch.setattr(spools, "TAGS", sorted({*WANTED_TAGS, _KVP}))
    monkeypatch.setattr(spools, "HEAD", part10_head(_CT, "1.2.3", _EXPLICIT, "CT"))
    made = Routed(tmp_path, ("storage_scp", "prefetch_scp"))
    yield made
    made.close()


def test_an_instance_is_queued_in_the_transaction_that_indexes_it(box: Routed) -> None:
    box.send("1.1", kvp="120")
    box.send("1.2", kvp="80")
    box.send("1.3", kvp="80", calling="MR")
    assert box.index() == []
    assert box.queued() == [("1.1", "archive"), ("1.1", "viewer"), ("1.2", "archive")]
    first = next(each for each in box.queue() if each.destination == "archive")
    assert (first.state, first.origin, first.study_uid) == (State.WAITING, "ct", "1.2")
    assert (first.sop_class_uid, first.transfer_syntax_uid) == (_CT, _EXPLICIT)
    with box.reader.view() as view:
        found = view.instance("1.1")
    assert found is not None
    assert first.file_bytes == found[1].file_bytes
    assert _KVP not in found[1].attributes, "the index keeps its own attributes only"
    box.check()


def test_replay_after_a_crash_neither_loses_nor_doubles(
    box: Routed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        box.send(f"1.{number}", kvp="120", size=LARGE if number % 5 == 0 else 500)
    assert box.index() == []
    before = box.queue()
    assert len(before) == 40
    for _ in range(2):
        box.crash()  # before any checkpoint: the whole journal is gone through again
        assert box.index() == []
        assert box.queue() == before
    box.send("2.1")
    original = Dispatcher.arrived

    def dies(*given: object) -> None:
        original(*given)  # type: ignore[arg-type]
        raise lmdb.Error("the machine fell over")

    monkeypatch.setattr(Dispatcher, "arrived", dies)
    with pytest.raises(lmdb.Error):
        box.index()
    monkeypatch.undo()
    box.crash()
    assert box.queue() == before, "neither the record nor its deliveries"
    assert box.index() == []
    assert [each.sop_instance_uid for each in box.queue()[len(before) :]] == ["2.1"]


def test_a_record_from_before_the_rule_is_read_from_its_file(box: Routed) -> None:
    box.spools["storage_scp"].spool.close()
    spools.TAGS = WANTED_TAGS  # type: ignore[assignment]  # undone with the fixture
    box.spools["storage_scp"].open()
    box.send("1.1", kvp="120", told=False)
    box.send("1.2", kvp="120", told=False, size=LARGE)
    box.send("1.3", kvp="80", told=False)
    assert box.index() == []
    assert [sop for sop, to in box.queued() if to == "viewer"] == ["1.1", "1.2"]


@pytest.mark.parametrize("content", [None, b"", b"damaged" * 100])
def test_a_file_that_was_lost_meanwhile_stops_nobody(box: Routed, content: bytes | None) -> None:
    arrival = Arrival(_CT, "1.1", _EXPLICIT, "CT", "SCP", "::1", 1)
    entry = Entry(arrival, b"", 1000, 0, "storage_scp", 1)
    if content is not None:
        Path(box.intake.tree.prepare(entry.path)).write_bytes(content)
    assert box.intake.dispatcher is not None
    subject = box.intake.dispatcher.subject_of(entry)
    assert _KVP not in subject.values
    assert box.rules.destinations(subject) == [("archive", "ct")]


def test_what_was_told_is_not_read_again(box: Routed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "engine.intake.dispatch.rule_head_bytes_max", 0
    )  # nothing can be read from files
    box.send("1.1", kvp="120")
    assert box.index() == []
    assert ("1.1", "viewer") in box.queued()


def test_extra_attributes_leave_the_heads_of_a_series_alike(box: Routed) -> None:
    for number in range(6):
        box.send(f"1.{number}", kvp=str(80 + 10 * number))
    assert box.index() == []
    assert len(box.writer._cache.series_by_head) == 1
    assert [sop for sop, to in box.queued() if to == "viewer"] == [f"1.{n}" for n in range(2, 6)]


def test_what_was_fetched_is_routed_by_rules_that_say_so(box: Routed) -> None:
    box.send("1.1", kvp="120", table="prefetch_scp")
    assert box.index() == []
    assert box.queued() == [("1.1", "viewer")]
    assert box.queue()[0].origin == "fetched"


def test_a_duplicate_is_queued_again_but_waits_once(box: Routed) -> None:
    box.send("1.1")
    box.send("1.1", size=2000)
    assert box.index() == []
    assert box.queued() == [("1.1", "archive")]
    with box.reader.view() as view:
        found = view.instance("1.1")
    assert found is not None
    assert box.queue()[0].file_bytes == found[1].file_bytes


def test_rules_may_change_between_two_steps(box: Routed) -> None:
    box.send("1.1")
    assert box.index() == []
    box.follow(Rules.compile((Rule(name="new", to=("third",), when={}),)))
    box.send("1.2")
    assert box.index() == []
    box.follow(Rules.compile(()))
    assert box.intake.dispatcher is None
    box.send("1.3")
    assert box.index() == []
    assert box.queued() == [("1.1", "archive"), ("1.2", "third")]
