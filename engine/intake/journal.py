"""One journal on its way into the index: how far it has been read, and what comes next of it."""

import errno
import os
from pathlib import Path
from typing import Final, NamedTuple

from engine.files.journal_damage import damage_of
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

    @property
    def is_gap(self) -> bool:
        """It stands for so many lost records as `file_bytes` says."""
        return self.inline_offset == _core.LOST_RECORDS

    @property
    def first(self) -> int:
        return self.sequence - self.file_bytes + 1 if self.is_gap else self.sequence


class FollowedJournal:
    """How far one journal has been read."""

    def __init__(self, name: str, data_directory: Path, position: Position) -> None:
        self.name = name
        self.directory = str(data_directory / JOURNAL_DIRECTORY / name)
        self.incoming = str(data_directory / INCOMING_DIRECTORY / name)
        self.position = position
        self.replayed_to = position.applied  # records up to here were applied before
        self.reached = position.checkpointed  # and up to here they have their files again
        self.known_to = 0  # of a journal that lost its end: what may be known by its time
        self.is_damaged = False  # and mended: large instances may have come back behind others
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

        A journal that lost its end, and the note of how far it came, gives the same numbers to
        other records: then all of it is read again, and what the index knows is told by the time
        at which it came.
        """
        if self.reader is not None:
            return True
        if not os.path.isdir(self.directory):
            return False
        if self.position.applied and not self._is_the_same():
            self.reader = self._reader_from(0)
            self.replayed_to = self.reader.next_sequence - 1
            self.position = Position(self.replayed_to, self.replayed_to)
            self.reached = self.replayed_to
            self.known_to = _core.journal_last_sequence(self.directory)
            return True
        self.replayed_to = self.position.applied
        self.reader = self._reader_from(self.position.checkpointed + 1)
        return True

    def gave_back(self, record: Record) -> bool:
        """Whether a start may have made this record for a sealed file that lost its own."""
        return self.is_damaged and bool(record.incoming_name)

    def _reader_from(self, sequence: int) -> _core.JournalReader:
        self.is_damaged = bool(damage_of(Path(self.directory)))
        return _core.JournalReader(self.directory, sequence)

    def _is_the_same(self) -> bool:
        """Whether the record last applied is still the one with that number, or is lost: then
        the number was not used again."""
        reader = _core.JournalReader(self.directory, self.position.applied)
        records = [Record(*values) for values in reader.read(self.position.applied, 1)]
        if not records:
            return reader.next_sequence > self.position.applied
        return records[0].is_gap or records[0].prologue == self.position.identity

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
        expected = self.reader.next_sequence
        self.pending = [Record(*values) for values in self.reader.read(durable, count)]
        if not self.pending:
            # Its receiver's start may have mended the segment that we have open.
            self.reader = self._reader_from(expected)
            self.pending = [Record(*values) for values in self.reader.read(durable, count)]
        if self.pending and self.pending[0].first > expected:
            # The journal begins later: its oldest segments are gone.
            last = self.pending[0].first - 1
            gap = Record(last, b"", b"", "", last - expected + 1, 0, _core.LOST_RECORDS)
            self.pending.insert(0, gap)
        if not self.pending:
            self.reader = None
            raise OSError(errno.EIO, f"journal {self.name}: record {expected} cannot be read")


def journals_on_disk(data_directory: Path) -> list[str]:
    """The names of all journals there are, also those no receiver writes any more."""
    directory = data_directory / JOURNAL_DIRECTORY
    if not directory.is_dir():
        return []
    return sorted(entry.name for entry in directory.iterdir() if entry.is_dir())
