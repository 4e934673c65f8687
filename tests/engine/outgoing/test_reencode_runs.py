"""What is written natively is what is written element by element: bytes, errors and all."""

import itertools
import os
import string
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import limits
from engine.errors import LocalError
from engine.files.part10 import read_part10_head
from engine.outgoing import reencode
from engine.outgoing.edits import edits_for
from engine.outgoing.outgoing import FileRange
from engine.outgoing.pixels import Frames, PixelDecoder
from engine.outgoing.reader import DataSetReader
from engine.outgoing.reencode import Reencoder
from native import _core
from tests.material import samples
from tests.material.jpeg_encoder import Form, encode, picture

JPEG_LOSSLESS: Final = "1.2.840.10008.1.2.4.70"
ITEM: Final = bytes.fromhex("feff00e0")
ITEM_END: Final = bytes.fromhex("feff0de000000000")
SEQUENCE_END: Final = bytes.fromhex("feffdde000000000")
UNDEFINED: Final = b"\xff" * 4


def element(tag: int, vr: bytes, value: bytes, length: bytes = b"") -> bytes:
    """Of a VR with the long form where one is given, of the short one otherwise."""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    if vr in (b"SQ", b"OB", b"OW", b"UN", b"UT", b"OF"):
        return head + b"\0\0" + (length or struct.pack("<I", len(value))) + value
    return head + (length[:2] or struct.pack("<H", len(value))) + value


def made(
    path: Path,
    explicit_out: bool,
    decoder: PixelDecoder | None = None,
    corrections: Mapping[int, str] | None = None,
    *,
    runs: bool = True,
    head_bytes: int = 0,
) -> bytes | str:
    """The data set, or what is wrong with it. `runs` False: the slow way alone."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = path.stat().st_size
        reader = DataSetReader(descriptor, 0, size, os.pread(descriptor, head_bytes, 0))
        out = bytearray()
        try:
            edits = edits_for(reader, corrections or {}, True, explicit_out)
            reencoder = Reencoder(reader, True, explicit_out, edits, decoder)
            if not runs:
                reencoder._runs = None
            for part in reencoder.pieces():
                if isinstance(part, FileRange):
                    out += os.pread(descriptor, part.length, part.offset)
                elif isinstance(part, Frames):
                    out += b"".join(part.decoded())
                else:
                    out += part
        except LocalError as error:
            return error.comment
        return bytes(out)
    finally:
        os.close(descriptor)


def both(
    path: Path, decoder: PixelDecoder | None = None, corrections: Mapping[int, str] | None = None
) -> bytes | str:
    """As Explicit and as Implicit VR; the explicit one is given back."""
    for explicit_out in (False, True):
        slow = made(path, explicit_out, decoder, corrections, runs=False)
        for head_bytes in (0, 100, 1 << 20):
            quick = made(path, explicit_out, decoder, corrections, head_bytes=head_bytes)
            assert quick == slow
    return slow


# --- generated ----------------------------------------------------------------------------------
TAGS: Final = (
    *(0x00080000, 0x00080001, 0x00080005, 0x00080016, 0x00100010, 0x00100020, 0x00280002),
    *(0x00280004, 0x00280010, 0x00280100, 0x00290010, 0x00291010, 0x00400275, 0x54001010),
    *(0x7FE00001, 0x7FE00010, 0x7FE10010, 0xFFFCFFFC, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD),
)
VRS: Final = (b"CS", b"LO", b"US", b"UI", b"UN", b"OB", b"OW", b"UT", b"SQ", b"QQ", b"ab", b"\0\0")
LENGTHS: Final = (b"", UNDEFINED, b"\0\0\0\0", b"\x06\0\0\0", b"\xff\xff\0\0")


def data_sets(depth: int) -> st.SearchStrategy[bytes]:
    """Elements of any kind, most of them right."""
    values = st.sampled_from(
        (b"", b"ab", b"YBR_FULL_422", b"\1\0", b"x" * 70, b"y" * 16384, b"z" * 16386)
    )
    plain = st.builds(
        element,
        st.sampled_from(TAGS[:13]),
        st.sampled_from(VRS[:8]),
        values,
    )
    odd = st.builds(
        element,
        st.sampled_from(TAGS),
        st.sampled_from(VRS),
        values,
        st.sampled_from(LENGTHS),
    )
    kinds = [plain, plain, plain, odd]
    if depth:
        kinds.append(st.builds(sequence, st.lists(data_sets(depth - 1), max_size=3), st.data()))
    return st.lists(st.one_of(kinds), max_size=6).map(b"".join)


def sequence(items: list[bytes], data: st.DataObject) -> bytes:
    """With defined and undefined lengths, and now and then a delimiter that is missing."""
    value = b""
    for item in items:
        if data.draw(st.booleans()):
            value += ITEM + struct.pack("<I", len(item)) + item
        else:
            value += ITEM + UNDEFINED + item + data.draw(st.sampled_from([ITEM_END] * 9 + [b""]))
    if data.draw(st.booleans()):
        return element(0x00400275, b"SQ", value)
    ends = data.draw(st.sampled_from([SEQUENCE_END] * 9 + [b""]))
    return element(0x00400275, b"SQ", value + ends, UNDEFINED)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    content=data_sets(3),
    cut=st.integers(0, 30),
    changes=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=2),
    decodes=st.booleans(),
    corrections=st.sampled_from(({}, {0x00100010: "A^B"}, {0x00100020: "", 0x00081030: "text"})),
)
def test_any_data_set(
    content: bytes,
    cut: int,
    changes: list[tuple[int, int]],
    decodes: bool,
    corrections: dict[int, str],
    tmp_path: Path,
) -> None:
    """Whole, cut off and changed ones."""
    damaged = bytearray(content[: len(content) - cut] if cut < 10 else content)
    for place, value in changes:
        if damaged:
            damaged[place % len(damaged)] = value
    path = tmp_path / "data set"
    path.write_bytes(damaged)
    both(path, PixelDecoder(JPEG_LOSSLESS, 1) if decodes else None, corrections)


def test_every_vr(tmp_path: Path) -> None:
    """Each pair of letters in both forms of an element's header."""
    path = tmp_path / "data set"
    for letters in itertools.product(string.ascii_uppercase, repeat=2):
        vr = "".join(letters).encode()
        for head in (vr + b"\4\0", vr + b"\0\0\4\0\0\0", vr + b"\1\1\4\0\0\0"):
            path.write_bytes(b"\x08\0\x60\0" + head + b"abcd" + element(0x00100010, b"PN", b"A "))
            both(path)


def nested(depth: int, length: bytes) -> bytes:
    value = element(0x00100010, b"PN", b"A ")
    for _ in range(depth):
        if length:
            value = element(
                0x00400275, b"SQ", ITEM + length + value + ITEM_END + SEQUENCE_END, length
            )
        else:
            value = element(0x00400275, b"SQ", ITEM + struct.pack("<I", len(value)) + value)
    return value


@pytest.mark.parametrize("length", [UNDEFINED, b""])
def test_depth_is_bounded_alike(length: bytes, tmp_path: Path) -> None:
    path = tmp_path / "data set"
    for depth in range(limits.sequence_depth_max - 2, limits.sequence_depth_max + 3):
        path.write_bytes(nested(depth, length))
        result = both(path)
        assert isinstance(result, str) == (depth > limits.sequence_depth_max)
    path.write_bytes(nested(5000, UNDEFINED))
    assert "more than 1024 deep" in str(both(path))


def test_sequences_longer_than_what_is_at_hand(tmp_path: Path) -> None:
    """Functional groups of many frames, of which the window holds a part."""
    item = (
        element(0x00280010, b"US", b"\1\0")
        + nested(3, b"")
        + element(0x00291010, b"UN", b"q" * 900)
    )
    value = b"".join(ITEM + struct.pack("<I", len(item)) + item for _ in range(300))
    path = tmp_path / "data set"
    path.write_bytes(
        element(0x00080060, b"CS", b"CT") + element(0x52009230, b"SQ", value) + nested(2, UNDEFINED)
    )
    result = both(path)
    assert isinstance(result, bytes)
    assert len(result) > 300_000


def test_a_whole_compressed_image(tmp_path: Path) -> None:
    """Nothing but the pixel data is done slowly."""
    image = picture(16, 16, 1, 12)
    frame = encode(image, Form(12))
    frame += b"\0" * (len(frame) & 1)
    path = tmp_path / "data set"
    path.write_bytes(
        b"".join(
            (
                element(0x00080060, b"CS", b"CT"),
                nested(2, UNDEFINED),
                element(0x00280002, b"US", b"\1\0"),
                element(0x00280004, b"CS", b"MONOCHROME2 "),
                element(0x00280010, b"US", b"\x10\0"),
                element(0x00280011, b"US", b"\x10\0"),
                element(0x00280100, b"US", b"\x10\0"),
                element(0x7FE00010, b"OB", ITEM + bytes(4), UNDEFINED),
                ITEM + struct.pack("<I", len(frame)) + frame + SEQUENCE_END,
            )
        )
    )
    result = both(path, PixelDecoder(JPEG_LOSSLESS, 1))
    assert isinstance(result, bytes)
    assert result.endswith(image.tobytes())
    content = path.read_bytes()
    runs = reencode._runs_of(True, True, frozenset())
    stopped, _, kept = runs.pass_over(content, 0, len(content), 1, 0xFFFFFFFF)
    assert content[stopped : stopped + 4] == b"\xe0\x7f\x10\0"
    assert dict(kept)[0x00280010] == b"\x10\0"


@pytest.mark.parametrize("name", ["CT_small.dcm", "eCT_Supplemental.dcm", "test-SR.dcm"])
def test_real_data_sets(name: str, tmp_path: Path) -> None:
    content = samples.original(name).read_bytes()
    path = tmp_path / "data set"
    path.write_bytes(content[read_part10_head(content).data_set_offset :])
    for corrections in ({}, {0x00100010: "Other^Name"}):
        assert isinstance(both(path, None, corrections), bytes)


# --- fragments ------------------------------------------------------------------------------------
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    lengths=st.lists(st.integers(0, 40), max_size=6),
    cut=st.integers(0, 60),
    change=st.tuples(st.integers(0), st.integers(0, 255)) | st.none(),
)
def test_fragments_are_found_alike(
    lengths: list[int], cut: int, change: tuple[int, int] | None, tmp_path: Path
) -> None:
    items = b"".join(ITEM + struct.pack("<I", length) + bytes(length) for length in lengths)
    content = bytearray(items + SEQUENCE_END + b"behind")
    del content[len(content) - (cut if cut < 30 else 0) :]
    if change and content:
        content[change[0] % len(content)] = change[1]
    path = tmp_path / "pixel data"
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        results = []
        for way in (DataSetReader.fragments, DataSetReader._broken_fragments):
            try:
                results.append(repr(way(DataSetReader(descriptor, 0, len(content)), 0)))
            except LocalError as error:
                results.append(error.comment)
    finally:
        os.close(descriptor)
    assert results[0] == results[1]


def test_fragments_are_bounded_by_number_and_by_the_end(tmp_path: Path) -> None:
    items = [ITEM + struct.pack("<I", 4) + bytes(4)] * 3
    content = b"".join(items) + SEQUENCE_END
    too_long = ITEM + struct.pack("<I", 9) + bytes(4)  # it would take a byte behind the end
    path = tmp_path / "pixel data"
    path.write_bytes(content + too_long + SEQUENCE_END)
    with path.open("rb") as file:
        found = _core.find_fragments(file.fileno(), 0, len(content), 3)
        assert found is not None
        assert len(found[0]) == 3
        assert _core.find_fragments(file.fileno(), 0, len(content), 2) is None
        start = len(content)
        assert _core.find_fragments(file.fileno(), start, start + len(too_long), 3) is None
