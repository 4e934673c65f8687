"""How far one journal has been read, and what was read of it and waits to be taken in."""

import errno
import os
from pathlib import Path
from typing import Final, NamedTuple

from engine.index.records import Position
from engine.intake.step import Missing
from native import _core

JOURNAL_DIRECTORY: Final = "journal"
INCOMING_DIRECTORY: Final = "incoming"


class Record(NamedTuple):
    """As JournalReader.read() gives it."""

    sequence: int
    prologue: bytes
    attributes: bytes
    incoming_name: str
    file_bytes: int
    file_crc32c: int
    inline_offset: int


class Journal:
    """How far one journal has been read."""

    def __init__(self, name: str, data_directory: Path, position: Position) -> None:
        self.name = name
        self.directory = str(data_directory / JOURNAL_DIRECTORY / name)
        self.incoming = str(data_directory / INCOMING_DIRECTORY / name)
        self.position = position
        self.replayed_to = position.applied  # records up to here were applied before
        self.reached = position.checkpointed  # and up to here they have their files again
        self.reader: _core.JournalReader | None = None
        self.pending: list[Record] = []
        self.stuck: tuple[int, OSError] | None = None  # what was reached when reading failed
        self.incoming_names: list[str] = []
        self.bytes_since_checkpoint = 0
        # Replayed records without a file, by whose they are, unless a later one explains them.
        self.doubtful: dict[tuple[str, str], Missing] = {}

    def go_back(self) -> None:
        """Place again what was placed since the last checkpoint."""
        self.replayed_to = self.position.applied
        self.reached = self.position.checkpointed
        self.reader = None
        self.pending = []
        self.incoming_names = []
        self.bytes_since_checkpoint = 0
        self.doubtful = {}

    def open(self) -> bool:
        """Begin to read after the last checkpoint; False when nothing was ever written.

        A journal that lost its end in a power cut (possible without syncs only) gives the same
        numbers to other records; then all of it counts as new.
        """
        if self.reader is not None:
            return True
        if not os.path.isdir(self.directory):
            return False
        if self.position.applied and not self._is_the_same():
            self.reader = _core.JournalReader(self.directory, 0)
            self.replayed_to = self.reader.next_sequence - 1
            self.position = Position(self.replayed_to, self.replayed_to)
            self.reached = self.replayed_to
            return True
        self.replayed_to = self.position.applied
        self.reader = _core.JournalReader(self.directory, self.position.checkpointed + 1)
        return True

    def _is_the_same(self) -> bool:
        """Whether the record last applied is still the one with that number."""
        reader = _core.JournalReader(self.directory, self.position.applied)
        records = reader.read(self.position.applied, 1)
        return bool(records) and records[0][1] == self.position.identity

    def position_after_pending(self) -> Position:
        """Where the journal stands once `pending` is applied; replaying does not set it back."""
        last = self.pending[-1]
        if last.sequence <= self.position.applied:
            return self.position
        return Position(last.sequence, self.position.checkpointed, last.prologue)

    def take(self, durable: int, count: int) -> None:
        """Fill `pending`, unless a failed step left it filled."""
        if self.pending or self.reader is None or durable < self.reader.next_sequence:
            return
        self.pending = [Record(*values) for values in self.reader.read(durable, count)]
        if not self.pending:
            number = self.reader.next_sequence
            self.reader = None
            raise OSError(errno.EIO, f"journal {self.name}: record {number} cannot be read")
