"""What a start found damaged in a journal, and keeps until somebody has looked: `damaged/`.

Written by native/src/spool/journal_damage.cpp, one line of JSON for each segment; read by the
receiver for its log and for `/readyz`, and by `scai verify`. It names segments, bytes and numbers
of records, never what is in them.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

import msgspec

from engine.limits import journal_segment_bytes
from native import _core

DAMAGED_DIRECTORY: Final = "damaged"
_FINDINGS: Final = "findings.jsonl"
_ranges_told_max: Final = 10

# The cases of native/src/spool/journal_repair.hpp that are damage.
_WORDS: Final = {
    "broken_inside": "is damaged inside",
    "behind_reached": "ends before the journal did, or segments behind it are missing",
    "cut_short": "was cut short",
    "short_of_next": "is damaged inside, or the segment behind it is missing",
    "head_lost": "has no header that holds",
    "all_missing": "all segments are missing",
}


class Damage(msgspec.Struct, frozen=True):
    """One segment's. `ranges`: (first lost record, last, from byte, to byte), the first of them."""

    found: str
    segment: str = ""
    byte: int = 0
    lost: int = 0
    taken: int = 0
    ranges: tuple[tuple[int, int, int, int], ...] = ()
    time_ns: int = 0

    @property
    def text(self) -> str:
        """In words."""
        what = _WORDS.get(self.found, "a finding that cannot be read")
        told = [
            f"{first}" if first == last else f"{first or '?'} to {last}"
            for first, last, *_ in self.ranges[:_ranges_told_max]
        ]
        more = len(self.ranges) > _ranges_told_max
        records = f"records {', '.join(told)}{' and more' if more else ''}"
        lost = f"{records} lost" if told else "no record lost"
        place = f"segment {self.segment}, byte {self.byte}: " if self.segment else ""
        return f"{place}{what}; {lost}"


_decode: Final = msgspec.json.Decoder(Damage).decode


def damage_of(journal_directory: Path) -> list[Damage]:
    """All that nobody has looked after yet: whoever has moves `damaged/` away."""
    directory = journal_directory / DAMAGED_DIRECTORY
    try:
        lines = (directory / _FINDINGS).read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        lines = []
    found = [_damage(line) for line in lines]
    if not found and directory.is_dir() and any(directory.iterdir()):
        found.append(Damage("set_aside"))
    return found


def _damage(line: bytes) -> Damage:
    try:
        return _decode(line)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return Damage("unreadable")  # told all the same


def examine(journal_directory: Path) -> Damage | None:
    """What the next start would find first in a journal; None: nothing, or it is being written."""
    try:
        lock = os.open(journal_directory / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None  # nobody ever wrote here
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        found = _core.journal_damage(str(journal_directory), journal_segment_bytes)
    except BlockingIOError:
        return None
    finally:
        os.close(lock)
    if found is None:
        return None
    case, segment, byte, ranges = found
    lost = sum(last - first + 1 for first, last in ranges if first)
    return Damage(case, segment, byte, lost, ranges=tuple((*one, 0, 0) for one in ranges))
