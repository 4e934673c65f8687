"""`kill -9` while large instances are acknowledged by their sealed files alone."""

import os
import signal
from collections.abc import Callable

import pytest

from native import _core
from tests.material import wire
from tests.peers.peer import Peer
from tests.rigs import ledger
from tests.rigs.gateway import Gateway, toml

pytestmark = pytest.mark.process

ROUNDS = 15
LARGE = [number for number in range(60) if 3 <= number % 6 <= 4]


def store_large(gateway: Gateway, run: int) -> dict[str, str]:
    """Some in a row, all acknowledged just now."""
    acknowledged = {}
    with Peer(gateway.address) as peer:
        assert peer.associate().kind == wire.ASSOCIATE_AC
        for number in LARGE:
            uid, data_set = ledger.instance(number, run)
            assert peer.store(wire.CT_IMAGE, uid, data_set) == 0
            acknowledged[uid] = ledger.digest(data_set)
    return acknowledged


def adopted(gateway: Gateway) -> float:
    name = "scai_incoming_adopted_total"
    return sum(value for key, value in gateway.metrics().items() if key.startswith(name))


def recorded(gateway: Gateway) -> int:
    return _core.journal_last_sequence(str(gateway.data / "journal" / "storage_scp"))


def test_a_receivers_successor_takes_them_in(gateway: Gateway) -> None:
    acknowledged: dict[str, str] = {}
    for run in range(ROUNDS):
        acknowledged |= store_large(gateway, 300 + run)
        os.kill(gateway.pid("storage_scp"), signal.SIGKILL)
        gateway.wait_ready()
        ledger.assert_kept(gateway, acknowledged)
        if adopted(gateway):
            return
    raise AssertionError("every record was written before the kill")


def test_those_of_an_ae_that_is_gone_are_taken_in(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway()
    acknowledged: dict[str, str] = {}
    for run in range(ROUNDS):
        acknowledged |= store_large(gateway, 400 + run)
        gateway.kill_everything()
        if recorded(gateway) < len(acknowledged):
            break
        gateway.start()
    else:
        raise AssertionError("every record was written before the kill")
    gateway.settings["storage_scp"]["enabled"] = False
    gateway.config_file.write_text(toml(gateway.settings))
    gateway.start()
    ledger.assert_kept(gateway, acknowledged)
    assert recorded(gateway) >= len(acknowledged)
