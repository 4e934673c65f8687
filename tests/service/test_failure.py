"""Every file operation of the service fails once, and from then on: nothing acknowledged is lost.

A shim preloaded into all processes makes the N-th operation on the data directory fail, for
N = 1, 2, 3 ... until a round passes untouched. Each reply is 0000, A700 for a lack of space or 0110
for any other fault. The association lives on, the service recovers by itself, and what was refused
is not there.
"""

import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.index.freshness import catch_up
from tests.faults import shims
from tests.material import wire
from tests.material.waiting import eventually
from tests.peers.peer import Peer
from tests.rigs import ledger
from tests.rigs.gateway import Gateway, under_way

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(shims.compiler() is None, reason="no C compiler"),
]

NUMBERS_MAX = 400
UNTOUCHED_MAX = 6  # rounds in a row that nothing was hit in: N is beyond what a round does


_STATUSES = {errno.ENOSPC: 0xA700, errno.EIO: 0x0110}


class Bench:
    """A service under the shim, one association that must live through all, and the ledger."""

    def __init__(self, directory: Path) -> None:
        self.gateway = Gateway(directory)
        self.fail = shims.FailNth(directory, self.gateway.data)
        self.gateway.environment.update(self.fail.environment)
        self.gateway.start()
        self.peer = Peer(self.gateway.address, timeout=15)
        assert self.peer.associate().kind == wire.ASSOCIATE_AC
        self.acknowledged: dict[str, str] = {}
        self.refused: set[str] = set()
        self.count = 0
        self.refusals = {0x0110, 0xA700}

    def store(self) -> int:
        """One more instance; the status, noted."""
        self.count += 1
        uid, data_set = ledger.instance(self.count)
        status, comment = self.peer.store_with_comment(wire.CT_IMAGE, uid, data_set)
        assert status in (0, *self.refusals), f"status {status:04x}"
        if status == 0:
            self.acknowledged[uid] = ledger.digest(data_set)
        else:
            assert 0 < len(comment) <= 64
            self.refused.add(uid)
        return status

    def recovered(self) -> bool:
        """Whether an instance is stored again."""
        return self.store() == 0

    def round(self, number: int, code: int, persistent: bool, kinds: int) -> bool:
        """Arm, store, heal, recover; whether anything was hit."""
        self.refusals = {_STATUSES[code]} if code in _STATUSES else {0x0110, 0xA700}
        self.fail.arm(number, code, persistent, kinds)
        for _ in range(3):
            self.store()
        hit = self.fail.hits > 0
        if not hit:  # what the indexer does comes after the answers, a checkpoint after that
            eventually(lambda: self.fail.hits > 0 or catch_up(self.gateway.data, 0), 10)
            time.sleep(0.25)
            hit = self.fail.hits > 0
        self.fail.heal()
        eventually(self.recovered, 8, f"recovery after {self.fail.where}")
        return hit

    def prove(self) -> None:
        """All acknowledged is there; nothing refused is; nothing half-stored lies about."""
        ledger.assert_kept(self.gateway, self.acknowledged)
        found = self.gateway.find()
        assert not self.refused & set(found), "refused, yet stored"

    def close(self) -> None:
        self.peer.close()
        self.gateway.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    service = Bench(tmp_path)
    yield service
    service.close()


QUICK_CASES = [
    pytest.param(errno.EIO, False, id="one input/output error"),
    pytest.param(errno.ENOSPC, True, id="no space until healed"),
    pytest.param(0, True, id="short writes until healed"),
]
CASES = [
    *QUICK_CASES,
    pytest.param(errno.ENOSPC, False, id="no space once"),
    pytest.param(errno.EIO, True, id="input/output errors until healed"),
    pytest.param(0, False, id="one short write"),
]


def run_rounds(bench: Bench, code: int, persistent: bool, numbers: range) -> int:
    """Rounds for these N until they pass untouched; how many were hit."""
    kinds = shims.WRITE if code == 0 else shims.EVERYTHING
    hits = untouched = 0
    for number in numbers:
        if bench.round(number, code, persistent, kinds):
            hits += 1
            untouched = 0
        else:
            untouched += 1
            if untouched == UNTOUCHED_MAX:
                break
    else:
        assert numbers.step > 1, "rounds never came to an end"
    return hits


def prove_and_restart(bench: Bench) -> None:
    bench.prove()
    assert bench.peer.release()
    assert bench.gateway.stop() == 0
    bench.gateway.start()
    bench.prove()
    # What could not even be removed while everything failed goes at the next start.
    incoming = bench.gateway.data / "incoming"
    eventually(lambda: not under_way(incoming), 5, "incoming files are cleared away")


@pytest.mark.parametrize(("code", "persistent"), QUICK_CASES)
def test_sampled_operations_fail(bench: Bench, code: int, persistent: bool) -> None:
    """N in steps, a different phase in each case: seconds instead of minutes."""
    hits = run_rounds(bench, code, persistent, range(1, 60, 5))
    assert hits >= 2
    prove_and_restart(bench)


@pytest.mark.slow
@pytest.mark.parametrize(("code", "persistent"), CASES)
def test_every_operation_fails(bench: Bench, code: int, persistent: bool) -> None:
    hits = run_rounds(bench, code, persistent, range(1, NUMBERS_MAX))
    assert hits >= 10
    prove_and_restart(bench)


def test_directory_that_cannot_be_written(bench: Bench) -> None:
    """No file can be made nor renamed: refused with a reason, and all is well afterwards."""
    code = errno.EACCES
    kinds = shims.OPEN | shims.MKDIR | shims.RENAME
    assert bench.store() == 0
    bench.fail.arm(1, code, True, kinds)
    statuses = [bench.store() for _ in range(12)]
    assert 0x0110 in statuses
    assert bench.peer.echo() == 0
    bench.fail.heal()
    eventually(bench.recovered, 8, "recovery")
    prove_and_restart(bench)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["open", "rename", "unlink", "allocate", "truncate"])
def test_the_journal_cannot_turn_its_segments(bench: Bench, name: str) -> None:
    """Twice a segment's worth a round, while an operation on the journal's directory fails."""
    kinds = getattr(shims, name.upper())
    for number in range(1, 6):
        bench.fail.arm(number, errno.EIO, persistent=number % 2 == 0, kinds=kinds)
        for _ in range(150):
            bench.store()
        bench.fail.heal()
        eventually(bench.recovered, 8, f"recovery after {bench.fail.where}")
    prove_and_restart(bench)


def fails_at(directory: Path, number: int, when: str) -> None:
    """The N-th operation of a start, or of a stop, fails: no loss, a reason, a good next start."""
    gateway = Gateway(directory)
    fail = shims.FailNth(directory, gateway.data)
    gateway.environment.update(fail.environment)
    acknowledged: dict[str, str] = {}
    try:
        if when == "start":
            fail.arm(number, errno.EIO)
        try:
            gateway.start(20)
        except AssertionError:
            assert when == "start"
            assert "Traceback" not in gateway.log_file.read_text()
            fail.heal()
            gateway.close()
            gateway.start()
        with Peer(gateway.address) as peer:
            assert peer.associate().kind == wire.ASSOCIATE_AC
            for count in range(6):
                uid, data_set = ledger.instance(count)
                assert peer.store(wire.CT_IMAGE, uid, data_set) == 0
                acknowledged[uid] = ledger.digest(data_set)
            assert peer.release()
        if when == "stop":
            fail.arm(number, errno.EIO)
        gateway.stop()
        fail.heal()
        gateway.start()
        ledger.assert_kept(gateway, acknowledged)
    finally:
        gateway.close()


@pytest.mark.parametrize(
    ("when", "number"), [("start", 1), ("start", 9), ("start", 22), ("stop", 1), ("stop", 5)]
)
def test_sampled_operations_of_a_start_or_stop_fail(tmp_path: Path, when: str, number: int) -> None:
    fails_at(tmp_path, number, when)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 50))
def test_any_operation_of_a_start_fails(tmp_path: Path, number: int) -> None:
    fails_at(tmp_path, number, "start")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 25))
def test_any_operation_of_a_stop_fails(tmp_path: Path, number: int) -> None:
    fails_at(tmp_path, number, "stop")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 900 MiB, 500 MiB of which a file occupies that a test may remove."""
    directory = tmp_path / "disk"
    directory.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", "size=900m", "none", str(directory)], check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this machine does not let a test mount a file system")
    with (directory / "filler").open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, 500 << 20)
    yield directory
    subprocess.run(["/bin/umount", "-l", str(directory)], check=True)


def test_a_full_disk(small_disk: Path, start_gateway: Callable[..., Gateway]) -> None:
    """Refused while it is full, taken again when there is room; nothing lost on the way."""
    gateway = start_gateway(data_directory=small_disk / "data")
    acknowledged: dict[str, str] = {}
    refused = 0
    number = 0

    def store() -> int:
        nonlocal number
        number += 1
        uid = f"{ledger.ROOT_UID}.7.{number}"
        data_set = wire.small_data_set(uid, pixels=os.urandom(1000) * 3000)
        status, comment = peer.store_with_comment(wire.CT_IMAGE, uid, data_set)
        if status == 0:
            acknowledged[uid] = ledger.digest(data_set)
        else:
            assert status == 0xA700
            assert "full" in comment.lower() or "space" in comment.lower()
        return status

    with Peer(gateway.address, timeout=20) as peer:
        assert peer.associate().kind == wire.ASSOCIATE_AC
        while refused < 5 and number < 400:
            refused += store() != 0
        assert refused == 5
        assert peer.echo() == 0
        eventually(lambda: not gateway.ready(), 3, "not ready while it is full")
        ledger.assert_kept(gateway, acknowledged)
        (small_disk / "filler").unlink()
        eventually(lambda: store() == 0, 10, "recovery when there is room")
        eventually(gateway.ready, 5, "ready when there is room")
        assert peer.release()
    ledger.assert_kept(gateway, acknowledged)
    assert gateway.stop() == 0
    gateway.start()
    ledger.assert_kept(gateway, acknowledged)
    gateway.close()
