"""An index that release 0.2.0 wrote: read as it is, brought to this release, nothing lost."""

from contextlib import closing
from pathlib import Path

from engine.dictionary.query_level import QueryLevel
from engine.index import records
from engine.index.corrections import Target
from engine.index.edit import IndexEditor, history, standing
from engine.index.environment import IndexReader, open_index_reader
from engine.index.query import Query, find
from engine.index.writer import IndexWriter
from engine.outbox.outbox import Outbox
from engine.outbox.records import State
from tests.rigs.index_entries import check_whole, make_entry, put
from tests.rigs.two_patients import OF_RELEASE_0_2_0, lay_out_release_0_2_0

CARLA = {"PatientName": "Carla", "StudyDescription": "CORRECTED"}


def studies(reader: IndexReader, **keys: str) -> list[dict[str, str]]:
    with reader.view() as view:
        return [match.values() for match in find(view, Query(QueryLevel.STUDY, keys))]


def test_a_reader_finds_all_before_anybody_has_written(tmp_path: Path) -> None:
    lay_out_release_0_2_0(tmp_path)
    with closing(open_index_reader(tmp_path)) as reader:
        (carla,) = studies(reader, StudyInstanceUID="2.2")
        assert carla.items() >= CARLA.items()
        assert len(studies(reader)) == 3
        with reader.view() as view:
            assert all(view.instance(stored.sop) for stored in OF_RELEASE_0_2_0)


def test_the_first_writer_migrates_it(tmp_path: Path) -> None:
    lay_out_release_0_2_0(tmp_path)
    with closing(IndexWriter(tmp_path)) as writer:
        with writer.reader().view() as view:
            check_whole(view)
            assert view._get("meta", b"format") == records.FORMAT
            numbers = [number for number, _ in view.studies()]
            assert all(view.may_be_joined(number) for number in numbers)
            assert not view.may_be_joined(max(numbers) + 1)
            of_study = Target("study", "2.2", "", "CARLA")
            assert standing(view, of_study) == {"StudyDescription": "CORRECTED"}
            assert standing(view, Target("series", "2.3")) == {"SeriesDescription": "of her series"}
            assert standing(view, Target("patient", "BERTA")) == {"PatientID": "B2"}
            assert [edit.new for edit in history(view, of_study)] == ["CORRECTED"]
            waiting = list(Outbox.within(view).deliveries(State.WAITING))
            assert [delivery.sop_instance_uid for delivery in waiting] == ["1.4.1", "1.6.1"]
        editor = IndexEditor(writer._environment)
        assert editor.reader() is not None
        # What is corrected goes on being so for what arrives, and for nobody else.
        put(writer, make_entry("1.6.2", "2.3", "2.2", PatientID="CARLA"))
        put(writer, make_entry("1.6.3", "2.3", "2.2", PatientID="DORA"))
        carla, dora = sorted(studies(writer.reader(), StudyInstanceUID="2.2"), key=str)
        assert carla.items() >= CARLA.items()
        assert (dora["PatientID"], dora["PatientName"]) == ("DORA", "Doe^Jane")
        assert "StudyDescription" not in dora
    with closing(IndexWriter(tmp_path)) as writer, writer.reader().view() as view:
        check_whole(view)


def test_what_is_open_of_its_outbox_can_be_sent_and_asked_for_again(tmp_path: Path) -> None:
    lay_out_release_0_2_0(tmp_path)
    with closing(IndexWriter(tmp_path)) as writer:
        leased = writer.commit(lambda batch: Outbox.within(batch).lease("PACS", 5, 10))
        assert [delivery.patient for delivery in leased] == ["", ""]
        with writer.reader().view() as view:
            found = view.instance_of(leased[0].sop_instance_uid, leased[0].patient)
            assert found is not None
            assert found[1].sop_instance_uid == "1.4.1"
        for delivery in leased:
            assert writer.commit(
                lambda batch, n=delivery.number: Outbox.within(batch).delivered(n, 20)
            )
