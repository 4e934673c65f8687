"""Sealed files: a large instance is acknowledged by what stands behind its own bytes."""

import errno
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import limits
from native import _core
from tests.rigs.spools import HEAD, INLINE_BYTES, RING_BYTES, SEGMENT_BYTES, SpoolBox

LARGE = INLINE_BYTES + 10_000
PAGE = limits.page_bytes


@pytest.fixture
def box(tmp_path: Path) -> Iterator[SpoolBox]:
    box = SpoolBox(tmp_path / "spool")
    yield box
    box.close()


def data_set(number: int, size: int) -> bytes:
    return bytes((number * 7 + at * 13 + (at >> 8)) & 0xFF for at in range(1021)) * (
        size // 1021
    ) + b"\1" * (size % 1021)


def acknowledge(box: SpoolBox, number: int, size: int = LARGE) -> None:
    """Durable by its seal; the journal knows nothing of it."""
    kind, _, code, file_bytes, sequence = box.acknowledge(
        data_set(number, size), prologue=b"prologue %d" % number
    )
    assert (kind, code, sequence) == (_core.COMPLETION_STORED, 0, 0)
    assert file_bytes == len(HEAD) + size


def stock(box: SpoolBox) -> int:
    """Until there are names in stock; how many records the journal has then. No file is left."""
    for _ in range(1000):
        *_, sequence = box.acknowledge(data_set(0, LARGE))
        if sequence == 0:
            break
    assert box.settle() == 0
    for path in box.incoming.iterdir():
        if path.stat().st_size:
            path.unlink()  # as if the indexer had it
    return box.spool.durable_sequence


def as_after_a_power_cut(box: SpoolBox, tmp_path: Path) -> SpoolBox:
    """Another spool over what the disk has now."""
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    for kind in ("incoming", "journal"):
        shutil.copytree(getattr(box, kind), copy / kind)
    return SpoolBox(copy)


def wait_for_records(box: SpoolBox, count: int) -> None:
    while box.spool.durable_sequence < count:
        box.spool.settle()
        box.spool.completions()


def sealed_file(box: SpoolBox) -> Path:
    [name] = box.instances_under_way()
    return box.incoming / name


def test_a_large_instance_does_not_wait_for_the_journal(box: SpoolBox, tmp_path: Path) -> None:
    before = stock(box)
    for number in (1, 2, 3):
        acknowledge(box, number)
        assert box.spool.durable_sequence == before
        assert box.spool.acknowledged_sequence == before + number
    assert box.settle() == 0
    assert not box.spool.settle(), "there is nothing left to settle"
    assert box.spool.durable_sequence == box.spool.acknowledged_sequence == before + 3
    records = box.reader(before + 1).read(before + 3, 100)
    assert [record[1] for record in records] == [b"prologue 1", b"prologue 2", b"prologue 3"]
    assert box.stored_bytes(before + 2, tmp_path / "x") == HEAD + data_set(2, LARGE)


def test_what_was_acknowledged_first_has_its_record_first(box: SpoolBox) -> None:
    before = stock(box)
    acknowledge(box, 1)
    *_, sequence = box.acknowledge(data_set(2, 1000), prologue=b"small")
    assert sequence == before + 2
    records = box.reader(before + 1).read(sequence, 9)
    assert [record[1] for record in records] == [b"prologue 1", b"small"]


@pytest.mark.parametrize(
    "file_bytes",
    [
        INLINE_BYTES + 1,
        INLINE_BYTES + PAGE,
        INLINE_BYTES + PAGE - 64,
        INLINE_BYTES + PAGE - 63,
        RING_BYTES // 4,  # what is written in one piece
        RING_BYTES // 2,
        RING_BYTES + 1,
        3 * RING_BYTES,
    ],
)
def test_a_restart_believes_a_seal(box: SpoolBox, tmp_path: Path, file_bytes: int) -> None:
    before = stock(box)
    size = file_bytes - len(HEAD)
    acknowledge(box, 5, size)
    successor = as_after_a_power_cut(box, tmp_path)
    try:
        assert successor.spool.recovery() == (before, 0, 0, 1)
        assert successor.spool.acknowledged_sequence == before + 1
        wait_for_records(successor, before + 1)
        record = successor.reader(before + 1).read(before + 1, 1)[0]
        assert record[1] == b"prologue 5"
        assert record[4] == file_bytes
        assert successor.stored_bytes(before + 1, tmp_path / "x") == HEAD + data_set(5, size)
        assert record[5] == _core.crc32c(HEAD + data_set(5, size))
    finally:
        successor.close()


def test_seals_keep_their_order_over_a_restart(box: SpoolBox, tmp_path: Path) -> None:
    before = stock(box)
    for number in range(1, 8):
        acknowledge(box, number)
    successor = as_after_a_power_cut(box, tmp_path)
    try:
        wait_for_records(successor, before + 7)
        records = successor.reader(before + 1).read(before + 7, 99)
        found = [record[1] for record in records]
        assert found == [b"prologue %d" % number for number in range(1, 8)]
    finally:
        successor.close()


@pytest.mark.parametrize("place", ["first", "middle", "tail", "prologue", "foot", "last"])
def test_a_seal_that_does_not_hold_is_not_believed(
    box: SpoolBox, tmp_path: Path, place: str
) -> None:
    before = stock(box)
    acknowledge(box, 1)
    file = sealed_file(box)
    whole = bytearray(file.read_bytes())
    length = len(HEAD) + LARGE
    at = {
        "first": 0,
        "middle": length // 2,
        "tail": length - 1,
        "prologue": length + 3,
        "foot": len(whole) - 40,
        "last": len(whole) - 24,
    }[place]
    whole[at] ^= 0x10
    file.write_bytes(whole)
    successor = as_after_a_power_cut(box, tmp_path)
    try:
        assert successor.spool.recovery() == (before, 0, 1, 0)
        assert not (successor.incoming / file.name).exists()
    finally:
        successor.close()


@pytest.mark.parametrize("left", [0, 1, 64, PAGE, 3 * PAGE, "page less"])
def test_a_file_cut_short_is_not_believed(box: SpoolBox, tmp_path: Path, left: int | str) -> None:
    stock(box)
    acknowledge(box, 1)
    file = sealed_file(box)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) - PAGE if isinstance(left, str) else left])
    successor = as_after_a_power_cut(box, tmp_path)
    try:
        assert successor.spool.recovery()[3] == 0
    finally:
        successor.close()


def test_a_seal_is_its_own_files(box: SpoolBox, tmp_path: Path) -> None:
    before = stock(box)
    acknowledge(box, 1)
    shutil.copy(sealed_file(box), box.incoming / "0000000000000001-00000001.part")
    successor = as_after_a_power_cut(box, tmp_path)
    try:
        assert successor.spool.recovery() == (before, 0, 1, 1), "the copy goes, the original stays"
    finally:
        successor.close()


def test_a_journal_that_takes_nothing_is_tried_again(tmp_path: Path) -> None:
    box = SpoolBox(tmp_path, segments_max=2)
    try:
        before = stock(box)
        while True:  # until both segments are full
            kind, _, code, *_ = box.acknowledge(data_set(1, 100_000))
            if kind == _core.COMPLETION_FAILED:
                assert code == errno.EAGAIN
                break
        # Room for a record without the instance may be left; then there is none.
        for number in range(SEGMENT_BYTES // 100):
            acknowledge(box, number)
            if box.settle() == errno.EAGAIN:
                break
        else:
            raise AssertionError("the journal is never full")
        reader = box.reader()
        while reader.read(box.spool.durable_sequence, 64):
            pass
        assert reader.release(reader.next_sequence) == 1
        assert box.settle() == 0, "the same records again"
        assert box.spool.durable_sequence == box.spool.acknowledged_sequence > before
    finally:
        box.close()


def test_what_stands_by_its_seal_is_bounded(box: SpoolBox) -> None:
    stock(box)
    standing = 0
    for _ in range(20 * limits.sealed_instances_max):
        *_, sequence = box.acknowledge(data_set(1, INLINE_BYTES + 1))
        if standing == limits.sealed_instances_max:
            assert sequence == box.spool.durable_sequence, "that one waited for its record"
            assert not box.spool.settle(), "and those before it have theirs"
            return
        standing = box.spool.acknowledged_sequence - box.spool.durable_sequence
        assert standing <= limits.sealed_instances_max
        if sequence:  # for want of a name in stock
            time.sleep(0.01)
    raise AssertionError("the bound is never reached")


def test_a_very_large_instance_waits_for_its_record(box: SpoolBox) -> None:
    before = stock(box)
    *_, sequence = box.acknowledge(data_set(1, limits.sealed_bytes_max + 1))
    assert sequence == before + 1


def test_without_syncs_there_is_no_seal(tmp_path: Path) -> None:
    box = SpoolBox(tmp_path, durable=False)
    try:
        *_, file_bytes, sequence = box.acknowledge(data_set(1, LARGE))
        assert sequence == 1
        assert sealed_file(box).stat().st_size == file_bytes
    finally:
        box.close()


def test_an_abandoned_journal_takes_its_sealed_files_in(box: SpoolBox, tmp_path: Path) -> None:
    before = stock(box)
    acknowledge(box, 1)
    acknowledge(box, 2)
    for kind in ("incoming", "journal"):
        shutil.copytree(getattr(box, kind), tmp_path / "left" / kind)
    journal = str(tmp_path / "left" / "journal")
    places = (journal, SEGMENT_BYTES, 64, True, str(tmp_path / "left" / "incoming"), limits, 0)
    assert _core.adopt_sealed(*places) == 2
    assert _core.journal_last_sequence(journal) == before + 2
    found = [record[1] for record in _core.JournalReader(journal, before + 1).read(before + 2, 9)]
    assert found == [b"prologue 1", b"prologue 2"]
    assert _core.adopt_sealed(*places) == 0, "once"


def test_a_spool_that_closes_settles(box: SpoolBox) -> None:
    before = stock(box)
    acknowledge(box, 1)
    box.spool.close()
    assert box.spool.durable_sequence == before + 1
    assert len(box.reader(before + 1).read(before + 1, 9)) == 1


def test_a_name_that_is_not_durable_is_no_ground_for_an_answer(box: SpoolBox) -> None:
    """The first large instance finds no stock: its file's name is synced with its record."""
    *_, sequence = box.acknowledge(data_set(1, LARGE))
    assert sequence == 1
    assert box.spool.durable_sequence == 1
