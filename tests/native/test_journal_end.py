"""The journal's end is written again at a start: it may stand in the page cache alone.

Every sync of a process fails from some moment on, as Linux makes it fail: the pages are dropped and
taken for clean. It dies. Its successor reads records that the disk does not have, and goes on
behind them. Then the power fails: what the successor acknowledged is there.
"""

from pathlib import Path

import pytest

from tests.faults import shims
from tests.rigs.spools import HEAD, SpoolBox

pytestmark = pytest.mark.skipif(shims.compiler() is None, reason="no C compiler")

_STORES = """
import os, sys
from pathlib import Path
from native import _core
from tests.faults.shims import fail_own_sync
from tests.rigs.spools import SpoolBox
box = SpoolBox(Path(sys.argv[1]))
kept, refused, fails = map(int, sys.argv[2:5])

def store(number):
    answer = box.store(bytes([number]) * 9000, prologue=b"%d" % number)
    return answer[0] == _core.COMPLETION_STORED

assert all(store(number) for number in range(kept, refused))
if fails:
    fail_own_sync(1, 1)
    assert not store(refused)
os._exit(0)
"""


def _found(directory: Path) -> dict[int, bytes]:
    box = SpoolBox(directory)
    try:
        records = box.reader().read(box.spool.durable_sequence, 1000)
        return {
            int(record[1]): box.stored_bytes(record[0], directory / "out") for record in records
        }
    finally:
        box.close()


@pytest.fixture
def cut(tmp_path: Path) -> shims.PowerCut:
    for name in ("incoming", "journal"):
        (tmp_path / "live" / name).mkdir(parents=True)
    return shims.PowerCut(tmp_path, tmp_path / "live")


@pytest.mark.parametrize("before", [0, 1, 5])
def test_what_is_acknowledged_behind_a_refused_record_survives(
    cut: shims.PowerCut, tmp_path: Path, before: int
) -> None:
    cut.run(_STORES, "1", str(before + 1), "1")
    assert cut.failed_syncs > 0
    cut.heal()
    cut.run(_STORES, "101", "104", "0")
    found = _found(cut.disk(tmp_path / "disk"))
    promised = {*range(1, before + 1), 101, 102, 103}
    assert promised <= found.keys() <= promised | {before + 1}
    for number, content in found.items():
        assert content == HEAD + bytes([number]) * 9000


def test_a_start_that_cannot_write_it_again_fails(cut: shims.PowerCut, tmp_path: Path) -> None:
    """Nothing is promised behind what the disk may lack."""
    cut.run(_STORES, "1", "3", "1")
    with pytest.raises(Exception, match="exit status 1"):
        cut.run(_STORES, "101", "104", "0")  # its syncs fail, too
    cut.heal()
    cut.run(_STORES, "101", "104", "0")
    assert {1, 2, 101, 102, 103} <= _found(cut.disk(tmp_path / "disk")).keys()
