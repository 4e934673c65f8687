"""Real receivers that take six seconds for a C-STORE response, with the settings as they come: each
gets every instance once. The five seconds of table 4.4-2 are for being let in."""

import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest

from engine.outbox.records import State
from tests.material import wire
from tests.peers.peer import Peer
from tests.peers.receivers import AVAILABLE, Pynetdicom, Storescp, remote
from tests.rigs.gateway import Gateway

pytestmark = pytest.mark.process
_ROOT: Final = "1.2.826.0.1.3680043.10.13"
_takes_s: Final = 6.0


@pytest.mark.skipif(not AVAILABLE, reason="no foreign receivers")
@pytest.mark.parametrize("associations", ["each", "reuse"])
def test_what_a_slow_receiver_takes_is_sent_once(tmp_path: Path, associations: str) -> None:
    with ExitStack() as stack:
        slow = Pynetdicom(tmp_path / "slow", [wire.CT_IMAGE], [wire.EXPLICIT], takes_s=_takes_s)
        stack.enter_context(closing(slow))
        # Asleep at the begin and at the end of the data set.
        sleeping = Storescp(tmp_path / "sleeping", "--sleep-during", "3")
        stack.enter_context(closing(sleeping))
        remotes = [
            remote("slow", slow, associations=associations),
            remote("sleeping", sleeping, associations=associations),
        ]
        settings = {"remotes": remotes, "rules": [{"name": "all", "to": ["slow", "sleeping"]}]}
        gateway = stack.enter_context(closing(Gateway(tmp_path / "gateway", settings)))
        gateway.start()
        uid = f"{_ROOT}.1"
        begun = time.monotonic()
        with Peer(gateway.address) as peer:
            assert peer.associate().kind == wire.ASSOCIATE_AC
            assert peer.store(wire.CT_IMAGE, uid, wire.small_data_set(uid)) == 0
            assert peer.release()
        deliveries = gateway.wait_settled(40, 2)
        assert time.monotonic() - begun >= _takes_s, "the peers were no slow ones"
        assert [(one.state, one.attempts, one.status) for one in deliveries] == [
            (State.DELIVERED, 1, 0),
            (State.DELIVERED, 1, 0),
        ]
        assert slow.came == [uid]
        assert sleeping.kept().keys() == {uid}
