"""What DCMTK and pydicom read is sent, although the standard has it otherwise; and it is told."""

import io
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from engine import limits
from engine.errors import LocalError
from engine.files.part10 import read_part10_head
from engine.outgoing.oddities import Oddity
from engine.outgoing.outgoing import open_outgoing
from engine.outgoing.reader import ITEM, ITEM_END, SEQUENCE_END
from tests.rigs.outgoing_files import EXPLICIT, IMPLICIT, pieces, read_back, sent
from tests.rigs.stored_elements import UNDEFINED, element, plain, stored

MODALITY = element(0x00080060, b"CS", b"CT")
NAME = element(0x00100010, b"PN", b"A^B ")
IMPLICIT_MODALITY = plain(0x00080060, b"CT")
IMPLICIT_NAME = plain(0x00100010, b"A^B ")
META = element(0x00020016, b"AE", b"HB")


@pytest.fixture(autouse=True)
def _odd_files() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def noted(path: Path, target: str) -> tuple[Oddity, ...]:
    with open_outgoing(path) as outgoing:
        list(pieces(outgoing, target, {}))
        return outgoing.oddities.kinds


def other(syntax: str) -> str:
    return IMPLICIT if syntax == EXPLICIT else EXPLICIT


def odd_long(vr: bytes, value: bytes) -> bytes:
    return b"\x09\0\x10\0" + vr + b"\0\0" + len(value).to_bytes(4, "little") + value


def delimited(item_end: int, sequence_end: int, item: int, sequence: int) -> bytes:
    """A sequence with these lengths."""
    inner = plain(ITEM, MODALITY, item) + plain(ITEM_END, b"", item_end)
    inner += plain(SEQUENCE_END, b"", sequence_end)
    return element(0x00081140, b"SQ", inner, len(inner) if sequence == 0 else sequence)


@pytest.mark.parametrize("meta", [META, plain(0x00020016, b"HB"), META + META, META * 9])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_group_0002_in_the_data_set(meta: bytes, syntax: str, tmp_path: Path) -> None:
    """It goes as it came, and is left out where all is written anew."""
    own = MODALITY + NAME if syntax == EXPLICIT else IMPLICIT_MODALITY + IMPLICIT_NAME
    path = stored(tmp_path, meta + own, syntax)
    assert sent(path, syntax) == meta + own
    out = sent(path, other(syntax))
    assert out == (IMPLICIT_MODALITY + IMPLICIT_NAME if syntax == EXPLICIT else MODALITY + NAME)
    assert noted(path, other(syntax)) == (Oddity.META_IN_DATA_SET,)
    with open_outgoing(path) as outgoing:
        list(pieces(outgoing, other(syntax), {}))
        assert outgoing.oddities.words() == (
            "elements of group 0002 in the data set, left out: (0002,0016) at byte "
            f"{outgoing.data_set_offset}"
        )
    corrected = sent(path, syntax, {0x00100010: "C^D"})
    assert corrected == (meta + own).replace(b"A^B ", b"C^D ")


def test_the_group_length_of_others_may_lie(tmp_path: Path) -> None:
    """Too short by an element, or wrong altogether: pydicom and DCMTK read the elements."""
    head = stored(tmp_path, MODALITY, EXPLICIT).read_bytes()[: -len(MODALITY)]
    foreign = head.replace(b"1.2.392.200036.9116.7.39", b"1.2.392.200036.9116.7.38")
    for length in (0, 10, len(head) - 144 - 2, len(head) - 144 - 10, len(head) - 143, 1 << 31):
        content = foreign[:140] + length.to_bytes(4, "little") + foreign[144:] + MODALITY
        assert read_part10_head(content).data_set_offset == len(head)
        assert len(pydicom.dcmread(io.BytesIO(content))) == 1


ODD = {
    "question marks": (b"\x09\0\x10\0??\6\0HELLO ", Oddity.UNKNOWN_VR),
    "blanks": (b"\x09\0\x10\0  \6\0HELLO ", Oddity.UNKNOWN_VR),
    "small letters": (b"\x09\0\x10\0lo\6\0HELLO ", Oddity.UNKNOWN_VR),
    "zeros": (b"\x09\0\x10\0\0\0\6\0HELLO ", Oddity.UNKNOWN_VR),
    "a VR made up": (b"\x09\0\x10\0ZZ\6\0HELLO ", Oddity.UNKNOWN_VR),
    "a VR of the future": (odd_long(b"ZZ", b"HELLO "), Oddity.UNKNOWN_VR),
    "no VR": (plain(0x00090010, b"HELLO "), Oddity.IMPLICIT_ELEMENT),
}


@pytest.mark.parametrize("name", ODD)
def test_unknown_vrs(name: str, tmp_path: Path) -> None:
    odd, kind = ODD[name]
    path = stored(tmp_path, MODALITY + odd + NAME, EXPLICIT)
    assert sent(path, EXPLICIT) == MODALITY + odd + NAME
    assert sent(path, IMPLICIT) == IMPLICIT_MODALITY + plain(0x00090010, b"HELLO ") + IMPLICIT_NAME
    assert noted(path, IMPLICIT) == (kind,)
    assert sent(path, EXPLICIT, {0x00100010: "C"}).endswith(odd + element(0x00100010, b"PN", b"C "))


def test_a_vr_of_zeros_or_a_large_implicit_element(tmp_path: Path) -> None:
    """Two zeros and 16 bits are a VR and a length for DCMTK; in implicit VR, into which some
    writers fall, they are a length of so many times 64 KiB. What follows tells."""
    zeros = b"\x09\0\x10\0\0\0\2\0AB"
    pixels = element(0x7FE00010, b"OW", b"\1\2" * 100_000)
    path = stored(tmp_path, MODALITY + zeros + NAME + pixels, EXPLICIT)
    implicit = IMPLICIT_MODALITY + plain(0x00090010, b"AB") + IMPLICIT_NAME
    assert sent(path, IMPLICIT) == implicit + plain(0x7FE00010, b"\1\2" * 100_000)
    assert noted(path, IMPLICIT) == (Oddity.UNKNOWN_VR,)
    large = plain(0x00091010, b"\xff" * 0x20000)
    path = stored(tmp_path, MODALITY + large + NAME + pixels, EXPLICIT)
    assert sent(path, IMPLICIT).startswith(IMPLICIT_MODALITY + large + IMPLICIT_NAME)
    assert noted(path, IMPLICIT) == (Oddity.IMPLICIT_ELEMENT,)
    empty = b"\x09\0\x10\0ZZ\0\0"
    path = stored(tmp_path, MODALITY + empty + NAME + 20 * pixels, EXPLICIT)
    assert sent(path, IMPLICIT).startswith(
        IMPLICIT_MODALITY + plain(0x00090010, b"") + IMPLICIT_NAME
    )
    at_the_end = b"\x11\0\x10\0\0\0\2\0AB"
    path = stored(tmp_path, MODALITY + at_the_end, EXPLICIT)
    assert sent(path, IMPLICIT) == IMPLICIT_MODALITY + plain(0x00110010, b"AB")


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_the_other_encoding_than_negotiated(syntax: str, tmp_path: Path) -> None:
    own = IMPLICIT_MODALITY + IMPLICIT_NAME if syntax == EXPLICIT else MODALITY + NAME
    path = stored(tmp_path, own, syntax)
    assert sent(path, syntax) == own
    assert sent(path, other(syntax)) == own
    assert noted(path, other(syntax)) == (Oddity.OTHER_ENCODING,)


@pytest.mark.parametrize(
    ("item_end", "sequence_end", "item", "sequence"),
    [
        *((4, 0, UNDEFINED, UNDEFINED), (0, 8, UNDEFINED, UNDEFINED), (1 << 31, 7, UNDEFINED, 0)),
        *((UNDEFINED, UNDEFINED, UNDEFINED, UNDEFINED), (0, 0, len(MODALITY) + 8, 0)),
        (6, 6, len(MODALITY) + 8, UNDEFINED),
    ],
)
def test_delimiters(
    item_end: int, sequence_end: int, item: int, sequence: int, tmp_path: Path
) -> None:
    """They end what they stand in, whatever length they or it have."""
    value = delimited(item_end, sequence_end, item, sequence)
    path = stored(tmp_path, value + NAME, EXPLICIT)
    read = read_back(sent(path, IMPLICIT), IMPLICIT)
    assert str(read.PatientName) == "A^B"
    assert read[0x00081140].value[0].Modality == "CT"
    assert noted(path, IMPLICIT) == (Oddity.DELIMITER,)


@pytest.mark.parametrize("length", [0, 4, 1 << 31])
def test_the_end_of_an_item_ends_the_data_set(length: int, tmp_path: Path) -> None:
    """For pydicom, DCMTK and GDCM alike: what is behind it is no part of what is written anew."""
    path = stored(tmp_path, MODALITY + plain(ITEM_END, b"", length) + NAME, EXPLICIT)
    assert sent(path, EXPLICIT).endswith(NAME), "as it came"
    assert sent(path, IMPLICIT) == IMPLICIT_MODALITY
    assert noted(path, IMPLICIT) == (Oddity.BEHIND_END,)
    corrected = sent(path, EXPLICIT, {0x00100010: "C^D"})
    assert corrected == MODALITY + element(0x00100010, b"PN", b"C^D ")
    assert len(pydicom.dcmread(path)) == 1
    path = stored(tmp_path, MODALITY + plain(ITEM_END, b"", length), EXPLICIT)
    assert sent(path, IMPLICIT) == IMPLICIT_MODALITY
    assert noted(path, IMPLICIT) == (Oddity.DELIMITER,)


@pytest.mark.parametrize(
    "sequence",
    [
        element(0x00081140, b"SQ", plain(ITEM, MODALITY), len(MODALITY) + 4),
        element(0x00081140, b"SQ", plain(ITEM, MODALITY), 8),
        element(0x00081140, b"SQ", plain(ITEM, MODALITY, len(MODALITY + NAME))),
    ],
)
def test_an_item_that_is_longer_than_its_sequence(sequence: bytes, tmp_path: Path) -> None:
    """DCMTK believes the item, pydicom the sequence, GDCM neither: the name that follows would be
    one person's here, and another's there. So it is not written anew, but goes as it came."""
    path = stored(tmp_path, sequence + NAME, EXPLICIT)
    assert sent(path, EXPLICIT) == sequence + NAME
    with pytest.raises(
        LocalError, match=r"\(fffe,e000\) is longer than \(0008,1140\).* at byte \d"
    ):
        sent(path, IMPLICIT)
    made = tmp_path / "made.dcm"
    subprocess.run(["/usr/bin/dcmconv", "-q", "+ti", str(path), str(made)], check=True)
    assert pydicom.dcmread(made) != pydicom.dcmread(path)


PIXELS = element(0x7FE00010, b"OW", bytes(70_000))


@pytest.mark.parametrize("target", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize(
    "data_set",
    [
        MODALITY + NAME + PIXELS + element(0x00100010, b"PN", b"E^F "),
        MODALITY + PIXELS + NAME,
        MODALITY + NAME + NAME + PIXELS,
        PIXELS + NAME + MODALITY,
    ],
)
def test_a_correction_replaces_what_it_corrects_wherever_it_is(
    data_set: bytes, target: str, tmp_path: Path
) -> None:
    """pydicom believes the last one of two, DCMTK the first."""
    path = stored(tmp_path, data_set, EXPLICIT)
    out = sent(path, target, {0x00100010: "C^D"})
    assert out.count(b"C^D ") == 1
    assert b"A^B " not in out
    assert b"E^F " not in out
    assert read_back(out, target).PatientName == "C^D"
    assert len(read_back(out, target).PixelData) == 70_000


@pytest.mark.parametrize("rubbish", [bytes(5), bytes(64), plain(SEQUENCE_END, b"", 9) + b"x"])
def test_rubbish_behind_the_pixel_data_is_no_reason_against_a_correction(
    rubbish: bytes, tmp_path: Path
) -> None:
    path = stored(tmp_path, NAME + PIXELS + rubbish, EXPLICIT)
    assert sent(path, EXPLICIT, {0x00100010: "C^D"}) == (
        element(0x00100010, b"PN", b"C^D ") + PIXELS + rubbish
    )


@pytest.mark.parametrize("text", [b"HELLO ", b"HELLO WORLD!", b"AB"])
def test_text_in_place_of_a_sequence(text: bytes, tmp_path: Path) -> None:
    path = stored(tmp_path, plain(0x00081140, text) + IMPLICIT_NAME, IMPLICIT)
    assert sent(path, EXPLICIT) == element(0x00081140, b"UN", text) + NAME
    assert noted(path, EXPLICIT) == (Oddity.SEQUENCE_VALUE,)
    path = stored(tmp_path, element(0x00081140, b"SQ", text) + NAME, EXPLICIT)
    assert sent(path, IMPLICIT) == plain(0x00081140, text) + IMPLICIT_NAME


# pydicom's dictionary has (00e1,xx39) of this creator as a sequence.
CREATOR = plain(0x00E10010, b"ELSCINT1")
KNOWN_SEQUENCE = 0x00E11039


@pytest.mark.parametrize(
    "value",
    [
        plain(ITEM, IMPLICIT_MODALITY, len(IMPLICIT_MODALITY) - 2),
        plain(ITEM, IMPLICIT_MODALITY, len(IMPLICIT_MODALITY) + 2),
        plain(ITEM, IMPLICIT_MODALITY, UNDEFINED),
        plain(ITEM, IMPLICIT_MODALITY + plain(ITEM_END, b""), UNDEFINED) + b"rest",
        plain(ITEM, IMPLICIT_MODALITY) + IMPLICIT_NAME,
    ],
)
def test_a_private_sequence_that_is_broken_inside(value: bytes, tmp_path: Path) -> None:
    """Who does not have its creator's dictionary, as DCMTK, reads bytes."""
    path = stored(tmp_path, CREATOR + plain(KNOWN_SEQUENCE, value), IMPLICIT)
    assert sent(path, EXPLICIT).endswith(element(KNOWN_SEQUENCE, b"UN", value))
    assert noted(path, EXPLICIT) == (Oddity.SEQUENCE_VALUE,)
    whole = plain(ITEM, IMPLICIT_MODALITY)
    path = stored(tmp_path, CREATOR + plain(KNOWN_SEQUENCE, whole), IMPLICIT)
    item = plain(ITEM, MODALITY + plain(ITEM_END, b""), UNDEFINED) + plain(SEQUENCE_END, b"")
    assert sent(path, EXPLICIT).endswith(element(KNOWN_SEQUENCE, b"SQ", item, UNDEFINED))


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_nested_as_deep_as_the_bound_says(syntax: str, tmp_path: Path) -> None:
    """With and without lengths, by the native way and the slow one: no recursion, no error."""
    assert limits.sequence_depth_max >= 1000
    for length in (None, UNDEFINED):
        value = NAME if syntax == EXPLICIT else IMPLICIT_NAME
        for _ in range(limits.sequence_depth_max):
            ends = b"" if length is None else plain(ITEM_END, b"")
            item = plain(ITEM, value + ends, len(value) if length is None else length)
            ends = b"" if length is None else plain(SEQUENCE_END, b"")
            make = element(0x00081140, b"SQ", item + ends, length)
            value = make if syntax == EXPLICIT else plain(0x00081140, item + ends, length)
        path = stored(tmp_path, value, syntax)
        there = sent(path, other(syntax))
        back = sent(stored(tmp_path, there, other(syntax)), syntax)
        if length == UNDEFINED:
            assert back == value
        assert back.count(b"A^B ") == 1
        assert subprocess.run(["/usr/bin/dcmdump", "-q", str(path)], stdout=-3).returncode == 0
