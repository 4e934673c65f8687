"""The journal and its files when a disk call fails at one certain place.

Each scene runs in a process of its own with the failing calls preloaded; it stops at "ready", the
test arms the one that shall fail, and the scene says in one line what came of it.
"""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_what_recovery_found_is_synced_before_it_is_built_upon(tmp_path: Path) -> None:
    """Its last records may lie in the page cache alone, of a predecessor that was killed."""
    box = SpoolBox(tmp_path / "spool")
    box.store(b"abcd" * 1000)
    box.close()
    assert scene(tmp_path, OPENS, "journal", shims.SYNC, 1, errno.EIO) == [str(errno.EIO)]


@pytest.mark.parametrize("kinds", [shims.WRITE, shims.SYNC, shims.RENAME])
def test_a_replacement_that_fails_leaves_what_was_there(tmp_path: Path, kinds: int) -> None:
    said = scene(tmp_path, REPLACES, "placed", kinds, 1, errno.EIO)
    assert said == [str(errno.EIO), "whole 1"]


def test_a_short_write_of_a_large_instance_is_gone_on_with(tmp_path: Path) -> None:
    """Half a piece is written: what is left of it follows, wherever a page ends."""
    said = scene(tmp_path, STORES, "incoming", shims.WRITE, 1, 0)
    assert said == ["True 0", "True"]
