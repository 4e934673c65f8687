"""The journal's disk fails in the middle of a group: what was refused is never half there.

A process under a shim stores instances while syncs of its journal fail, and ends at once. Its
successor finds each refused instance either whole, as one that was stored without an answer, or not
at all; and everything that was acknowledged before and after it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine import limits
from native import _core
from tests.faults import shims
from tests.rigs.gateway import ROOT
from tests.rigs.spools import HEAD, SEGMENT_BYTES, SpoolBox

pytestmark = pytest.mark.skipif(shims.compiler() is None, reason="no C compiler")
SMALL, LARGE = 3000, limits.sealed_bytes_max + 1  # the large one waits for its record

_HEAD = """
import errno, os, sys, time
from pathlib import Path
from native import _core
from tests.faults.shims import SYNC, RENAME, FailNth
from tests.rigs.spools import SpoolBox
directory = Path(sys.argv[1])
fail = FailNth(directory, directory / "spool" / "journal", fresh=False)
box = SpoolBox(directory / "spool")

def store(number, size):
    answer = box.acknowledge(bytes([number]) * size, prologue=b"%d" % number)
    return answer[0] == _core.COMPLETION_STORED
"""


def ends_after(directory: Path, script: str) -> None:
    """Run it as a process of its own under the shim; it does not close its spool."""
    fail = shims.FailNth(directory, directory / "spool" / "journal")
    subprocess.run(
        [sys.executable, "-c", f"{_HEAD}\n{script}\nos._exit(0)", str(directory)],
        env={**os.environ, **fail.environment, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=60,
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path


def stored(directory: Path) -> dict[int, int]:
    """What a successor has: the size of each instance, its bytes found to be there; then again,
    after one more instance and one more restart."""
    found: dict[int, int] = {}
    for turn in range(2):
        box = SpoolBox(directory / "spool")
        try:
            reader = box.reader()
            records = reader.read(box.spool.durable_sequence, 1000)
            assert [record[0] for record in records] == list(range(1, len(records) + 1))
            for record in records:
                content = box.stored_bytes(record[0], directory / "out")
                assert _core.crc32c(content) == record[5]
                found[int(record[1])] = len(content) - len(HEAD)
            box.store(bytes(100), prologue=b"%d" % (200 + turn))
        finally:
            box.close()
    assert found.pop(200) == 100
    return found


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_refused_record_that_is_found_has_its_bytes(directory: Path, size: int) -> None:
    script = f"""
assert store(1, {SMALL})
fail.arm(1, errno.EIO, persistent=True, kinds=SYNC)
assert not store(2, {size})
assert not store(3, {size})
"""
    ends_after(directory, script)
    found = stored(directory)
    assert found.pop(1) == SMALL
    assert set(found) <= {2, 3}
    assert set(found.values()) <= {size}


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_refused_record_goes_when_the_disk_allows(directory: Path, size: int) -> None:
    script = f"""
assert store(1, {SMALL})
fail.arm(1, errno.EIO, kinds=SYNC)
assert not store(2, {size})
deadline = time.monotonic() + 10
while (box.spool.settle() or any(box.instances_under_way())) and time.monotonic() < deadline:
    time.sleep(0.001)
time.sleep(0.05)
"""
    ends_after(directory, script)
    assert stored(directory) == {1: SMALL}
    box = SpoolBox(directory / "spool")
    assert box.instances_under_way() == []
    box.close()


def test_what_fits_the_old_segment_does_not_go_there_when_a_turn_failed(directory: Path) -> None:
    """The new segment has its name already: a reader goes on in it."""
    full = (SEGMENT_BYTES - 4096) // 100_000
    script = f"""
for number in range(1, {full} + 1):
    assert store(number, 99_000)
fail.arm(2, errno.EIO, kinds=SYNC)
while fail.hits == 0:
    if store(100, 99_000):
        fail.arm(2, errno.EIO, kinds=SYNC)
assert store(101, 500)
"""
    ends_after(directory, script)
    assert stored(directory)[101] == 500
