"""Explicit and Implicit VR Little Endian into each other: nothing but the encoding changes."""

import re
import struct
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from engine import limits
from engine.errors import LocalError
from engine.files.part10 import read_part10_head
from engine.outgoing.contexts import SENT
from engine.outgoing.outgoing import open_outgoing
from tests.material import samples
from tests.rigs.outgoing_files import (
    EXPLICIT,
    IMPLICIT,
    differences,
    dumped,
    pieces,
    read_back,
    sent,
)
from tests.rigs.stored_elements import UNDEFINED, element, plain, stored

REAL = (
    "CT_small.dcm",
    "MR_small_implicit.dcm",
    "eCT_Supplemental.dcm",
    "liver_1frame.dcm",  # Segmentation
    "reportsi.dcm",  # Basic Text SR
    "test-SR.dcm",
    "nested_priv_SQ.dcm",
    "priv_SQ.dcm",
    "waveform_ecg.dcm",
    "rtplan.dcm",
    "vlut_04.dcm",
    "chrH31.dcm",  # ISO 2022 IR 87
    "chrFrenMulti.dcm",
    "OBXXXX1A.dcm",
    "JPEG2000_UNC.dcm",
)


@pytest.fixture(autouse=True)
def _odd_files() -> Iterator[None]:
    """pydicom remarks on what is odd in its own files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def other_than(syntax: str) -> str:
    return EXPLICIT if syntax == IMPLICIT else IMPLICIT


@pytest.mark.parametrize("name", REAL)
def test_real_files_there_and_back(name: str, tmp_path: Path) -> None:
    content = samples.original(name).read_bytes()
    head = read_part10_head(content)
    syntax = head.transfer_syntax
    source = tmp_path / "source.dcm"
    stored(tmp_path, content[head.data_set_offset :], syntax).rename(source)
    there = sent(source, other_than(syntax))
    assert differences(pydicom.dcmread(source), read_back(there, other_than(syntax))) == []
    dumped(there, other_than(syntax), tmp_path)
    back = sent(stored(tmp_path, there, other_than(syntax)), syntax)
    assert differences(pydicom.dcmread(source), read_back(back, syntax)) == []
    dumped(back, syntax, tmp_path)


@pytest.mark.skipif(not samples.available(), reason="DCMTK is not installed")
def test_presentation_states_and_documents(tmp_path: Path) -> None:
    """As DCMTK makes them, since no package has one."""
    document = tmp_path / "report.pdf"
    document.write_bytes(b"%PDF-1.4\n" + bytes(range(256)) * 200 + b"\n%%EOF\n")
    source = samples.original("CT_small.dcm")
    for number, command in enumerate(
        (
            ("dcmpsmk", str(source), str(tmp_path / "0")),
            ("pdf2dcm", str(document), str(tmp_path / "1")),
        )
    ):
        subprocess.run([f"/usr/bin/{command[0]}", *command[1:]], check=True, capture_output=True)
        made = tmp_path / str(number)
        before = pydicom.dcmread(made)
        assert before.file_meta.TransferSyntaxUID == EXPLICIT
        assert before.SOPClassUID in SENT
        there = sent(made, IMPLICIT)
        assert differences(pydicom.dcmread(made), read_back(there, IMPLICIT)) == []
        dumped(there, IMPLICIT, tmp_path)


ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, plain(0xFFFEE00D, b""), plain(0xFFFEE0DD, b"")


def test_sequences_get_undefined_lengths(tmp_path: Path) -> None:
    inner = element(0x00080100, b"SH", b"A ")
    defined = element(0x00081140, b"SQ", plain(ITEM, inner) + plain(ITEM, b""))
    empty = element(0x00081150, b"SQ", b"")
    out = sent(stored(tmp_path, defined + empty, EXPLICIT), IMPLICIT)
    assert out == (
        plain(0x00081140, b"", UNDEFINED)
        + plain(ITEM, b"", UNDEFINED)
        + plain(0x00080100, b"A ")
        + ITEM_END
        + plain(ITEM, b"")
        + SEQUENCE_END
        + plain(0x00081150, b"")
    )


def test_lengths_that_would_lie_are_left_out(tmp_path: Path) -> None:
    """Group lengths, nested ones too, and Length to End."""
    kept = element(0x00080060, b"CS", b"CT")
    inside = element(0x00080000, b"UL", b"\x0a\0\0\0") + kept
    data_set = (
        element(0x00080000, b"UL", b"\x99\0\0\0")
        + element(0x00080001, b"UL", b"\x99\0\0\0")
        + kept
        + element(0x00081140, b"SQ", plain(ITEM, inside))
    )
    read = read_back(sent(stored(tmp_path, data_set, EXPLICIT), IMPLICIT), IMPLICIT)
    assert sorted(read.keys()) == [0x00080060, 0x00081140]
    assert sorted(read[0x00081140].value[0].keys()) == [0x00080060]


def test_unknown_sequences_stay_implicit_inside(tmp_path: Path) -> None:
    """PS3.5 6.2.2: UN of undefined length is in implicit VR whatever is around it."""
    inside = plain(ITEM, b"", UNDEFINED) + plain(0x00080100, b"AB") + ITEM_END + SEQUENCE_END
    explicit = element(0x00091010, b"UN", inside, UNDEFINED) + element(0x00100010, b"PN", b"A ")
    out = sent(stored(tmp_path, explicit, EXPLICIT), IMPLICIT)
    assert out == plain(0x00091010, inside, UNDEFINED) + plain(0x00100010, b"A ")
    # And back: what has an undefined length can be nothing but a sequence.
    back = read_back(sent(stored(tmp_path, out, IMPLICIT), EXPLICIT), EXPLICIT)
    assert back[0x00091010].VR == "SQ"
    assert back[0x00091010].value[0][0x00080100].value == "AB"


def test_private_elements_by_their_creator(tmp_path: Path) -> None:
    data_set = (
        plain(0x00090010, b"GEMS_IDEN_01")
        + plain(0x00091001, b"GE_GENESIS_FF ")  # LO
        + plain(0x00091027, b"\1\0\0\0")  # SL
        + plain(0x00091030, b"\1\0\0")  # SH in the dictionary
        + plain(0x000910F0, b"unknown!")
        + plain(0x000911E7, b"of nobody's block ")
    )
    read = read_back(sent(stored(tmp_path, data_set, IMPLICIT), EXPLICIT), EXPLICIT)
    vrs = [read.get_item(tag).VR for tag in sorted(read.keys())]
    assert vrs == ["LO", "LO", "SL", "SH", "UN", "UN"]
    # The block is reserved in this data set, not in its items.
    nested = plain(0x00081140, plain(ITEM, plain(0x00091027, b"\1\0\0\0")))
    out = sent(stored(tmp_path, nested + data_set, IMPLICIT), EXPLICIT)
    assert read_back(out, EXPLICIT)[0x00081140].value[0].get_item(0x00091027).VR == "UN"


def test_a_mistaken_private_dictionary_does_no_harm(tmp_path: Path) -> None:
    """A length that the VR cannot have, a sequence that is none: unknown."""
    data_set = plain(0x00090010, b"GEMS_IDEN_01") + plain(0x00091027, b"\1\0\0\0\0\0")
    out = sent(stored(tmp_path, data_set, IMPLICIT), EXPLICIT)
    assert out.endswith(element(0x00091027, b"UN", b"\1\0\0\0\0\0"))


@pytest.mark.parametrize(("representation", "vr"), [(0, "US"), (1, "SS"), (None, "US")])
def test_signed_or_unsigned(representation: int | None, vr: str, tmp_path: Path) -> None:
    """By Pixel Representation, also where that comes later, or stands outside."""
    said = b"" if representation is None else plain(0x00280103, bytes((representation, 0)))
    nested = plain(0x00409096, plain(ITEM, plain(0x00409216, b"\2\0")))
    data_set = plain(0x00189810, b"\1\0") + said + plain(0x00280120, b"\3\0") + nested
    read = read_back(sent(stored(tmp_path, data_set, IMPLICIT), EXPLICIT), EXPLICIT)
    assert read[0x00189810].VR == read[0x00280120].VR == vr
    item = read[0x00409096].value[0]
    assert vr == item[0x00409216].VR


@pytest.mark.parametrize(("bits", "vr"), [(1, "OB"), (8, "OB"), (16, "OW")])
def test_pixel_data_by_bits(bits: int, vr: str, tmp_path: Path) -> None:
    pixels = bytes(range(256)) * 512
    data_set = plain(0x00280100, bytes((bits, 0))) + plain(0x7FE00010, pixels)
    read = read_back(sent(stored(tmp_path, data_set, IMPLICIT), EXPLICIT), EXPLICIT)
    assert (read[0x7FE00010].VR, read[0x7FE00010].value) == (vr, pixels)


def test_a_lookup_table_of_one_entry(tmp_path: Path) -> None:
    for count, vr in ((1, "US"), (2, "OW")):
        descriptor = plain(0x00283002, struct.pack("<HHH", count, 0, 16))
        data_set = descriptor + plain(0x00283006, bytes(2 * count))
        read = read_back(sent(stored(tmp_path, data_set, IMPLICIT), EXPLICIT), EXPLICIT)
        table = read.get_item(0x00283006)
        assert vr == table.VR


def test_too_long_for_its_vr_is_unknown(tmp_path: Path) -> None:
    for length, vr in ((65534, "LT"), (65536, "UN")):
        data_set = plain(0x00104000, b"x" * length) + plain(0x00104001, b"ok")
        out = sent(stored(tmp_path, data_set, IMPLICIT), EXPLICIT)
        read = read_back(out, EXPLICIT)
        comment = read.get_item(0x00104000)
        assert vr == comment.VR
        assert comment.value == b"x" * length
        assert sent(stored(tmp_path, out, EXPLICIT), IMPLICIT) == data_set


def test_padding_behind_the_data_set_is_kept(tmp_path: Path) -> None:
    data_set = element(0x00100010, b"PN", b"A ") + element(0xFFFCFFFC, b"OB", bytes(30))
    out = sent(stored(tmp_path, data_set, EXPLICIT), IMPLICIT)
    assert out == plain(0x00100010, b"A ") + plain(0xFFFCFFFC, bytes(30))
    assert sent(stored(tmp_path, out, IMPLICIT), EXPLICIT) == data_set


# --- what is broken -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("data_set", "words"),
    [
        (element(0x00100010, b"PN", b"A ", 400), "cut off"),
        (element(0x00100010, b"PN", b"A ")[:7], r"cut off at byte \d+, in \(0010,0010\)"),
        (element(0x00100010, b"PN", b"A ")[:3], "amid a tag"),
        (
            element(0x00081140, b"SQ", plain(ITEM, b"") + plain(0x00100010, b"")),
            r"a sequence is broken at byte \d+: \(0010,0010\) and no item",
        ),
        (element(0x00081140, b"SQ", plain(ITEM, b"", UNDEFINED), UNDEFINED), "cut off"),
        (element(0x00081140, b"SQ", plain(ITEM, b"", 100) + bytes(4)) + bytes(99), "longer than"),
        (element(0x00081140, b"SQ", plain(ITEM, element(0x00080060, b"CS", b"CT")[:9])), "cut off"),
        (
            element(0x00081140, b"SQ", plain(ITEM, element(0x00080060, b"CS", b"", 2)))
            + element(0x00100010, b"PN", b"A "),
            "longer than its item",
        ),
        (SEQUENCE_END, "a delimiter without"),
        (element(0x00420011, b"OB", bytes(8), UNDEFINED), "no sequence"),
        (element(0x7FE00010, b"OW", bytes(8), UNDEFINED), "no sequence"),
    ],
)
def test_broken_files_are_told_of(data_set: bytes, words: str, tmp_path: Path) -> None:
    """With tag and offset: whoever looks for the cause finds it."""
    with pytest.raises(LocalError, match=words) as found:
        sent(stored(tmp_path, data_set, EXPLICIT), IMPLICIT)
    assert re.search(r"\([0-9a-f]{4},[0-9a-f]{4}\)|amid a tag", found.value.comment)
    assert re.search(r"at byte \d+", found.value.comment)


def test_a_broken_disk_is_told_of(tmp_path: Path) -> None:
    path = stored(tmp_path, element(0x00100010, b"PN", b"A ") * 40_000, EXPLICIT)
    with open_outgoing(path) as outgoing:
        made = pieces(outgoing, IMPLICIT, {})
        next(made)
        path.open("r+b").truncate(1000)
        with pytest.raises(LocalError, match="the file ends at byte"):
            list(made)


def test_nesting_is_bounded(tmp_path: Path) -> None:
    for depth, fits in ((limits.sequence_depth_max, True), (limits.sequence_depth_max + 2, False)):
        opening = element(0x00081140, b"SQ", plain(ITEM, b"", UNDEFINED), UNDEFINED)
        data_set = opening * depth + (ITEM_END + SEQUENCE_END) * depth
        path = stored(tmp_path, data_set, EXPLICIT)
        if fits:
            assert len(sent(path, IMPLICIT)) == len(data_set) - 4 * depth
        else:
            with pytest.raises(LocalError, match="more than 1024 deep"):
                sent(path, IMPLICIT)
        unknown = element(0x00091010, b"UN", b"", UNDEFINED)
        path = stored(
            tmp_path,
            unknown + (plain(ITEM, b"", UNDEFINED) + plain(0x00091010, b"", UNDEFINED)) * 1100,
            EXPLICIT,
        )
        with pytest.raises(LocalError, match="more than 1024 deep"):
            sent(path, IMPLICIT)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damage_ends_in_words(data: st.DataObject, tmp_path: Path) -> None:
    """Any bytes changed, any end cut off: an answer or a LocalError, never anything else."""
    name = data.draw(st.sampled_from(("priv_SQ.dcm", "reportsi.dcm", "vlut_04.dcm")))
    content = bytearray(samples.original(name).read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(300, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.dcm"
    path.write_bytes(content[: data.draw(st.integers(300, len(content)))])
    syntax = data.draw(st.sampled_from((EXPLICIT, IMPLICIT)))
    corrections = data.draw(st.sampled_from(({}, {0x00100010: "A"})))
    try:
        sent(path, syntax, corrections)
    except LocalError as error:
        said = error.comment
    else:
        said = "sent"
    assert said


# --- generated ----------------------------------------------------------------------------------
VALUES = {
    0x00080060: st.just("CT"),
    0x00080090: st.text("ABC^", max_size=20),
    0x00100010: st.sampled_from(("A^B", "Müller", "")),
    0x00101010: st.just("030Y"),
    0x00104000: st.text("xyz \n", max_size=40_000),
    0x00181149: st.lists(st.integers(0, 999), min_size=2, max_size=2),
    0x00200032: st.lists(st.integers(-9, 9), min_size=3, max_size=3),
    0x00280010: st.integers(0, 65535),
    0x00189073: st.floats(allow_nan=False),
    0x00091010: st.binary(max_size=30).map(lambda value: value + bytes(len(value) % 2)),
    0x00420011: st.binary(max_size=70_000).map(lambda value: value + bytes(len(value) % 2)),
}
VRS = {0x00091010: "UN", 0x00420011: "OB"}


def data_sets(depth: int) -> st.SearchStrategy[Dataset]:
    def built(values: dict[int, object], items: list[Dataset], undefined: bool) -> Dataset:
        made = Dataset()
        made.SpecificCharacterSet = "ISO_IR 100"
        for tag, value in values.items():
            made.add_new(tag, VRS.get(tag) or pydicom.datadict.dictionary_VR(tag), value)
        if items:
            made.add_new(0x00081140, "SQ", Sequence(items))
            made[0x00081140].is_undefined_length = undefined
        return made

    inner = st.lists(data_sets(depth - 1), max_size=3) if depth else st.just([])
    return st.builds(built, st.fixed_dictionaries({}, optional=VALUES), inner, st.booleans())


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(made=data_sets(3), implicit=st.booleans())
def test_generated_data_sets_there_and_back(made: Dataset, implicit: bool, tmp_path: Path) -> None:
    syntax = IMPLICIT if implicit else EXPLICIT
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, True
    pydicom.filewriter.write_dataset(buffer, made)
    data_set = buffer.getvalue()
    there = sent(stored(tmp_path, data_set, syntax), other_than(syntax))
    assert differences(read_back(data_set, syntax), read_back(there, other_than(syntax))) == []
    back = sent(stored(tmp_path, there, other_than(syntax)), syntax)
    assert differences(read_back(data_set, syntax), read_back(back, syntax)) == []
