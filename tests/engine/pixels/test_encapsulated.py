"""Frames are found where a foreign reader finds them; broken fragments are told."""

import io
import struct

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames

from engine import limits
from engine.errors import LocalError
from engine.files.part10 import read_part10_head
from engine.pixels.check import Checked, check_image
from engine.pixels.encapsulated import (
    PixelData,
    find_pixel_data,
    fragment_spans,
    frames_of,
    number_of_frames,
)
from tests.rigs.encapsulated_files import COLUMNS, JPEG_LOSSLESS, ROWS, file_of, stream


def frames_in(content: bytes) -> list[bytes]:
    found = find_pixel_data(memoryview(content), read_part10_head(content).data_set_offset)
    assert found is not None
    return [bytes(frame) for frame in frames_of(memoryview(content), found)]


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("count", [1, 4])
def test_frames_are_those_of_a_foreign_reader(table: bool, pieces: int, count: int) -> None:
    streams = [stream(seed) for seed in range(count)]
    content = file_of(encapsulate(streams, fragments_per_frame=pieces, has_bot=table), count)
    read = pydicom.dcmread(io.BytesIO(content))
    expected = list(generate_frames(read.PixelData, number_of_frames=count))
    assert frames_in(content) == expected
    assert [frame[: len(one)] for frame, one in zip(expected, streams, strict=True)] == streams
    checked = check_image(memoryview(content), JPEG_LOSSLESS)
    assert (checked.frames, checked.frames_unchecked, checked.fault) == (count, 0, "")


def test_the_shape_is_the_images_own() -> None:
    content = file_of(encapsulate([stream(1)]), 1)
    found = find_pixel_data(memoryview(content), read_part10_head(content).data_set_offset)
    assert found == PixelData(found.start if found else 0, 1, 1, ROWS, COLUMNS, 16)


def test_a_real_file() -> None:
    path = get_testdata_file("JPEG-LL.dcm", download=False)
    assert path is not None, "pydicom-data is not installed"
    with open(str(path), "rb") as file:
        content = file.read()
    assert frames_in(content) == list(
        generate_frames(pydicom.dcmread(str(path)).PixelData, number_of_frames=1)
    )
    assert check_image(memoryview(content), JPEG_LOSSLESS).fault == ""
    cut = check_image(memoryview(content)[:-5000], JPEG_LOSSLESS)
    assert "cut off" in cut.fault
    damaged = bytearray(content)
    damaged[60_000:60_004] = b"\xff\xd9\0\0"
    fault = check_image(memoryview(damaged), JPEG_LOSSLESS).fault
    assert fault.startswith("frame 1 of 1: ")


def test_no_cut_leaves_a_good_image() -> None:
    content = file_of(encapsulate([stream(1), stream(2)], fragments_per_frame=2), 2)
    view = memoryview(content)
    for length in range(len(content)):
        checked = check_image(view[:length], JPEG_LOSSLESS)
        if checked.fault:
            continue
        # Between two elements a file may end, as far as can be seen from it; it has no image then.
        assert length > 132
        assert checked == Checked()


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_damage_is_told_or_harmless(data: st.DataObject) -> None:
    """Nothing but a verdict leaves the check, whatever bytes it is given."""
    damaged = bytearray(file_of(encapsulate([stream(1), stream(2)], fragments_per_frame=2), 2))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(132, len(damaged) - 4))
        damaged[at : at + 4] = data.draw(
            st.sampled_from(
                [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xfe\xff\x00\xe0", b"\x01\x02\x03"]
            )
        )
    checked = check_image(memoryview(damaged), JPEG_LOSSLESS)
    assert 0 <= checked.frames_unchecked <= max(checked.frames, 1)


def item(value: bytes, tag: int = 0xE000) -> bytes:
    return struct.pack("<HHI", 0xFFFE, tag, len(value)) + value


END = item(b"", 0xE0DD)
TABLE = struct.pack("<II", 0, 12)


@pytest.mark.parametrize(
    ("items", "frames", "said"),
    [
        (item(b"") + END, 1, "no fragment"),
        (END, 1, "broken or cut off"),
        (item(b"") + item(b"abcd"), 1, "cut off"),
        (item(b"") + item(b"abcd")[:-1] + END, 1, "cut off"),
        (item(b"") + item(b"abcd") + item(b"", 0xE00D), 1, "broken or cut off"),
        (item(b"") + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + END, 1, "broken"),
        (item(b"") + item(b"abcd") * 2 + END, 3, "1 frames are there, the data set says 3"),
        (item(b"") + item(b"ab\xff\xd9") * 3 + item(b"abcd") + END, 3, "4 frames are there"),
        (item(TABLE[:7]) + item(b"abcd") * 3 + END, 2, "no row"),
        (item(TABLE[::-1]) + item(b"abcd") * 3 + END, 2, "not in order"),
        (item(struct.pack("<II", 0, 8)) + item(b"abcd") * 3 + END, 2, "between fragments"),
        (item(b"") + item(b"ab\xff\xd9") * 2 + END, 0, "2 frames are there, .* says nothing"),
    ],
)
def test_broken_fragments_are_told(items: bytes, frames: int, said: str) -> None:
    with pytest.raises(LocalError, match=said):
        list(frames_of(memoryview(items), PixelData(0, frames)))


@pytest.mark.parametrize(
    "table",
    [
        *(bytes(8), b"", TABLE, TABLE[:4], TABLE[:7], TABLE[::-1], TABLE + TABLE, bytes(400)),
        *(struct.pack("<II", 0, 8), struct.pack("<II", 0, 1 << 31), struct.pack("<II", 0, 14)),
        struct.pack("<III", 0, 12, 24),
    ],
)
@pytest.mark.parametrize("empty", [b"", item(b"")])
def test_a_table_is_not_needed_where_fragments_are_frames(table: bytes, empty: bytes) -> None:
    """As DCMTK and pydicom have it, which count fragments then."""
    for frames, values in ((2, [b"abcd", b"efgh"]), (1, [b"abcd"])):
        items = item(table) + b"".join(item(value) for value in values) + empty + END
        assert [bytes(f) for f in frames_of(memoryview(items), PixelData(0, frames))] == values


@pytest.mark.parametrize("padding", [b"\xff", b" ", b"A", b"\0" * 9, b"\xff" * 3, b"  "])
def test_any_padding_behind_a_frame(padding: bytes) -> None:
    frames = [b"ab", b"cdef\xff\xd9" + padding, b"g\xff\xd9" + padding]
    items = item(b"") + b"".join(item(frame) for frame in frames) + END
    expected = [b"".join(frames[:2]), frames[2]]
    assert [bytes(f) for f in frames_of(memoryview(items), PixelData(0, 2))] == expected


@pytest.mark.parametrize(
    ("value", "count"),
    [
        *((b"", None), (b"0 ", None), (b"  ", None), (b"x ", None), (b"-1", None)),
        (b"1\\2 ", None),
        *((b"1 ", 1), (b"1\0", 1), (b"+12 ", 12), (b"012 ", 12), (b"2.0 ", 2)),
    ],
)
def test_the_number_of_frames(value: bytes, count: int | None) -> None:
    assert number_of_frames(value) == count


def test_a_flood_of_fragments_is_bounded() -> None:
    with pytest.raises(LocalError, match="more than 262144 fragments"):
        fragment_spans(memoryview(item(b"") * 300_000 + END), 0)


def nested(depth: int, implicit: bool) -> bytes:
    """Sequences in sequences, of no length; inside unknown ones everything is in implicit VR."""
    unknown = struct.pack("<HH2sHI", 0x0009, 0x1001, b"UN", 0, 0xFFFFFFFF)
    open_item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    inner = struct.pack("<HHI", 0x0009, 0x1001, 0xFFFFFFFF)
    if not implicit:
        unknown = inner = struct.pack("<HH2sHI", 0x0009, 0x1001, b"SQ", 0, 0xFFFFFFFF)
    ends = item(b"", 0xE00D) + END
    return unknown + open_item + (inner + open_item) * (depth - 1) + ends * depth


@pytest.mark.parametrize("implicit", [True, False])
def test_nesting_is_followed_and_bounded(implicit: bool) -> None:
    behind = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    for depth in (1, 2, 64, limits.sequence_depth_max):
        data = nested(depth, implicit) + behind
        found = find_pixel_data(memoryview(data), 0)
        assert found is not None
        assert found.start == len(data)
    with pytest.raises(LocalError, match="too deep"):
        find_pixel_data(memoryview(nested(limits.sequence_depth_max + 1, implicit) + behind), 0)
    with pytest.raises(LocalError, match="too deep"):
        find_pixel_data(memoryview(nested(50_000, implicit) + behind), 0)


def test_what_is_no_compressed_image() -> None:
    plain = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 4) + bytes(4)
    with pytest.raises(LocalError, match="not in fragments"):
        find_pixel_data(memoryview(plain), 0)
    assert find_pixel_data(memoryview(b""), 0) is None
    beyond = struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, 4) + bytes(4)
    assert find_pixel_data(memoryview(beyond), 0) is None


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_the_end_of_an_image_may_be_cut_in_two(cut: int) -> None:
    """A fragment may have but the last byte of EOI, or nothing but padding behind it."""
    streams = [stream(seed) for seed in range(2)]
    streams = [each + b"\0" * (len(each) & 1) for each in streams]
    fragments = [part for each in streams for part in (each[:-cut], each[-cut:])]
    items = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(it)) + it for it in [b"", *fragments])
    content = file_of(items, 2)
    assert [frame[: len(one)] for frame, one in zip(frames_in(content), streams, strict=True)] == (
        streams
    )
