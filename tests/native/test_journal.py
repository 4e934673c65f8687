"""The journal: what was told durable is read back after every kind of end, what was not is not."""

import os
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from native import _core
from tests.material.waiting import eventually
from tests.rigs import journal_records as records
from tests.rigs.spools import HEAD, SEGMENT_BYTES, SpoolBox


@pytest.fixture
def box(tmp_path: Path) -> Iterator[SpoolBox]:
    made = SpoolBox(tmp_path)
    yield made
    made.close()


def data_set(number: int, size: int = 3000) -> bytes:
    return number.to_bytes(4, "big") * (size // 4)


def sequences(box: SpoolBox, last: int = 1 << 60) -> list[int]:
    reader = box.reader()
    found: list[int] = []
    while records := reader.read(last, 7):
        found += [record[0] for record in records]
    return found


def segments(box: SpoolBox) -> list[str]:
    return sorted(name for name in os.listdir(box.journal) if name.endswith(".wal"))


def test_records_come_back_in_order(box: SpoolBox, tmp_path: Path) -> None:
    for number in range(20):
        size = 3000 if number % 3 else 200_000
        kind, _slot, error, _bytes, sequence = box.store(
            data_set(number, size), prologue=b"prologue %d" % number
        )
        assert (kind, error, sequence) == (_core.COMPLETION_STORED, 0, number + 1)
    assert box.spool.durable_sequence == 20
    reader = box.reader()
    for record in reader.read(20, 100):
        sequence, prologue, _attributes, name, size, checksum, _offset = record
        stored = box.stored_bytes(sequence, tmp_path / "out.dcm")
        expected = HEAD + data_set(sequence - 1, 3000 if (sequence - 1) % 3 else 200_000)
        assert stored == expected
        assert prologue == b"prologue %d" % (sequence - 1)
        assert (size, checksum) == (len(expected), _core.crc32c(expected))
        assert bool(name) == (len(expected) > 128 << 10)


def test_reading_stops_at_what_is_durable(box: SpoolBox) -> None:
    for number in range(5):
        box.store(data_set(number))
    assert sequences(box, last=3) == [1, 2, 3]


def test_goes_on_after_a_restart(box: SpoolBox) -> None:
    for number in range(3):
        box.store(data_set(number))
    box.spool.close()
    box.open()
    assert box.spool.recovery() == (3, 0, 0, 0)
    assert box.spool.durable_sequence == 3
    assert box.store(data_set(9))[4] == 4
    assert sequences(box) == [1, 2, 3, 4]


def test_a_second_writer_is_kept_out(box: SpoolBox) -> None:
    import fcntl

    descriptor = os.open(box.journal / "lock", os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


@pytest.mark.parametrize("keep", [0, 1, 63, 64, 100, 2000, 3000])
def test_a_torn_end_is_dropped(box: SpoolBox, keep: int) -> None:
    for number in range(3):
        box.store(data_set(number))
    box.spool.close()
    (box.journal / "reached").unlink()  # it was never synced: a power cut may take it
    path = box.journal / segments(box)[0]
    image = bytearray(path.read_bytes())
    last = image.index(data_set(2)) - 64 - 8 - len(HEAD)  # head, text padded to 8, file head
    image[last + keep : last + 4096] = bytes(4096 - keep)
    path.write_bytes(image)
    box.open()
    assert sequences(box) == [1, 2]
    # What is written over the torn place is read, and nothing of the old record behind it.
    assert box.store(data_set(7))[4] == 3
    assert sequences(box) == [1, 2, 3]


@pytest.mark.parametrize("size", [3000, 200_000], ids=["inline", "a file of its own"])
def test_no_byte_of_a_record_is_believed_when_it_changed(box: SpoolBox, size: int) -> None:
    """Whose an instance is stands ahead of its bytes: no checksum of those tells of it."""
    whose = b"somebody, and what is known of the instance besides"
    for number in range(2):
        box.store(data_set(number, size), prologue=whose)
    path = box.journal / segments(box)[0]
    image = bytearray(path.read_bytes())
    begin = image.rindex(b"SCJR")
    texts = struct.unpack_from("<III", image, begin + 44)  # prologue, attributes, name
    assert image.index(whose, begin) == begin + 64, "the last record's head has 64 bytes"
    assert sequences(box) == [1, 2]
    with path.open("r+b") as file:
        for at in range(begin, begin + 64 + sum(texts)):
            os.pwrite(file.fileno(), bytes([image[at] ^ 0x04]), at)
            assert sequences(box) == [1], f"byte {at - begin} of the record has changed"
            os.pwrite(file.fileno(), image[at : at + 1], at)
    assert sequences(box) == [1, 2]


def test_segments_rotate_and_are_used_again(box: SpoolBox) -> None:
    for number in range(60):
        assert box.store(data_set(number, 100_000))[4] == number + 1
    assert sequences(box) == list(range(1, 61))
    in_use = len(segments(box))
    assert in_use > 4
    reader = box.reader(50)
    assert [record[0] for record in reader.read(50, 1)] == [50]
    released = reader.release(50)
    assert 0 < released < in_use
    assert sequences(box)[-1] == 60
    for number in range(60, 90):
        box.store(data_set(number, 100_000))
    assert len(segments(box)) <= in_use + 1, "released segments are used before new ones are made"
    assert [record[0] for record in reader.read(90, 100)] == list(range(51, 91))


def test_the_next_segment_is_made_before_it_is_needed(box: SpoolBox) -> None:
    def found(pattern: str) -> list[Path]:
        return list(box.journal.glob(pattern))

    in_use, free = "0*.wal", "free-*.wal"
    assert not found(free)
    for _ in range(SEGMENT_BYTES // 4 // 100_000 + 1):
        box.store(data_set(1, 100_000))
    (made,) = eventually(lambda: found(free), 10, "it is made beside us")
    assert len(found(in_use)) == 1, "not made before the first was full"
    assert made.read_bytes() == bytes(SEGMENT_BYTES)
    while found(free) == [made]:
        box.store(data_set(1, 100_000))
    assert len(found(in_use)) == 2, "it was used"


def test_a_half_made_segment_goes_at_the_next_start(box: SpoolBox) -> None:
    box.store(data_set(1))
    box.spool.close()
    half = box.journal / "free-00000000000001ff.wal.making"
    half.write_bytes(bytes(1000))
    box.open()
    assert not half.exists()
    assert sequences(box) == [1]


def test_what_follows_a_group_in_its_last_page_is_zero(box: SpoolBox) -> None:
    """Whole pages are written, so that a recycled segment need not be read for it."""
    (segment,) = segments(box)
    path = box.journal / segment
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (SEGMENT_BYTES - 4096))
    box.store(data_set(1, 5000))
    content = path.read_bytes()
    end = content.index(b"\xff" * 4096)
    assert end % 4096 == 0
    assert content[end - 64 : end] == bytes(64)
    assert content[4096:].count(0xFF) > SEGMENT_BYTES // 2
    assert box.store(data_set(2, 5000))[0] == _core.COMPLETION_STORED
    assert sequences(box) == [1, 2]


def test_released_segments_do_not_come_back_after_a_restart(box: SpoolBox) -> None:
    for number in range(40):
        box.store(data_set(number, 100_000))
    reader = box.reader(40)
    reader.read(40, 1)
    reader.release(40)
    box.spool.close()
    box.open()
    found = sequences(box)
    assert found[-1] == 40
    assert found == list(range(found[0], 41))
    assert box.store(data_set(1))[4] == 41


def test_a_writer_too_far_ahead_waits_then_says_so(tmp_path: Path) -> None:
    box = SpoolBox(tmp_path, segments_max=2)
    try:
        outcomes = [box.store(data_set(number, 100_000)) for number in range(30)]
        failed = [outcome for outcome in outcomes if outcome[0] == _core.COMPLETION_FAILED]
        assert failed
        assert {os.strerror(outcome[2]) for outcome in failed} == {
            "Resource temporarily unavailable"
        }
        kept = sequences(box)
        assert kept == list(range(1, 31 - len(failed)))
        reader = box.reader(kept[-1])
        reader.read(kept[-1], 1)
        reader.release(kept[-1])
        assert box.store(data_set(99))[0] == _core.COMPLETION_STORED, "recovers by itself"
    finally:
        box.close()


def test_unnamed_incoming_files_are_swept_at_start(box: SpoolBox) -> None:
    box.store(data_set(1, 300_000))
    (kept,) = box.instances_under_way()
    (box.incoming / "0000-0000.part").write_bytes(b"half an instance")
    box.spool.close()
    box.open()
    assert box.spool.recovery() == (1, 0, 1, 0)
    assert box.instances_under_way() == [kept]


def test_names_are_made_ahead_used_up_and_gone_at_the_end(box: SpoolBox) -> None:
    for number in range(100):
        assert box.store(data_set(number, 140_000))[0] == _core.COMPLETION_STORED
    assert len(box.instances_under_way()) == 100
    assert len({record[3] for record in box.reader().read(100, 100)}) == 100
    deadline = time.monotonic() + 5
    while len(list(box.incoming.iterdir())) == 100 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert 100 < len(list(box.incoming.iterdir())) <= 164
    box.spool.close()
    assert len(list(box.incoming.iterdir())) == 100
    (box.incoming / "0000-0000.part").touch()
    box.open()
    assert box.spool.recovery() == (100, 0, 0, 0), "an empty file is no instance"
    assert len(list(box.incoming.iterdir())) == 100


def test_a_cancelled_instance_leaves_nothing(box: SpoolBox) -> None:
    from tests.rigs.spools import new_cutter, store_stream

    for size in (1000, 700_000):
        cutter = new_cutter()
        cutter.attach(box.spool, 0)
        cutter.feed(store_stream(bytes(size))[: size // 2 + 200])
        event = cutter.next_event()
        assert event is not None
        box.spool.begin(0, HEAD, b"p", True)
        cutter.expect_data(event[1])
        cutter.feed(b"")
        if not box.spool.cancel(0):
            assert box.wait()[0] == _core.COMPLETION_FREE
        assert box.instances_under_way() == []
    assert sequences(box) == []
    assert box.store(data_set(3))[0] == _core.COMPLETION_STORED


def test_disk_errors_are_told_and_leave_nothing(box: SpoolBox) -> None:
    shutil.rmtree(box.incoming)
    kind, _slot, error, _bytes, _sequence = box.store(bytes(400_000))
    assert (kind, error) == (_core.COMPLETION_FAILED, 2)
    assert box.store(bytes(4000))[0] == _core.COMPLETION_STORED, "small ones need no file"
    assert sequences(box) == [1]


def test_placing_replaces_in_one_step(box: SpoolBox, tmp_path: Path) -> None:
    target = tmp_path / "placed.dcm"
    for number in range(2):
        sequence = box.store(data_set(number))[4]
        assert box.stored_bytes(sequence, target) == HEAD + data_set(number)
    assert [path.name for path in tmp_path.glob("placed*")] == ["placed.dcm"]
    reader = box.reader()
    records = reader.read(2, 2)
    with pytest.raises(OSError, match="creating"):
        reader.place_inline(records[0][6], records[0][4], str(tmp_path / "no" / "x.dcm"), True)
    with pytest.raises(OSError, match="not in the batch"):
        reader.place_inline(1 << 40, 10, str(target), True)


def test_a_record_of_another_history_is_not_believed(box: SpoolBox) -> None:
    """Records of whole pages, so that no padding lies over what stands behind them: the third has
    the right number and place, and its checksums hold; only its predecessor is another. It says
    that nothing was durable when it was written, as one of a group that was refused does."""
    box.store(data_set(0, 4096))
    begins = (box.journal / segments(box)[0]).read_bytes().index(data_set(0, 4096)) - 4096
    box.spool.close()
    shutil.rmtree(box.journal)
    box.journal.mkdir()
    box.open()
    for number in range(3):
        box.store(data_set(number, 8192 - begins))
    box.spool.close()
    path = box.journal / segments(box)[0]
    records.rewrite(path, 3, durable_before=2)
    records.destroy(path, 2)
    (box.journal / "reached").unlink()
    box.open()
    assert sequences(box) == [1]
    assert box.store(data_set(5, 8192 - begins))[4] == 2
    assert sequences(box) == [1, 2]
    box.spool.close()
    box.open()
    assert sequences(box) == [1, 2]


def test_a_reader_keeps_the_segment_it_has_not_read_to_its_end(box: SpoolBox) -> None:
    for number in range(40):
        box.store(data_set(number, 100_000))
    reader = box.reader()
    assert [record[0] for record in reader.read(40, 1)] == [1]
    assert reader.release(40) == 0
    assert [record[0] for record in reader.read(2, 1)] == [2]
    assert sequences(box) == list(range(1, 41))
