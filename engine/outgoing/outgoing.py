"""What goes out for a stored file: which contexts to propose, and the data set's bytes for one.

The sender opens a file, proposes, is told which transfer syntax it shall be, and takes the parts
one by one. A file that goes as it is, is one range; anything else is made while it is sent, in
bounded memory. The file itself is never changed.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from engine.dictionary.contexts import TRANSFER_SYNTAX_NAMES
from engine.dictionary.uids import (
    explicit_vr_little_endian,
    implicit_vr_little_endian,
    is_explicit_vr,
)
from engine.errors import LocalError
from engine.files.part10 import Part10Head, read_part10_head
from engine.limits import KIB, MIB
from engine.outgoing.contexts import CannotSend, Taken, choose, proposals, taken_by
from engine.outgoing.edits import Edits, correct, edits_for
from engine.outgoing.oddities import Oddities
from engine.outgoing.original_attributes import Originals
from engine.outgoing.pieces import FileRange, Piece
from engine.outgoing.pixels import Frames, PixelDecoder
from engine.outgoing.reader import DataSetReader
from engine.outgoing.reencode import Reencoder
from engine.pixels.transcode import OtherDecoder, no_other

__all__ = [
    "CannotSend",
    "FileRange",
    "Frames",
    "Outgoing",
    "Piece",
    "Taken",
    "choose",
    "open_outgoing",
    "outgoing_of",
    "parts",
    "proposals",
    "taken_by",
]

_head_bytes: Final = 16 * KIB  # the file meta information is far shorter, but for private ones
_head_bytes_max: Final = MIB


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A file that is open for sending. What replaces it on the disk meanwhile does not touch it.

    `descriptor` is what a FileRange is read from; it is closed at the end of the with block. `head`
    are the file's first bytes. `oddities` are noted while its parts are given.
    """

    descriptor: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set_offset: int
    file_bytes: int
    head: bytes = b""
    source_ae_title: str = ""
    oddities: Oddities = field(default_factory=Oddities)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Once: the number may be another file's afterwards."""
        os.close(self.descriptor)


def open_outgoing(path: str | Path) -> Outgoing:
    """Open a DICOM file. CannotSend when it is gone, LocalError when it is none or cannot be read.

    SOP class, instance and transfer syntax are those of the file meta information, which is what
    was negotiated when the instance came.
    """
    try:
        # Without waiting: a pipe has nobody at its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise CannotSend("the file is not there any more") from error
    except OSError as error:
        raise LocalError(f"the file cannot be opened: {error.strerror}") from error
    return outgoing_of(descriptor)


def outgoing_of(descriptor: int) -> Outgoing:
    """Likewise, one that is open; whatever comes of it, the descriptor is not its caller's any
    more."""
    try:
        return _described(descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def _described(descriptor: int) -> Outgoing:
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise LocalError("it is no plain file")
        file_bytes = state.st_size
        first, head = _head(descriptor, file_bytes)
    except OSError as error:
        raise LocalError(f"the file cannot be read: {error.strerror}") from error
    for uid, name in (
        (head.sop_class, "SOP Class UID"),
        (head.sop_instance, "SOP Instance UID"),
        (head.transfer_syntax, "Transfer Syntax UID"),
    ):
        if not uid:
            raise LocalError(f"file meta information has no {name}")
    if head.data_set_offset >= file_bytes:
        raise LocalError("the file has no data set")
    return Outgoing(
        descriptor,
        head.sop_class,
        head.sop_instance,
        head.transfer_syntax,
        head.data_set_offset,
        file_bytes,
        first,
        head.source_ae_title,
    )


def _head(descriptor: int, file_bytes: int) -> tuple[bytes, Part10Head]:
    first = os.pread(descriptor, _head_bytes, 0)
    try:
        return first, read_part10_head(first)
    except LocalError:
        if file_bytes <= _head_bytes:
            raise
        return first, read_part10_head(os.pread(descriptor, _head_bytes_max, 0))


def parts(
    outgoing: Outgoing,
    target_syntax: str,
    corrections: Mapping[int, str],
    threads: int = 1,
    other: OtherDecoder = no_other,
    character_sets: Iterable[str] = (),
    originals: Originals | None = None,
) -> Iterator[Piece | Frames]:
    """The data set in `target_syntax`, with {tag: text} of the corrections in place of what the
    file says. `threads` bounds the processors that Frames.decoded() uses, `other` decodes what we
    do not, `character_sets` are what the peer takes beyond the statement's. `originals`: what to
    tell the peer of the values that corrections replace; None: nothing.

    CannotSend at once when there is no way; LocalError when the file is broken, which may be seen
    only after some parts were given.
    """
    stored = outgoing.transfer_syntax_uid
    reader = DataSetReader(
        outgoing.descriptor,
        outgoing.data_set_offset,
        outgoing.file_bytes,
        outgoing.head,
        outgoing.oddities,
    )
    if target_syntax == stored and not corrections:
        return iter((FileRange(reader.start, reader.end - reader.start),))
    if stored not in TRANSFER_SYNTAX_NAMES:
        raise CannotSend(f"a data set in transfer syntax {stored} can only be sent as it is")
    choose(stored, (target_syntax,))
    decoder = PixelDecoder(stored, threads, other)
    if originals is not None:
        originals = originals._replace(source=outgoing.source_ae_title)

    def edits(start: int, explicit: bool, explicit_out: bool) -> Edits:
        return edits_for(
            reader, corrections, explicit, explicit_out, start, character_sets, originals
        )

    return _made(reader, stored, target_syntax, edits, decoder)


def _made(
    reader: DataSetReader,
    stored: str,
    target: str,
    edits_from: Callable[[int, bool, bool], Edits],
    decoder: PixelDecoder,
) -> Iterator[Piece | Frames]:
    start, explicit = reader.begin(is_explicit_vr(stored))
    # A data set may be in another encoding than the one it is said to have; as it came it stays.
    explicit_out = explicit if target == stored else is_explicit_vr(target)
    edits = edits_from(start, explicit, explicit_out)
    if target == stored:
        if edits.marks:
            yield from Reencoder(
                reader, explicit, explicit_out, edits, None, start, stays=True
            ).pieces()
        else:
            yield from correct(reader, explicit, edits, start)
        return
    compressed = stored not in (implicit_vr_little_endian, explicit_vr_little_endian)
    given = decoder if compressed else None
    yield from Reencoder(reader, explicit, explicit_out, edits, given, start).pieces()
