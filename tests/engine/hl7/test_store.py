"""Taking messages: the bounds of what is kept, its end, and nothing of what failed."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import limits
from engine.hl7 import store as store_module
from engine.hl7.refusal import RefusedError
from tests.rigs.hl7_desk import Hl7Desk
from tests.rigs.hl7_messages import adt, order, pid

DAY_NS = 86_400 * 10**9


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Hl7Desk]:
    made = Hl7Desk(tmp_path)
    yield made
    made.close()


def test_what_is_kept_is_forgotten_when_its_time_is_over(desk: Hl7Desk) -> None:
    now = time.time_ns()
    desk.take(adt("A40", pid("BERTA", "OF^BERTA"), "MRG|ANNA", control_id="1"), now - 9 * DAY_NS)
    desk.take(order("CARLA", "A1", "CT HEAD", control_id="2"), now - DAY_NS)
    while desk.store.prune(now - 5 * DAY_NS):
        desk.check()
    assert [each.patient_id for each in desk.kept()] == ["CARLA"]
    with desk.store.view() as view:
        assert view.count("patient_aliases") == 0
        assert view.count("hl7_messages") == 1
    desk.arrive("1.4.1", "ANNA", "1.1")
    assert desk.patient("1.4.1") == ("ANNA", "ANNA^NAME")
    desk.arrive("1.4.2", "CARLA", "1.2", AccessionNumber="A1")
    assert desk.shown("1.4.2")["StudyDescription"] == "CT HEAD"


def test_what_an_operator_does_not_want_is_forgotten_with_all_that_hangs_on_it(
    desk: Hl7Desk,
) -> None:
    desk.take(adt("A40", pid("BERTA", "OF^BERTA"), "MRG|ANNA", control_id="1"))
    desk.take(order("CARLA", "A1", "CT HEAD", control_id="2"))
    seen = desk.kept()
    desk.take(order("CARLA", "A1", "CT NECK", control_id="3", moment="20260112"))
    forgotten = desk.store.forget(seen)
    desk.check()
    assert {each.patient_id for each in forgotten} == {"ANNA", "BERTA"}
    assert [each.patient_id for each in desk.kept()] == ["CARLA"], "it was said anew meanwhile"
    with desk.store.view() as view:
        assert view.count("patient_aliases") == 0
    desk.arrive("1.4.1", "ANNA", "1.1")
    assert desk.patient("1.4.1") == ("ANNA", "ANNA^NAME")
    assert desk.store.forget(seen) == []


def test_a_correction_that_was_made_stays(desk: Hl7Desk) -> None:
    now = time.time_ns()
    desk.arrive("1.4.1", "ANNA", "1.1")
    desk.take(adt("A40", pid("BERTA", "OF^BERTA"), "MRG|ANNA"), now - 9 * DAY_NS)
    while desk.store.prune(now):
        desk.check()
    desk.arrive("1.4.2", "ANNA", "1.2")
    assert desk.patient("1.4.2") == ("BERTA", "OF^BERTA")
    # And who was merged is still found by what comes for the survivor.
    desk.take(adt("A08", pid("BERTA", "NEW^BERTA"), control_id="9", moment="20260111"))
    assert desk.patient("1.4.1") == desk.patient("1.4.2") == ("BERTA", "NEW^BERTA")


def test_above_its_bound_nothing_more_is_kept_and_what_is_here_is_corrected(
    desk: Hl7Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "hl7_expected_max", 2)
    desk.take(adt("A08", pid("A", "OF^A"), control_id="1"))
    desk.take(adt("A08", pid("B", "OF^B"), control_id="2"))
    with pytest.raises(RefusedError, match="too much is kept"):
        desk.take(adt("A08", pid("C", "OF^C"), control_id="3"))
    desk.take(adt("A08", pid("A", "NEW^A"), control_id="4"))
    assert sorted(each.patient_id for each in desk.kept()) == ["A", "B"]
    desk.arrive("1.4.1", "D", "1.1")
    taken = desk.take(adt("A08", pid("D", "OF^D"), control_id="5"))
    assert taken.studies == 1
    with pytest.raises(RefusedError):
        desk.take(adt("A08", pid("C", "OF^C"), control_id="3"))  # it was not taken, so no replay


def test_the_oldest_number_is_forgotten_for_a_new_one(
    desk: Hl7Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "hl7_messages_remembered_max", 2)
    messages = [adt("A08", pid("A", "OF^A"), control_id=str(number)) for number in range(3)]
    for message in messages:
        desk.take(message)
    assert [desk.take(message).replayed for message in reversed(messages)] == [True, True, False]


def test_nothing_remains_of_a_message_that_failed(
    desk: Hl7Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.arrive("1.4.1", "ANNA", "1.1")
    message = adt("A40", pid("BERTA", "OF^BERTA"), "MRG|ANNA")

    def fail(*_: object) -> None:
        raise OSError(5, "the disk")

    with monkeypatch.context() as broken:
        broken.setattr(store_module, "_remember", fail)
        with pytest.raises(OSError, match="the disk"):
            desk.take(message)
    desk.check()
    assert desk.patient("1.4.1") == ("ANNA", "ANNA^NAME")
    assert not desk.kept()
    assert not desk.history()
    assert desk.take(message).studies == 1


def test_a_message_is_taken_when_it_is_on_the_disk(
    desk: Hl7Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last meta page is synced with it: a commit alone leaves that to the next one."""
    steps: list[str] = []
    environment = desk.store._environment
    change, sync = environment.change, environment.sync

    def note(name: str, work: Callable[..., object]) -> Callable[..., object]:
        def noted(*arguments: object) -> object:
            result = work(*arguments)
            steps.append(name)
            return result

        return noted

    monkeypatch.setattr(environment, "change", note("committed", change))
    monkeypatch.setattr(environment, "sync", note("synced", sync))
    desk.take(adt("A08", pid("A", "OF^A")))
    assert steps == ["committed", "synced"]
    monkeypatch.setattr(environment, "sync", _broken)
    with pytest.raises(OSError, match="the disk"):
        desk.take(adt("A08", pid("A", "NEW^A"), control_id="2"))


def _broken() -> None:
    raise OSError(5, "the disk")
