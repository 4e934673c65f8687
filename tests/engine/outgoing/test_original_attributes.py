"""What corrected elements said before stands in the Original Attributes Sequence: by choice."""

from collections.abc import Mapping
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from engine.index.occasions import Occasion
from engine.outgoing.original_attributes import Originals
from tests.material import samples
from tests.rigs.outgoing_files import EXPLICIT, IMPLICIT, differences, dumped, read_back, sent
from tests.rigs.stored_elements import UNDEFINED, element, plain, stored

CHARACTER_SET = 0x00080005
ACCESSION = 0x00080050
NAME = 0x00100010
PATIENT_ID = 0x00100020
ISSUER = 0x00100021
SEX = 0x00100040
FRAME_OF_REFERENCE = 0x00200052
SEQUENCE = 0x04000561
MODIFIED = 0x04000550
_second = 1_000_000_000
_then = 1_700_000_000 * _second + 123_456_789  # 2023-11-14 22:13:20 UTC
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

syntaxes = pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])


def told(*occasions: Occasion) -> Originals:
    return Originals("SCP_AE", occasions)


def by_user(*tags: int, when_ns: int = _then) -> Occasion:
    return Occasion(when_ns, True, frozenset(tags))


def sent_with(
    path: Path, syntax: str, corrections: Mapping[int, str], originals: Originals
) -> Dataset:
    return read_back(sent(path, syntax, corrections, ("ISO_IR 192",), originals), syntax)


@syntaxes
def test_the_earlier_values_and_who_when_and_why(syntax: str, tmp_path: Path) -> None:
    """As PS3.3 C.12.1.1.9 has it. dcmdump reads it too, and the rest is what it was."""
    path = samples.original("CT_small.dcm")
    corrections = {NAME: "Doe^Jane", SEX: "F"}
    plainly = read_back(sent(path, syntax, corrections), syntax)
    out = sent(path, syntax, corrections, originals=told(by_user(NAME, SEX)))
    read = read_back(out, syntax)
    assert SEQUENCE not in plainly
    assert differences(plainly, read, frozenset({SEQUENCE})) == []
    (item,) = read.OriginalAttributesSequence
    assert item.AttributeModificationDateTime == "20231114221320.123456+0000"
    assert item.ModifyingSystem == "SCP_AE"
    assert item.SourceOfPreviousValues == read_source(path)
    assert item.ReasonForTheAttributeModification == "CORRECT"
    (modified,) = item.ModifiedAttributesSequence
    assert {int(each.tag): str(each.value) for each in modified} == {
        NAME: "CompressedSamples^CT1",
        SEX: "O",
    }
    assert [*read._dict] == sorted(read._dict), "it is in its place"
    shown = dumped(out, syntax, tmp_path)
    assert "(0400,0561) SQ" in shown
    assert shown.index("(0400,0561)") < shown.index("(7fe0,0010)")


def read_source(path: Path) -> str:
    return str(pydicom.dcmread(path).file_meta.get("SourceApplicationEntityTitle", ""))


def test_without_the_choice_there_is_none(tmp_path: Path) -> None:
    path = stored(tmp_path, element(NAME, b"PN", b"Old^Name"), EXPLICIT)
    assert SEQUENCE not in read_back(sent(path, EXPLICIT, {NAME: "New"}), EXPLICIT)


@syntaxes
def test_what_was_corrected_on_several_occasions(syntax: str, tmp_path: Path) -> None:
    """An item for each, the earliest first; a message's is a reconciliation, not an error."""
    path = stored(
        tmp_path, element(NAME, b"PN", b"Old^Name") + element(SEX, b"CS", b"M "), EXPLICIT
    )
    later = Occasion(_then + _second, False, frozenset({NAME}))
    originals = told(later, by_user(SEX, ACCESSION))
    corrections = {NAME: "New", SEX: "F", ACCESSION: "17"}
    first, second = sent_with(path, syntax, corrections, originals).OriginalAttributesSequence
    assert first.ReasonForTheAttributeModification == "CORRECT"
    assert second.ReasonForTheAttributeModification == "COERCE"
    assert second.AttributeModificationDateTime == "20231114221321.123456+0000"
    assert first.ModifiedAttributesSequence[0].PatientSex == "M"
    assert str(second.ModifiedAttributesSequence[0].PatientName) == "Old^Name"
    assert first.SourceOfPreviousValues == "A"


@syntaxes
def test_what_did_not_exist_is_there_without_a_value(syntax: str, tmp_path: Path) -> None:
    path = stored(tmp_path, element(NAME, b"PN", b"") + element(0x00200010, b"SH", b"1 "), EXPLICIT)
    corrections = {NAME: "New", ACCESSION: "17"}
    read = sent_with(path, syntax, corrections, told(by_user(NAME, ACCESSION)))
    ((modified,),) = (item.ModifiedAttributesSequence for item in read.OriginalAttributesSequence)
    assert {int(each.tag) for each in modified} == {NAME, ACCESSION}
    assert not modified.PatientName
    assert not modified.AccessionNumber


@pytest.mark.parametrize(
    ("corrections", "listed"),
    [
        ({NAME: "Old^Name"}, []),  # it said so already
        ({NAME: "Old^Name", SEX: "F"}, [SEX]),
        ({NAME: "", SEX: ""}, [NAME]),  # there was no sex, and there is none
        ({SEX: ""}, []),
    ],
)
def test_what_is_as_it_was_is_not_listed(
    corrections: dict[int, str], listed: list[int], tmp_path: Path
) -> None:
    path = stored(tmp_path, element(NAME, b"PN", b"Old^Name  "), EXPLICIT)
    read = sent_with(path, EXPLICIT, corrections, told(by_user(*corrections)))
    items = read.get("OriginalAttributesSequence", [])
    assert [int(each.tag) for item in items for each in item.ModifiedAttributesSequence[0]] == (
        listed
    )


@pytest.mark.parametrize("issuer", [b"HOSPITAL", b""])
def test_a_patient_id_comes_with_its_issuer(issuer: bytes, tmp_path: Path) -> None:
    """Also one that was not changed, or not there: it says which Patient ID it was."""
    data_set = element(PATIENT_ID, b"LO", b"4711")
    data_set += element(ISSUER, b"LO", issuer) if issuer else b""
    read = sent_with(
        stored(tmp_path, data_set, EXPLICIT),
        EXPLICIT,
        {PATIENT_ID: "4712"},
        told(by_user(PATIENT_ID)),
    )
    modified = read.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
    assert modified.PatientID == "4711"
    assert (modified[ISSUER].value or "").encode() == issuer


def test_a_uid_keeps_its_padding(tmp_path: Path) -> None:
    path = stored(tmp_path, element(FRAME_OF_REFERENCE, b"UI", b"1.2.3\0"), EXPLICIT)
    out = sent(path, EXPLICIT, {FRAME_OF_REFERENCE: "1.2.4"}, (), told(by_user(FRAME_OF_REFERENCE)))
    assert element(FRAME_OF_REFERENCE, b"UI", b"1.2.4\0") in out
    inside = element(FRAME_OF_REFERENCE, b"UI", b"1.2.3\0")
    assert element(MODIFIED, b"SQ", plain(ITEM, inside)) in out


@syntaxes
@pytest.mark.parametrize(
    ("declared", "old", "new", "shown"),
    [
        (b"ISO_IR 100", "Müller".encode("latin-1"), "Đặng", "Müller"),
        (b"", b"Mueller ", "Müller", "Mueller"),
        (b"", b"Mueller ", "Đặng", "Mueller"),
        (b"ISO_IR 100", "Müller".encode("latin-1"), "山田", "Müller"),
        (b"ISO_IR 100", "Müller".encode("latin-1"), "Schröder", "Müller"),
        (b"\\ISO 2022 IR 87 ", b"Yamada=\x1b$B;3ED\x1b(B ", "Müller", "Yamada=山田"),
    ],
)
def test_the_earlier_value_is_in_its_own_character_set(
    declared: bytes, old: bytes, new: str, shown: str, syntax: str, tmp_path: Path
) -> None:
    """The item declares it where the data set does not any more."""
    data_set = element(CHARACTER_SET, b"CS", declared) if declared else b""
    data_set += element(NAME, b"PN", old)
    read = sent_with(stored(tmp_path, data_set, EXPLICIT), syntax, {NAME: new}, told(by_user(NAME)))
    assert str(read.PatientName) == new
    modified = read.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
    assert str(modified.PatientName) == shown
    own = declared.decode().strip().split("\\") if declared else [""]
    changed = read.get("SpecificCharacterSet", "") != (own if len(own) > 1 else own[0])
    assert (CHARACTER_SET in modified) == changed


def existing(form: str, explicit: bool) -> bytes:
    """A sequence with one item, of somebody else's correction, in one of the forms it may have."""

    def put(tag: int, vr: bytes, value: bytes) -> bytes:
        return element(tag, vr, value) if explicit and form != "UN" else plain(tag, value)

    inner = plain(ITEM, put(NAME, b"PN", b"Older^Name")) + plain(SEQUENCE_END, b"")
    modified = put(MODIFIED, b"SQ", b"") if form == "open" else put(MODIFIED, b"SQ", inner[:-8])
    if form == "open":  # all ends are said by delimiters
        modified = modified[:-4] + b"\xff\xff\xff\xff" + inner
    body = modified + put(0x04000563, b"LO", b"ELSEWHERE ")
    if form == "open":
        item = plain(ITEM, body + plain(ITEM_END, b""), UNDEFINED)
        sequence, length = item + plain(SEQUENCE_END, b""), UNDEFINED
    elif form == "delimited":  # with a length, and a delimiter all the same
        sequence = plain(ITEM, body + plain(ITEM_END, b""), UNDEFINED) + plain(SEQUENCE_END, b"")
        length = len(sequence)
    else:
        sequence = plain(ITEM, body)
        length = len(sequence)
    if not explicit:
        return plain(SEQUENCE, sequence, length)
    return element(SEQUENCE, b"UN" if form == "UN" else b"SQ", sequence, length)


@pytest.mark.parametrize("form", ["closed", "open", "delimited", "UN"])
@pytest.mark.parametrize("source", [EXPLICIT, IMPLICIT])
@syntaxes
def test_items_that_are_there_stay_and_ours_comes_behind(
    form: str, source: str, syntax: str, tmp_path: Path
) -> None:
    explicit = source == EXPLICIT
    named = element(NAME, b"PN", b"Old^Name") if explicit else plain(NAME, b"Old^Name")
    behind = (
        element(0x40100001, b"UN", b"end ") if explicit else plain(0x40100001, b"end ")
    )  # of an unknown element
    path = stored(tmp_path, named + existing(form, explicit) + behind, source)
    out = sent(path, syntax, {NAME: "New"}, (), told(by_user(NAME)))
    read = read_back(out, syntax)
    assert str(read.PatientName) == "New"
    theirs, ours = read.OriginalAttributesSequence
    assert theirs.ModifyingSystem == "ELSEWHERE"
    assert str(theirs.ModifiedAttributesSequence[0].PatientName) == "Older^Name"
    assert ours.ModifyingSystem == "SCP_AE"
    assert str(ours.ModifiedAttributesSequence[0].PatientName) == "Old^Name"
    assert b"end " in out
    assert 0x40100001 in read
    assert dumped(out, syntax, tmp_path).count("(0400,0550)") == 2


@pytest.mark.parametrize("value", [b"", b"text"])
@syntaxes
def test_a_sequence_without_items_is_replaced(value: bytes, syntax: str, tmp_path: Path) -> None:
    data_set = element(NAME, b"PN", b"Old^Name") + element(SEQUENCE, b"SQ", value)
    read = sent_with(
        stored(tmp_path, data_set, EXPLICIT), syntax, {NAME: "New"}, told(by_user(NAME))
    )
    (ours,) = read.OriginalAttributesSequence
    assert ours.ModifyingSystem == "SCP_AE"


@syntaxes
def test_without_anything_to_tell_a_sequence_that_is_there_stays(
    syntax: str, tmp_path: Path
) -> None:
    data_set = element(NAME, b"PN", b"Old^Name") + existing("closed", True)
    read = sent_with(
        stored(tmp_path, data_set, EXPLICIT), syntax, {NAME: "Old^Name"}, told(by_user(NAME))
    )
    (theirs,) = read.OriginalAttributesSequence
    assert theirs.ModifyingSystem == "ELSEWHERE"


def test_a_group_length_does_not_survive_what_comes_into_its_group(tmp_path: Path) -> None:
    data_set = element(NAME, b"PN", b"Old^Name") + element(0x04000000, b"UL", b"\x2a\0\0\0")
    for sequence in (b"", existing("closed", True)):
        path = stored(tmp_path, data_set + sequence, EXPLICIT)
        assert 0x04000000 not in sent_with(path, EXPLICIT, {NAME: "N"}, told(by_user(NAME)))


@pytest.mark.parametrize(
    "hostile",
    [
        element(NAME, b"UT", b"x" * 100_000),  # no name is so long
        element(
            NAME,
            b"SQ",
            plain(ITEM, element(SEX, b"CS", b"M ")) + plain(SEQUENCE_END, b""),
            UNDEFINED,
        ),
        element(NAME, b"SQ", plain(ITEM, b"")),
    ],
)
@syntaxes
def test_what_is_no_value_of_its_kind_is_listed_without_one(
    hostile: bytes, syntax: str, tmp_path: Path
) -> None:
    read = sent_with(stored(tmp_path, hostile, EXPLICIT), syntax, {NAME: "N"}, told(by_user(NAME)))
    modified = read.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
    assert not modified.PatientName
    assert modified[NAME].VR == "PN"


def test_a_value_of_odd_length_gets_its_padding(tmp_path: Path) -> None:
    path = stored(tmp_path, element(NAME, b"PN", b"Odd"), EXPLICIT)
    out = sent(path, EXPLICIT, {NAME: "N"}, (), told(by_user(NAME)))
    assert element(NAME, b"PN", b"Odd ") in out


@pytest.mark.parametrize("title", ["A\\B", "TÜR", ""])
def test_a_source_that_is_no_text_is_left_empty(title: str, tmp_path: Path) -> None:
    path = stored(tmp_path, element(NAME, b"PN", b"Old^Name"), EXPLICIT)
    raw = path.read_bytes()
    meta = element(0x00020016, b"AE", b"A ")
    assert meta in raw
    written = title.encode("latin-1")
    other = element(0x00020016, b"AE", written + b" " * (len(written) & 1))
    raw = raw.replace(meta, other)
    length = int.from_bytes(raw[140:144], "little") + len(other) - len(meta)
    path.write_bytes(raw[:140] + length.to_bytes(4, "little") + raw[144:])
    read = sent_with(path, EXPLICIT, {NAME: "N"}, told(by_user(NAME)))
    assert not read.OriginalAttributesSequence[0].SourceOfPreviousValues


@syntaxes
def test_their_items_keep_their_meaning_in_another_character_set(
    syntax: str, tmp_path: Path
) -> None:
    """They are told the set that they were in; so is ours."""
    data_set = element(CHARACTER_SET, b"CS", b"ISO_IR 100")
    data_set += element(NAME, b"PN", "Müller".encode("latin-1"))
    theirs = existing("closed", True).replace(b"Older^Name", "Älter^Nämé".encode("latin-1"))
    path = stored(tmp_path, data_set + theirs, EXPLICIT)
    read = sent_with(path, syntax, {NAME: "Đặng^Hòa"}, told(by_user(NAME)))
    before, ours = read.OriginalAttributesSequence
    assert str(before.ModifiedAttributesSequence[0].PatientName) == "Älter^Nämé"
    assert str(ours.ModifiedAttributesSequence[0].PatientName) == "Müller"
    assert str(read.PatientName) == "Đặng^Hòa"
