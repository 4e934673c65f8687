"""Guards the index: a batch of instances put in, a study and an instance found."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import synthetic_archive as archive
from benchmarks.conftest import Guard
from engine.index.batch import Batch
from engine.index.query import Query, QueryLevel, find
from engine.index.writer import IndexWriter

INSTANCES = 5000
BATCH = 250


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[IndexWriter]:
    """An index that holds some studies."""
    opened = IndexWriter(tmp_path)
    put(opened, list(archive.records(0, INSTANCES)))
    yield opened
    opened.close()


def put(writer: IndexWriter, records: Sequence[Any]) -> None:
    def work(batch: Batch) -> None:
        for record in records:
            batch.put_instance(archive.entry_of(record))

    writer.commit(work)


def test_index_put(guard: Guard, writer: IndexWriter) -> None:
    """Two hundred and fifty new instances in one commit, its sync included."""
    firsts = range(INSTANCES, INSTANCES + 160 * BATCH, BATCH)
    batches = iter([list(archive.records(first, BATCH)) for first in firsts])
    guard(lambda: put(writer, next(batches)), "python", rounds=20)


def test_index_find_study(guard: Guard, writer: IndexWriter) -> None:
    reader = writer.reader()
    query = Query(QueryLevel.STUDY, {"StudyInstanceUID": archive.study_uid(3)})

    def look() -> None:
        for _ in range(100):
            with reader.view() as view:
                assert len(list(find(view, query))) == 1

    guard(look, "python")


def test_index_find_instance(guard: Guard, writer: IndexWriter) -> None:
    reader = writer.reader()
    query = Query(QueryLevel.IMAGE, {"SOPInstanceUID": archive.instance_uid(4711)})

    def look() -> None:
        for _ in range(100):
            with reader.view() as view:
                assert len(list(find(view, query))) == 1

    guard(look, "python")
