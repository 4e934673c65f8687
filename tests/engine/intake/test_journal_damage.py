"""What a damaged journal costs the index: what was lost is told, everything else is taken in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.intake.step import Lost, Step
from tests.rigs import journal_records as records
from tests.rigs.indexer_box import LARGE, Box, data_set


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path / "data")
    yield made
    made.close()


def segments(box: Box) -> list[Path]:
    return sorted(box.spools["scp"].journal.glob("0*.wal"))


def stored(box: Box, count: int) -> list[str]:
    """So many instances, ten of them to a segment; their UIDs."""
    uids = [f"1.2.3.{number}" for number in range(1, count + 1)]
    for uid in uids:
        box.store(uid, size=100_000)
    return uids


def restart(box: Box) -> Step:
    """Receiver and indexer die and begin again; all that the indexer does then."""
    box.spools["scp"].spool.close()
    box.spools["scp"].open()
    box.crash()
    told = Step()
    while True:
        step = box.intake.step(box.durable())
        told.lost += step.lost
        told.missing += step.missing
        told.renumbered += step.renumbered
        told.refused += step.refused
        if not step.behind:
            return told


def uids_of(box: Box) -> set[str]:
    with box.reader.view() as view:
        return {one.sop_instance_uid for _, one in view.instances_after(b"", 10_000)}


def test_everything_behind_a_bad_byte_is_taken_in(box: Box) -> None:
    uids = stored(box, 25)
    box.spools["scp"].spool.close()
    records.destroy(segments(box)[0], 3)
    records.destroy(segments(box)[0], 5, head=False)
    told = restart(box)
    assert told.lost == [Lost("scp", 3, 3, indexed=False)]
    assert [missing.sop_instance_uid for missing in told.missing] == [uids[4]], "its head holds"
    assert uids_of(box) == {*uids} - {uids[2], uids[4]}
    box.check()
    box.intake.checkpoint()
    assert not restart(box).lost, "it is told once"


def test_what_the_index_had_is_lost_to_the_journal_alone(box: Box) -> None:
    uids = stored(box, 5)
    box.index()
    uids += [f"1.2.4.{number}" for number in range(5)]
    for uid in uids[5:]:
        box.store(uid, size=100_000)
    box.spools["scp"].spool.close()
    for number in (5, 6):
        records.destroy(segments(box)[0], number)
    told = restart(box)
    assert told.lost == [Lost("scp", 5, 5, True), Lost("scp", 6, 6, False)]
    assert not told.renumbered, "the last applied one is lost; no other has its number"
    assert uids_of(box) == {*uids} - {uids[5]}
    box.check()


@pytest.mark.parametrize("applied", [0, 5, 25])
def test_a_missing_oldest_segment_is_told(box: Box, applied: int) -> None:
    uids = stored(box, applied)
    box.index()
    uids += [f"1.2.4.{number}" for number in range(30 - applied)]
    for uid in uids[applied:]:
        box.store(uid, size=100_000)
    box.spools["scp"].spool.close()
    begins = int(segments(box)[1].name[:16], 16)
    segments(box)[0].unlink()
    told = restart(box)
    known, fresh = min(applied, begins - 1), begins - 1 - applied
    expected = [Lost("scp", 1, known, True)] if known else []
    expected += [Lost("scp", applied + 1, begins - 1, False)] if fresh > 0 else []
    assert told.lost == expected
    assert not told.renumbered
    assert uids_of(box) == {*uids[:applied], *uids[begins - 1 :]}
    box.check()


def test_all_segments_missing_are_told(box: Box) -> None:
    stored(box, 5)
    box.spools["scp"].spool.close()
    for segment in segments(box):
        segment.unlink()
    assert not restart(box).lost, "nothing came after them yet"
    box.store("1.2.5")
    step = box.intake.step(box.durable())
    assert step.lost == [Lost("scp", 1, 5, indexed=False)]
    assert uids_of(box) == {"1.2.5"}


def test_an_older_end_without_a_note_brings_nothing_older_back(box: Box) -> None:
    """The numbers are given again: what the index knows is told by when it came."""
    box.store("1.2.1", fill=b"1")
    box.store("1.2.2", fill=b"2")
    (only,) = segments(box)
    older = only.read_bytes()
    box.store("1.2.1", fill=b"3")
    box.index()
    box.intake.checkpoint()
    box.spools["scp"].spool.close()
    only.write_bytes(older)
    (box.spools["scp"].journal / "reached").unlink()
    box.spools["scp"].open()
    assert box.store("1.2.2", fill=b"4") == 3
    told = restart(box)
    assert told.renumbered == ["scp"]
    assert b"3" * 1000 in box.content("1.2.1"), "the newer one, which the journal has no more"
    assert b"4" * 1000 in box.content("1.2.2"), "the newer one, under a number that was used"
    box.check()


def test_what_is_no_record_of_a_receiver_is_kept_and_told(box: Box) -> None:
    """Its checksums hold, as a peer can make them; whose it is nobody can tell."""
    box.spools["scp"].store(data_set("1.2.1"), prologue=b"\xc1\x00")
    box.store("1.2.2")
    step = box.intake.step(box.durable())
    assert step.lost == [Lost("scp", 1, 1, indexed=False)]
    assert uids_of(box) == {"1.2.2"}
    (kept,) = (box.data / "set_aside").rglob("*.dcm")
    assert kept.read_bytes().endswith(data_set("1.2.1"))
    assert not restart(box).lost, "once"
    box.check()


def test_a_journal_that_is_mended_while_it_is_read_is_not_unreadable(box: Box) -> None:
    """Receiver and indexer start at once: the indexer may have the damaged segment open."""
    uids = stored(box, 6)
    assert not box.intake.step({"scp": 3}).unreadable
    box.spools["scp"].spool.close()
    records.destroy(segments(box)[0], 5)
    box.spools["scp"].open()
    told = Step(behind=True)
    lost = []
    while told.behind:
        told = box.intake.step(box.durable())
        assert not told.unreadable
        lost += told.lost
    assert lost == [Lost("scp", 5, 5, indexed=False)]
    assert uids_of(box) == {*uids} - {uids[4]}


def test_a_large_instance_outlives_its_record(box: Box) -> None:
    box.store("1.2.1", size=LARGE)
    box.store("1.2.2")
    box.spools["scp"].spool.close()
    records.destroy(segments(box)[0], 1)
    box.spools["scp"].open()
    box.spools["scp"].settle()
    told = restart(box)
    assert told.lost == [Lost("scp", 1, 1, indexed=False)]
    assert uids_of(box) == {"1.2.1", "1.2.2"}
    box.check()


@pytest.mark.parametrize("at_once", [True, False])
def test_what_comes_back_by_its_seal_replaces_nothing_newer(box: Box, at_once: bool) -> None:
    """It has its new record behind that of what came after it, in the same batch or before it."""
    box.store("1.2.1", size=LARGE, fill=b"1")
    box.store("1.2.1", fill=b"2")
    box.store("1.2.2")
    box.spools["scp"].spool.close()
    records.destroy(segments(box)[0], 1)
    box.spools["scp"].open()
    if not at_once:
        box.intake.step({"scp": 3})
    box.spools["scp"].settle()
    told = restart(box)
    assert b"2" * 1000 in box.content("1.2.1")
    (refused,) = told.refused
    assert b"1" * LARGE in (box.data / refused.path).read_bytes()
    assert not restart(box).refused, "once"
    box.check()
