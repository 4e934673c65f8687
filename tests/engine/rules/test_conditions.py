"""The language of conditions: what each form means, by kind of value, and what is refused."""

import re
import struct
import tomllib
from datetime import datetime

import pytest
from pydicom.datadict import tag_for_keyword

from engine.config.loading import parse_config
from engine.dictionary.elements import (
    BINARY_VRS,
    element_text,
    extra_tags,
    find_element,
    identity_of,
)
from engine.errors import OperatorError
from engine.rules.conditions import Subject, compile_conditions, faults_of
from tools.development.reference_conditions import CONDITIONS

_CT = "1.2.840.10008.5.1.4.1.1.2"
_REMOTE = '[[remotes]]\nname = "archive"\nae_title = "A"\nhost = "h"\nport = 104\n'


def subject(
    calling: str = "CT_1", table: str = "storage_scp", at: str = "2024-01-31T12:00", **values: str
) -> Subject:
    tags = {tag_for_keyword(keyword) or 0: text for keyword, text in values.items()}
    return Subject(tags, _CT, calling, "SCP_AE", table, datetime.fromisoformat(at))


def holds(when: str, seen: Subject) -> bool:
    conditions = compile_conditions(tomllib.loads(when), "when")
    told = [verdict.holds for verdict in conditions.explain(seen)]
    assert conditions.matches(seen) == all(told)
    return all(told)


@pytest.mark.parametrize(
    ("when", "keyword", "right", "wrong"),
    [
        ('Modality = "CT"', "Modality", ["CT", " CT"], ["MR", "ct", "", "CTA"]),
        ('Modality = ["CT", "MR"]', "Modality", ["CT", "MR"], ["US", ""]),
        ('StationName = "CT*"', "StationName", ["CT", "CT_7"], ["XCT", ""]),
        ('StationName = ["CT?", "MR*"]', "StationName", ["CT1", "MR"], ["CT", "CT12"]),
        ('ImageType = "LOCALIZER"', "ImageType", ["A\\B\\LOCALIZER"], ["A\\B", "LOCALIZERS"]),
        ('ImageType = {not = "DERIVED"}', "ImageType", ["A\\B", ""], ["A\\DERIVED"]),
        ("SeriesNumber = 1", "SeriesNumber", ["1", "01", "+1"], ["2", "x", "", "1_0"]),
        ("SeriesNumber = {from = 2, to = 9}", "SeriesNumber", ["2", "9"], ["1", "10", ""]),
        ("SeriesNumber = {from = 2}", "SeriesNumber", ["2", "1000"], ["-3", "1"]),
        ("SliceThickness = {to = 1.5}", "SliceThickness", ["1.5", "1e0"], ["1.51", "nan", "inf"]),
        ("KVP = [80, 120]", "KVP", ["120.0", "80"], ["100"]),
        ("StudyDate = 2024-01-31", "StudyDate", ["20240131", "2024.01.31"], ["20240130", "x"]),
        ('StudyDate = {from = "20200101"}', "StudyDate", ["20200101"], ["20191231", ""]),
        ('StudyDate = "20200101-20201231"', "StudyDate", ["20200615"], ["20210101"]),
        ('StudyTime = {from = "18", to = "1930"}', "StudyTime", ["18", "193059"], ["1931", ""]),
        ("StudyTime = {from = 18:00:00}", "StudyTime", ["180000"], ["175959.9"]),
        ('StudyTime = {to = "235960"}', "StudyTime", ["235960"], ["x"]),  # a leap second
        ('StudyDate = "20240229"', "StudyDate", ["20240229"], ["20230229"]),
        (
            'AcquisitionDateTime = {from = "2024", to = "202402"}',
            "AcquisitionDateTime",
            ["20240101", "20240229235959.5", "20240115+0100"],
            ["20231231", "202403", ""],
        ),
        ('PatientAge = {from = "018Y"}', "PatientAge", ["018Y", "216M"], ["017Y", "030D", "18"]),
        ('PatientAge = "001Y"', "PatientAge", ["012M", "001Y"], ["011M"]),
        ('PatientName = "yamada*"', "PatientName", ["Yamada^Tarou=山田^太郎"], ["Sato", ""]),
        ('PatientName = "山田*"', "PatientName", ["Yamada^Tarou=山田^太郎"], ["Yamada^Tarou"]),
        ('PatientName = "muller^*"', "PatientName", ["MÜLLER^A"], ["Miller^A"]),
        ('SeriesDescription = {regex = "(?i)scout"}', "SeriesDescription", ["a SCOUT"], ["", "sc"]),
        ('SeriesDescription = {regex = "^T1"}', "SeriesDescription", ["T1 tse"], ["a T1"]),
        ('AccessionNumber = {from = "A5", to = "B"}', "AccessionNumber", ["A6", "B"], ["A4", "B1"]),
        ("AccessionNumber = {present = false}", "AccessionNumber", ["", "  "], ["1"]),
        ("AccessionNumber = {present = true}", "AccessionNumber", ["1"], ["", " \\ "]),
        ('StudyInstanceUID = "1.2.3"', "StudyInstanceUID", ["1.2.3"], ["1.2.30"]),
        ('StudyInstanceUID = "1.2.*"', "StudyInstanceUID", ["1.2.30"], ["1.3"]),
        (
            "InstanceNumber = {from = 1, to = 9, not = 5}",
            "InstanceNumber",
            ["4", "6"],
            ["5", "05", "10"],
        ),
        ('ImageComments = {is = "a*", regex = "z$"}', "ImageComments", ["a\\b\\z"], ["a\\zz\\"]),
    ],
)
def test_attributes_compare_by_what_they_are(
    when: str, keyword: str, right: list[str], wrong: list[str]
) -> None:
    # Dates and times of TOML arrive as the configuration's reader makes them.
    rule = f'[[rules]]\nname = "r"\nto = ["archive"]\n[rules.when]\n{when}'
    conditions = compile_conditions(parse_config(_REMOTE + rule).config.rules[0].when, "when")
    for value in right:
        assert conditions.matches(subject(**{keyword: value})), value
    for value in wrong:
        assert not conditions.matches(subject(**{keyword: value})), value
    assert conditions.tags == {tag_for_keyword(keyword)}


def test_what_is_no_attribute() -> None:
    seen = subject(calling="CT_1", at="2024-01-31T23:30")  # a Wednesday
    for when in (
        'calling_ae_title = "CT_?"',
        'calling_ae_title = {not = ["MR_1", "MR_2"]}',
        'called_ae_title = "SCP_AE"',
        'receiving_ae = ["storage_scp", "secured_scp"]',
        'time = "18:00-06:00"',
        'time = ["08:00-09:00", "23:30-24:00"]',
        'weekdays = "wed"',
        'weekdays = ["fri-mon", "tue-thu"]',
        f'SOPClassUID = "{_CT}"',
        '"(0008,0016)" = "1.2.840.*"',
    ):
        assert holds(when, seen), when
    for when in (
        'calling_ae_title = "ct_1"',
        'receiving_ae = "prefetch_scp"',
        'time = "18:00-23:30"',
        'time = "06:00-18:00"',
        'weekdays = "thu-tue"',
        'SOPClassUID = ["1.2.840.10008.5.1.4.1.1.4"]',
    ):
        assert not holds(when, seen), when
    assert holds('time = "18:00-06:00"', subject(at="2024-01-31T05:59"))
    assert not holds('time = "18:00-06:00"', subject(at="2024-01-31T06:00"))


def test_all_conditions_must_hold_and_each_is_explained() -> None:
    conditions = compile_conditions(
        {"Modality": ["CT", "MR"], "SeriesNumber": {"from": 2}, "calling_ae_title": "CT_1"}, "when"
    )
    seen = subject(Modality="CT", SeriesNumber="1")
    assert not conditions.matches(seen)
    assert [tuple(verdict) for verdict in conditions.explain(seen)] == [
        ("Modality", '["CT", "MR"]', "CT", True),
        ("SeriesNumber", "{ from = 2 }", "1", False),
        ("calling_ae_title", '"CT_1"', "CT_1", True),
    ]
    assert compile_conditions({}, "when").matches(seen)


@pytest.mark.parametrize(
    ("when", "text"),
    [
        ('Modalty = "CT"', "did you mean Modality?"),
        ('calling_ae = "X"', "did you mean calling_ae_title?"),
        ('"(0008,00)" = 1', "neither a keyword of the DICOM dictionary nor a tag"),
        ("WaveformSequence = 1", "has VR SQ"),
        ("PixelData = 1", "outside the part of the data set"),
        ("TransferSyntaxUID = 1", "outside the part of the data set"),
        ('SeriesNumber = "one"', "'one' is none; right would be 42"),
        ("SeriesNumber = true", "is not a number"),
        ("SeriesNumber = {from = 9, to = 1}", "the range is reversed"),
        ('StudyDate = {from = "20200201", to = "20200101"}', "the range is reversed"),
        ('StudyDate = {from = "1st May"}', "is not a date"),
        ('StudyDate = "yesterday"', "is no date"),
        ('StudyTime = {to = "25h"}', "is not a time"),
        ('StudyDate = {from = "20201301"}', "'20201301' is no day of the calendar: month"),
        ("StudyDate = {to = 20230229}", "'20230229' is no day of the calendar: day"),
        ('StudyDate = "20240201-20240231"', "'20240231' is no day of the calendar: day"),
        ('StudyDate = ["20240131", "2024.02.31"]', "'2024.02.31' is no day of the calendar"),
        ('StudyDate = {not = "00000101"}', "'00000101' is no day of the calendar: year"),
        ('StudyTime = {from = "2500"}', "'2500' is no time of day"),
        ('StudyTime = "10-1060"', "'1060' is no time of day"),
        ('StudyTime = "23:59:61"', "'23:59:61' is no time of day"),
        ('AcquisitionDateTime = "20241301"', "'20241301' is no day of the calendar: month"),
        ('AcquisitionDateTime = {to = "202413"}', "'202413' is no day of the calendar: month"),
        ('AcquisitionDateTime = {to = "2024013124"}', "'2024013124' is no time of day"),
        ('AcquisitionDateTime = "20240131+9900"', "'20240131+9900' is no offset from UTC"),
        ('PatientName = {from = "A"}', "a name has no order"),
        ('SOPClassUID = "CT Image Storage"', "is no UID"),
        ('Modality = ""', "present = true"),
        ('Modality = "*"', "present = true"),
        ("Modality = []", "must list 1 to"),
        ("Modality = {}", "says nothing"),
        ("Modality = {like = 1}", "takes is, not, from, to, regex, present, not 'like'"),
        ('Modality = "CT\\\\MR"', "write a list"),
        ("Modality = {present = 1}", "present is true or false"),
        ('Modality = {present = false, is = "CT"}', "cannot be absent and have a value"),
        ('Modality = {regex = "("}', "does not compile"),
        ("Modality = {regex = 1}", "must be a regular expression"),
        ('receiving_ae = "storage"', "is none of storage_scp, prefetch_scp, secured_scp"),
        ('receiving_ae = "storage*"', "is none of"),
        ("receiving_ae = 1", "is none of"),
        ('time = "18:00"', "is no span of the day"),
        ('time = "18:00-18:00"', "is no span of the day"),
        ('time = "18:00-25:00"', "is no span of the day"),
        ("time = []", "lists no span"),
        ('weekdays = "monday"', "is no day"),
        ('weekdays = "mon-"', "is no day"),
        ("weekdays = []", "lists no day"),
    ],
)
def test_what_means_nothing_is_refused(when: str, text: str) -> None:
    table = tomllib.loads(when)
    key = next(iter(table))
    with pytest.raises(OperatorError, match=re.escape(text)) as refused:
        compile_conditions(table, "rules[0].when")
    plain = key.isidentifier()
    assert refused.value.where == f"rules[0].when.{key if plain else ascii(key)}"


def test_all_faults_of_a_table_are_told() -> None:
    table = {"Modality": "CT", "SeriesNumber": "x", "Nothing": 1, "time": 7}
    assert [fault.where for fault in faults_of(table, "w")] == [
        "w.SeriesNumber",
        "w.Nothing",
        "w.time",
    ]
    many = {f"({group:04x},1001)": 1 for group in range(0x11, 0x11 + 200, 2)}
    assert [fault.where for fault in faults_of(many, "w")] == ["w"]


def test_elements_by_name_and_tag() -> None:
    assert find_element("Modality") == find_element("(0008,0060)") == find_element("0008,0060")
    assert find_element("(0019,100C)").vr == "LO"  # private: read as text
    assert find_element("SmallestImagePixelValue").vr == "US"
    tags = [find_element(name).tag for name in ("Modality", "KVP", "SOPClassUID", "SliceLocation")]
    assert extra_tags(tags) == (0x00180060, 0x00201041)
    assert identity_of(()) == 0
    assert identity_of((1, 2)) == identity_of((2, 1)) != identity_of((1,))


def test_raw_values_become_text() -> None:
    assert element_text("US", b"\x00\x02\x01\x00", b"") == "512\\1"
    assert element_text("SS", b"\xff\xff\x00", b"") == "-1"  # half a value is none
    assert element_text("FL", b"\xcd\xcc\xcc\x3d", b"") == "0.1"
    assert element_text("FL", struct.pack("<3f", 16777216, 1 / 3, float("nan")), b"") == (
        "16777216\\0.33333334\\"
    )
    assert element_text("FD", b"\0\0\0\0\0\0\xf8\x3f", b"") == "1.5"
    assert element_text("DS", b" 1.5\\2 ", b"") == "1.5\\2"
    assert element_text("LT", "größer".encode("latin-1"), b"ISO_IR 100") == "größer"
    for vr, packing in BINARY_VRS.items():
        assert element_text(vr, b"", b"") == ""
        assert element_text(vr, bytes(packing.size), b"") == "0" if vr != "FD" else "0.0"


def test_the_example_of_the_reference_is_understood() -> None:
    example = CONDITIONS.split("```toml\n")[1].split("```")[0]
    (rule,) = parse_config(_REMOTE + example).config.rules
    conditions = compile_conditions(rule.when, "when")
    seen = subject(
        at="2024-01-31T20:00",
        Modality="CT",
        StationName="CT_3",
        SeriesNumber="7",
        StudyDate="20240131",
        PatientAge="040Y",
        BodyPartExamined="CHEST",
        SeriesDescription="Topogramm",
    )
    assert [verdict.key for verdict in conditions.explain(seen) if not verdict.holds] == []
    assert conditions.matches(seen)
