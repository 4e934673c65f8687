"""Any sync fails while a watched folder's file is taken, as Linux makes it fail; then the power.

The file is taken at a later look. Its delivery is queued once and its copy has the file's bytes,
or the file still lies in the folder.
"""

import os
import time
from pathlib import Path

import pytest

from engine.outbox.spool import spooled_path
from engine.outbox.writer import OutboxWriter
from tests.faults import shims
from tests.rigs.sending import ct_files

pytestmark = pytest.mark.skipif(shims.compiler() is None, reason="no C compiler")

_TAKES = """
import os, sys
from pathlib import Path
from engine.index.environment import INDEX_FAULTS
from engine.outbox.writer import OutboxWriter
from engine.outgoing.outgoing import Taken
from tests.faults.shims import fail_own_sync
from workers.sender.folders import Folder, FolderWatch
live, number, every = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
folder = Folder("pacs", live / "outgoing", Taken())
writer = OutboxWriter(live / "data")
watch = FolderWatch(live / "data", lambda: writer)
fail_own_sync(number, every)
for _ in range(30):
    try:
        turn = watch.look(folder)
    except INDEX_FAULTS:
        continue
    if turn.fault is None and not any(path.is_file() for path in folder.path.rglob("*")):
        break
else:
    raise SystemExit("it was never taken")
os._exit(0)
"""


@pytest.mark.parametrize(("number", "every"), [(number, 0) for number in range(1, 9)] + [(1, 13)])
def test_a_file_of_a_watched_folder_is_kept(tmp_path: Path, number: int, every: int) -> None:
    live = tmp_path / "live"
    (live / "data").mkdir(parents=True)
    (live / "outgoing").mkdir()
    paths = ct_files(tmp_path / "in", 2)
    moment = time.time() - 10
    for path in paths:
        (live / "outgoing" / path.name).write_bytes(path.read_bytes())
        os.utime(live / "outgoing" / path.name, (moment, moment))
    cut = shims.PowerCut(tmp_path, live)
    cut.run(_TAKES, str(number), str(every))
    assert cut.failed_syncs > 0, "there are fewer syncs"
    disk = cut.disk(tmp_path / "disk")
    writer = OutboxWriter(disk / "data")
    try:
        with writer.view() as outbox:
            queued = [spooled_path(disk / "data", it.file) for it in outbox.deliveries()]
    finally:
        writer.close()
    assert sorted(path.read_bytes() for path in queued) == sorted(
        path.read_bytes() for path in paths
    )
