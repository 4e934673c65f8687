"""The attribute table and its decoding: every character set, every kind of damage, the row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.dictionary import attributes
from engine.dictionary.attributes import BY_KEYWORD, BY_TAG, Level

IR_87_NAME = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"
IR_87_TEXT = "Yamada^Tarou=山田^太郎=やまだ^たろう"
IR_13_TEXT = "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"
IR_13_NAME = (
    b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J"
    b"=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J"
)


@pytest.mark.parametrize(
    ("raw", "character_set", "text", "damaged"),
    [
        (b"Adams^John Robert Quincy^^Rev.^B.A. M.Div. ", b"", None, False),
        (b"Buc^J\xe9r\xf4me", b"ISO_IR 100", "Buc^Jérôme", False),
        (b"Buc^J\xe9r\xf4me", b"", "Buc^Jérôme", False),
        (IR_87_NAME, b"\\ISO 2022 IR 87", IR_87_TEXT, False),
        (
            IR_87_NAME,
            b"ISO 2022 IR 6\\ISO 2022 IR 87",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
            False,
        ),
        (IR_87_NAME, b"", IR_87_TEXT, True),
        (IR_13_NAME, b"ISO 2022 IR 13\\ISO 2022 IR 87", IR_13_TEXT, False),
        ("Wang^XiaoDong=王^小东".encode("gb18030"), b"GB18030", "Wang^XiaoDong=王^小东", False),
        ("Wang=王^小東".encode(), b"ISO_IR 192", "Wang=王^小東", False),
        ("Wang=王^小東".encode(), b"ISO IR 192 ", "Wang=王^小東", False),
        ("Люкceмбypг".encode("iso8859_5"), b"ISO_IR 144", "Люкceмбypг", False),
        (b"caf\xe9", b"ISO_IR 192", "caf�", True),
        (b"caf\xe9", b"unicode_escape", "café", True),
        (b"caf\xe9", b"KLINGON", "café", True),
        (b"\x1b$B;3E", b"\\ISO 2022 IR 87", None, True),
    ],
)
def test_text_is_decoded(raw: bytes, character_set: bytes, text: str | None, damaged: bool) -> None:
    decoded, was_damaged = attributes.decode_text(raw, character_set, "PN")
    if text is None and not damaged:
        text = raw.decode("ascii").rstrip()
    if text is not None:
        assert decoded == text
    assert was_damaged is damaged


@pytest.mark.parametrize("name", ["ボ^太郎", "春^ま", "まボ春^春"])
def test_jis_bytes_that_look_like_delimiters_are_not_split(name: str) -> None:
    raw = b"X=" + name.encode("iso2022_jp")
    assert b"=" in raw[2:] or b"^" in raw[2:] or b"\\" in raw
    assert attributes.decode_text(raw, b"\\ISO 2022 IR 87", "PN") == (f"X={name}", False)


@given(st.binary(max_size=80), st.binary(max_size=40))
def test_no_bytes_under_no_character_set_raise(raw: bytes, character_set: bytes) -> None:
    text, _ = attributes.decode_text(raw, character_set, "PN")
    text.encode("utf-8", "strict")


def test_the_table_is_in_order_and_whole() -> None:
    assert list(attributes.WANTED_TAGS) == sorted({a.tag for a in attributes.ATTRIBUTES})
    assert len(BY_KEYWORD) == len(attributes.ATTRIBUTES)
    from pydicom.datadict import dictionary_VR, keyword_for_tag

    for attribute in attributes.ATTRIBUTES:
        assert keyword_for_tag(attribute.tag) == attribute.keyword
        assert dictionary_VR(attribute.tag) == attribute.vr
    keys = {"StudyDate", "PatientID", "StudyInstanceUID", "SeriesDate", "SeriesTime", "Modality"}
    assert keys | {"SeriesInstanceUID", "PatientName", "AccessionNumber"} <= set(BY_KEYWORD)


def test_row_is_split_into_what_a_series_shares_and_what_is_the_instances() -> None:
    values = {
        attributes.SPECIFIC_CHARACTER_SET: b"ISO_IR 100",
        0x00080008: b"ORIGINAL\\PRIMARY",
        attributes.STUDY_DATE: b"20200102",
        attributes.MODALITY: b"CT",
        attributes.PATIENT_NAME: b"M\xfcller^A ",
        attributes.PATIENT_ID: b" 0012 ",
        attributes.STUDY_INSTANCE_UID: b"1.2.3\0",
        attributes.INSTANCE_NUMBER: b"7 ",
        0x00280010: b"\x00\x02",
    }
    row = attributes.write_row(values)
    assert dict(attributes.read_row(row)) == values
    upper, instance, extra = attributes.split_row(row)
    assert extra == []
    other = attributes.write_row(values | {attributes.INSTANCE_NUMBER: b"8 "})
    assert attributes.split_row(other)[0] == upper
    head = attributes.decode_head(upper)
    assert head.patient == {attributes.PATIENT_NAME: "Müller^A", attributes.PATIENT_ID: " 0012"}
    assert head.study == {attributes.STUDY_DATE: "20200102", attributes.STUDY_INSTANCE_UID: "1.2.3"}
    assert head.series[attributes.MODALITY] == "CT"
    assert not head.character_set_broken
    assert attributes.decode_instance(instance) == {
        0x00080008: "ORIGINAL\\PRIMARY",
        attributes.INSTANCE_NUMBER: "7",
        0x00280010: "512",
    }


def test_empty_row() -> None:
    assert attributes.split_row(b"") == (b"", [], [])
    assert attributes.decode_head(b"") == attributes.DecodedHead({}, {}, {}, b"", False)


def test_every_wanted_tag_has_a_level_that_decoding_fills() -> None:
    row = attributes.write_row(dict.fromkeys(attributes.WANTED_TAGS, b"1\x00"))
    upper, instance, _ = attributes.split_row(row)
    head = attributes.decode_head(upper)
    found = {**head.patient, **head.study, **head.series, **attributes.decode_instance(instance)}
    assert set(found) == set(attributes.WANTED_TAGS)
    assert {BY_TAG[tag].level for tag in head.patient} == {Level.PATIENT}
