"""Changing the outbox from a process that is not the indexer: the sender, and the command line.

LMDB lets one process write at a time and the others wait for it, so transactions are short. Opened
once in a process; its threads may share it. The map of the index may have to grow, which LMDB does
not allow while another thread reads, so a writer's commits and views come one after another.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from engine.index.environment import INDEX_DIRECTORY, Environment, NoIndexError, create_environment
from engine.outbox.outbox import Outbox

T = TypeVar("T")


class OutboxWriter:
    """The outbox of a data directory. Raises OperatorError when it may not be opened.

    Without `create` NoIndexError is raised when there is none yet: what a person's command made
    would belong to that person, and the service might not be allowed to open it.
    """

    def __init__(self, data_directory: Path, create: bool = True) -> None:
        if create:
            self._environment = create_environment(data_directory)
        elif (data_directory / INDEX_DIRECTORY / "data.mdb").exists():
            self._environment = Environment(data_directory, writable=True)
        else:
            raise NoIndexError("the service has not run here yet", str(data_directory))
        self._lock = threading.Lock()
        self._holder = 0

    def commit(self, work: Callable[[Outbox], T]) -> T:
        """Run `work` in a transaction and commit it; when the map was full, it is run again, so it
        touches nothing but the outbox. On any error nothing of it remains."""
        environment = self._environment
        with self._alone():
            return environment.change(lambda changed: work(Outbox(changed, environment.tables)))

    @contextmanager
    def view(self) -> Iterator[Outbox]:
        """One consistent state, to look at briefly: nothing is committed here meanwhile."""
        with self._alone(), self._environment.begin() as transaction:
            yield Outbox(transaction, self._environment.tables)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        own = threading.get_ident()
        assert self._holder != own, "a transaction inside another would wait for itself"
        with self._lock:
            self._holder = own
            try:
                yield
            finally:
                self._holder = 0

    def last_change(self) -> int:
        """A number that grows with every commit of whichever process."""
        with self._alone():
            number: int = self._environment.lmdb.info()["last_txnid"]
            return number

    def sync(self) -> None:
        """What was committed survives a power cut from here on; without it the last commit may
        not. Callers who promise something to a person or take a file away call it first."""
        with self._alone():
            self._environment.sync()

    def close(self) -> None:
        with self._alone():
            self._environment.close()
