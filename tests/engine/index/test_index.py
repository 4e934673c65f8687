"""The index: what is put is found, replaced as a whole, and gone with its last instance."""

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import lmdb
import pytest

from engine import limits
from engine.dictionary import attributes
from engine.dictionary.attributes import BY_KEYWORD
from engine.errors import OperatorError
from engine.index import records
from engine.index.batch import Batch
from engine.index.environment import NoIndexError, View, open_index_reader
from engine.index.records import Position
from engine.index.writer import IndexWriter
from tests.rigs.index_entries import check_whole, make_entry, put, study_number


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[IndexWriter]:
    opened = IndexWriter(tmp_path)
    yield opened
    opened.close()


def counts(view: View) -> tuple[int, ...]:
    return tuple(view.count(table) for table in ("patients", "studies", "series", "instances"))


def test_what_is_put_is_found(writer: IndexWriter) -> None:
    put(writer, make_entry("1.4.1"), make_entry("1.4.2", InstanceNumber="2"))
    put(writer, make_entry("1.4.3", "1.3.9", Modality="MR", StudyDescription="HEAD"))
    with writer.reader().view() as view:
        check_whole(view)
        assert counts(view) == (1, 1, 2, 3)
        found = view.instance("1.4.2")
        assert found is not None
        assert found[1].attributes == {attributes.INSTANCE_NUMBER: "2"}
        assert view.path_of(*found).endswith("/1.2/1.3/1.4.2.dcm")
        study = view.study(study_number(view, "1.2") or 0)
        assert study is not None
        assert study.modalities == {"CT": 1, "MR": 1}
        assert study.attributes[BY_KEYWORD["StudyDescription"].tag] == "HEAD"
        assert view.instance("1.4") is None


def test_a_duplicate_replaces_in_place(writer: IndexWriter) -> None:
    put(writer, make_entry("1.4.1"))
    (done,) = put(writer, make_entry("1.4.1", file_bytes="55", sequence="9"))
    assert done.replaced is not None
    assert done.replaced.sequence == 1
    assert done.removed_path is None
    with writer.reader().view() as view:
        check_whole(view)
        assert counts(view) == (1, 1, 1, 1)
        assert view.removals() == []


def test_a_duplicate_elsewhere_leaves_nothing_behind(writer: IndexWriter) -> None:
    first = make_entry("1.4.1")
    put(writer, first)
    second = make_entry("1.4.1", "9.3", "9.2", Modality="MR")
    (done,) = put(writer, second)
    assert done.removed_path == first.path
    with writer.reader().view() as view:
        check_whole(view)
        assert counts(view) == (1, 1, 1, 1)
        assert study_number(view, "1.2") is None
        assert view.removals() == [first.path]
    put(writer, make_entry("1.4.1"))  # and back: that file must not be removed now
    with writer.reader().view() as view:
        check_whole(view)
        assert view.removals() == [second.path]
    writer.commit(lambda batch: batch.forget_removals([second.path]))
    with writer.reader().view() as view:
        assert view.removals() == []


def test_there_and_back_within_one_batch(writer: IndexWriter) -> None:
    put(writer, make_entry("1.4.1"))
    put(writer, make_entry("1.4.1", "9.3"), make_entry("1.4.1"), make_entry("1.4.2", "9.3"))
    with writer.reader().view() as view:
        check_whole(view)
        assert counts(view) == (1, 1, 2, 2)


def test_instances_without_uids_are_kept(writer: IndexWriter) -> None:
    put(writer, make_entry("", "", "", PatientID="", PatientName="", Modality=""))
    put(writer, make_entry("../x", "a" * 900, "b" * 900, PatientID="山".encode().decode("latin-1")))
    put(writer, make_entry("../x", "a" * 901, "b" * 900))
    with writer.reader().view() as view:
        check_whole(view)
        assert counts(view) == (3, 3, 3, 3)
        assert view.instance("") is not None
        assert len(view.instances_of_uid("../x")) == 2


def test_the_latest_study_attributes_hold(writer: IndexWriter) -> None:
    put(writer, make_entry("1.4.1", PatientName="Old", StudyDate="20200101"))
    put(writer, make_entry("1.4.2", PatientName="New", StudyTime="1000"))
    with writer.reader().view() as view:
        check_whole(view)
        number = study_number(view, "1.2")
        assert number is not None
        study = view.study(number)
        assert study is not None
        assert study.patient_attributes[attributes.PATIENT_NAME] == "New"
        assert study.attributes[attributes.STUDY_DATE] == "20200101"
        assert list(view.study_numbers(records.word_prefix(b"N", "old"))) == []
        assert list(view.study_numbers(records.word_prefix(b"N", "ne"))) == [number]
        assert counts(view)[0] == 1


def test_series_with_one_uid_in_two_studies_are_two(writer: IndexWriter) -> None:
    put(writer, make_entry("1.4.1"), make_entry("1.4.2", study="1.2.9"))
    with writer.reader().view() as view:
        check_whole(view)
        assert len(view.series_numbers_by_uid("1.3")) == 2


def test_random_changes_keep_the_tables_together(writer: IndexWriter) -> None:
    random_source = random.Random(5)

    def work(batch: Batch) -> None:
        for _ in range(random_source.randint(1, 12)):
            sop = str(random_source.randint(1, 9))
            if random_source.random() < 0.25:
                batch.remove_instance(sop)
                continue
            study, series = random_source.choice("12"), random_source.choice("123")
            values = {
                "Modality": random_source.choice(["", "CT", "MR"]),
                "PatientID": random_source.choice(["", "P1", "P2"]),
                "PatientName": random_source.choice(["", "A^B=C", "D"]),
                "StudyDate": random_source.choice(["", "20200101", "x"]),
            }
            batch.put_instance(make_entry(sop, series, study, **values))

    for _ in range(150):
        writer.commit(work)
        with writer.reader().view() as view:
            check_whole(view)


def test_a_failed_batch_leaves_nothing(writer: IndexWriter) -> None:
    put(writer, make_entry("1.4.1"))

    def work(batch: Batch) -> None:
        batch.put_instance(make_entry("1.4.2", PatientName="Other", Modality="MR"))
        batch.flush()
        raise OSError(5, "as a disk would")

    with pytest.raises(OSError, match="as a disk would"):
        writer.commit(work)
    with writer.reader().view() as view:
        check_whole(view)
        assert counts(view) == (1, 1, 1, 1)
    put(writer, make_entry("1.4.2", PatientName="Other", Modality="MR"))
    with writer.reader().view() as view:
        check_whole(view)


def test_the_map_grows_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.index import environment as index

    monkeypatch.setattr(index, "index_map_bytes_initial", 256 * limits.KIB)
    writer = IndexWriter(tmp_path)
    calls = 0

    def work(batch: Batch) -> None:
        nonlocal calls
        calls += 1
        for i in range(3000):
            batch.put_instance(make_entry(f"1.4.{i}"))
        batch.set_position("scp", Position(3000, 0, b"x"))

    writer.commit(work)
    assert calls > 1
    with writer.reader().view() as view:
        check_whole(view)
        assert counts(view) == (1, 1, 1, 3000)
        assert view.position("scp") == Position(3000, 0, b"x")
        assert view.position("other") == Position()
    writer.close()


READ_IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from engine.index.environment import open_index_reader
reader = open_index_reader(Path(sys.argv[1]))
for line in sys.stdin:
    with reader.view() as view:
        print(view.count("instances"), flush=True)
"""


def test_a_writer_killed_at_its_birth_has_left_no_index(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "data.mdb").touch()
    with pytest.raises(NoIndexError):
        open_index_reader(tmp_path)
    with closing(IndexWriter(tmp_path)) as writer:
        put(writer, make_entry("1.4.0"))
    with closing(open_index_reader(tmp_path)) as reader, reader.view() as view:
        assert view.count("instances") == 1


def test_readers_in_other_processes_follow_a_growing_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.index import environment as index

    with pytest.raises(NoIndexError):
        open_index_reader(tmp_path)
    monkeypatch.setattr(index, "index_map_bytes_initial", 256 * limits.KIB)
    writer = IndexWriter(tmp_path)
    put(writer, make_entry("1.4.0"))
    command = [sys.executable, "-c", READ_IN_ANOTHER_PROCESS, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write("?\n")
        assert other.stdout.readline() == "1\n"
        put(writer, *[make_entry(f"1.4.{i}") for i in range(3000)])
        other.stdin.write("?\n")
        assert other.stdout.readline() == "3000\n"
        other.kill()
    assert writer.check_readers() == 1
    writer.close()


def test_there_is_one_writer(writer: IndexWriter, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="another process"):
        IndexWriter(tmp_path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    writer = IndexWriter(tmp_path)
    put(writer, make_entry("1.4.1"))
    writer.close()
    environment = lmdb.open(str(tmp_path / "index"), max_dbs=12)
    with environment.begin(write=True) as transaction:
        transaction.put(b"format", b"999", db=environment.open_db(b"meta", transaction))
    environment.close()
    with pytest.raises(OperatorError, match="another release"):
        IndexWriter(tmp_path)


def test_numbers_are_never_used_twice(writer: IndexWriter) -> None:
    put(writer, make_entry("1.4.1"))
    writer.commit(lambda batch: batch.remove_instance("1.4.1"))
    put(writer, make_entry("1.4.1"))
    with writer.reader().view() as view:
        assert study_number(view, "1.2") == 2
