"""Who removes: the indexer, on request, or this process, if no service holds the index."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from engine.config.loading import Config
from engine.files import letterbox
from engine.index import tombstones
from engine.index.environment import IndexReader, open_index_reader
from engine.index.writer import IndexWriter, WriterBusyError
from engine.limits import removal_wait_s
from engine.removal.desk import await_outcome, leave_order
from engine.removal.erasure import Eraser
from engine.removal.orders import Order, Outcome, Progress
from engine.removal.remover import Remover
from tools.commands.taking_in import take_in_journals


class Service:
    """The indexer, asked."""

    def __init__(self, data_directory: Path) -> None:
        self._data_directory = data_directory

    def reader(self) -> IndexReader:
        """The index, to look at."""
        return open_index_reader(self._data_directory)

    def remove(self, reader: IndexReader, order: Order) -> Outcome:
        """Have it carried out, to its end."""
        request = leave_order(self._data_directory, order)
        return await_outcome(request, _news_of(reader, letterbox.name_of(request)))


def _news_of(reader: IndexReader, name: str) -> Callable[[], bool]:
    """Whether an order still goes on: something was removed within the time one waits."""
    seen, heard = -1, time.monotonic()

    def goes_on() -> bool:
        nonlocal seen, heard
        with reader.view() as view:
            removed = tombstones.removed_by(view, name)
        count = 0 if removed is None else removed.instances
        if count != seen:
            seen, heard = count, time.monotonic()
        return time.monotonic() - heard < removal_wait_s

    return goes_on


class Ourselves:
    """This process, which holds the index."""

    def __init__(self, config: Config, writer: IndexWriter) -> None:
        self._writer = writer
        self._intake = take_in_journals(config, writer)
        self._remover = Remover(writer, self._intake.tree, self._intake.is_settled)
        self._eraser = Eraser(config.data_path, writer)

    def reader(self) -> IndexReader:
        """The index, to look at."""
        return self._writer.reader()

    def remove(self, reader: IndexReader, order: Order) -> Outcome:
        """Carry it out, to its end."""
        del reader
        named = msgspec.structs.replace(order, name=f"{time.time_ns():016x}-{os.getpid()}")
        carries_out = self._eraser if order.level == "patient" else self._remover
        while True:
            outcome = carries_out.step(named, time.time_ns())
            if outcome.progress is not Progress.GOES_ON:
                self._remover.settle()
                self._writer.sync()
                return outcome

    def close(self) -> None:
        """Give back what is held open."""
        self._intake.close()


@contextmanager
def holding(config: Config) -> Iterator[Service | Ourselves]:
    """Whoever may remove: this process, if no service holds the index, or the indexer."""
    data_directory = config.data_path
    open_index_reader(data_directory).close()  # says so where nothing was stored yet
    try:
        writer = IndexWriter(data_directory)
    except WriterBusyError:
        yield Service(data_directory)
        return
    ourselves = Ourselves(config, writer)
    try:
        yield ourselves
    finally:
        ourselves.close()
        writer.close()
