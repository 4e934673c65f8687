"""All instances of an index, some at a time: no state of it is held for as long as it takes."""

from collections.abc import Iterator

from engine.index import records
from engine.index.environment import IndexReader
from engine.index.records import Instance


def portions(reader: IndexReader, count: int) -> Iterator[list[tuple[Instance, str]]]:
    """(instance, where its file lies in the tree), in the order of their keys, `count` at most at a
    time. What comes and goes meanwhile is among them or not."""
    after = b""
    while True:
        with reader.view() as view:
            rows = view.instances_after(after, count)
            found = [
                (instance, view.path_of(records.INSTANCE_KEY.unpack(key)[0], instance))
                for key, instance in rows
            ]
        if not rows:
            return
        yield found
        after = rows[-1][0]
