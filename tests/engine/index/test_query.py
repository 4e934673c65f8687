"""Queries: whatever plan is chosen, the answer is that of comparing everything with everything."""

import random
from collections.abc import Iterator

import pytest

from engine.dictionary import matching
from engine.dictionary.attributes import BY_KEYWORD
from engine.dictionary.query_level import QueryLevel
from engine.errors import OperatorError
from engine.index.environment import IndexReader
from engine.index.query import Match, Query, find
from engine.index.writer import IndexWriter
from tests.rigs.index_entries import make_entry

NAMES = [
    "Doe^Jane",
    "Doe^John",
    "DOERING^A",
    "Müller^Bé",
    "Muller^B",
    "Yamada=山田^太郎=やまだ",
    "",
]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IndexReader]:
    writer = IndexWriter(tmp_path_factory.mktemp("data"))
    source = random.Random(3)
    entries = []
    for study in range(60):
        name = NAMES[study % len(NAMES)]
        values = {
            "PatientName": name.encode("utf-8").decode("latin-1"),
            "SpecificCharacterSet": "ISO_IR 192",
            "PatientID": f"P{study % 20}",
            "AccessionNumber": f"A{study}" if study % 3 else "",
            "StudyDate": f"202{study % 5}01{study % 28 + 1:02}" if study % 7 else "",
            "StudyTime": f"{study % 24:02}30",
            "StudyDescription": source.choice(["HEAD", "Head CT", "THORAX"]),
        }
        for series in range(study % 3 + 1):
            modality = source.choice(["CT", "MR", "SR"]) if study != 11 else "XA"
            for instance in range(series + 1):
                entries.append(
                    make_entry(
                        f"1.4.{study}.{series}.{instance}",
                        f"1.3.{study}.{series}",
                        f"1.2.{study}",
                        Modality=modality,
                        SeriesNumber=str(10 - series),
                        InstanceNumber=str(20 - instance),
                        **values,
                    )
                )
    source.shuffle(entries)
    writer.commit(lambda batch: [batch.put_instance(entry) for entry in entries])
    yield writer.reader()
    writer.close()


def ask(
    reader: IndexReader, level: QueryLevel, limit: int | None = None, **keys: str
) -> list[Match]:
    with reader.view() as view:
        return list(find(view, Query(level, keys, limit)))


def by_hand(reader: IndexReader, level: QueryLevel, keys: dict[str, str]) -> set[tuple[str, str]]:
    """Every record compared with every key, without any plan."""
    vrs = {"ModalitiesInStudy": "CS", "SOPInstanceUID": "UI", "SOPClassUID": "UI"}
    found = set()
    for match in ask(reader, level):
        values = match.values()
        for keyword, pattern in keys.items():
            vr = vrs[keyword] if keyword in vrs else BY_KEYWORD[keyword].vr
            matches = matching.matcher(vr, pattern)
            if matches is not None and not matches(values.get(keyword, "")):
                break
        else:
            found.add(identity(match))
    return found


def identity(match: Match) -> tuple[str, str]:
    below = match.series.uid if match.series else ""
    return match.study.uid, match.instance.sop_instance_uid if match.instance else below


STUDY_KEYS: list[dict[str, str]] = [
    {},
    {"PatientID": "P3"},
    {"PatientID": "P1*"},
    {"PatientID": "*1"},
    {"PatientName": "doe^jane"},
    {"PatientName": "doe*"},
    {"PatientName": "doe^*"},
    {"PatientName": "muller*"},
    {"PatientName": "山田*"},
    {"PatientName": "=山田*"},
    {"PatientName": "*B*"},
    {"AccessionNumber": "A5"},
    {"AccessionNumber": "A5*"},
    {"StudyDate": "20210101-20221231"},
    {"StudyDate": "-20210115"},
    {"StudyDate": "20230101-", "PatientName": "doe*"},
    {"StudyTime": "1030-1130"},
    {"StudyDescription": "H*"},
    {"ModalitiesInStudy": "SR"},
    {"ModalitiesInStudy": "XA\\SR"},
    {"StudyInstanceUID": "1.2.7\\1.2.8\\9.9"},
    {"StudyInstanceUID": "1.2.7", "PatientID": "nobody"},
    {"StudyInstanceUID": "1.2.1*"},
]


@pytest.mark.parametrize("keys", STUDY_KEYS)
def test_plans_agree_with_comparing_everything(reader: IndexReader, keys: dict[str, str]) -> None:
    for level in QueryLevel:
        found = [identity(match) for match in ask(reader, level, **keys)]
        assert len(found) == len(set(found))
        assert set(found) == by_hand(reader, level, keys)
        if "PatientID" not in keys or keys["PatientID"] != "nobody":
            assert found


@pytest.mark.parametrize(
    "keys",
    [
        {"Modality": "XA"},
        {"SeriesInstanceUID": "1.3.5.1\\1.3.8.0"},
        {"SeriesNumber": "09"},
        {"Modality": "SR", "PatientName": "doe*"},
    ],
)
def test_series_keys(reader: IndexReader, keys: dict[str, str]) -> None:
    found = [identity(match) for match in ask(reader, QueryLevel.SERIES, **keys)]
    assert found
    assert set(found) == by_hand(reader, QueryLevel.SERIES, keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"SOPInstanceUID": "1.4.5.1.0\\1.4.8.0.0\\nothing"},
        {"SOPInstanceUID": "1.4.5.1.0", "PatientID": "P6"},
        {"SOPInstanceUID": "1.4.5.*"},
        {"InstanceNumber": "19", "Modality": "CT"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "SeriesInstanceUID": "1.3.5.1"},
    ],
)
def test_image_keys(reader: IndexReader, keys: dict[str, str]) -> None:
    found = [identity(match) for match in ask(reader, QueryLevel.IMAGE, **keys)]
    assert set(found) == by_hand(reader, QueryLevel.IMAGE, keys)


def test_the_latest_study_comes_first_and_limits_keep_the_order(reader: IndexReader) -> None:
    for keys in ({}, {"PatientName": "doe*"}, {"ModalitiesInStudy": "CT"}):
        everything = ask(reader, QueryLevel.STUDY, **keys)
        order = [
            (match.values().get("StudyDate", ""), match.values()["StudyTime"])
            for match in everything
        ]
        dated = [moment for moment in order if moment[0]]
        assert dated == sorted(dated, reverse=True)
        assert all(not moment[0] for moment in order[len(dated) :])
        for limit in (0, 1, 5, 1000):
            assert ask(reader, QueryLevel.STUDY, limit, **keys) == everything[:limit]


def test_series_and_instances_come_by_number(reader: IndexReader) -> None:
    found = ask(reader, QueryLevel.IMAGE, StudyInstanceUID="1.2.5")
    numbers = [
        (int(match.values()["SeriesNumber"]), int(match.values()["InstanceNumber"]))
        for match in found
    ]
    assert numbers == sorted(numbers)
    assert len(numbers) == 6
    assert found[0].path is not None
    assert found[0].path.endswith("/1.2.5/1.3.5.2/1.4.5.2.2.dcm")


def test_mistakes_are_named(reader: IndexReader) -> None:
    with pytest.raises(OperatorError, match="not an attribute"):
        ask(reader, QueryLevel.STUDY, PatientShoeSize="44")
    with pytest.raises(OperatorError, match="series level"):
        ask(reader, QueryLevel.STUDY, Modality="CT")
    with pytest.raises(OperatorError, match="no date"):
        ask(reader, QueryLevel.STUDY, StudyDate="last week")
