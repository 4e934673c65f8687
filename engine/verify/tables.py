"""Does the index find by its key what it shows when it is walked?

A damaged page may put rows out of order, or lead a search astray that passes it: then some rows are
there and not found. To repair such an index row by row would damage it more.
"""

from itertools import islice
from typing import Final

from engine.index import records
from engine.index.damage import IndexDamagedError
from engine.index.environment import IndexReader

_portion: Final = 10_000  # rows under one view


def check_tables(reader: IndexReader) -> None:
    """Every row of every table. IndexDamagedError: it has to be made anew."""
    for table in records.TABLES:
        last = b""
        while (reached := _check_portion(reader, table, last)) != last:
            last = reached


def _check_portion(reader: IndexReader, table: str, after: bytes) -> bytes:
    """The key of the last one."""
    last = after
    with reader.view() as view:
        for key, value in islice(view.keys_from(table, after), _portion):
            if key < after or view.stored(table, key) != value:
                raise IndexDamagedError("a row that is not found by its key")
            last = key
    return last
