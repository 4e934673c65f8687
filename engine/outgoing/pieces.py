"""What a data set is sent as: a row of pieces, each bytes in memory or a range of the stored file.

Large values stay in the file until the native sender reads them; what is small or had to be written
anew is gathered, so that a piece is worth a call. `PieceWriter` promises the order in which it was
told, and never holds more than one portion.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from engine.limits import KIB

# A value up to here is copied among its neighbours; above, a read of its own costs less.
COPIED_BYTES_MAX: Final = 16 * KIB
_portion_bytes: Final = 128 * KIB


class FileRange(NamedTuple):
    """Bytes of the file as they lie."""

    offset: int
    length: int


Piece = bytes | bytearray | memoryview | FileRange


class PieceWriter:
    """Collects pieces. Whoever writes takes them out with ready() or rest() now and then."""

    def __init__(self) -> None:
        self._written: list[bytes] = []
        self._written_bytes = 0
        self._pieces: list[Piece] = []

    def put(self, data: bytes) -> None:
        """Small bytes; copied once, together with their neighbours."""
        self._written.append(data)
        self._written_bytes += len(data)

    def pass_on(self, piece: Piece) -> None:
        """Something large, as it is. Ranges that touch become one."""
        if isinstance(piece, FileRange):
            if piece.length == 0:
                return
            if not self._written and self._pieces:
                last = self._pieces[-1]
                if isinstance(last, FileRange) and last.offset + last.length == piece.offset:
                    self._pieces[-1] = FileRange(last.offset, last.length + piece.length)
                    return
        self._join()
        self._pieces.append(piece)

    @property
    def due(self) -> bool:
        """Whether it is worth to call ready()."""
        return self._written_bytes >= _portion_bytes or len(self._pieces) > 1

    def ready(self) -> Iterator[Piece]:
        """What is complete. The last range may still grow, so it stays."""
        if self._written_bytes >= _portion_bytes:
            self._join()
        grows = isinstance(self._pieces[-1], FileRange) and not self._written
        kept = [self._pieces.pop()] if grows else []
        yield from self._pieces
        self._pieces = kept

    def rest(self) -> Iterator[Piece]:
        """Everything that is left."""
        self._join()
        yield from self._pieces
        self._pieces = []

    def _join(self) -> None:
        if self._written_bytes:
            self._pieces.append(b"".join(self._written))
            self._written.clear()
            self._written_bytes = 0
