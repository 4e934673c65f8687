"""The tables of prefetching, opened: by the retriever to change them, by commands to look.

The indexer makes jobs through its own transaction (engine/prefetch_jobs.py); LMDB lets one process
write at a time and the others wait for it, so transactions here are short. Used by one thread.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import lmdb

from engine.index import INDEX_DIRECTORY, Environment
from engine.limits import index_map_growth_factor
from engine.prefetch_jobs import PrefetchJobs
from engine.storage import sync_directory

T = TypeVar("T")


class PrefetchStore:
    """Raises OperatorError when the index cannot be opened, NoIndexError when there is none."""

    def __init__(self, data_directory: Path, writable: bool = True) -> None:
        directory = data_directory / INDEX_DIRECTORY
        if writable:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._environment = Environment(data_directory, writable)
        if writable:
            for made in (directory, data_directory):
                sync_directory(made)

    def commit(self, work: Callable[[PrefetchJobs], T]) -> T:
        """Run `work` in a transaction and commit it; when the map was full, it is run again, so it
        must do the same twice. On any error nothing of it remains."""
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    return work(PrefetchJobs(transaction, self._environment.tables))
            except lmdb.MapFullError:
                size = self._environment.lmdb.info()["map_size"]
                self._environment.lmdb.set_mapsize(size * index_map_growth_factor)

    @contextmanager
    def view(self) -> Iterator[PrefetchJobs]:
        """One consistent state of jobs and index, to look at briefly."""
        with self._environment.begin() as transaction:
            yield PrefetchJobs(transaction, self._environment.tables)

    def close(self) -> None:
        self._environment.close()
