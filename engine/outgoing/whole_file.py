"""A stored file as it is handed out: the same Part-10 file, with corrections where there are any.

In bounded memory, whatever the file's size. The transfer syntax stays; preamble and file meta
information stay as they are, since no correction changes a UID.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from engine.errors import LocalError
from engine.limits import MIB
from engine.outgoing.outgoing import Outgoing, parts
from engine.outgoing.pieces import FileRange
from engine.outgoing.pixels import Frames

_step_bytes: Final = MIB


def whole_file(
    outgoing: Outgoing, corrections: Mapping[int, str], character_sets: Iterable[str] = ()
) -> Iterator[bytes | bytearray | memoryview]:
    """Its bytes, with {tag: text} of the corrections in place of what the file says, in the file's
    own character set or one that the statement or `character_sets` names.

    CannotSend: a correction cannot be put into it. LocalError: the file is broken, or got shorter.
    """
    yield from bytes_of(outgoing.descriptor, FileRange(0, outgoing.data_set_offset))
    syntax = outgoing.transfer_syntax_uid
    for part in parts(outgoing, syntax, corrections, character_sets=character_sets):
        assert not isinstance(part, Frames), "nothing is decoded where the transfer syntax stays"
        if isinstance(part, FileRange):
            yield from bytes_of(outgoing.descriptor, part)
        else:
            yield part


def bytes_of(descriptor: int, part: FileRange) -> Iterator[bytes]:
    """A range of an open file, portion by portion. LocalError: the file ends before."""
    at, end = part.offset, part.offset + part.length
    while at < end:
        data = os.pread(descriptor, min(_step_bytes, end - at), at)
        if not data:
            raise LocalError(f"the file ends at byte {at}, in the middle of what was to be copied")
        yield data
        at += len(data)
