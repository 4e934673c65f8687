"""Eviction over a real index: the order of going, what stays, and rounds in small steps."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.index import tombstones
from engine.index.pins import Pin, put_pin
from engine.prefetch.hit_rate import HitRate
from engine.removal import rounds as rounds_module
from engine.removal.eviction import Eviction
from engine.removal.rounds import Evicted, Rounds
from engine.retention.choice import Kept, Policy, Reason
from engine.settings.retention import Retention
from tests.rigs.removals import NOW, RemovalBox

POLICY = Policy(0, None, None)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[RemovalBox]:
    """1.2: delivered; 1.3: not; 1.4: delivered, newer; 1.5: fetched, the newest."""
    made = RemovalBox(tmp_path, ("scp", "prefetch_scp"))
    for study in ("1.2", "1.3", "1.4"):
        made.store(f"{study}.1", study=study)
    made.store("1.5.1", "prefetch_scp", study="1.5")
    made.index()
    made.deliver("1.2.1", study="1.2")
    made.deliver("1.4.1", study="1.4")
    made.fetched("1.5")
    made.intake.checkpoint()
    yield made
    made.close()


def turns(box: RemovalBox, policy: Policy = POLICY) -> list[tuple[str, Reason | Kept]]:
    eviction = Eviction(box.reader, policy)
    while not eviction.is_complete:
        eviction.look(2)
    found = []
    while (judged := eviction.next(NOW)) is not None:
        found.append((judged.study.uid, judged.verdict))
    return found


def test_the_order_of_going(box: RemovalBox) -> None:
    assert turns(box) == [
        ("1.5", Reason.UNUSED),
        ("1.2", Reason.DELIVERED),
        ("1.3", Kept.UNDELIVERED),
        ("1.4", Reason.DELIVERED),
    ]


def test_what_was_never_delivered_goes_last_if_at_all(box: RemovalBox) -> None:
    assert turns(box, POLICY._replace(undelivered_after_ns=1))[-1] == ("1.3", Reason.UNDELIVERED)


def test_what_was_fetched_and_used_goes_as_the_others_do(box: RemovalBox) -> None:
    box.writer.commit(lambda batch: HitRate.within(batch).note_used("1.5", NOW))
    assert turns(box)[-1] == ("1.5", Reason.DELIVERED)


def test_one_instance_that_nobody_has_keeps_its_study(box: RemovalBox) -> None:
    box.store("1.2.2", study="1.2")
    box.index()
    assert ("1.2", Kept.UNDELIVERED) in turns(box)


def test_what_is_pinned_or_queued_stays(box: RemovalBox) -> None:
    with box.reader.view() as view:
        ((number, _),) = view.studies_of_uid("1.2")
        study = view.study(number)
    assert study is not None
    box.writer.commit(lambda batch: put_pin(batch, study, Pin("Ann", NOW, "")))
    box.queue("1.4.1", study="1.4")
    assert dict(turns(box)) == {
        "1.5": Reason.UNUSED,
        "1.2": Kept.PINNED,
        "1.3": Kept.UNDELIVERED,
        "1.4": Kept.OPEN,
    }


def go(box: RemovalBox, lacking: int, retention: Retention, monkeypatch: pytest.MonkeyPatch) -> str:
    """One round, to its end; the studies that went."""
    monkeypatch.setattr(rounds_module, "lacking_bytes", lambda *_: lacking)
    rounds = Rounds(box.data, box.reader, box.remover, box.intake.checkpoint)
    rounds.retention = retention
    rounds.look(0.0)
    went: list[Evicted] = []
    while rounds.has_work:
        done = rounds.step(NOW, 0.0)
        went += [] if done is None else [done]
        box.check()
    return " ".join(each.order.uid for each in went)


WATERMARKS = Retention(high_watermark="9 %", low_watermark="1 %", least_age_days=0)


def test_a_round_frees_what_it_must_and_no_more(
    box: RemovalBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert go(box, 1, WATERMARKS, monkeypatch) == "1.5"
    with box.reader.view() as view:
        ((number, _),) = view.studies_of_uid("1.2")
        study = view.study(number)
    assert study is not None
    assert go(box, study.file_bytes + 1, WATERMARKS, monkeypatch) == "1.2 1.4"
    with box.reader.view() as view:
        (stone,) = tombstones.tombstones_of_uid(view, "1.2")
        assert (stone.who, stone.why) == ("retention", Reason.DELIVERED.value)
        assert [uid for uid in ("1.2", "1.3", "1.4", "1.5") if view.studies_of_uid(uid)] == ["1.3"]


def test_nothing_goes_while_there_is_room(box: RemovalBox, monkeypatch: pytest.MonkeyPatch) -> None:
    assert go(box, 0, WATERMARKS, monkeypatch) == ""


def test_what_is_too_old_goes_though_there_is_room(
    box: RemovalBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Retention(least_age_days=0, most_age_days=1)
    assert go(box, 0, old, monkeypatch) == ""
    monkeypatch.setattr("tests.engine.removal.test_eviction.NOW", 2 * 86_400_000_000_000)
    assert go(box, 0, old, monkeypatch) == "1.5 1.2 1.4"


def test_the_young_stay_whatever_the_disk_says(
    box: RemovalBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    young = Retention(high_watermark="9 %", low_watermark="1 %", least_age_days=1)
    assert go(box, 10**9, young, monkeypatch) == ""


def test_a_study_that_grows_meanwhile_stays(
    box: RemovalBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds_module, "lacking_bytes", lambda *_: 10**9)
    rounds = Rounds(box.data, box.reader, box.remover, box.intake.checkpoint)
    rounds.retention = WATERMARKS
    rounds.look(0.0)
    rounds.step(NOW, 0.0)  # all have their turn
    rounds.step(NOW, 0.0)  # 1.5 was judged
    box.received = NOW
    box.store("1.5.2", "prefetch_scp", study="1.5")
    box.index()
    box.intake.checkpoint()
    while rounds.has_work:
        rounds.step(NOW, 0.0)
    with box.reader.view() as view:
        assert view.studies_of_uid("1.5") != []
        assert view.studies_of_uid("1.2") == []
    box.check()
