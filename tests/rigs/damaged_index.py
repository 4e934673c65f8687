"""An index of some size, damage to its pages by chance, and every command that reads or changes it.

A case is a number, which makes the same damage everywhere. A command runs in a forked child, which
may die of what it reads: that is what is looked for.
"""

import importlib
import io
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from engine.index.writer import IndexWriter
from engine.outbox.writer import OutboxWriter
from engine.prefetch.jobs import Trigger
from engine.prefetch.records import Ask
from engine.prefetch.store import PrefetchStore
from tests.rigs.index_entries import make_entry, put
from tests.rigs.outbox_deliveries import ask, new
from tools.cli import COMMANDS as MODULES
from tools.cli import run_command_line, scai

PAGE = 4096
TIME_MAX_S = 20.0
MEMORY_MAX = 2 << 30  # of addresses, the map of the index among them
_CONFIGURATION = """\
data_directory = "data"
[[remotes]]
name = "PACS"
ae_title = "PACS"
host = "127.0.0.1"
port = 104
[[remotes]]
name = "OTHER"
ae_title = "OTHER"
host = "127.0.0.1"
port = 105
[[rules]]
name = "rule"
to = ["PACS"]
"""
_OUT = "{out}"  # a directory that is not there yet
COMMANDS = (
    ("find",),
    ("find", "--level", "image", "--format", "json"),
    ("find", "--level", "series", "--patient-name", "DOE*"),
    ("queue",),
    ("queue", "--json"),
    ("queue", "show", "1", "77"),
    ("prefetch", "--json"),
    ("prefetch", "show", "3"),
    ("remotes",),
    ("hl7", "unmatched"),
    ("edit", "--study", "1.2.3", "--yes", "StudyDescription=NEW"),
    ("edit", "--history"),
    ("send", "--to", "OTHER", "--no-wait", "--study", "1.2.4"),
    ("queue", "hold", "--all"),
    ("queue", "discard", "--all", "--yes"),
    ("remove", "--study", "1.2.3", "--yes", "--force"),
    ("export", "--study", "1.2.3", "--to", _OUT),
    ("backup", _OUT),
    ("verify",),
    ("verify", "--repair"),
)


class Outcome(NamedTuple):
    """How a command ended: its exit code, or minus the signal; what it wrote to standard error."""

    code: int
    error: str
    seconds: float

    @property
    def fault(self) -> str:
        """What is wrong with it; "" for nothing."""
        if self.code not in (0, 1, 2):
            return f"ended with {self.code}: {self.error[-2000:]}"
        if "Traceback" in self.error:
            return f"a traceback: {self.error[-2000:]}"
        if self.seconds > TIME_MAX_S:
            return f"took {self.seconds:.0f} s"
        return ""


class DamagedIndex:
    """A data directory whose index is damaged anew for each case."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.file = self.data / "index" / "data.mdb"
        (directory / "scai.toml").write_text(_CONFIGURATION)
        for entry in MODULES.values():  # once, and not in each child
            importlib.import_module(entry.module)
        self.data.mkdir(mode=0o700)
        self._fill("1.2", 10)
        self.before = self.file.read_bytes()
        self._fill("1.3", 30)
        self.whole = self.file.read_bytes()

    def _fill(self, root: str, studies: int) -> None:
        writer = IndexWriter(self.data)
        for study in range(studies):
            uid = f"{root}.{study}"
            names = {"PatientID": f"P{study % 7}", "PatientName": f"Doe^{study % 7}"}
            entries = [
                make_entry(f"{uid}.{number % 3}.{number}", f"{uid}.{number % 3}", uid, **names)
                for number in range(12)
            ]
            put(writer, *entries)
        writer.close()
        outbox = OutboxWriter(self.data)
        for name in ("PACS", "OTHER", "GONE"):
            ask(outbox, *(new(f"{root}.{n}.0.0", f"{root}.{n}", name) for n in range(studies)))
        outbox.close()
        jobs = PrefetchStore(self.data)
        for study in range(studies):
            asked = Ask("PACS", "study", f"P{study}", "", "", (), (), 5, f"{root}.{study}")
            trigger = Trigger("priors", asked, f"{root}.{study}.0.0", "CT", 0, 0, 0)
            jobs.commit(lambda found, trigger=trigger: found.trigger(trigger, 1))
        jobs.close()

    def damaged(self, number: int) -> str:
        """Damage the whole index as this case has it; how, in words."""
        chance = random.Random(number)
        pages = len(self.whole) // PAGE
        content = bytearray(self.whole)
        kind = chance.choice(("bytes", "page", "old", "swapped", "head", "bits", "zeros"))
        told = []
        for _ in range(chance.choice((1, 1, 2, 5, pages // 4))):
            page = chance.randrange(pages)
            at = page * PAGE
            told.append(page)
            if kind == "bytes":
                for _ in range(chance.randint(1, 64)):
                    content[at + chance.randrange(PAGE)] = chance.randrange(256)
            elif kind == "page":
                content[at : at + PAGE] = chance.randbytes(PAGE)
            elif kind == "old" and at + PAGE <= len(self.before):
                content[at : at + PAGE] = self.before[at : at + PAGE]
            elif kind == "swapped":
                other = chance.randrange(pages) * PAGE
                content[at : at + PAGE] = self.whole[other : other + PAGE]
            elif kind == "head":  # flags, bounds and the first nodes' places
                for _ in range(chance.randint(1, 4)):
                    content[at + chance.randrange(64)] = chance.randrange(256)
            elif kind == "bits":
                content[at + chance.randrange(PAGE)] ^= 1 << chance.randrange(8)
            elif kind == "zeros":
                content[at : at + PAGE] = bytes(PAGE)
        self.lay(bytes(content))
        return f"case {number}: {kind} of pages {told[:6]}"

    def lay(self, content: bytes) -> None:
        """Put an index in the place of the one that is there, and nothing beside it."""
        for name in ("repairs", "set_aside", "outbox"):
            shutil.rmtree(self.data / name, ignore_errors=True)
        (self.data / "index" / "lock.mdb").unlink(missing_ok=True)
        self.file.write_bytes(content)

    def run(self, *words: str) -> Outcome:
        """A command as the shell would run it, in a child of ours."""
        name, *rest = words
        place = 2 if name in ("queue", "prefetch", "hl7") and rest and rest[0].isalpha() else 1
        told = [*words[:place], "-c", str(self.directory / "scai.toml"), *words[place:]]
        out = self.directory / "out"
        shutil.rmtree(out, ignore_errors=True)
        told = [str(out) if word == _OUT else word for word in told]
        errors = self.directory / "errors"
        began = time.monotonic()
        pid = os.fork()
        if not pid:
            _become(told, errors)
        code = _awaited(pid, began + 2 * TIME_MAX_S)
        return Outcome(code, errors.read_text("utf-8", "replace"), time.monotonic() - began)

    def faults(self, number: int) -> Iterator[str]:
        """What is wrong with how the commands take this case's damage."""
        how = self.damaged(number)
        content = self.file.read_bytes()
        for words in COMMANDS:
            outcome = self.run(*words)
            if outcome.fault:
                yield f"{how}: scai {' '.join(words)}: {outcome.fault}"
            if self.file.read_bytes() != content:  # each command meets the same damage
                self.lay(content)


def _become(words: list[str], errors: Path) -> None:
    """The child: it ends here."""
    code = 4
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
        for number, path in ((0, os.devnull), (1, os.devnull), (2, str(errors))):
            opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(opened, number)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8")
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), "utf-8")
        code = run_command_line(scai, words, "scai")
        sys.stderr.flush()
    finally:
        os._exit(code)


def _awaited(pid: int, deadline: float) -> int:
    """The exit code of a child, or minus its signal."""
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
