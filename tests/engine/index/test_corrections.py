"""Corrections: shown and found in place of what was received, remembered, taken back."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine.dictionary.attributes import BY_KEYWORD
from engine.dictionary.query_level import QueryLevel
from engine.errors import OperatorError
from engine.index import corrections
from engine.index.corrections import Target
from engine.index.edit import Edited, IndexEditor, history, standing
from engine.index.environment import IndexReader
from engine.index.query import Query, find
from engine.index.writer import IndexWriter
from tests.rigs.index_entries import check_whole, make_entry, put
from tools.commands import edit as edit_command
from tools.face.terminal import Exit

STUDY = Target("study", "1.2")


class Desk:
    """An index with its writer, and an editor in the same process beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.writer = IndexWriter(directory)

    def put(self, *entries: object) -> None:
        put(self.writer, *entries)  # type: ignore[arg-type]

    def edit(self, target: Target, **values: str | None) -> Edited:
        changes = {BY_KEYWORD[keyword]: text for keyword, text in values.items()}
        return IndexEditor(self.writer._environment).edit(target, changes, "tester", time.time_ns())

    def reader(self) -> IndexReader:
        return self.writer.reader()

    def found(self, level: QueryLevel = QueryLevel.STUDY, **keys: str) -> list[dict[str, str]]:
        with self.reader().view() as view:
            return [match.values() for match in find(view, Query(level, keys))]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.writer.close()


def check(desk: Desk) -> None:
    with desk.reader().view() as view:
        check_whole(view)


def test_what_could_not_be_sent_is_refused_when_it_is_made(desk: Desk) -> None:
    """Nothing of it stays, not of what could be said either."""
    name, address = BY_KEYWORD["PatientName"], BY_KEYWORD["StudyDescription"]
    editor = IndexEditor(desk.writer._environment)
    unicode = ("ISO_IR 192", "GBK")

    def edit(text: str, target: Target = STUDY, allowed: tuple[str, ...] = ()) -> str:
        try:
            editor.edit(target, {address: "Köln", name: text}, "tester", 1, allowed)
        except OperatorError as error:
            refused = str(error)
        else:
            refused = ""
        assert text not in refused
        return refused

    desk.put(make_entry("1.4.1"))
    for text in ("Đặng^Hòa", "김"):
        assert "PatientName" in edit(text)
        assert "series 1.3 is in character set ISO_IR 6" in edit(text)
    assert desk.found(PatientName="Doe*")[0].get("StudyDescription", "") == ""
    assert edit("Müller^Jörg=山田") == ""
    assert edit("Đặng^Hòa", allowed=unicode) == ""
    desk.put(make_entry("1.4.2", "1.5", SpecificCharacterSet="ISO_IR 144"))
    assert edit("Đặng", allowed=unicode) == ""
    assert edit("Люкceмбypг") == "", "kanji sets have Cyrillic letters"
    assert "series 1.3" in edit("שרון")
    assert edit("Plain") == ""
    with pytest.raises(OperatorError, match=r"series 1\.3"):
        editor.edit(Target("patient", "P1"), {BY_KEYWORD["IssuerOfPatientID"]: "Đ"}, "tester", 1)
    with pytest.raises(OperatorError, match=r"series 1\.5 is in character set ISO_IR 144"):
        editor.edit(Target("series", "1.5"), {BY_KEYWORD["SeriesDescription"]: "Đ"}, "tester", 1)
    check(desk)


def test_a_study_is_shown_and_found_as_corrected(desk: Desk) -> None:
    desk.put(make_entry("1.4.1", StudyDate="20240101"), make_entry("1.9.1", "1.8", "1.7"))
    edited = desk.edit(STUDY, PatientName="Roe^Richard", StudyDate="20230101", PatientID="P9")
    assert [(e.keyword, e.old, e.new, e.who) for e in edited.edits] == [
        ("PatientName", "Doe^Jane", "Roe^Richard", "tester"),
        ("StudyDate", "20240101", "20230101", "tester"),
        ("PatientID", "P1", "P9", "tester"),
    ]
    (found,) = desk.found(PatientName="roe*")
    assert (found["StudyInstanceUID"], found["StudyDate"]) == ("1.2", "20230101")
    assert desk.found(PatientID="P9") == [found]
    assert desk.found(StudyDate="20230101-20231231") == [found]
    assert [one["StudyInstanceUID"] for one in desk.found(PatientID="P1")] == ["1.7"]
    check(desk)


def test_what_arrives_afterwards_leaves_the_correction_and_the_writer_knows_it(desk: Desk) -> None:
    desk.put(make_entry("1.4.1"))
    desk.edit(STUDY, PatientName="Roe^Richard")
    desk.put(make_entry("1.4.2", StudyDescription="Head"), make_entry("1.4.1"))
    (found,) = desk.found()
    assert (found["PatientName"], found["StudyDescription"]) == ("Roe^Richard", "Head")
    check(desk)


def test_a_patients_correction_holds_for_later_studies_and_yields_to_the_studys(desk: Desk) -> None:
    desk.put(make_entry("1.4.1"), make_entry("1.5.1", "1.6", "1.7", PatientID="P2"))
    assert desk.edit(Target("patient", "P1"), PatientName="Roe^R", PatientSex="F").touched == 1
    desk.put(make_entry("1.9.1", "1.9.2", "1.9"))
    names = {one["StudyInstanceUID"]: one["PatientName"] for one in desk.found()}
    assert names == {"1.2": "Roe^R", "1.9": "Roe^R", "1.7": "Doe^Jane"}
    desk.edit(STUDY, PatientName="Poe^P")
    names = {one["StudyInstanceUID"]: one["PatientName"] for one in desk.found(PatientSex="F")}
    assert names == {"1.2": "Poe^P", "1.9": "Roe^R"}
    check(desk)


def test_a_series_modality_counts_as_corrected(desk: Desk) -> None:
    desk.put(make_entry("1.4.1"), make_entry("1.4.2", "1.3.2", Modality="MR"))
    desk.edit(Target("series", "1.3.2"), Modality="PT", SeriesDescription="whole body")
    assert [one["ModalitiesInStudy"] for one in desk.found()] == ["CT\\PT"]
    assert len(desk.found(ModalitiesInStudy="PT")) == 1
    (series,) = desk.found(QueryLevel.SERIES, Modality="PT")
    assert series["SeriesDescription"] == "whole body"
    desk.writer.commit(lambda batch: batch.remove_instance("1.4.2"))
    check(desk)


def test_withdrawn_it_is_as_received_and_the_history_stays(desk: Desk) -> None:
    desk.put(make_entry("1.4.1"))
    desk.edit(STUDY, PatientName="Roe^Richard", StudyDescription="x")
    desk.edit(STUDY, PatientName=None)
    with pytest.raises(OperatorError, match="as received"):
        desk.edit(STUDY, PatientName=None)
    assert desk.found()[0]["PatientName"] == "Doe^Jane"
    with desk.reader().view() as view:
        assert standing(view, STUDY) == {"StudyDescription": "x"}
        told = [(edit.keyword, edit.old, edit.new) for edit in history(view, STUDY)]
        assert not list(history(view, Target("study", "1.7")))
    assert told == [
        ("PatientName", "Doe^Jane", "Roe^Richard"),
        ("StudyDescription", "", "x"),
        ("PatientName", "Roe^Richard", None),
    ]
    check(desk)


def test_an_empty_value_hides_what_was_received(desk: Desk) -> None:
    desk.put(make_entry("1.4.1", AccessionNumber="A1"))
    desk.edit(STUDY, AccessionNumber="")
    assert "AccessionNumber" not in desk.found()[0]
    assert desk.found(AccessionNumber="A1") == []
    check(desk)


def test_what_an_instance_is_sent_with(desk: Desk) -> None:
    desk.put(make_entry("1.4.1"))
    desk.edit(STUDY, PatientName="Roe^Richard")
    desk.edit(Target("series", "1.3"), SeriesDescription="new")
    with desk.reader().view() as view:
        found = view.instance("1.4.1")
        assert found is not None
        series = view.series(found[0])
        assert series is not None
        study = view.study(series.study)
        assert study is not None
        sent = corrections.to_be_sent(study, series)
    assert sent == {
        BY_KEYWORD["PatientName"].tag: "Roe^Richard",
        BY_KEYWORD["SeriesDescription"].tag: "new",
    }


@pytest.mark.parametrize(
    ("target", "values", "words"),
    [
        (STUDY, {"StudyDate": "yesterday"}, "StudyDate"),
        (STUDY, {"PatientSex": "female"}, "PatientSex"),
        (STUDY, {"PatientName": "a\\b"}, "one value"),
        (STUDY, {"PatientName": "a\nb"}, "one value"),
        (Target("study", "9.9"), {"PatientName": "x"}, "no study"),
        (Target("patient", "P7"), {"PatientName": "x"}, "no patient"),
        (Target("series", "9.9"), {"Modality": "CT"}, "no series"),
    ],
)
def test_refused(desk: Desk, target: Target, values: dict[str, str], words: str) -> None:
    desk.put(make_entry("1.4.1"))
    with pytest.raises(OperatorError, match=words):
        desk.edit(target, **values)
    with desk.reader().view() as view:
        assert list(history(view)) == []


@pytest.mark.parametrize(
    ("whose", "keyword"),
    [
        ("study", "Modality"),
        ("patient", "StudyDate"),
        ("series", "PatientName"),
        ("study", "StudyInstanceUID"),
        ("series", "SpecificCharacterSet"),
        ("study", "Nonsense"),
    ],
)
def test_what_belongs_elsewhere_or_nowhere(whose: corrections.Whose, keyword: str) -> None:
    with pytest.raises(OperatorError, match="what can be"):
        corrections.attribute_to_edit(whose, keyword)


# --- the command -------------------------------------------------------------------------------
@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    with closing(IndexWriter(tmp_path)) as writer:
        put(writer, make_entry("1.4.1"))

    def runner(*arguments: str, answer: str = "") -> Result:
        return CliRunner().invoke(
            edit_command.command,
            arguments,
            env={"SCAI_DATA": str(tmp_path)},
            standalone_mode=False,
            input=answer,
        )

    return runner


@pytest.mark.parametrize(
    ("one", "other", "taken"),
    [((), None, False), (("ISO_IR 192",), None, True), (("ISO_IR 192",), ("GBK",), False)],
)
def test_every_remote_ae_must_take_the_character_set(
    run: Callable[..., Result],
    tmp_path: Path,
    one: tuple[str, ...],
    other: tuple[str, ...] | None,
    taken: bool,
) -> None:
    tables = [
        f'[[remotes]]\nname = "{name}"\nae_title = "A"\nhost = "::1"\nport = 104\n'
        f"character_sets = {list(sets)}\n"
        for name, sets in (("one", one), ("other", other))
        if sets is not None
    ]
    configuration = tmp_path / "scai.toml"
    configuration.write_text("".join(tables))
    edited = run("--config", str(configuration), "--study", "1.2", "PatientName=Đặng", "--yes")
    assert isinstance(edited.exception, OperatorError) is not taken


def test_without_a_remote_ae_any_character_set_will_do(run: Callable[..., Result]) -> None:
    assert run("--study", "1.2", "PatientName=Đặng", "--yes").return_value == Exit.OK


def test_the_command_asks_corrects_and_tells(run: Callable[..., Result]) -> None:
    asked = run("--study", "1.2", "PatientName=Roe^Richard", answer="n\n")
    assert asked.return_value == Exit.NEGATIVE
    assert "nothing was changed" in asked.output
    assert run("--study", "1.2").return_value == Exit.NEGATIVE
    done = run("--study", "1.2", "PatientName=Roe^Richard", "--yes", "--who", "Dr. M")
    assert done.return_value == Exit.OK, done.output
    assert "PatientName: 'Doe^Jane' -> 'Roe^Richard'" in done.output
    assert "1 study shown" in done.output
    assert "PatientName = 'Roe^Richard'" in run("--study", "1.2").output
    again = run("--study", "1.2", "PatientName=Roe^Richard", "--yes")
    assert "so already" in again.output
    told = run("--history")
    assert told.return_value == Exit.OK
    when = told.output.split()[0]
    assert when.endswith("Z"), "UTC, as everywhere"
    assert abs(datetime.fromisoformat(when).timestamp() - time.time()) < 60
    assert "Dr. M" in told.output
    assert "study 1.2" in told.output
    assert run("--study", "1.2", "--withdraw", "PatientName", "--yes").return_value == Exit.OK


@pytest.mark.parametrize(
    "arguments",
    [
        ("PatientName=x",),
        ("--study", "1.2", "--series", "1.3"),
        ("--study", "1.2", "PatientName"),
        ("--study", "1.2", "PatientName=\udcff", "--yes"),
        ("--study", "1.2", "PatientName=x", "--who", "\udcff", "--yes"),
    ],
)
def test_command_lines_that_make_no_sense(
    run: Callable[..., Result], arguments: tuple[str, ...]
) -> None:
    assert isinstance(run(*arguments).exception, OperatorError)
