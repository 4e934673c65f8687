"""`kill -9` of any process at any moment while instances flow in, and out to two destinations.

One destination is there all the time, the other one is killed and started again and again. In the
end each acknowledged instance lies, byte for byte, at both receivers, or stands in the queue with
its reason; nothing hangs in between; and what failed arrives once the user says so.

The quick run has a few hundred instances. The whole proof, of five thousand under thirty kills:
`python -m pytest tests/service/test_forward_crash.py -m slow`.
"""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from engine.outbox.records import Delivery, State
from tests.material import wire
from tests.peers.peer import Sender
from tests.peers.receivers import AVAILABLE, Storescp, remote
from tests.peers.tap import data_set_of_file
from tests.rigs import ledger
from tests.rigs.gateway import Gateway

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not AVAILABLE, reason="no foreign receivers"),
]
DESTINATIONS = ("steady", "flapping")
ROOT = "1.2.826.0.1.3680043.10.8"


def make(number: int) -> tuple[str, bytes]:
    """Small ones, in some studies that arrive side by side; each differs from all others. Not all
    at once, so that they still come while processes die."""
    time.sleep(0.01)
    uid = f"{ROOT}.{number}"
    study = f"{ROOT}.1.{number % 7}"
    pixels = number.to_bytes(4, "little") * 500
    return uid, wire.small_data_set(uid, study, f"{study}.1", pixels)


class Flapping(threading.Thread):
    """Kills a receiver and starts it again, until it is told to stop; then it is there."""

    def __init__(self, receiver: Storescp, seed: int) -> None:
        super().__init__(daemon=True)
        self.receiver = receiver
        self.stopping = threading.Event()
        self.deaths = 0
        self._choose = random.Random(seed)

    def run(self) -> None:
        while not self.stopping.wait(self._choose.uniform(0.1, 1.0)):
            self.receiver.kill()
            self.deaths += 1
            self.stopping.wait(self._choose.uniform(0.1, 1.0))
            self.receiver.start()


@contextlib.contextmanager
def service(directory: Path, retries: int) -> Iterator[tuple[Gateway, dict[str, Storescp]]]:
    """The gateway, and the two receivers that all it gets goes to."""
    with ExitStack() as stack:
        receivers = {
            name: stack.enter_context(closing(Storescp(directory / name))) for name in DESTINATIONS
        }
        settings = {
            "application_timeout_s": 5,
            "response_timeout_s": 5,
            "retry_count": retries,
            "send": {"retry_pause_s": 1},
            "remotes": [remote(name, receiver) for name, receiver in receivers.items()],
            "rules": [{"name": "both", "when": {}, "to": list(DESTINATIONS)}],
        }
        gateway = stack.enter_context(closing(Gateway(directory / "gateway", settings)))
        yield gateway.start(), receivers


def kill_worker(gateway: Gateway, name: str) -> None:
    """It may have died in the moment since it was listed."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(gateway.pid(name), signal.SIGKILL)


def kill_supervisor(gateway: Gateway) -> None:
    """A new one is started at once, beside its orphans."""
    gateway.kill_supervisor()
    gateway.start()


def kill_everything(gateway: Gateway) -> None:
    """As a power cut, but for the disk."""
    gateway.kill_everything()
    gateway.start()


KILLS: dict[str, Callable[[Gateway], None]] = {
    "sender": lambda gateway: kill_worker(gateway, "sender"),
    "indexer": lambda gateway: kill_worker(gateway, "indexer"),
    "supervisor": kill_supervisor,
    "everything": kill_everything,
}


def run(directory: Path, count: int, kills: list[str], seed: int, wait_s: float) -> None:
    """The trial, and the reckoning."""
    choose = random.Random(seed)
    with service(directory, retries=2) as (gateway, receivers):
        flapping = Flapping(receivers["flapping"], seed)
        flapping.start()
        senders = [Sender(gateway.address, range(at, count, 5), make, wait_s) for at in range(5)]
        for sender in senders:
            sender.start()
        for kill in kills:
            time.sleep(choose.uniform(0.05, 0.8))
            KILLS[kill](gateway)
        for sender in senders:
            sender.join(wait_s)
            assert not sender.failure
        acknowledged = ledger.of(senders)
        assert len(acknowledged) == count
        gateway.wait_ready()
        # A destination that was not there when it was asked is asked more and more rarely: so it
        # stays, if that has not gone well by then.
        stays = threading.Timer(wait_s / 4, flapping.stopping.set)
        stays.start()
        first = gateway.wait_settled(wait_s, 2 * count)
        stays.cancel()
        flapping.stopping.set()
        flapping.join(30)
        assert flapping.deaths > 0
        assert_accounted(first, acknowledged, receivers)
        assert not [each for each in first if each.destination == "steady" and failed(each)]
        if any(failed(each) for each in first):
            assert gateway.command("queue", "retry", "--all").returncode == 0
        last = gateway.wait_settled(wait_s, 2 * count)
        assert_accounted(last, acknowledged, receivers)
        assert not [each for each in last if failed(each)]
        ledger.assert_kept(gateway, acknowledged)


def failed(delivery: Delivery) -> bool:
    return delivery.state is State.FAILED


def assert_accounted(
    deliveries: list[Delivery], acknowledged: dict[str, str], receivers: dict[str, Storescp]
) -> None:
    """Each instance has its deliveries to both; what is called delivered lies at the receiver as
    it was acknowledged, what is not has failed, and says why."""
    expected = {(name, uid) for name in receivers for uid in acknowledged}
    assert {(each.destination, each.sop_instance_uid) for each in deliveries} == expected
    kept = {name: receiver.kept() for name, receiver in receivers.items()}
    for each in deliveries:
        if each.state is State.DELIVERED:
            path = kept[each.destination][each.sop_instance_uid]
            there = ledger.digest(data_set_of_file(path.read_bytes()))
            assert there == acknowledged[each.sop_instance_uid], each
        else:
            assert (each.state, bool(each.reason)) == (State.FAILED, True), each
    delivered = {
        (each.destination, each.sop_instance_uid)
        for each in deliveries
        if each.state is State.DELIVERED
    }
    for each in deliveries:
        if failed(each):
            assert (each.destination, each.sop_instance_uid) not in delivered, "nor both at once"


def test_a_few_hundred_through_some_kills(tmp_path: Path) -> None:
    run(tmp_path, 300, ["sender", "indexer", "supervisor", "sender"], seed=1, wait_s=60)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_five_thousand_through_thirty_kills(tmp_path: Path, seed: int) -> None:
    kills = ["sender", "indexer", "supervisor"]
    chosen = random.Random(seed).choices([*kills, "everything"], [4, 3, 2, 1], k=30)
    run(tmp_path, 5000, chosen, seed, wait_s=600)
