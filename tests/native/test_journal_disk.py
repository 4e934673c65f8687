"""The journal and its files when a disk call fails at one certain place.

Each scene runs in a process of its own with the failing calls preloaded; it stops at "ready", the
test arms the one that shall fail, and the scene says in one line what came of it.
"""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from native import _core
from tests.faults import shims
from tests.rigs.gateway import ROOT
from tests.rigs.spools import SpoolBox

pytestmark = pytest.mark.skipif(shims.compiler() is None, reason="no C compiler")

HEAD = """
import sys
from pathlib import Path
from native import _core
from tests.rigs.spools import HEAD, SpoolBox

directory = Path(sys.argv[1])
def ready():
    print("ready", flush=True)
    sys.stdin.readline()
def attempt(call):
    try:
        print(call())
    except OSError as error:
        print(error.errno)
def data_set(number, size):
    return bytes((number * 7 + at * 13 + (at >> 8)) & 0xFF for at in range(1021)) * (size // 1021)
"""

OPENS = """
ready()
attempt(lambda: SpoolBox(directory) and "opened")
"""

REPLACES = """
box = SpoolBox(directory)
box.store(data_set(1, 5000))
box.store(data_set(2, 5000))
reader = box.reader()
first, second = reader.read(2, 2)
target = str(directory / "placed" / "one.dcm")
reader.place_inline(first[6], first[4], target, True)
ready()
attempt(lambda: reader.place_inline(second[6], second[4], target, True))
whole = Path(target).exists() and Path(target).read_bytes() == HEAD + data_set(1, 5000)
print("whole" if whole else "lost", len(list(Path(target).parent.iterdir())))
"""

STORES = """
box = SpoolBox(directory)
while box.acknowledge(data_set(0, 200_000))[4]:
    pass
sent = data_set(3, 900_000)
ready()
kind, _, code, _, sequence = box.store(sent)
print(kind == _core.COMPLETION_STORED, code)
print(box.stored_bytes(sequence, directory / "out") == HEAD + sent)
"""


def scene(
    tmp_path: Path, script: str, prefix: str, kinds: int, number: int, code: int
) -> list[str]:
    """What the scene said when the `number`-th call of these kinds below `prefix` failed."""
    directory = tmp_path / "spool"
    for made in ("incoming", "journal", "placed"):
        (directory / made).mkdir(parents=True, exist_ok=True)
    fail = shims.FailNth(tmp_path, directory / prefix)
    child = subprocess.Popen(
        [sys.executable, "-c", HEAD + script, str(directory)],
        cwd=ROOT,
        env={**os.environ, **fail.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    fail.arm(number, code, kinds=kinds)
    said, _ = child.communicate("go\n", timeout=60)
    assert child.returncode == 0
    assert fail.hits == 1, "the call that was to fail was not made"
    return said.split("\n")[:-1]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_fresh_segment_is_synced_before_it_is_used(tmp_path: Path, number: int) -> None:
    """Its zeros, its header, its name: where one of these syncs fails there is no journal."""
    assert scene(tmp_path, OPENS, "journal", shims.SYNC, number, errno.EIO) == [str(errno.EIO)]


@pytest.mark.parametrize("number", [1, 2])
def test_what_recovery_found_is_synced_before_it_is_built_upon(tmp_path: Path, number: int) -> None:
    """Its last records may lie in the page cache alone, of a predecessor that was killed."""
    box = SpoolBox(tmp_path / "spool")
    box.store(b"abcd" * 1000)
    box.close()
    assert scene(tmp_path, OPENS, "journal", shims.SYNC, number, errno.EIO) == [str(errno.EIO)]


def left_sealed(tmp_path: Path) -> int:
    """A spool as a receiver that was killed leaves it, with an image that only its seal stands for;
    the last record that there is."""
    box = SpoolBox(tmp_path / "lived")
    while box.acknowledge(b"abcd" * 50_000)[4]:
        pass
    for kind in ("incoming", "journal"):
        shutil.copytree(getattr(box, kind), tmp_path / "spool" / kind)
    box.close()
    return _core.journal_last_sequence(str(tmp_path / "spool" / "journal"))


ADOPTS = """
ready()
from engine import limits
places = (str(directory / "journal"), 1 << 20, 64, True, str(directory / "incoming"))
attempt(lambda: _core.adopt_sealed(*places, limits, 0))
"""


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("script", [OPENS, ADOPTS], ids=["its receiver", "the indexer"])
def test_what_is_adopted_is_synced_before_it_has_a_record(
    tmp_path: Path, script: str, number: int
) -> None:
    """The file, then its name: a record may not say what only the page cache holds."""
    last = left_sealed(tmp_path)
    assert scene(tmp_path, script, "incoming", shims.SYNC, number, errno.EIO) == [str(errno.EIO)]
    journal = str(tmp_path / "spool" / "journal")
    assert _core.journal_last_sequence(journal) == last, "it has no record"
    box = SpoolBox(tmp_path / "spool")
    assert box.spool.recovery()[3] == 1, "a later start adopts it"
    box.settle()
    box.close()
    assert _core.journal_last_sequence(journal) == last + 1


@pytest.mark.parametrize("kinds", [shims.WRITE, shims.SYNC, shims.RENAME])
def test_a_replacement_that_fails_leaves_what_was_there(tmp_path: Path, kinds: int) -> None:
    said = scene(tmp_path, REPLACES, "placed", kinds, 1, errno.EIO)
    assert said == [str(errno.EIO), "whole 1"]


def test_a_short_write_of_a_large_instance_is_gone_on_with(tmp_path: Path) -> None:
    """Half a piece is written: what is left of it follows, wherever a page ends."""
    said = scene(tmp_path, STORES, "incoming", shims.WRITE, 1, 0)
    assert said == ["True 0", "True"]


CLOSES = """
box = SpoolBox(directory, durable=False)
kind, _, code, _, _ = box.store(data_set(1, 300_000))
print(kind == _core.COMPLETION_FAILED, code, box.instances_under_way())
"""

WAKES = """
import time
from tests.rigs.spools import RING_BYTES, new_cutter, store_stream
box = SpoolBox(directory)
piece = RING_BYTES // 4
cutter = new_cutter()
cutter.attach(box.spool, 0)
stream = store_stream(data_set(1, 3 * RING_BYTES))
cutter.feed(stream[:200])
event = cutter.next_event()
box.spool.begin(0, HEAD, b"p", True)
cutter.expect_data(event[1])
cutter.feed(stream[200 : piece + 5000])  # one whole piece, and a little

until = time.monotonic() + 20
while not any(path.stat().st_size >= piece for path in box.incoming.iterdir()):
    assert time.monotonic() < until
# The writer has nothing more to write and begins to wait; now the ring is filled at one go.
assert cutter.feed(stream[piece + 5000 :]) == _core.RECEIVED_FULL
until = time.monotonic() + 10
found = []
while not found and time.monotonic() < until:
    found = [one for one in box.spool.completions() if one[0] == _core.COMPLETION_SPACE]
    time.sleep(0.001)
print("woken" if found else "asleep")
import os
os._exit(0)
"""


def preloaded(tmp_path: Path, script: str, shim: str, **environment: str) -> str:
    """What a scene says that runs to its end with a shim that needs no arming."""
    directory = tmp_path / "spool"
    directory.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", HEAD + script, str(directory)],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(shims.library(shim)), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_error_of_close_refuses_the_instance(tmp_path: Path) -> None:
    """Without syncs it is the last word, on NFS and under quotas, on what was written."""
    said = preloaded(tmp_path, CLOSES, "failing_close", FAIL_CLOSE=f"{tmp_path}/spool/incoming/")
    assert said == f"True {errno.EIO} []"


def test_a_writer_that_begins_to_wait_hears_of_what_comes_then(tmp_path: Path) -> None:
    assert preloaded(tmp_path, WAKES, "slow_wait", SLOW_WAIT_MS="100") == "woken"
