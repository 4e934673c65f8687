"""The tag scanner against pydicom and against hostile data sets, cut into pieces in every way.

pydicom is the reference for what a real file's attributes are; hostile data sets carry their own
answer (tests/native/sanitized/hostile.py). The checksum is held against the published check value.
"""

import functools
import io
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import data_store
import pydicom
import pydicom.data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import (
    _is_implicit_vr,
    _read_file_meta_info,
    data_element_generator,
    read_preamble,
)
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from engine import limits
from engine.dictionary.attributes import ATTRIBUTES
from native import _core
from native._core import crc32c
from tests.native.sanitized import hostile

OUTCOMES: Final = {"done": 0, "malformed": 1, "more": 2}
INDEXED: Final = sorted({attribute.tag for attribute in ATTRIBUTES} | {0x00080016, 0x00080018})
VALUE_MAX: Final = limits.attribute_bytes_max
ROW_MAX: Final = limits.attributes_bytes_max


def scan_tags(
    data: bytes, explicit: bool, wanted: list[int], value_max: int, row_max: int, chunk: int = 0
) -> tuple[bytes, int]:
    return _core.scan_tags(
        data, explicit, wanted, value_max, row_max, limits.sequence_depth_max, chunk
    )


def cut(row: bytes) -> dict[int, bytes]:
    """A row's values by tag; its order is checked."""
    values: dict[int, bytes] = {}
    at = 0
    while at < len(row):
        group, element, length = struct.unpack_from("<HHH", row, at)
        tag = group << 16 | element
        assert not values or tag > max(values), "the row is not in tag order"
        values[tag] = row[at + 6 : at + 6 + length]
        assert len(values[tag]) == length, "the row ends inside a value"
        at += 6 + length
    return values


def _files() -> Iterator[Path]:
    for package in (pydicom.data, data_store):
        root = Path(str(package.__file__)).parent
        yield from sorted(path for path in root.rglob("*") if path.is_file())


def _values(body: bytes, implicit: bool) -> Iterator[tuple[int, bytes]]:
    """What pydicom reads of a data set below Pixel Data: whole values, no sequences."""
    stream = io.BytesIO(body)
    implicit = _is_implicit_vr(stream, implicit, True, None, is_sequence=False)
    stream.seek(0)

    def stop(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        return tag >= 0x7FE00000

    for element in data_element_generator(stream, implicit, True, stop):
        if not isinstance(element, RawDataElement) or element.length == hostile.UNDEFINED:
            continue
        value = element.value or b""
        if element.VR != "SQ" and len(value) == element.length:
            yield int(element.tag), value


@functools.cache
def real_data_sets() -> list[tuple[str, bool, bytes, dict[int, bytes]]]:
    """(file, explicit, data set, top-level values below Pixel Data) of every file that is DICOM in
    little endian and not deflated, as pydicom reads them; sequences are left out."""
    found = []
    for path in _files():
        data = path.read_bytes()
        if data[128:132] != b"DICM":
            continue
        stream = io.BytesIO(data)
        read_preamble(stream, False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            meta = _read_file_meta_info(stream)
            syntax = meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
            if not syntax.is_little_endian or syntax == DeflatedExplicitVRLittleEndian:
                continue
            body = data[stream.tell() :]
            values = dict(_values(body, syntax.is_implicit_VR))
        found.append((path.name, not syntax.is_implicit_VR, body, values))
    return found


def test_the_real_data_sets_are_many() -> None:
    assert len(real_data_sets()) >= 150
    assert {explicit for _, explicit, _, _ in real_data_sets()} == {True, False}


@pytest.mark.parametrize("chunk", [0, 1, 7, 4096])
def test_real_files_are_read_as_pydicom_reads_them(chunk: int) -> None:
    # Byte by byte through a binding takes its time; the head of a data set is what matters there.
    for name, explicit, body, values in real_data_sets():
        body = body[: 1 << 20] if chunk == 1 else body
        row, outcome = scan_tags(body, explicit, INDEXED, VALUE_MAX, ROW_MAX, chunk)
        wanted = {tag: values[tag][:VALUE_MAX] for tag in INDEXED if tag in values}
        assert cut(row) == wanted, (name, outcome)
        assert outcome != OUTCOMES["malformed"], name


def test_every_attribute_of_real_files_can_be_wanted() -> None:
    for name, explicit, body, values in real_data_sets():
        kept = {tag: value[:0xFFFF] for tag, value in values.items()}
        exactly = sum(6 + len(value) for value in kept.values())
        row, _ = scan_tags(body, explicit, sorted(values), 0xFFFF, exactly)
        assert cut(row) == kept, name


@pytest.mark.parametrize("case", hostile.cases(), ids=lambda case: case.name)
def test_hostile_data_sets(case: hostile.Hostile) -> None:
    row, outcome = scan_tags(case.data, case.explicit, INDEXED, VALUE_MAX, ROW_MAX)
    assert (cut(row), outcome) == (case.found, OUTCOMES[case.outcome])


@pytest.mark.parametrize("case", hostile.cases(), ids=lambda case: case.name)
def test_hostile_data_sets_in_every_piece(case: hostile.Hostile) -> None:
    data = case.data[:8192]
    whole = scan_tags(data, case.explicit, INDEXED, VALUE_MAX, ROW_MAX)
    for chunk in [*range(1, 65), 4096]:
        assert scan_tags(data, case.explicit, INDEXED, VALUE_MAX, ROW_MAX, chunk) == whole, chunk


@pytest.mark.parametrize("case", hostile.cases(), ids=lambda case: case.name)
def test_what_comes_more_only_adds(case: hostile.Hostile) -> None:
    """Every prefix is as good as unfinished: nothing is found that the whole does not have, but
    for what disorder replaces."""
    data = case.data[:600]
    for end in range(len(data)):
        row, outcome = scan_tags(data[:end], case.explicit, INDEXED, VALUE_MAX, ROW_MAX)
        found = cut(row)
        assert outcome in OUTCOMES.values()
        if case.name not in ("twice", "long-value"):
            assert found.items() <= case.found.items(), end


def test_the_bounds_of_the_row() -> None:
    data = hostile.MODALITY + hostile.PATIENT + hostile.SERIES + hostile.PIXELS
    everything = len(scan_tags(data, True, INDEXED, VALUE_MAX, ROW_MAX)[0])
    for row_max in range(everything + 1):
        row, outcome = scan_tags(data, True, INDEXED, VALUE_MAX, row_max)
        assert len(row) <= row_max
        assert outcome == OUTCOMES["done"]
        assert cut(row).items() <= hostile.ALL.items()
    for value_max in range(8):
        row, _ = scan_tags(data, True, INDEXED, value_max, ROW_MAX)
        assert cut(row) == {tag: value[:value_max] for tag, value in hostile.ALL.items()}
    assert scan_tags(data, True, [], VALUE_MAX, ROW_MAX) == (b"", OUTCOMES["done"])


def test_meta_information_ahead_of_a_data_set_tells_nothing_of_its_encoding() -> None:
    """Group 0002 in either encoding, then the data set in the negotiated one."""
    implicit = struct.pack("<HHI", 2, 0x10, 4) + b"1.2\0"
    explicit = struct.pack("<HH2sH", 2, 0x10, b"UI", 4) + b"1.2\0"
    for meta in (implicit, explicit):
        data = meta + hostile.MODALITY + hostile.PATIENT + hostile.SERIES + hostile.PIXELS
        row, outcome = scan_tags(data, True, INDEXED, VALUE_MAX, ROW_MAX)
        assert outcome == OUTCOMES["done"]
        assert cut(row) == hostile.ALL


def test_nesting_is_followed_as_deep_as_the_bound_says() -> None:
    """The scanner's own constant is the one in engine/limits.py."""

    def outcome(depth: int) -> int:
        data = hostile.nested(depth) + hostile.PIXELS
        return scan_tags(data, True, INDEXED, VALUE_MAX, ROW_MAX)[1]

    assert outcome(limits.sequence_depth_max) == OUTCOMES["done"]
    assert outcome(limits.sequence_depth_max + 1) == OUTCOMES["malformed"]


TEXT_TAGS: Final = [0x00080060, 0x00080070, 0x00081030, 0x00100010, 0x00100020, 0x0020000D]
SEQUENCE_TAGS: Final = [0x00081115, 0x00081140, 0x00082218, 0x00101002, 0x00181012, 0x0020930F]


def _flat() -> st.SearchStrategy[Dataset]:
    def make(values: dict[int, str]) -> Dataset:
        data_set = Dataset()
        for tag, value in values.items():
            vr = {0x00080060: "CS", 0x00100010: "PN", 0x0020000D: "UI"}.get(tag, "LO")
            data_set.add_new(tag, vr, value)
        return data_set

    text = st.text("0123456789", max_size=20)
    return st.builds(make, st.dictionaries(st.sampled_from(TEXT_TAGS), text))


def _with_sequences(inner: st.SearchStrategy[Dataset]) -> st.SearchStrategy[Dataset]:
    def make(base: Dataset, sequences: dict[int, list[Dataset]], choices: list[bool]) -> Dataset:
        result = Dataset()
        result.update(base)
        undefined = iter(choices)
        for tag, items in sequences.items():
            for item in items:
                item.is_undefined_length_sequence_item = next(undefined, True)
            result.add_new(tag, "SQ", Sequence(items))
            result[tag].is_undefined_length = next(undefined, True)
        return result

    items = st.lists(inner, max_size=3)
    sequences = st.dictionaries(st.sampled_from(SEQUENCE_TAGS), items, max_size=3)
    return st.builds(make, _flat(), sequences, st.lists(st.booleans(), max_size=12))


@pytest.mark.filterwarnings("ignore::UserWarning")  # what is written need not be valid
@settings(max_examples=150, deadline=None)
@given(
    data_set=st.recursive(_flat(), _with_sequences, max_leaves=12),
    explicit=st.booleans(),
    chunk=st.integers(0, 40),
)
def test_whatever_pydicom_writes(data_set: Dataset, explicit: bool, chunk: int) -> None:
    stream = pydicom.filebase.DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, not explicit
    data_set.file_meta = FileMetaDataset()
    write_dataset(stream, data_set)
    data = stream.getvalue() + (hostile.PIXELS if explicit else hostile.implicit(0x7FE00010, b"12"))
    row, outcome = scan_tags(data, explicit, TEXT_TAGS, VALUE_MAX, ROW_MAX, chunk)
    found = {tag: value.rstrip(b" \0").decode() for tag, value in cut(row).items()}
    assert outcome == OUTCOMES["done"]
    assert found == {tag: str(data_set[tag].value) for tag in TEXT_TAGS if tag in data_set}


def test_checksum() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of RFC 3720's polynomial
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720 B.4
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=3000), st.integers(0, 40_000), st.integers(0, 0xFFFFFFFF))
def test_checksum_is_incremental(part: bytes, repeats: int, seed: int) -> None:
    data = part * (repeats // (len(part) + 1))
    middle = seed % (len(data) + 1)
    assert crc32c(data[middle:], crc32c(data[:middle], seed)) == crc32c(data, seed)
