"""The power fails at a random moment; what the disk holds by then is all the next start gets.

A shim keeps the disk as a pessimist sees it: nothing is there but what was synced. Every instance
that was acknowledged must be found in what is left. The negative control runs without syncs and
must lose something, or this test would prove nothing.
"""

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import shims
from tests.peers.peer import Sender
from tests.rigs import ledger
from tests.rigs.gateway import Gateway

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(shims.compiler() is None, reason="no C compiler"),
]


class Machine:
    """A computer whose power is cut again and again; the disk goes from life to life."""

    def __init__(self, directory: Path, seed: int, durability: str = "sync") -> None:
        self.directory = directory
        self.random = random.Random(seed)
        self.settings = {"durability": durability}
        self.disk = directory / "disk-0"
        self.lives = 0
        self.acknowledged: dict[str, str] = {}
        self.gateway: Gateway | None = None

    def live(self, seconds: float, live_names: bool, torn: bool, ext4: bool = False) -> int:
        """Start, receive for a while, lose power; how many were acknowledged in this life."""
        self._forget_earlier_lives()
        self.lives += 1
        here = self.directory / f"life-{self.lives}"
        here.mkdir()
        cut = shims.PowerCut(here, self.disk, ext4)
        gateway = Gateway(here, self.settings, cut.environment, self.disk)
        self.gateway = gateway.start()
        run = self.lives
        senders = [
            Sender(
                gateway.address,
                range(at, 100_000, 3),
                lambda number: ledger.instance(number, run),
                deadline=60,
                per_association=40,
            )
            for at in range(3)
        ]
        for sender in senders:
            sender.start()
        time.sleep(seconds)
        gateway.kill_everything()
        for sender in senders:
            sender.stopping.set()
        for sender in senders:
            sender.join(30)
            assert not sender.failure
        took = self.directory / f"disk-{self.lives}"
        self.disk = cut.disk(took, live_names, self.random if torn else None)
        self.acknowledged.update(ledger.of(senders))
        return len(ledger.of(senders))

    def _forget_earlier_lives(self) -> None:
        """They take hundreds of megabytes each; the last one stays, to be looked at."""
        for number in range(self.lives):
            shutil.rmtree(self.directory / f"disk-{number}", ignore_errors=True)
            shutil.rmtree(self.directory / f"life-{number}" / "shadow", ignore_errors=True)

    def wake(self) -> Gateway:
        """Power is back; the service starts on what the disk holds, without the shim."""
        self.gateway = Gateway(
            self.directory / f"awake-{self.lives}", self.settings, data_directory=self.disk
        ).start()
        return self.gateway

    def close(self) -> None:
        if self.gateway is not None:
            self.gateway.close()


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[list[Machine]]:
    machines: list[Machine] = []
    yield machines
    for machine in machines:
        machine.close()


@pytest.mark.parametrize(
    ("live_names", "torn"),
    [
        pytest.param(False, False, id="only what was synced"),
        pytest.param(False, True, id="synced names, torn bytes"),
        pytest.param(True, True, id="all names, torn bytes"),
    ],
)
def test_power_is_cut(
    tmp_path: Path, workshop: list[Machine], live_names: bool, torn: bool
) -> None:
    machine = Machine(tmp_path, seed=live_names * 2 + torn)
    workshop.append(machine)
    assert machine.live(1.5, live_names, torn) > 10
    ledger.assert_kept(machine.wake(), machine.acknowledged)


def test_power_is_cut_without_syncs(tmp_path: Path, workshop: list[Machine]) -> None:
    """The negative control: durability "os" keeps less than it acknowledged."""
    machine = Machine(tmp_path, seed=9, durability="os")
    workshop.append(machine)
    assert machine.live(1.5, live_names=False, torn=False) > 10
    assert ledger.missing(machine.wake(), machine.acknowledged)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_power_is_cut_again_and_again(tmp_path: Path, workshop: list[Machine], seed: int) -> None:
    """Five lives on one disk, some too short to finish the recovery of the one before."""
    machine = Machine(tmp_path, seed)
    workshop.append(machine)
    choose = random.Random(seed)
    for _ in range(5):
        seconds = choose.choice((0.05, 0.5, 2.0, 6.5))  # the last one spans a checkpoint
        machine.live(
            seconds,
            live_names=choose.random() < 0.5,
            torn=choose.random() < 0.7,
            ext4=choose.random() < 0.3,
        )
    assert len(machine.acknowledged) > 50
    ledger.assert_kept(machine.wake(), machine.acknowledged)
