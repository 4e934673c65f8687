"""The N-th sync fails as Linux makes it fail, then the power: nothing acknowledged is lost.

A sync that fails drops the pages it was for and reports once; the next one succeeds and writes only
what was written again. So whoever merely tries again loses them when the power goes. The rule and
its reasons: docs/decisions/0024-a-failed-sync-is-not-believed.md.
"""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.index.freshness import catch_up
from tests.faults import shims
from tests.material import wire
from tests.material.waiting import eventually
from tests.peers.peer import Peer
from tests.peers.receivers import Storescp, remote
from tests.rigs import ledger
from tests.rigs.gateway import Gateway, under_way

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(shims.compiler() is None, reason="no C compiler"),
]


def test_the_shim_drops_what_it_failed_to_sync(tmp_path: Path) -> None:
    """The second sync succeeds, and the disk has only what was written in between."""
    cut = shims.PowerCut(tmp_path, tmp_path / "live")
    cut.fail_sync(1)
    script = """if True:
        import os, sys
        file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
        os.pwrite(file, b"a" * 4096 + b"b" * 4096, 0)
        try:
            os.fdatasync(file)
        except OSError as error:
            print(error.errno)
        os.pwrite(file, b"c" * 10, 4096)
        os.fdatasync(file)
        os.fsync(os.open(os.path.dirname(sys.argv[1]), os.O_RDONLY))
    """
    told = subprocess.run(
        [sys.executable, "-c", script, str(cut.live / "file")],
        env={**os.environ, **cut.environment},
        capture_output=True,
        check=True,
    )
    assert told.stdout.split() == [b"%d" % errno.EIO]
    disk = cut.disk(tmp_path / "disk") / "file"
    assert disk.read_bytes() == bytes(4096) + b"c" * 10 + b"b" * 4086


class Run:
    """Start, store, deliver, stop, with one sync that fails; then the power goes."""

    def __init__(self, directory: Path, number: int, every: int = 0) -> None:
        self.directory = directory
        self.receiver = Storescp(directory / "received")
        self.settings = {
            "remotes": [remote("archive", self.receiver)],
            "rules": [{"name": "all", "when": {}, "to": ["archive"]}],
        }
        self.cut = shims.PowerCut(directory, directory / "disk-0")
        self.gateway = Gateway(directory, self.settings, self.cut.environment, directory / "disk-0")
        self.acknowledged: dict[str, str] = {}
        self.cut.fail_sync(number, every)

    def live(self, instances: int, stop: bool) -> None:
        try:
            self.gateway.start(20)
        except AssertionError:
            assert "Traceback" not in self.gateway.log_file.read_text()
            self.gateway.close()
            self.gateway.start(20)
        with Peer(self.gateway.address, timeout=15) as peer:
            assert peer.associate().kind == wire.ASSOCIATE_AC
            for count in range(instances):
                uid, data_set = ledger.instance(count)
                if peer.store(wire.CT_IMAGE, uid, data_set) == 0:
                    self.acknowledged[uid] = ledger.digest(data_set)
            assert peer.release()
        assert self.acknowledged
        eventually(lambda: catch_up(self.gateway.data, 0), 20, "the index has them")
        eventually(self._checkpointed, 20, "a checkpoint")
        if stop:
            self.gateway.stop()
        self.gateway.close()

    def _checkpointed(self) -> bool:
        incoming = self.gateway.data / "incoming" / "storage_scp"
        return not under_way(incoming)

    def wake(self) -> Gateway:
        """Power is back: what the disk has, without the shim."""
        disk = self.cut.disk(self.directory / "disk-1")
        self.gateway = Gateway(self.directory / "awake", self.settings, data_directory=disk)
        return self.gateway.start()

    def close(self) -> None:
        self.gateway.close()
        self.receiver.close()


def run(directory: Path, number: int, every: int = 0, stop: bool = False) -> int:
    """Whether the sync was there to fail; nothing acknowledged may be lost."""
    one = Run(directory, number, every)
    try:
        one.live(12, stop)
        hits = one.cut.failed_syncs
        ledger.assert_kept(one.wake(), one.acknowledged)
        queued = {delivery.sop_instance_uid for delivery in one.gateway.deliveries()}
        assert set(one.acknowledged) <= queued, "each was to be sent"
        return hits
    finally:
        one.close()


@pytest.mark.parametrize(("number", "every"), [(3, 0), (14, 0), (25, 0), (31, 5)])
def test_sampled_syncs_fail(tmp_path: Path, number: int, every: int) -> None:
    assert run(tmp_path, number, every) > 0


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 90))
def test_any_sync_fails(tmp_path: Path, number: int) -> None:
    """A run from start to stop has some eighty; the last of them come with the stop."""
    run(tmp_path, number, stop=True)
