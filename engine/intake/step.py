"""What one step of the intake did, for whoever tells the world of it."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Missing(NamedTuple):
    """An acknowledged instance whose bytes are nowhere: it must never happen, and is told."""

    journal: str
    sequence: int
    sop_instance_uid: str


class SetAside(NamedTuple):
    """An acknowledged instance that the indexer died of again and again: kept, and not taken in."""

    journal: str
    sequence: int
    sop_instance_uid: str
    path: str  # in the data directory


class Replacement(NamedTuple):
    """An instance that came under the SOP Instance UID of one of its patient's that was there."""

    journal: str
    sequence: int
    sop_instance_uid: str
    study_uid: str
    before: str  # calling AE title of what was there
    calling_ae_title: str
    path: str = ""  # in the data directory, of one that was refused


class Lost(NamedTuple):
    """Records of a journal that a damage took, by their numbers. Those that the index had taken in
    before are lost to the journal alone."""

    journal: str
    first: int
    last: int
    indexed: bool


class Unreadable(NamedTuple):
    """A journal that cannot be read on: the others are, and this one is tried again."""

    journal: str
    error: OSError


class Apart(NamedTuple):
    """What came under a UID that another patient has: a `study` or an `instance`."""

    what: str
    study_uid: str
    sop_instance_uid: str


@dataclass
class Step:
    """What one step did."""

    records: int = 0
    indexed: int = 0
    missing: list[Missing] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    renumbered: list[str] = field(default_factory=list)
    apart: list[Apart] = field(default_factory=list)
    set_aside: list[SetAside] = field(default_factory=list)
    replaced: list[Replacement] = field(default_factory=list)
    refused: list[Replacement] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    behind: bool = False  # a journal has more than was taken
