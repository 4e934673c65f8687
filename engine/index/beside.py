"""Changing records beside the indexer: a batch in a transaction of one's own.

LMDB lets one process write at a time; the indexer keeps decoded records over its transactions and
drops them when it finds that somebody else has changed some (`Batch.advance_generation`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from engine.index.batch import Batch
from engine.index.changes import RecordCache
from engine.index.environment import Environment, IndexReader, View

T = TypeVar("T")


class BesideIndexer:
    """One process's own. Whoever promises something to a person or a peer calls sync() first."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def reader(self) -> IndexReader:
        """For this process: LMDB may not be opened twice in one. Closed with this."""
        return IndexReader(self._environment)

    @contextmanager
    def view(self) -> Iterator[View]:
        """One consistent state, to look at briefly."""
        with self.reader().view() as view:
            yield view

    def change(self, work: Callable[[Batch], T]) -> T:
        """Run `work` in a transaction and commit it; it may be run twice. On any error nothing of
        it remains."""
        environment = self._environment
        return environment.change(
            lambda changed: work(Batch(changed, environment.tables, RecordCache()))
        )

    def sync(self) -> None:
        """What was committed survives a power cut from here on."""
        self._environment.sync()

    def close(self) -> None:
        """Give the index back."""
        self._environment.close()
