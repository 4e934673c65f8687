"""Corrections reach the peer, in a character set that says them, and change nothing else."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from engine.errors import LocalError
from engine.files.part10 import part10_head, read_part10_head
from engine.outgoing.outgoing import FileRange, open_outgoing
from engine.outgoing.text import encode_corrections
from tests.material import samples, wire
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

CHARACTER_SET = 0x00080005
NAME = 0x00100010
SEX = 0x00100040
DESCRIPTION = 0x0008103E
STUDY_ID = 0x00200010


@pytest.fixture(autouse=True)
def _odd_files() -> Iterator[None]:
    """pydicom remarks on what is odd in its own files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize(
    ("declared", "name", "becomes"),  # by a peer that takes a few more sets
    [
        (b"", "Smith^John", None),
        (b"", "Müller^Jörg", "ISO_IR 100"),
        (b"ISO_IR 100", "Müller^Jörg", None),
        (b"", "Yamada^Tarou=山田^太郎", "\\ISO 2022 IR 87"),
        (b"ISO_IR 100", "Yamada=山田^太郎", "ISO 2022 IR 100\\ISO 2022 IR 87"),
        (b"\\ISO 2022 IR 87", "Yamada=山田^太郎=やまだ^たろう", None),
        (b"ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎", "ISO 2022 IR 13\\ISO 2022 IR 87"),
        (b"\\ISO 2022 IR 87", "Müller", "\\ISO 2022 IR 87\\ISO 2022 IR 100"),
        (b"ISO_IR 144", "Люкceмбypг", None),
        (b"ISO_IR 144", "Müller", "ISO 2022 IR 144\\ISO 2022 IR 100"),
        (b"ISO_IR 100", "김^희중", "ISO 2022 IR 100\\ISO 2022 IR 149"),
        (b"ISO_IR 192", "Đặng^Hòa=山田", None),
        (b"", "Đặng^Hòa", "ISO_IR 192"),
        (b"GBK", "Wang^XiaoDong=王^小东", None),
        (b"GBK", "😀", "GB18030"),
    ],
)
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_names_in_every_character_set(
    declared: bytes, name: str, becomes: str | None, syntax: str, tmp_path: Path
) -> None:
    """pydicom reads the name, and the declared character set."""
    padded = declared + b" " * (len(declared) & 1)
    data_set = element(CHARACTER_SET, b"CS", padded) if declared else b""
    data_set += element(NAME, b"PN", b"Old^Name") + element(0x00104000, b"LT", b"kept")
    more = ("GB18030", "ISO_IR 192", "ISO 2022 IR 149")
    out = sent(stored(tmp_path, data_set, EXPLICIT), syntax, {NAME: name}, more)
    read = read_back(out, syntax)
    term = read.get("SpecificCharacterSet", "")
    read_terms = term if isinstance(term, str) else "\\".join(term)
    assert read_terms == (declared.decode() if becomes is None else becomes)
    assert str(read.PatientName) == name
    assert read[0x00104000].value == "kept"


def test_other_values_keep_their_meaning(tmp_path: Path) -> None:
    """A wider character set is declared ahead of values that were written in the narrower one."""
    data_set = (
        element(CHARACTER_SET, b"CS", b"ISO_IR 100")
        + element(0x00080090, b"PN", "Doktor^Grün ".encode("latin-1"))
        + element(NAME, b"PN", "Müller".encode("latin-1"))
        + element(0x00104000, b"LT", "größer ".encode("latin-1") + b" ")
    )
    for syntax in (EXPLICIT, IMPLICIT):
        read = read_back(sent(stored(tmp_path, data_set, EXPLICIT), syntax, {NAME: "山田"}), syntax)
        assert str(read.ReferringPhysicianName) == "Doktor^Grün"
        assert str(read.PatientName) == "山田"
        assert read[0x00104000].value == "größer"


def test_what_no_character_set_says_is_not_sent(tmp_path: Path) -> None:
    data_set = element(CHARACTER_SET, b"CS", b"ISO_IR 144") + element(NAME, b"PN", b"A ")
    path = stored(tmp_path, data_set, EXPLICIT)
    with pytest.raises(LocalError, match=r"\(0010,0010\): not possible in the character set") as no:
        sent(path, EXPLICIT, {NAME: "Đặng"})
    assert "Đặng" not in no.value.comment
    with pytest.raises(LocalError, match="not possible"):
        encode_corrections({NAME: "é"}, b"no such set")
    plain_path = stored(tmp_path, element(NAME, b"PN", b"A "), EXPLICIT)
    with pytest.raises(LocalError, match="not possible"):
        sent(plain_path, EXPLICIT, {NAME: "Đặng"})
    assert "Đặng".encode() in sent(plain_path, EXPLICIT, {NAME: "Đặng"}, ("ISO_IR 192",))
    assert encode_corrections({NAME: "E"}, b"no such set") == {NAME: (b"PN", b"E ")}
    with pytest.raises(LocalError, match=r"\(0010,0040\): CS is ASCII only"):
        sent(path, EXPLICIT, {SEX: "é"})


@pytest.mark.parametrize("tag", [CHARACTER_SET, 0x00080018, 0x00081140, 0x00280011, 0x00091010])
def test_what_is_not_corrected(tag: int) -> None:
    with pytest.raises(LocalError, match="is not an element that can be corrected"):
        encode_corrections({tag: "1"}, b"")


def test_too_long_is_refused() -> None:
    with pytest.raises(LocalError, match="longer than 65534 bytes"):
        encode_corrections({DESCRIPTION: "x" * 65535}, b"")


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_missing_elements_are_put_in_in_order(syntax: str, tmp_path: Path) -> None:
    data_set = (
        element(0x00080000, b"UL", b"\x20\0\0\0")
        + element(0x00080001, b"UL", b"\x20\0\0\0")
        + element(0x00080060, b"CS", b"CT")
        + element(0x00100010, b"PN", b"Old ")
        + element(0x00100040, b"CS", b"M ")
        + element(0x00200000, b"UL", b"\x20\0\0\0")
        + element(0x0020000D, b"UI", b"1.2.3\0")
        + element(0x00300000, b"UL", b"\x00\0\0\0")
    )
    corrections = {DESCRIPTION: "Täxt", SEX: "", 0x00100030: "", STUDY_ID: "7", NAME: "New"}
    read = read_back(sent(stored(tmp_path, data_set, EXPLICIT), syntax, corrections), syntax)
    tags = [CHARACTER_SET, 0x00080060, DESCRIPTION, NAME, SEX, 0x0020000D, STUDY_ID]
    # Where nothing changed, a group length may stay; it is true.
    assert [int(tag) for tag in read._dict if tag != 0x00300000] == tags
    assert [read[tag].value for tag in tags[1:]] == ["CT", "Täxt", "New", "", "1.2.3", "7"]
    dumped(sent(stored(tmp_path, data_set, EXPLICIT), syntax, corrections), syntax, tmp_path)


def test_behind_the_last_element(tmp_path: Path) -> None:
    for syntax, encoded in ((EXPLICIT, element), (IMPLICIT, None)):
        data_set = element(0x00080060, b"CS", b"CT")
        out = sent(stored(tmp_path, data_set, EXPLICIT), syntax, {NAME: "A"})
        tail = encoded(NAME, b"PN", b"A ") if encoded else plain(NAME, b"A ")
        assert out.endswith(tail)
        assert len(out) == len(data_set) + len(tail)


def test_out_of_order_is_replaced_as_well(tmp_path: Path) -> None:
    """The old name must not go along, wherever it stands."""
    data_set = (
        element(0x00200010, b"SH", b"1 ")
        + element(NAME, b"PN", b"Old ")
        + element(0x00280008, b"IS", b"1 ")
        + element(NAME, b"PN", b"Old ")
        + element(0x7FE00010, b"OW", bytes(100_000))
    )
    for syntax in (EXPLICIT, IMPLICIT):
        out = sent(stored(tmp_path, data_set, EXPLICIT), syntax, {NAME: "New^Name"})
        assert b"Old" not in out
        assert out.count(b"New^Name") == 1


def test_only_the_top_level_is_corrected(tmp_path: Path) -> None:
    inner = plain(0xFFFEE000, element(NAME, b"PN", b"Other "))
    unknown = plain(0xFFFEE000, plain(NAME, b"Third ")) + plain(0xFFFEE0DD, b"")
    data_set = (
        element(0x00081140, b"SQ", inner)
        + element(0x00091010, b"UN", unknown, UNDEFINED)
        + element(NAME, b"PN", b"Old ")
    )
    for syntax in (EXPLICIT, IMPLICIT):
        out = sent(stored(tmp_path, data_set, EXPLICIT), syntax, {NAME: "New"})
        assert out.count(b"Other ") == out.count(b"Third ") == out.count(b"New ") == 1
        assert b"Old" not in out


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_implicit.dcm", "reportsi.dcm"])
def test_the_rest_of_a_real_file_is_as_it_was(name: str, tmp_path: Path) -> None:
    content = samples.original(name).read_bytes()
    head = read_part10_head(content)
    source = tmp_path / "source.dcm"
    source.write_bytes(content)
    corrections = {NAME: "Corrected^Name", DESCRIPTION: "other", STUDY_ID: "9"}
    syntax = head.transfer_syntax
    out = sent(source, syntax, corrections)
    read = read_back(out, syntax)
    assert differences(pydicom.dcmread(source), read, frozenset(corrections)) == []
    assert [read[tag].value for tag in corrections] == list(corrections.values())
    assert out[-500:] == content[-500:]
    dumped(out, syntax, tmp_path)


def test_what_follows_the_corrections_stays_in_the_file(tmp_path: Path) -> None:
    data_set = element(NAME, b"PN", b"Old ") + element(0x7FE00010, b"OW", bytes(10**6))
    path = tmp_path / "one.dcm"
    path.write_bytes(part10_head(wire.CT_IMAGE, "1.2.3", EXPLICIT, "A") + data_set)
    with open_outgoing(path) as outgoing:
        made = list(pieces(outgoing, EXPLICIT, {NAME: "New"}))
    assert made == [
        element(NAME, b"PN", b"New "),
        FileRange(len(path.read_bytes()) - 10**6 - 12, 10**6 + 12),
    ]
