"""A stopped data directory with mixed content, and what was acknowledged into it.

Two AEs; instances inside the journal and beside it, replaced ones, some long placed, some indexed
and not yet checkpointed, some not yet looked at; deliveries that wait; a correction; segments used
again. It is made once, and each corruption is done to a copy.
"""

import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from engine import limits
from engine.config.loading import Rule
from engine.dictionary.attributes import BY_KEYWORD, WANTED_TAGS
from engine.files.arrival import Arrival, encode_arrival
from engine.files.part10 import part10_head
from engine.index.corrections import Target
from engine.index.edit import IndexEditor
from engine.index.writer import IndexWriter
from engine.intake.dispatch import Dispatcher
from engine.intake.intake import Intake
from engine.rules.routing import Rules
from tests.rigs.indexer_box import LARGE, data_set
from tests.rigs.spools import SpoolBox

SEGMENT_BYTES: Final = 256 << 10  # so that there are several, and some were used twice
NAMES: Final = ("storage_scp", "prefetch_scp")
RULES: Final = Rules.compile([Rule(name="all", to=("archive",), when={})])
STUDY: Final = "1.2"
CORRECTED: Final = "corrected"  # the description of the study, by an operator
_class: Final = "1.2.840.10008.5.1.4.1.1.2"
_explicit: Final = "1.2.840.10008.1.2.1"
_sizes: Final = (700, 9_000, 60_000, LARGE, 300, 30_000, LARGE + 70_000)


@dataclass
class Made:
    """`older`: what index and segments were like at earlier times, by path in the directory."""

    directory: Path
    acknowledged: dict[str, str] = field(default_factory=dict)  # UID: digest of its data set
    records: dict[tuple[str, int], str] = field(default_factory=dict)  # (AE, number): UID
    routed: set[str] = field(default_factory=set)  # to the archive, by the rules
    older: dict[str, list[bytes]] = field(default_factory=dict)


def digest(content: bytes) -> str:
    """How a data set is remembered."""
    return hashlib.sha256(content).hexdigest()


class _Maker:
    def __init__(self, directory: Path) -> None:
        self.made = Made(directory)
        self.spools = {
            name: SpoolBox(
                directory / "boxes" / name, tags=sorted(WANTED_TAGS), segment_bytes=SEGMENT_BYTES
            )
            for name in NAMES
        }
        for name, spool in self.spools.items():
            for kind, real in (("journal", spool.journal), ("incoming", spool.incoming)):
                (directory / kind).mkdir(exist_ok=True)
                (directory / kind / name).symlink_to(real)
        self.writer = IndexWriter(directory)
        self.intake = Intake(directory, self.writer)
        self.intake.dispatcher = Dispatcher.of(self.intake.tree, RULES, ())
        self.count = 0

    def store(self, count: int, settle: bool = True) -> None:
        for _ in range(count):
            self.count += 1
            again = self.count % 11 == 10  # the same instance once more, by the same AE
            number = self.count - 2 if again else self.count
            uid, name = f"1.2.3.{number}", NAMES[number % 3 == 0]
            arrival = Arrival(_class, uid, _explicit, "CT", name, "::1", self.count)
            size, fill = _sizes[self.count % len(_sizes)], bytes([self.count])
            sent = data_set(uid, STUDY, size, fill, patient="P1")
            spool = self.spools[name]
            spool.head = part10_head(_class, uid, _explicit, "CT")
            keep = spool.store if settle else spool.acknowledge
            number = keep(sent, prologue=encode_arrival(arrival))[4]
            self.made.acknowledged[uid] = digest(sent)
            if name == NAMES[0]:  # what was prefetched goes to whom its rule names
                self.made.routed.add(uid)
            if number:
                self.made.records[name, number] = uid

    def index(self) -> None:
        ends = {name: spool.spool.durable_sequence for name, spool in self.spools.items()}
        while self.intake.step(ends).behind:
            pass

    def remember(self) -> None:
        """What a stale copy of index and segments has."""
        for name, spool in self.spools.items():
            for path in spool.journal.glob("0*.wal"):
                at = f"journal/{name}/{path.name}"
                self.made.older.setdefault(at, []).append(path.read_bytes())
        data = (self.made.directory / "index" / "data.mdb").read_bytes()
        self.made.older.setdefault("index/data.mdb", []).append(data)

    def close(self) -> Made:
        """The directory as a stopped service leaves it, without links."""
        self.intake.close()
        self.writer.close()
        directory = self.made.directory
        for name, spool in self.spools.items():
            spool.close()
            for kind, real in (("journal", spool.journal), ("incoming", spool.incoming)):
                (directory / kind / name).unlink()
                shutil.move(real, directory / kind / name)
        shutil.rmtree(directory / "boxes")
        return self.made


def make(directory: Path, killed: bool) -> Made:
    """`killed`: with much in the journals; otherwise stopped in order, with all of it indexed.

    In a process of its own: no index is ever taken through a fork.
    """
    assert limits.journal_segment_bytes > SEGMENT_BYTES, "a segment of its own is no whole one"
    directory.mkdir()
    maker = _Maker(directory)
    maker.store(25)
    maker.index()
    maker.intake.checkpoint()
    maker.store(6)
    maker.remember()
    maker.store(12)
    maker.index()
    maker.writer.sync()
    _correct(maker.writer)
    maker.remember()
    maker.store(20)
    if killed:
        maker.store(4, settle=False)
    else:
        maker.index()
        maker.intake.checkpoint()
    return maker.close()


def _correct(writer: IndexWriter) -> None:
    editor = IndexEditor(writer._environment)
    editor.edit(Target("study", STUDY), {BY_KEYWORD["StudyDescription"]: CORRECTED}, "tester", 1)
