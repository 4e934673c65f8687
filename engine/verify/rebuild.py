"""A new index from the files alone: what each says of itself is read, and entered many at a time.

Reading is for as many processes as there are; one writes. A file that is not where its own UIDs
say, or is no instance, or comes second for an instance, stays where it is and is counted:
`scai verify --repair` looks at each of those.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from engine.errors import LocalError
from engine.files.tree import FILE_SUFFIX, StoreTree
from engine.index.batch import Batch, Entry
from engine.index.environment import open_index_reader
from engine.index.records import Position
from engine.index.writer import IndexWriter
from engine.verify.repair import FileFound, read_found

CHUNK_FILES: Final = 200


class Read(NamedTuple):
    """A file of the tree, and what it tells; None: it is no instance, or cannot be read."""

    path: str
    found: FileFound | None


class Taken(NamedTuple):
    """What a portion came to."""

    instances: int
    left: int


def positions_of(data_directory: Path) -> dict[str, Position]:
    """How far the journals were taken in, by an index that may be damaged: ask in a process that
    may die of it. What was removed since lies in a journal still, and must not come again."""
    with closing(open_index_reader(data_directory)) as reader, reader.view() as view:
        return view.positions()


def set_positions(writer: IndexWriter, positions: Mapping[str, Position]) -> None:
    """For the new index."""

    def set_all(batch: Batch) -> None:
        for journal, position in positions.items():
            batch.set_position(journal, position)

    writer.commit(set_all)


def chunks(data_directory: Path) -> Iterator[list[str]]:
    """The paths of all files in the tree, some at a time; those of a series together."""
    root = str(StoreTree(data_directory).root)
    portion: list[str] = []
    for directory, folders, files in os.walk(root):
        folders.sort()
        inside = os.path.relpath(directory, root)
        for name in sorted(files):
            portion.append(name if inside == "." else f"{inside}/{name}")
            if len(portion) >= CHUNK_FILES:
                yield portion
                portion = []
    if portion:
        yield portion


def read_chunk(data_directory: Path, paths: Sequence[str]) -> list[Read]:
    """What the files of a portion tell of themselves."""
    tree = StoreTree(data_directory)
    return [Read(path, _found(tree, path)) for path in paths]


def _found(tree: StoreTree, path: str) -> FileFound | None:
    if not path.endswith(FILE_SUFFIX):
        return None
    try:
        return read_found(tree, path)
    except (LocalError, OSError):
        return None


def take(writer: IndexWriter, portion: Sequence[Read]) -> Taken:
    """Enter a portion, in one transaction."""
    entered = writer.commit(partial(_enter, portion))
    return Taken(entered, len(portion) - entered)


def _enter(portion: Sequence[Read], batch: Batch) -> int:
    return sum(
        one.found is not None and _put(batch, one.path, Entry(*one.found)) for one in portion
    )


def _put(batch: Batch, path: str, entry: Entry) -> bool:
    """Whether the file is the one that has the place of its instance."""
    marks = batch.marks_of(entry.arrival.sop_instance_uid)
    if entry.patient_mark in marks:
        return False
    for mark in ("", entry.patient_mark):
        if mark in marks.values():
            continue
        entry.mark_as(mark)
        if entry.path == path:
            batch.put_instance(entry)
            return True
    return False
