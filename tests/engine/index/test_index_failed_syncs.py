"""LMDB's own syncs fail as Linux makes them fail, then the power: what the index promises holds.

A commit whose sync failed is made again as a whole. A power cut undoes the last commit at most, and
nothing that sync() was told of. What a table then holds is of one commit, and no page of another's.
The same environment carries outbox, jobs and messages.
"""

import shutil
from pathlib import Path

import pytest

from engine.index.environment import Environment
from tests.faults import shims

pytestmark = pytest.mark.skipif(shims.compiler() is None, reason="no C compiler")

_COMMITS = 14
_ROWS = 40
# Every commit writes all rows anew, so pages are used again as soon as LMDB may. The N-th sync
# fails, and what was refused is asked for again. After each step the disk is put aside.
_CHANGES = f"""
import os, shutil, sys
from pathlib import Path
from engine.index.environment import INDEX_FAULTS, create_environment
from tests.faults.shims import fail_own_sync
live, number, first, last, sync_every = Path(sys.argv[1]), *map(int, sys.argv[2:6])
shadow = Path(os.environ["POWER_CUT_SHADOW"])

def insist(step):
    try:
        step()
    except INDEX_FAULTS:
        step()

environment = create_environment(live)
table = environment.tables["meta"]

def commit(count):
    def work(transaction):
        for row in range({_ROWS}):
            transaction.put(b"row%d" % row, b"%d:" % count + b"x" * 1500, db=table)
    environment.change(work)

if number:
    fail_own_sync(number)
durable = -1
for count in range(first, last):
    insist(lambda: commit(count))
    if sync_every and count % sync_every == 0:
        insist(environment.sync)
        durable = count
    kept = shadow.parent / f"{{count}}_{{max(durable, count - 1, first - 1)}}"
    shutil.copytree(shadow, kept, dirs_exist_ok=True)
os._exit(0)
"""


def _versions(cut: shims.PowerCut, target: Path) -> set[int]:
    """Which commits the rows of an index are of, after the power was away."""
    environment = Environment(cut.disk(target), writable=True)
    try:
        with environment.begin() as transaction:
            rows = [
                transaction.get(b"row%d" % row, db=environment.tables["meta"])
                for row in range(_ROWS)
            ]
    finally:
        environment.close()
    assert all(value is None or len(value.partition(b":")[2]) == 1500 for value in rows)
    return {-1 if value is None else int(value.partition(b":")[0]) for value in rows}


def _check_each(cut: shims.PowerCut, directory: Path) -> None:
    kept = sorted(path for path in directory.iterdir() if path.name[0].isdigit())
    assert kept
    for path in kept:
        count, least = map(int, path.name.split("_"))
        cut.shadow = path
        (version,) = _versions(cut, path / "disk")
        assert least <= version <= count, path.name
        shutil.rmtree(path)


@pytest.mark.parametrize("sync_every", [0, 3])
@pytest.mark.parametrize("number", range(1, 13))
def test_a_sync_of_the_index_fails(tmp_path: Path, number: int, sync_every: int) -> None:
    cut = shims.PowerCut(tmp_path, tmp_path / "live")
    cut.run(_CHANGES, "0", "0", "1", "0")
    cut.run(_CHANGES, str(number), "1", str(_COMMITS), str(sync_every))
    assert cut.failed_syncs == 1
    for path in tmp_path.glob("0_*"):
        shutil.rmtree(path)
    _check_each(cut, tmp_path)


@pytest.mark.parametrize("number", range(2, 8))
def test_whoever_was_told_of_the_failure_is_gone(tmp_path: Path, number: int) -> None:
    """It ends by it, and the next process begins where the kernel says that things stand."""
    cut = shims.PowerCut(tmp_path, tmp_path / "live")
    dying = _CHANGES.replace(
        "    except INDEX_FAULTS:\n        step()", "    finally:\n        pass"
    )
    assert dying != _CHANGES
    with pytest.raises(Exception, match="exit status 1"):
        cut.run(dying, str(number), "0", str(_COMMITS), "0")
    assert cut.failed_syncs == 1
    kept = [int(path.name.split("_")[0]) for path in tmp_path.glob("[0-9]*_*")]
    done = max(kept, default=-1)
    for path in tmp_path.glob("[0-9]*_*"):
        shutil.rmtree(path)
    cut.run(_CHANGES, "0", str(done + 1), str(done + 6), "0")
    _check_each(cut, tmp_path)
