"""A correction in ISO_IR 192 among values of another set: they keep their meaning, or none goes."""

from pathlib import Path

import pydicom
import pytest

from engine import limits
from engine.errors import LocalError
from engine.outgoing.outgoing import open_outgoing
from tests.material import samples
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


def inner(declares: bytes, name: bytes) -> bytes:
    return declares + element(NAME, b"PN", name)


@pytest.mark.parametrize("length", [None, UNDEFINED])
@pytest.mark.parametrize(
    ("content", "goes"),
    [
        (inner(b"", b"Plain "), True),
        (inner(element(CHARACTER_SET, b"CS", b"ISO_IR 100"), encoded("Grün^A")), True),
        (inner(b"", encoded("Grün^A")), False),
        (element(0x00081140, b"SQ", plain(0xFFFEE000, inner(b"", encoded("Grün^A")))), False),
        (element(0x00280106, b"US", b"\xff\xff"), True),
    ],
)
def test_text_in_sequences(content: bytes, goes: bool, length: int | None, tmp_path: Path) -> None:
    """It stays as it is; what would change its meaning is named and nothing is sent."""
    ends = plain(0xFFFEE00D, b""), plain(0xFFFEE0DD, b"")
    item = plain(0xFFFEE000, content, length) + (ends[0] if length else b"")
    data_set = (
        element(CHARACTER_SET, b"CS", b"ISO_IR 100")
        + element(0x00081115, b"SQ", item + (ends[1] if length else b""), length)
        + element(PHYSICIAN + 0x10000, b"UN", encoded("Grün"))
        + element(NAME, b"PN", encoded("Müll"))
    )
    path = stored(tmp_path, data_set, EXPLICIT)
    if goes:
        out = sent(path, EXPLICIT, NAMED, UNICODE)
        assert content in out
        assert str(read_back(out, EXPLICIT).PatientName) == "Đặng^Hòa"
        return
    with pytest.raises(LocalError, match=r"\(0010,0010\) cannot be written: it stands in a seq"):
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
    with pytest.raises(LocalError, match=rf"\(0040,a160\) cannot be written: .*{why}"):
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
