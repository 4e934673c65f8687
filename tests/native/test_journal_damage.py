"""A damaged journal: every case of native/src/spool/journal_repair.hpp, and what a start does.

All that still proves itself is read again under its own number, what is lost is named, no number
is used twice, and the next start finds nothing more to do.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from native import _core
from tests.rigs import journal_records as records
from tests.rigs.spools import SEGMENT_BYTES, SpoolBox

SIZE = 100_000  # ten records fill a segment


@pytest.fixture
def box(tmp_path: Path) -> Iterator[SpoolBox]:
    made = SpoolBox(tmp_path)
    yield made
    made.close()


def content(number: int) -> bytes:
    return number.to_bytes(4, "big") * (SIZE // 4)


def filled(box: SpoolBox, count: int) -> list[Path]:
    """So many records, and the segments they stand in."""
    for number in range(1, count + 1):
        assert box.store(content(number), prologue=b"p%d" % number)[4] == number
    box.spool.close()
    return in_use(box)


def in_use(box: SpoolBox) -> list[Path]:
    return sorted(box.journal.glob("0*.wal"))


def read(box: SpoolBox) -> tuple[list[int], list[int]]:
    """(numbers of records that are whole, numbers that are lost)."""
    reader = box.reader()
    whole: list[int] = []
    lost: list[int] = []
    while found := reader.read(1 << 60, 7):
        for sequence, prologue, _, _, file_bytes, _, offset in found:
            if offset == _core.LOST_RECORDS:
                lost += range(sequence - file_bytes + 1, sequence + 1)
                assert prologue in (b"", b"p%d" % sequence)
            else:
                whole.append(sequence)
                assert prologue == b"p%d" % sequence
    return whole, lost


def findings(box: SpoolBox) -> list[dict[str, Any]]:
    path = box.journal / "damaged" / "findings.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def opened(box: SpoolBox, last: int, lost: list[int], found: list[str]) -> None:
    """A start takes in all but what is lost, says so, and so does the next."""
    told = _core.journal_damage(str(box.journal), SEGMENT_BYTES)
    assert (told[0] if told else "") == (found[0] if found else "")
    numbers = [number for number in range(1, last + 1) if number not in lost]
    for _ in range(2):
        box.open()
        assert read(box) == (numbers, lost)
        assert [line["found"] for line in findings(box)] == found
        assert [line["lost"] for line in findings(box)] in ([], [len(lost)]) or len(found) > 1
        assert box.spool.durable_sequence == last
        box.spool.close()
        assert _core.journal_damage(str(box.journal), SEGMENT_BYTES) is None
    box.open()
    assert box.store(content(last + 1), prologue=b"p%d" % (last + 1))[4] == last + 1
    assert read(box) == ([*numbers, last + 1], lost)


def test_one_bad_byte_in_an_old_segment_costs_one_record(box: SpoolBox) -> None:
    first, *_ = filled(box, 30)
    before = first.read_bytes()
    records.destroy(first, 2, head=False)
    damaged = first.read_bytes()
    opened(box, 30, [2], ["short_of_next"])
    (line,) = findings(box)
    place = records.record(first, 1).end
    assert line["segment"] == first.name
    assert line["byte"] == place
    assert [line["ranges"][0][:3]] == [[2, 2, place]]
    assert line["taken"] == len([*records.records(before)]) - 2
    kept = box.journal / "damaged" / f"{first.name}.0"
    assert kept.read_bytes() == damaged


def test_a_lost_head_costs_one_record(box: SpoolBox) -> None:
    first, *_ = filled(box, 30)
    records.destroy(first, 2)
    opened(box, 30, [2], ["short_of_next"])


def test_two_damaged_segments(box: SpoolBox) -> None:
    first, second, *_ = filled(box, 30)
    records.destroy(second, 12, head=False)
    records.destroy(first, 2, head=False)
    records.destroy(first, 5)
    opened(box, 30, [2, 5, 12], ["short_of_next", "short_of_next"])


def test_damage_in_the_last_segment_is_told_from_its_end(box: SpoolBox) -> None:
    """What was written later says that it was durable."""
    last = filled(box, 15)[-1]
    (box.journal / "reached").unlink()
    records.destroy(last, 13, head=False)
    opened(box, 15, [13], ["broken_inside"])


def test_of_a_journal_of_an_earlier_release_a_later_record_is_taken_for_promised(
    box: SpoolBox,
) -> None:
    (only,) = filled(box, 3)
    (box.journal / "reached").unlink()
    records.rewrite(only, 3, durable_before=0)
    records.destroy(only, 2, head=False)
    opened(box, 3, [2], ["broken_inside"])


@pytest.mark.parametrize("head", [True, False])
def test_the_last_record_of_all(box: SpoolBox, head: bool) -> None:
    """Nothing is written behind it; only the note says that it was durable."""
    (only,) = filled(box, 3)
    records.destroy(only, 3, head)
    opened(box, 3, [3], ["behind_reached"])


def test_a_missing_segment(box: SpoolBox) -> None:
    segments = filled(box, 30)
    gone = int(segments[1].name[:16], 16)
    following = int(segments[2].name[:16], 16)
    segments[1].unlink()
    opened(box, 30, [*range(gone, following)], ["short_of_next"])


def test_a_missing_last_segment(box: SpoolBox) -> None:
    segments = filled(box, 30)
    gone = int(segments[-1].name[:16], 16)
    segments[-1].unlink()
    opened(box, 30, [*range(gone, 31)], ["behind_reached"])


def test_all_segments_missing(box: SpoolBox) -> None:
    for segment in filled(box, 3):
        segment.unlink()
    told = _core.journal_damage(str(box.journal), SEGMENT_BYTES)
    assert told is not None
    assert told[0] == "all_missing"
    box.open()
    assert [line["found"] for line in findings(box)] == ["all_missing"]
    assert box.store(content(4), prologue=b"p4")[4] == 4, "no number is used twice"


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_lost_header_costs_nothing(box: SpoolBox, which: int) -> None:
    segments = filled(box, 30)
    records.flip(segments[which], 20)
    opened(box, 30, [], ["head_lost"])


def test_a_segment_of_zeros(box: SpoolBox) -> None:
    segments = filled(box, 30)
    gone = int(segments[1].name[:16], 16)
    following = int(segments[2].name[:16], 16)
    segments[1].write_bytes(bytes(SEGMENT_BYTES))
    opened(box, 30, [*range(gone, following)], ["head_lost"])


def test_an_older_copy_of_the_last_segment(box: SpoolBox) -> None:
    filled(box, 3)
    box.open()
    (only,) = in_use(box)
    older = only.read_bytes()
    for number in (4, 5):
        box.store(content(number), prologue=b"p%d" % number)
    box.spool.close()
    only.write_bytes(older)
    opened(box, 5, [4, 5], ["behind_reached"])


def test_an_older_copy_of_a_segment_in_between(box: SpoolBox) -> None:
    for number in range(1, 4):
        box.store(content(number), prologue=b"p%d" % number)
    (only,) = in_use(box)
    older = only.read_bytes()
    for number in range(4, 16):
        box.store(content(number), prologue=b"p%d" % number)
    box.spool.close()
    following = int(in_use(box)[1].name[:16], 16)
    only.write_bytes(older)
    opened(box, 15, [*range(4, following)], ["short_of_next"])


def test_a_cut_through_records(box: SpoolBox) -> None:
    (only,) = filled(box, 5)
    os.truncate(only, records.record(only, 4).begin + 1000)
    opened(box, 5, [4, 5], ["behind_reached"])


def test_a_cut_of_unused_room_costs_nothing(box: SpoolBox) -> None:
    (only,) = filled(box, 5)
    os.truncate(only, records.record(only, 5).end + 10)
    opened(box, 5, [], [])
    assert only.stat().st_size == SEGMENT_BYTES


def test_behind_a_cut_that_nobody_noted_numbers_go_on_where_none_was_used(box: SpoolBox) -> None:
    (only,) = filled(box, 5)
    (box.journal / "reached").unlink()
    os.truncate(only, records.record(only, 4).begin)
    box.open()
    assert [line["found"] for line in findings(box)] == ["cut_short"]
    whole, lost = read(box)
    assert whole == [1, 2, 3]
    assert lost[:2] == [4, 5]
    following = box.store(content(1), prologue=b"p%d" % (lost[-1] + 1))[4]
    assert following == lost[-1] + 1 > 5


@pytest.mark.parametrize("are_gaps_lost", [False, True])
def test_damage_behind_wide_gaps_costs_no_more(box: SpoolBox, are_gaps_lost: bool) -> None:
    """Two cuts that nobody noted: the gaps stand for more numbers than any segment has records."""
    (only,) = filled(box, 5)
    cut, gaps = records.record(only, 4).begin, []
    for _ in range(2):
        (box.journal / "reached").unlink()
        os.truncate(only, cut)
        gaps.append(box.open().durable_sequence)
        box.spool.close()
        cut = [*records.records(only.read_bytes())][-1].end
    first = gaps[-1] + 1
    assert first > SEGMENT_BYTES // records.ALIGNMENT + 4
    box.open()
    for number in range(first, first + 4):
        assert box.store(content(number), prologue=b"p%d" % number)[4] == number
    box.spool.close()
    lost = [first, 4, gaps[0] + 1] if are_gaps_lost else [first]
    for number in lost:
        records.destroy(only, number)
    box.open()
    assert read(box) == ([1, 2, 3, *range(first + 1, first + 4)], [*range(4, first + 1)])


def test_an_unfinished_rotation_is_removed_and_nothing_said(box: SpoolBox) -> None:
    """Without syncs a power cut may leave a name, and nothing of what it stands for."""
    filled(box, 3)
    begun = box.journal / f"{4:016x}.wal"
    begun.write_bytes(bytes(SEGMENT_BYTES))
    opened(box, 3, [], [])
    assert not begun.exists()


def test_a_rotation_that_was_finished_is_gone_on_with(box: SpoolBox) -> None:
    """Its header is whole, and no record is in it yet."""
    first, second, *_ = filled(box, 15)
    number = int(second.name[:16], 16)
    content_of_it = bytearray(second.read_bytes())
    content_of_it[records.PAGE :] = bytes(SEGMENT_BYTES - records.PAGE)
    second.write_bytes(content_of_it)
    (box.journal / "reached").unlink()
    opened(box, number - 1, [], [])
    assert second.exists()
    assert first.exists()


def test_an_interrupted_mending_is_done_again(box: SpoolBox) -> None:
    segments = filled(box, 30)
    records.destroy(segments[0], 2, head=False)
    shutil.copy(segments[0], box.journal / f"{segments[0].name}.making")
    opened(box, 30, [2], ["short_of_next"])
    assert not [*box.journal.glob("*.making")]


def test_a_recycled_segment_gives_back_nothing_of_its_earlier_life(box: SpoolBox) -> None:
    for number in range(1, 31):
        box.store(content(number), prologue=b"p%d" % number)
    reader = box.reader(30)
    reader.read(30, 1)
    assert reader.release(30) > 0
    for number in range(31, 56):
        box.store(content(number), prologue=b"p%d" % number)
    box.spool.close()
    segments = in_use(box)
    first = int(segments[0].name[:16], 16)
    records.flip(segments[-1], records.record(segments[-1], 55).begin + 20)
    box.open()
    assert read(box) == ([*range(first, 55)], [55])


def test_a_name_that_leads_elsewhere_is_no_record(box: SpoolBox) -> None:
    """A peer's bytes that look like a record are looked at only where a record is damaged."""
    head = [records.MAGIC, 0, 0, 0, 2, 0, 10, 0, 1, 0, 9, 3]
    text = b"p../secret"
    head[5] = 128
    head[1] = _core.crc32c(records.HEAD.pack(*head)[8:] + text)
    fake = (records.HEAD.pack(*head) + text).ljust(128, b"\0")
    for number in (1, 2, 3):
        sent = fake * 100 if number == 2 else content(number)
        for shift in range(64):  # until it stands where a record may begin
            if number != 2 or (400 + 64 + 8 + shift) % 64 == 0:
                sent = bytes(shift if number == 2 else 0) + sent
                break
        box.store(sent, prologue=b"p%d" % number)
    box.spool.close()
    (only,) = in_use(box)
    image = only.read_bytes()
    at = image.index(fake)
    assert at % 64 == 0
    records.destroy(only, 2)
    box.open()
    assert read(box) == ([1, 3], [2])


def test_large_instances_whose_record_is_lost_come_back_by_their_seal(box: SpoolBox) -> None:
    for number, size in enumerate((SIZE, 300_000, SIZE), 1):
        box.store(number.to_bytes(4, "big") * (size // 4), prologue=b"p%d" % number)
    box.spool.close()
    (only,) = in_use(box)
    records.destroy(only, 2)
    half = box.incoming / "0000-0000.part"
    half.write_bytes(b"its record may be one of the lost")
    box.open()
    assert box.spool.recovery() == (3, 0, 0, 1)
    box.settle()
    reader = box.reader(4)
    ((sequence, prologue, *_),) = reader.read(4, 2)
    assert (sequence, prologue) == (4, b"p2")
    assert (box.incoming / "damaged" / half.name).exists()


def test_a_free_segment_that_was_cut_is_made_anew(box: SpoolBox) -> None:
    filled(box, 1)
    free = box.journal / "free-00000000000001ff.wal"
    free.write_bytes(bytes(1000))
    box.open()
    for number in range(2, 25):
        assert box.store(content(number), prologue=b"p%d" % number)[4] == number
    assert {path.stat().st_size for path in box.journal.glob("*.wal")} == {SEGMENT_BYTES}
