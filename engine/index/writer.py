"""The one writer of the index: its lock, its transactions, the growth of its map.

`IndexWriter.commit(work)` runs `work(batch)` inside a transaction and commits it; when the map is
full it grows it and runs `work` again, so `work` touches nothing but its batch. Whatever must be
decided together with the instances (positions in the journals, and what rules make of an instance)
goes into the same `work`, through `Batch.transaction` where it has tables of its own.
"""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import lmdb

from engine.errors import OperatorError
from engine.index.batch import Batch
from engine.index.changes import RecordCache
from engine.index.environment import INDEX_DIRECTORY, IndexReader, create_environment

T = TypeVar("T")
LOCK_FILE: Final = "writer.lock"


class WriterBusyError(OperatorError):
    """Another process holds the index for writing."""


class IndexWriter:
    """The one writer of an index. Raises WriterBusyError when there is another."""

    def __init__(self, data_directory: Path) -> None:
        directory = data_directory / INDEX_DIRECTORY
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._environment = create_environment(data_directory)
        except BlockingIOError as error:
            os.close(self._lock)
            raise WriterBusyError("another process writes this index", str(directory)) from error
        except (lmdb.Error, OperatorError, OSError):
            os.close(self._lock)
            raise
        self._cache = RecordCache()
        self.check_readers()

    def reader(self) -> IndexReader:
        """For this process: LMDB may not be opened twice in one. Closed with the writer."""
        return IndexReader(self._environment)

    def commit(self, work: Callable[[Batch], T]) -> T:
        """Run `work` in a transaction and commit it. On any error nothing of it remains."""

        def run(transaction: lmdb.Transaction) -> T:
            batch = Batch(transaction, self._environment.tables, self._cache)
            result = work(batch)
            batch.flush()
            return result

        try:
            return self._environment.change(run, self._cache.clear)
        except BaseException:
            self._cache.clear()
            raise

    def sync(self) -> None:
        """What was committed survives a power cut from here on."""
        self._environment.sync()

    def check_readers(self) -> int:
        """Free the slots of readers that died; how many."""
        freed: int = self._environment.lmdb.reader_check()
        return freed

    def close(self) -> None:
        if self._lock >= 0:
            self._environment.close()
            os.close(self._lock)
            self._lock = -1
