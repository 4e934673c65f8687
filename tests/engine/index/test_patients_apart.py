"""One UID under two patients, or none at all: never mixed up, whatever comes in whatever order."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.dictionary.attributes import BY_KEYWORD
from engine.dictionary.query_level import QueryLevel
from engine.errors import OperatorError
from engine.index.corrections import Target
from engine.index.edit import IndexEditor, history, standing
from engine.index.query import Query, find
from engine.index.writer import IndexWriter
from tests.rigs.index_entries import check_whole, make_entry, put

SOPS, STUDIES, SERIES = ("1.4.1", "1.4.2"), ("", "1.2", "1.3"), ("", "1.8")
PATIENTS = (("A", ""), ("B", ""), ("A", "HOSP"), ("", ""))
Whose = tuple[str, str]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[IndexWriter]:
    with closing(IndexWriter(tmp_path)) as made:
        yield made


def edit(writer: IndexWriter, target: Target, **values: str | None) -> int:
    changes = {BY_KEYWORD[keyword]: text for keyword, text in values.items()}
    editor = IndexEditor(writer._environment)
    return editor.edit(target, changes, "tester", time.time_ns()).touched


def found(writer: IndexWriter, level: QueryLevel = QueryLevel.IMAGE, **keys: str) -> list[Any]:
    with writer.reader().view() as view:
        return [(match, match.values()) for match in find(view, Query(level, keys))]


def receive(
    writer: IndexWriter, sop: str, study: str, series: str, whose: Whose, name: str
) -> None:
    patient, issuer = whose
    entry = make_entry(
        sop, series, study, PatientID=patient, IssuerOfPatientID=issuer, PatientName=name
    )
    put(writer, entry)


class Model:
    """What should be found: plain dictionaries, no keys, no caches."""

    def __init__(self) -> None:
        self.instances: dict[tuple[Whose, str], tuple[str, str]] = {}
        self.names: dict[tuple[Whose, str, str], str] = {}
        self.corrected: dict[tuple[str, Whose, str], str] = {}

    def receive(self, sop: str, study: str, series: str, whose: Whose, name: str) -> None:
        self.instances[whose, sop] = study, series
        self.names[self.study_of(whose, sop)] = name
        standing = {self.study_of(*key) for key in self.instances}
        self.names = {key: name for key, name in self.names.items() if key in standing}

    def study_of(self, whose: Whose, sop: str) -> tuple[Whose, str, str]:
        study = self.instances[whose, sop][0]
        return whose, study, "" if study else sop

    def has(self, kind: str, whose: Whose, uid: str) -> bool:
        return any(
            owner == whose and (kind == "patient" or (uid and uids[kind == "series"] == uid))
            for (owner, _), uids in self.instances.items()
        )

    def rows(self) -> list[tuple[str, ...]]:
        rows = []
        for (whose, sop), (study, series) in self.instances.items():
            name = self.names[self.study_of(whose, sop)]
            rows.append(
                (
                    sop,
                    study,
                    series,
                    *whose,
                    self.corrected.get(("patient", whose, ""), name),
                    self.corrected.get(("study", whose, study), "") if study else "",
                    self.corrected.get(("series", whose, series), "") if series else "",
                )
            )
        return sorted(rows)


COLUMNS = (
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "StudyDescription",
    "SeriesDescription",
)
CORRECTED = {
    "patient": "PatientName",
    "study": "StudyDescription",
    "series": "SeriesDescription",
}
whose_drawn = st.sampled_from(PATIENTS)
received = st.tuples(
    st.just("receive"),
    st.sampled_from(SOPS),
    st.sampled_from(STUDIES),
    st.sampled_from(SERIES),
    whose_drawn,
    st.sampled_from(["N1", "N2"]),
)
corrected = st.tuples(
    st.just("correct"),
    st.sampled_from(["patient", "study", "series"]),
    whose_drawn,
    st.sampled_from([*STUDIES, "1.8"]),
    st.sampled_from(["C1", "C2"]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(received | received | corrected, max_size=25))
@example(
    [
        ("receive", "1.4.1", "", "", ("A", ""), "N1"),
        ("receive", "1.4.2", "", "", ("B", ""), "N1"),
        ("correct", "patient", ("B", ""), "", "C1"),
    ]
)
@example([("receive", "1.4.1", "1.2", "1.8", PATIENTS[i % 2], f"N{i}") for i in range(5)])
def test_any_order_of_receiving_and_correcting(steps: list[tuple[Any, ...]]) -> None:
    model = Model()
    with TemporaryDirectory() as directory, closing(IndexWriter(Path(directory))) as writer:
        for step, *asked in steps:
            if step == "receive":
                receive(writer, *asked)
                model.receive(*asked)
                continue
            kind, whose, uid, text = asked
            uid = "" if kind == "patient" else uid
            target = Target(kind, uid, whose[1], whose[0])
            if kind == "patient":
                target = Target(kind, whose[0], whose[1])
            if model.has(kind, whose, uid):
                edit(writer, target, **{CORRECTED[kind]: text})
                model.corrected[kind, whose, uid] = text
            else:
                with pytest.raises(OperatorError):
                    edit(writer, target, **{CORRECTED[kind]: text})
        matches = found(writer)
        rows = [tuple(values.get(name, "") for name in COLUMNS) for _, values in matches]
        assert sorted(rows) == model.rows()
        paths = {match.path for match, _ in matches}
        assert len(paths) == len(matches), "a file is one patient's"
        for sop in SOPS:
            assert len(found(writer, SOPInstanceUID=sop)) == sum(row[0] == sop for row in rows)
        with writer.reader().view() as view:
            check_whole(view)


def test_equal_study_uids_of_two_patients_are_told_and_marked(writer: IndexWriter) -> None:
    first, second, third, fourth = put(
        writer,
        make_entry("1.4.1", PatientID="ANNA"),
        make_entry("1.4.2", PatientID="BERTA"),
        make_entry("1.4.3", PatientID="BERTA"),
        make_entry("1.4.1", PatientID="BERTA"),
    )
    assert [put.apart for put in (first, second, third, fourth)] == ["", "study", "", "instance"]
    studies = found(writer, QueryLevel.STUDY)
    assert {(values["PatientID"], match.study.instances) for match, values in studies} == {
        ("ANNA", 1),
        ("BERTA", 3),
    }
    assert {match.patients for match, _ in studies} == {2}
    put(writer, make_entry("1.5.1", study="1.7"))
    ((alone, _),) = found(writer, QueryLevel.STUDY, StudyInstanceUID="1.7")
    assert alone.patients == 1


def test_a_correction_of_a_uid_that_two_have_must_say_whose(writer: IndexWriter) -> None:
    put(writer, make_entry("1.4.1", PatientID="ANNA"), make_entry("1.4.2", PatientID="BERTA"))
    for kind, keyword in (("study", "StudyDescription"), ("series", "SeriesDescription")):
        uid = "1.2" if kind == "study" else "1.3"
        with pytest.raises(OperatorError, match="2 patients have a"):
            edit(writer, Target(kind, uid), **{keyword: "x"})  # type: ignore[arg-type]
        with pytest.raises(OperatorError, match="is this patient's"):
            edit(writer, Target(kind, uid, "", "CARLA"), **{keyword: "x"})  # type: ignore[arg-type]
        of_berta = Target(kind, uid, "", "BERTA")  # type: ignore[arg-type]
        assert edit(writer, of_berta, **{keyword: "x"}) == 1
        shown = {values["PatientID"]: values.get(keyword) for _, values in found(writer)}
        assert shown == {"ANNA": None, "BERTA": "x"}
        with writer.reader().view() as view:
            assert standing(view, of_berta) == {keyword: "x"}
            assert len(list(history(view, of_berta))) == 1
            assert not list(history(view, of_berta._replace(patient="ANNA")))
    with pytest.raises(OperatorError, match="without a UID is corrected by its patient"):
        edit(writer, Target("study", "", "", "ANNA"), StudyDescription="x")


def test_a_name_that_was_received_again_holds_again(writer: IndexWriter) -> None:
    for sop, name in (("1.4.1", "N1"), ("1.4.2", "N2"), ("1.4.3", "N1")):
        put(writer, make_entry(sop, PatientName=name))
    ((_, values),) = found(writer, QueryLevel.STUDY)
    assert values["PatientName"] == "N1"
