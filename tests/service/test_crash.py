"""`kill -9` of any process at any moment: what was acknowledged stays, and the service goes on.

The quick run stores some hundreds of instances under a few kills. The whole proof, 20,000
instances over five associations: `python -m pytest tests/service/test_crash.py -m slow`.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable

import pytest

from tests.material import wire
from tests.material.waiting import eventually, within
from tests.peers.peer import Peer, Sender
from tests.rigs import ledger
from tests.rigs.gateway import Gateway

pytestmark = pytest.mark.process


def make(number: int) -> tuple[str, bytes]:
    """Mostly small ones, so that there are many; every tenth of any size."""
    if number % 10 == 0:
        return ledger.instance(number)
    uid, _ = ledger.instance(number)
    series = f"{ledger.ROOT_UID}.4.{number % 50}"
    return uid, wire.small_data_set(uid, series=series, pixels=bytes([number % 251]) * 5000)


def start_senders(gateway: Gateway, count: int, deadline: float) -> list[Sender]:
    senders = [
        Sender(gateway.address, range(at, count, 5), make, deadline, per_association=100)
        for at in range(5)
    ]
    for sender in senders:
        sender.start()
    return senders


def kill_worker(gateway: Gateway, role: str) -> None:
    """SIGKILL to the worker of this role; it may have died in the moment since it was listed."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(gateway.pid(role), signal.SIGKILL)


def kill_supervisor(gateway: Gateway) -> None:
    """SIGKILL to the supervisor; a new one is started at once, beside its orphans."""
    gateway.kill_supervisor()
    gateway.start()


KILLS: dict[str, Callable[[Gateway], None]] = {
    "receiver": lambda gateway: kill_worker(gateway, "storage_scp"),
    "indexer": lambda gateway: kill_worker(gateway, "indexer"),
    "supervisor": kill_supervisor,
}


def run(gateway: Gateway, count: int, kills: list[str], pause_s: float, deadline: float) -> None:
    """Store `count` instances while the kills happen, and account for every one."""
    senders = start_senders(gateway, count, deadline)
    for kill in kills:
        time.sleep(pause_s)
        KILLS[kill](gateway)
    for sender in senders:
        sender.join(deadline)
        assert not sender.failure
    assert sum(sender.interrupted for sender in senders) > 0
    acknowledged = ledger.of(senders)
    assert len(acknowledged) == count
    gateway.wait_ready()
    ledger.assert_kept(gateway, acknowledged)
    assert gateway.stop() == 0
    gateway.start()
    ledger.assert_kept(gateway, acknowledged)


def test_workers_and_supervisor_are_killed(start_gateway: Callable[..., Gateway]) -> None:
    kills = ["receiver", "indexer", "supervisor", "receiver"]
    run(start_gateway(), 4000, kills, pause_s=0.3, deadline=60)


@pytest.mark.slow
def test_twenty_thousand_instances(start_gateway: Callable[..., Gateway]) -> None:
    choose = random.Random(20_000)
    kills = choose.choices(["receiver", "receiver", "indexer", "supervisor"], k=20)
    run(start_gateway(), 20_000, kills, pause_s=0.3, deadline=600)


def association_works(gateway: Gateway) -> bool:
    try:
        with Peer(gateway.address, timeout=2) as peer:
            return peer.associate().kind == wire.ASSOCIATE_AC and peer.echo() == 0
    except OSError:
        return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("name", ["storage_scp", "indexer"])
def test_a_dead_or_hung_worker_is_replaced(
    gateway: Gateway, name: str, how: signal.Signals
) -> None:
    """Within a second there is another one, and the port takes associations as before."""
    before = {each: gateway.pid(each) for each in ("storage_scp", "prefetch_scp", "indexer")}
    os.kill(before[name], how)
    begun = time.monotonic()
    eventually(lambda: not alive(before[name]), 2, "the old one is gone")
    assert time.monotonic() - begun < within(1.0)
    eventually(lambda: association_works(gateway), 2, "an association")
    assert time.monotonic() - begun < within(2.0)
    after = {each: gateway.pid(each) for each in before}
    assert after[name] != before[name]
    others = {key: pid for key, pid in before.items() if key != name}
    assert others.items() <= after.items(), "others were replaced, too"
    uid, data_set = ledger.instance(1, run=how * 10 + (name == "indexer"))
    with Peer(gateway.address) as peer:
        assert peer.associate().kind == wire.ASSOCIATE_AC
        assert peer.store(wire.CT_IMAGE, uid, data_set) == 0
        assert peer.release()
    ledger.assert_kept(gateway, {uid: ledger.digest(data_set)})


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_others_do_not_notice(gateway: Gateway) -> None:
    """The receiver of the other port dies and hangs; an association on this one goes on."""
    with Peer(gateway.address) as peer:
        assert peer.associate().kind == wire.ASSOCIATE_AC
        for how in (signal.SIGKILL, signal.SIGSTOP):
            os.kill(gateway.pid("prefetch_scp"), how)
            for number in range(20):
                uid, data_set = ledger.instance(number, run=how + 500)
                assert peer.store(wire.CT_IMAGE, uid, data_set) == 0
                time.sleep(0.05)
        assert peer.release()
