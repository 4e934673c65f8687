"""Names that are made ahead are durable before anything is promised that lies under them.

Files in stock for large instances, and fresh segments of the journal: an instance is acknowledged,
its process dies at once, and the power fails. The disk has what was synced, and no other name.
"""

from pathlib import Path

import pytest

from tests.faults import shims
from tests.material.waiting import eventually
from tests.rigs.spools import HEAD, SpoolBox

pytestmark = pytest.mark.skipif(shims.compiler() is None, reason="no C compiler")

_STORES = """
import os, sys
from pathlib import Path
from native import _core
from tests.rigs.spools import SpoolBox
box = SpoolBox(Path(sys.argv[1]))
size, count = int(sys.argv[2]), int(sys.argv[3])
sealed = 0
for number in range(1, count + 1):
    kind, _, _, _, sequence = box.acknowledge(bytes([number]) * size, prologue=b"%d" % number)
    assert kind == _core.COMPLETION_STORED
    sealed += sequence == 0
print(sealed)
sys.stdout.flush()
os._exit(0)
"""
_LARGE, _SMALL = 200_000, 100_000


@pytest.mark.parametrize(("size", "count"), [(_LARGE, 12), (_SMALL, 30)])
def test_what_was_acknowledged_has_its_name(tmp_path: Path, size: int, count: int) -> None:
    for name in ("incoming", "journal"):
        (tmp_path / "live" / name).mkdir(parents=True)
    cut = shims.PowerCut(tmp_path, tmp_path / "live")
    sealed = int(cut.run(_STORES, str(size), str(count)))
    assert (sealed > 0) is (size == _LARGE), "some stand by their seals alone"
    disk = cut.disk(tmp_path / "disk")
    box = SpoolBox(disk)
    try:
        eventually(lambda: box.spool.durable_sequence == count, 10, "seals have their records")
        records = box.reader().read(box.spool.durable_sequence, 1000)
        found = {int(one[1]): box.stored_bytes(one[0], disk / "out") for one in records}
    finally:
        box.close()
    assert found.keys() == set(range(1, count + 1))
    for number, content in found.items():
        assert content == HEAD + bytes([number]) * size
