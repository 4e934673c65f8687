"""The files of a backup: each instance of one state of the index gets its own, in the cheapest way.

A second name for the file of the store where both are on one file system; else for that of the
backup before, if it is the same; else a copy. What the disk does not give is noted, not hidden.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.backup import bringing
from engine.errors import OperatorError
from engine.files.tree import SET_ASIDE_DIRECTORY, StoreTree
from engine.index.environment import INDEX_DIRECTORY, IndexReader, View, open_index_reader
from engine.index.portions import portions
from engine.index.records import Instance
from engine.outbox.spool import OUTBOX_DIRECTORY

PORTION: Final = 500


@dataclass
class Brought:
    """What a backup consists of; see catalogue.Description."""

    instances: int = 0
    file_bytes: int = 0
    linked: int = 0
    shared: int = 0
    copied: int = 0
    lost: int = 0


class Files:
    """The files of one backup, `part`, of a data directory. `previous`: the backup before, whose
    files are shared where those of the store cannot be."""

    def __init__(self, data_directory: Path, part: Path, previous: Path | None) -> None:
        self.brought = Brought()
        self.suspect: set[str] = set()  # paths of copies that are not what the index says
        self._data_directory = data_directory
        self._part = part
        self._source = StoreTree(data_directory)
        self._target = StoreTree(part)
        self._previous_tree = None if previous is None else StoreTree(previous)
        self._previous = None if previous is None else _index_of(previous)
        self._may_link = _device(data_directory) == _device(part)

    def close(self) -> None:
        """Let go of the backup before."""
        if self._previous is not None:
            self._previous.close()

    def bring_all(self, reader: IndexReader, step: Callable[[int], None]) -> None:
        """The file of every instance of a state of the index. `step`: after every few, how many."""
        for portion in portions(reader, PORTION):
            with _view_of(self._previous) as previous:
                for instance, path in portion:
                    self.bring(instance, path, previous)
            step(len(portion))

    def bring(self, instance: Instance, path: str, previous: View | None = None) -> None:
        """The file of an instance, unless it is gone."""
        source, target = self._source.absolute(path), self._target.prepare(path)
        try:
            if self._may_link and bringing.link(source, target):
                self.brought.linked += 1
                return
            if previous is not None and self._shared(instance, path, previous, target):
                self.brought.shared += 1
                return
            copied = bringing.copy(source, target)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.filename != source:
                raise
            self.suspect.add(path)  # the disk does not give it
            return
        self.brought.copied += 1
        if copied != (instance.file_bytes, instance.file_crc32c):
            self.suspect.add(path)

    def _shared(self, instance: Instance, path: str, previous: View, target: str) -> bool:
        assert self._previous_tree is not None
        found = previous.instance(instance.sop_instance_uid, instance.mark)
        if found is None or previous.path_of(*found) != path:
            return False
        before = found[1]
        if (before.file_bytes, before.file_crc32c) != (instance.file_bytes, instance.file_crc32c):
            return False
        if self._previous_tree.size(path) != instance.file_bytes:
            return False
        return bringing.link(self._previous_tree.absolute(path), target)

    def bring_directory(self, name: str) -> None:
        """A directory of files that have no row each: those that are not there yet, and those that
        were still being written when they were copied."""
        for above, _, files in os.walk(self._data_directory / name):
            inside = self._part / os.path.relpath(above, self._data_directory)
            inside.mkdir(mode=0o700, parents=True, exist_ok=True)
            for file in files:
                with suppress(FileNotFoundError):  # it is gone meanwhile
                    self._bring_file(os.path.join(above, file), str(inside / file))

    def _bring_file(self, source: str, target: str) -> None:
        if not stat.S_ISREG(os.lstat(source).st_mode):
            return  # no file of ours
        if os.path.lexists(target):
            if os.stat(target).st_size == os.stat(source).st_size:
                return
            os.unlink(target)
        if not (self._may_link and bringing.link(source, target)):
            bringing.copy(source, target)

    def bring_copies(self) -> None:
        """What waits in the outbox; called before the index is copied, and again afterwards: what
        is delivered meanwhile is removed there."""
        self.bring_directory(OUTBOX_DIRECTORY)

    def bring_set_aside(self) -> None:
        """What was acknowledged and not taken for stored."""
        self.bring_directory(SET_ASIDE_DIRECTORY)


def copy_index(reader: IndexReader, target: Path) -> None:
    """One state of the index. OSError: it cannot be written."""
    directory = target / INDEX_DIRECTORY
    directory.mkdir(mode=0o700)
    reader.copy(directory)
    os.chmod(directory / "data.mdb", 0o600)


@contextmanager
def _view_of(reader: IndexReader | None) -> Iterator[View | None]:
    if reader is None:
        yield None
    else:
        with reader.view() as view:
            yield view


def _index_of(previous: Path) -> IndexReader | None:
    """Its index; one that cannot be read is of no use, and so shares nothing."""
    try:
        return open_index_reader(previous)
    except OperatorError:
        return None


def _device(path: Path) -> int:
    return os.stat(path).st_dev
