"""A correction in ISO_IR 192 among values of another set: they keep their meaning, or none goes."""

from pathlib import Path

import pydicom
import pytest
from pydicom import DataElement

from engine import limits
from engine.errors import LocalError
from engine.outgoing.outgoing import open_outgoing
from tests.material import samples
from tests.material.wire import JPEG_LOSSLESS
from tests.rigs.outgoing_files import EXPLICIT, IMPLICIT, differences, pieces, read_back, sent
from tests.rigs.stored_elements import UNDEFINED, element, plain, stored

UNICODE = ("ISO_IR 192",)
CHARACTER_SET = 0x00080005
PHYSICIAN = 0x00080090
NAME = 0x00100010
NAMED = {NAME: "Đặng^Hòa"}


def encoded(text: str, codec: str = "latin-1") -> bytes:
    raw = text.encode(codec)
    return raw + b" " * (len(raw) & 1)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize(
    ("declared", "doctor"),
    [
        (b"ISO_IR 100", encoded("Doktor^Grün")),
        (b"ISO_IR 144", encoded("Люкceмбypг", "iso8859-5")),
        (b"\\ISO 2022 IR 87 ", b"\x1b$B;3ED\x1b(B^A"),
        (b"GBK ", encoded("王^小东", "gbk")),
        (b"", encoded("Doktor^Grün")),
    ],
)
def test_every_text_keeps_its_meaning(
    syntax: str, declared: bytes, doctor: bytes, tmp_path: Path
) -> None:
    doctor += b" " * (len(doctor) & 1)
    data_set = (
        (element(CHARACTER_SET, b"CS", declared) if declared else b"")
        + element(0x00080060, b"CS", b"CT")
        + element(PHYSICIAN, b"PN", doctor)
        + element(NAME, b"PN", b"Old ")
        + element(0x00104000, b"LT", doctor)
        + element(0x00280010, b"US", b"\xff\xff")
        + element(0x7FE00010, b"OW", b"\xff" * 5000)
    )
    path = stored(tmp_path, data_set, EXPLICIT)
    with pytest.raises(LocalError, match="not possible"):
        sent(path, syntax, NAMED)
    read = read_back(sent(path, syntax, NAMED, UNICODE), syntax)
    before = pydicom.dcmread(path)
    before.decode()
    assert read.SpecificCharacterSet == "ISO_IR 192"
    assert str(read.PatientName) == "Đặng^Hòa"
    assert str(read.ReferringPhysicianName) == str(before.ReferringPhysicianName)
    assert read[0x00104000].value == before[0x00104000].value
    assert (read.Rows, read.PixelData) == (0xFFFF, b"\xff" * 5000)


GREEN = element(NAME, b"PN", encoded("Grün^A"))
LATIN = element(CHARACTER_SET, b"CS", b"ISO_IR 100")


def nested(content: bytes, length: int | None = None) -> bytes:
    """One item in a sequence."""
    ends = (plain(0xFFFEE00D, b""), plain(0xFFFEE0DD, b"")) if length else (b"", b"")
    item = plain(0xFFFEE000, content, length) + ends[0]
    return element(0x00081115, b"SQ", item + ends[1], length)


@pytest.mark.parametrize("length", [None, UNDEFINED])
@pytest.mark.parametrize(
    ("content", "made"),
    [
        (element(NAME, b"PN", b"Plain "), None),
        (LATIN + GREEN, None),
        (GREEN, LATIN + GREEN),
        (nested(GREEN), LATIN + nested(GREEN, UNDEFINED)),
        (nested(LATIN + GREEN), None),
        (nested(LATIN + GREEN) + GREEN, LATIN + nested(LATIN + GREEN, UNDEFINED) + GREEN),
        (element(0x00080000, b"UL", b"\1\0\0\0") + GREEN, LATIN + GREEN),
        (element(0x00280106, b"US", b"\xff\xff"), None),
    ],
)
def test_items_are_told_the_former_set(
    content: bytes, made: bytes | None, length: int | None, tmp_path: Path
) -> None:
    """Where they have text that reads differently in the new one, and none of their own."""
    data_set = (
        LATIN
        + nested(content, length)
        + element(PHYSICIAN + 0x10000, b"UN", encoded("Grün"))
        + element(NAME, b"PN", encoded("Müll"))
        + element(0x00200013, b"IS", b"7 ")
    )
    path = stored(tmp_path, data_set, EXPLICIT)
    out = sent(path, EXPLICIT, NAMED, UNICODE)
    expected = nested(content, length) if made is None else nested(made, UNDEFINED)
    assert expected in out
    for syntax in (EXPLICIT, IMPLICIT):
        read = read_back(sent(path, syntax, NAMED, UNICODE), syntax)
        read.decode()
        before = pydicom.dcmread(path)
        before.decode()
        assert str(read.PatientName) == "Đặng^Hòa"
        assert texts(read[0x00081115]) == texts(before[0x00081115])
        assert read.InstanceNumber == 7


def texts(sequence: DataElement) -> list[str]:
    """The names in it, at any depth."""
    found = []
    for item in sequence.value:
        found += [str(each.value) for each in item.iterall() if each.VR == "PN"]
    return found


def test_the_default_set_is_said_in_items(tmp_path: Path) -> None:
    """What was broken before is broken in the same way."""
    path = stored(tmp_path, nested(GREEN) + element(NAME, b"PN", b"A "), EXPLICIT)
    out = sent(path, EXPLICIT, NAMED, UNICODE)
    assert nested(element(CHARACTER_SET, b"CS", b"ISO_IR 6") + GREEN, UNDEFINED) in out


def test_fragments_stay_where_items_are_told_the_former_set(tmp_path: Path) -> None:
    fragments = plain(0xFFFEE000, b"") + plain(0xFFFEE000, b"\xff\xd8ab") + plain(0xFFFEE0DD, b"")
    pixels = element(0x7FE00010, b"OB", fragments, UNDEFINED)
    behind = element(0xFFFCFFFC, b"OB", b"\0\0")
    path = stored(tmp_path, LATIN + nested(GREEN) + pixels + behind, JPEG_LOSSLESS)
    out = sent(path, JPEG_LOSSLESS, NAMED, UNICODE)
    assert out.endswith(pixels + behind)
    assert nested(LATIN + GREEN, UNDEFINED) in out


def test_a_sequence_of_unknown_vr_cannot_be_told(tmp_path: Path) -> None:
    """It is in implicit VR inside, whatever is around it."""
    item = plain(0xFFFEE000, plain(NAME, encoded("Grün"))) + plain(0xFFFEE0DD, b"")
    path = stored(tmp_path, LATIN + element(0x00081115, b"UN", item, UNDEFINED), EXPLICIT)
    with pytest.raises(LocalError, match=r"\(0010,0010\) at byte .*: it stands in a seq"):
        sent(path, EXPLICIT, NAMED, UNICODE)


def test_the_items_that_are_told_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "marked_items_max", 3)
    items = plain(0xFFFEE000, GREEN)
    path = stored(tmp_path, LATIN + element(0x00081115, b"SQ", 3 * items), EXPLICIT)
    assert sent(path, EXPLICIT, NAMED, UNICODE).count(LATIN + GREEN) == 3
    path = stored(tmp_path, LATIN + element(0x00081115, b"SQ", 4 * items), EXPLICIT)
    with pytest.raises(LocalError, match="cannot be written"):
        sent(path, EXPLICIT, NAMED, UNICODE)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"\x1b$B;3", "its bytes are not in the character set"),
        (b"\xe9" * (limits.transcoded_bytes_max + 2), "longer than"),
        (b"\xe9" * limits.transcoded_bytes_max, "there are more than"),
    ],
)
def test_what_cannot_be_written_is_named(value: bytes, why: str, tmp_path: Path) -> None:
    value += b" " * (len(value) & 1)
    data_set = element(CHARACTER_SET, b"CS", b"ISO_IR 100") + element(0x0040A160, b"UT", value)
    path = stored(tmp_path, data_set, EXPLICIT)
    with pytest.raises(LocalError, match=rf"\(0040,a160\) at byte \d+ cannot be written: .*{why}"):
        sent(path, EXPLICIT, NAMED, UNICODE)


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_implicit.dcm", "reportsi.dcm"])
def test_real_files(name: str, tmp_path: Path) -> None:
    source = tmp_path / "source.dcm"
    source.write_bytes(samples.original(name).read_bytes())
    with open_outgoing(source) as outgoing:
        syntax = outgoing.transfer_syntax_uid
        assert list(pieces(outgoing, syntax, {NAME: "Roe"}))
    read = read_back(sent(source, syntax, NAMED, UNICODE), syntax)
    changed = frozenset({NAME, CHARACTER_SET})
    assert differences(pydicom.dcmread(source), read, changed) == []
    assert read.SpecificCharacterSet == "ISO_IR 192"
