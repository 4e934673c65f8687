"""Identifiers of queries: what is written is what foreign readers read, and the other way round."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from engine.dictionary import attributes
from engine.dictionary.query_level import QueryLevel
from engine.dimse import identifiers
from engine.errors import OperatorError


def foreign(data: bytes, explicit_vr: bool) -> Dataset:
    """The identifier as pydicom reads it."""
    return read_dataset(io.BytesIO(data), not explicit_vr, True)


def written(data_set: Dataset, explicit_vr: bool) -> bytes:
    """A data set as pydicom writes it."""
    from pydicom.filebase import DicomBytesIO

    buffer = DicomBytesIO()
    buffer.is_little_endian = True
    buffer.is_implicit_VR = not explicit_vr
    write_dataset(buffer, data_set)
    return buffer.getvalue()


@pytest.mark.parametrize("explicit_vr", [True, False])
def test_a_foreign_reader_finds_every_key_of_the_study_level(explicit_vr: bool) -> None:
    keys = identifiers.find_keys(
        QueryLevel.STUDY,
        {
            attributes.PATIENT_ID: "4711",
            attributes.STUDY_DATE: "20190101-20240131",
            identifiers.MODALITIES_IN_STUDY: "CT\\MR",
        },
    )
    found = foreign(identifiers.encode_identifier(QueryLevel.STUDY, keys, explicit_vr), explicit_vr)
    assert [element.keyword for element in found] == [
        "StudyDate",
        "QueryRetrieveLevel",
        "ModalitiesInStudy",
        "PatientID",
        "StudyInstanceUID",
    ]
    assert found.QueryRetrieveLevel == "STUDY"
    assert found.PatientID == "4711"
    assert found.StudyDate == "20190101-20240131"
    assert list(found.ModalitiesInStudy) == ["CT", "MR"]
    assert not found.StudyInstanceUID


@pytest.mark.parametrize(
    ("text", "character_set"),
    [("ABC", ""), ("MÜLLER", "ISO_IR 100"), ("山田12", "\\ISO 2022 IR 87"), ("Ж€", "ISO_IR 192")],
)
def test_the_character_set_is_the_least_that_holds_the_value(text: str, character_set: str) -> None:
    keys = {attributes.PATIENT_ID: text}
    data = identifiers.encode_identifier(QueryLevel.STUDY, keys, True, "", ("ISO_IR 192",))
    found = foreign(data, True)
    found.decode()
    assert found.PatientID == text
    assert ("SpecificCharacterSet" in found) == bool(character_set)
    assert identifiers.decode_identifier(data, True)[attributes.PATIENT_ID] == text
    assert identifiers.character_set_for(text, "", ("ISO_IR 192",)) == character_set


def test_the_character_set_a_value_came_in_is_kept_if_it_can_be() -> None:
    assert identifiers.character_set_for("MÜLLER", "ISO_IR 192") == "ISO_IR 192"
    assert identifiers.character_set_for("山田", "ISO_IR 100") == "\\ISO 2022 IR 87"
    assert identifiers.character_set_for("山田", "ISO 2022 IR 6\\ISO 2022 IR 87") == (
        "ISO 2022 IR 6\\ISO 2022 IR 87"
    )


@pytest.mark.parametrize(
    ("text", "allowed", "character_set"),
    [
        ("Ж€", (), None),
        ("김", ("GB18030",), "GB18030"),
        ("김", ("ISO_IR 192", "ISO 2022 IR 149"), "\\ISO 2022 IR 149"),
        ("MÜLLER", ("ISO_IR 192",), "ISO_IR 100"),
        ("Ж山", ("ISO 2022 IR 144",), "\\ISO 2022 IR 87"),  # JIS X 0208 has Cyrillic letters
        ("Жü", ("ISO 2022 IR 144",), "\\ISO 2022 IR 100\\ISO 2022 IR 87\\ISO 2022 IR 144"),
    ],
)
def test_only_what_the_archive_allows_is_declared_beyond_the_statement(
    text: str, allowed: tuple[str, ...], character_set: str | None
) -> None:
    assert identifiers.character_set_for(text, "", allowed) == character_set
    keys = {attributes.PATIENT_ID: text}
    if character_set is None:
        with pytest.raises(OperatorError, match="character_sets"):
            identifiers.encode_identifier(QueryLevel.STUDY, keys, True, "", allowed)
    else:
        data = identifiers.encode_identifier(QueryLevel.STUDY, keys, True, "", allowed)
        assert identifiers.decode_identifier(data, True)[attributes.PATIENT_ID] == text


@pytest.mark.parametrize("explicit_vr", [True, False])
@pytest.mark.parametrize("character_set", ["ISO_IR 100", "ISO 2022 IR 6\\ISO 2022 IR 87"])
def test_answers_are_decoded_by_their_own_character_set(
    explicit_vr: bool, character_set: str
) -> None:
    answer = Dataset()
    answer.SpecificCharacterSet = character_set.split("\\")
    answer.PatientID = "Ä1" if character_set == "ISO_IR 100" else "山田"
    answer.StudyInstanceUID = "1.2.3"
    answer.ModalitiesInStudy = ["CT", "SR"]
    answer.StudyDescription = "not asked for"
    found = identifiers.decode_identifier(written(answer, explicit_vr), explicit_vr)
    assert found[attributes.PATIENT_ID] == answer.PatientID
    assert found[attributes.STUDY_INSTANCE_UID] == "1.2.3"
    assert found[identifiers.MODALITIES_IN_STUDY] == "CT\\SR"
    assert 0x00081030 not in found


@given(st.binary(max_size=300), st.booleans())
def test_hostile_answers_give_text_or_nothing(data: bytes, explicit_vr: bool) -> None:
    found = identifiers.decode_identifier(data, explicit_vr)
    assert set(found) <= set(identifiers.KNOWN)


@given(st.text(min_size=1, max_size=40).filter(lambda text: "\\" not in text), st.booleans())
def test_any_patient_id_comes_back_as_it_was_asked(text: str, explicit_vr: bool) -> None:
    wanted = "".join(c for c in text if c.isprintable()).strip()
    data = identifiers.encode_identifier(
        QueryLevel.STUDY, {attributes.PATIENT_ID: wanted}, explicit_vr, "", ("ISO_IR 192",)
    )
    assert identifiers.decode_identifier(data, explicit_vr).get(attributes.PATIENT_ID, "") == wanted


def test_kinds_of_matching_are_named_as_in_the_table() -> None:
    kind = identifiers.kind_of_matching
    assert kind(attributes.STUDY_DATE, "") == "universal"
    assert kind(attributes.STUDY_DATE, "20200101-20210101") == "range"
    assert kind(attributes.STUDY_DATE, "20200101") == "single value"
    assert kind(identifiers.MODALITIES_IN_STUDY, "CT\\MR") == "list"
    assert kind(attributes.PATIENT_ID, "1-2") == "single value"
    assert kind(attributes.STUDY_INSTANCE_UID, "") == "unique key, universal"
