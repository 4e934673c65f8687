"""An index made anew from the files has the same instances, and takes nothing that is in doubt."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.index.records import Position
from engine.index.writer import IndexWriter
from engine.verify.rebuild import Taken, chunks, positions_of, read_chunk, set_positions, take
from engine.verify.verify import Verifier
from tests.rigs.stored_data import STUDY, StoredData, stored_data


@pytest.fixture
def data(tmp_path: Path) -> Iterator[StoredData]:
    with stored_data(tmp_path / "data", 5) as made:
        yield made


def rebuilt(data: StoredData, stage: Path) -> tuple[IndexWriter, Taken]:
    writer = IndexWriter(stage)
    taken = [take(writer, read_chunk(data.directory, paths)) for paths in chunks(data.directory)]
    return writer, Taken(*map(sum, zip(*taken, strict=True)))


def instances(writer: IndexWriter) -> dict[str, tuple[object, ...]]:
    with writer.reader().view() as view:
        found = view.instances_after(b"", 1000)
        return {
            one.sop_instance_uid + one.mark: (
                one.sop_class_uid,
                one.transfer_syntax_uid,
                one.file_bytes,
                one.file_crc32c,
                one.attributes,
            )
            for _, one in found
        }


def test_all_that_is_where_it_belongs(data: StoredData, tmp_path: Path) -> None:
    writer, taken = rebuilt(data, tmp_path / "stage")
    with closing(writer):
        assert taken == (5, 0)
        assert instances(writer) == instances(data.writer)
        report = Verifier(data.directory, writer.reader(), content=True).run(pause_s=0)
        assert not report.findings


def test_what_is_in_doubt_is_left(data: StoredData, tmp_path: Path) -> None:
    path = next(iter(data.files()))
    content = (data.tree.root / path).read_bytes()
    series = Path(data.tree.absolute(path)).parent
    (series / "1.2.3.dcm").write_bytes(content)  # of another instance, by its name
    elsewhere = data.tree.root / "00" / "1.2" / "1.3"
    elsewhere.mkdir(parents=True)
    (elsewhere / Path(path).name).write_bytes(content)
    (series / "notes.txt").write_text("none of ours")
    (series / "9.dcm").write_bytes(b"none either")
    writer, taken = rebuilt(data, tmp_path / "stage")
    with closing(writer):
        assert taken == (5, 4)
        assert instances(writer) == instances(data.writer)


def test_two_patients_of_one_uid(data: StoredData, tmp_path: Path) -> None:
    """The file of one of them has a mark in its name."""
    twin = data.put(0, patient="OTHER")
    assert "-" in Path(twin).stem
    writer, taken = rebuilt(data, tmp_path / "stage")
    with closing(writer):
        assert taken == (6, 0)
        assert instances(writer) == instances(data.writer)


def test_how_far_the_journals_were(data: StoredData, tmp_path: Path) -> None:
    position = Position(7, 5, b"seven")
    set_positions(data.writer, {"scp": position, "prefetch": Position()})
    data.writer.close()
    assert positions_of(data.directory) == {"scp": position, "prefetch": Position()}
    with closing(IndexWriter(tmp_path / "stage")) as writer:
        set_positions(writer, positions_of(data.directory))
        with writer.reader().view() as view:
            assert view.position("scp") == position


def test_chunks_are_bounded(data: StoredData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.verify.rebuild.CHUNK_FILES", 2)
    portions = list(chunks(data.directory))
    assert [len(portion) for portion in portions] == [2, 2, 1]
    assert {path for portion in portions for path in portion} == set(data.files())
    assert all(STUDY in path for portion in portions for path in portion)
