"""A journal's segments as bytes: where each record stands, and how it is damaged.

The layout is native/src/spool/journal_format.hpp's.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from native import _core

PAGE = 4096
ALIGNMENT = 64
MAGIC = 0x524A4353
HEAD = struct.Struct("<IIIIQQQIIIIQ")


class Record(NamedTuple):
    """One record that stands in a segment, whole or not."""

    begin: int
    head: tuple[int, ...]

    @property
    def sequence(self) -> int:
        return self.head[4]

    @property
    def end(self) -> int:
        return self.begin + self.head[5]

    @property
    def text_bytes(self) -> int:
        return sum(self.head[8:11])


def records(image: bytes) -> Iterator[Record]:
    """All that the chain of lengths leads to, from the first on."""
    at = PAGE
    while at + HEAD.size <= len(image):
        head = HEAD.unpack_from(image, at)
        if head[0] != MAGIC or head[5] < HEAD.size:
            return
        yield Record(at, head)
        at += head[5]


def record(path: Path, sequence: int) -> Record:
    """The one of this number."""
    return next(one for one in records(path.read_bytes()) if one.sequence == sequence)


def destroy(path: Path, sequence: int, head: bool = True) -> None:
    """One bad byte, in the head of a record or in the bytes behind its text."""
    found = record(path, sequence)
    at = found.begin + 20 if head else found.begin + HEAD.size + found.text_bytes + 200
    flip(path, at)


def flip(path: Path, at: int) -> None:
    """One bit of a file is another."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


def rewrite(path: Path, sequence: int, durable_before: int) -> None:
    """Let a record say another thing of what was durable, with checksums that hold."""
    found = record(path, sequence)
    image = path.read_bytes()
    fields = [*found.head[:11], durable_before]
    text = image[found.begin + HEAD.size :][: found.text_bytes]
    fields[1] = _core.crc32c(HEAD.pack(*fields)[8:] + text)
    with path.open("r+b") as file:
        file.seek(found.begin)
        file.write(HEAD.pack(*fields))
