"""Rows of the index, read as what they should be: IndexDamagedError says that they are not.

Nothing that is no row of ours leaves the index as if it were one. A page that is old, or a text
that was changed, may look like a good one; `scai verify` compares with the files.
"""

from collections.abc import Callable, Iterable, Iterator
from struct import Struct, error
from typing import Any, TypeVar

import msgspec

from engine.index.damage import IndexDamagedError

T = TypeVar("T")


class Packing(Struct):
    """Numbers of a key or a value, all of them there."""

    def unpack(self, packed: Any, /) -> tuple[Any, ...]:
        """As struct's. IndexDamagedError: they are not as many bytes."""
        try:
            return super().unpack(packed)
        except error as fault:
            raise IndexDamagedError(f"{len(packed)} bytes where {self.size} should be") from fault

    def unpack_from(self, packed: Any, /, offset: int = 0) -> tuple[Any, ...]:
        """As struct's. IndexDamagedError: there are not enough bytes."""
        try:
            return super().unpack_from(packed, offset)
        except error as fault:
            words = f"{len(packed)} bytes where {offset + self.size} should be"
            raise IndexDamagedError(words) from fault


def decoder(kind: type[T]) -> Callable[[bytes | memoryview], T]:
    """What makes a record of a value. IndexDamagedError: it is none."""
    decode = msgspec.msgpack.Decoder(kind).decode

    def decoded(value: bytes | memoryview) -> T:
        try:
            return decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError) as fault:
            raise IndexDamagedError(f"{len(value)} bytes that are no {kind!r}") from fault

    return decoded


def text_of(value: bytes) -> str:
    """A name in a key. IndexDamagedError: it is no text."""
    try:
        return value.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as fault:
        raise IndexDamagedError("a name that is no text") from fault


def present(row: T | None, promise: str) -> T:
    """A row that another one names. IndexDamagedError: the promise that it is there is broken."""
    if row is None:
        raise IndexDamagedError(f"a row that is not there, although {promise}")
    return row


def ascending(rows: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Rows as a table has them. IndexDamagedError: they are out of order, so that whoever goes on
    from the last one would not come to an end."""
    before = b""
    for row in rows:
        if row[0] <= before:
            raise IndexDamagedError("rows that are out of order")
        before = row[0]
        yield row
