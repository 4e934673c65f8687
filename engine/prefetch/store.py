"""The tables of prefetching, opened: by the retriever to change them, by commands to look.

The indexer makes jobs through its own transaction (engine/prefetch/jobs.py); LMDB lets one process
write at a time and the others wait for it, so transactions here are short. Used by one thread.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from engine.index.environment import Environment, create_environment
from engine.prefetch.jobs import PrefetchJobs

T = TypeVar("T")


class PrefetchStore:
    """Raises OperatorError when the index cannot be opened, NoIndexError when there is none."""

    def __init__(self, data_directory: Path, writable: bool = True) -> None:
        self._environment = (
            create_environment(data_directory)
            if writable
            else Environment(data_directory, writable=False)
        )

    def commit(self, work: Callable[[PrefetchJobs], T]) -> T:
        """Run `work` in a transaction and commit it; when the map was full, it is run again, so it
        must do the same twice. On any error nothing of it remains."""
        environment = self._environment
        return environment.change(lambda changed: work(PrefetchJobs(changed, environment.tables)))

    @contextmanager
    def view(self) -> Iterator[PrefetchJobs]:
        """One consistent state of jobs and index, to look at briefly."""
        with self._environment.begin() as transaction:
            yield PrefetchJobs(transaction, self._environment.tables)

    def close(self) -> None:
        self._environment.close()
