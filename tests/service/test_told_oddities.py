"""What an instance has that the standard does not is told when it goes out: in the sender's log,
with tag and offset, and in its metrics."""

from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest

from tests.material import wire
from tests.material.waiting import eventually
from tests.peers.peer import Peer
from tests.peers.peer_scripts import Scp
from tests.peers.scripted_peer import ScriptedPeer, accept_only
from tests.rigs.gateway import Gateway

pytestmark = pytest.mark.process
_UID: Final = "1.2.826.0.1.3680043.10.16.1"
_META: Final = wire.explicit_element(0x00020016, "AE", b"HB")
_METRIC: Final = "scai_sent_oddities_total"


def lines(gateway: Gateway) -> list[str]:
    rows = [row for row in gateway.log() if row["event"] == "instance_odd"]
    assert all(row["sop_instance_uid"] == _UID for row in rows)
    return [row["text"] for row in rows]


def test_elements_of_group_0002_that_are_left_out(tmp_path: Path) -> None:
    """Left out where it is written anew; what goes as it came is no reason for a line."""
    data_set = wire.small_data_set(_UID)
    with ExitStack() as stack:
        peers = {
            "explicit": stack.enter_context(ScriptedPeer(Scp())),
            "implicit": stack.enter_context(ScriptedPeer(Scp(decide=accept_only(wire.IMPLICIT)))),
        }
        settings = {
            "remotes": [
                {"name": name, "ae_title": "PEER", "host": "127.0.0.1", "port": peer.port}
                for name, peer in peers.items()
            ],
            "rules": [{"name": "all", "to": [*peers]}],
        }
        gateway = stack.enter_context(closing(Gateway(tmp_path / "gateway", settings)))
        gateway.start()
        with Peer(gateway.address) as modality:
            assert modality.associate().kind == wire.ASSOCIATE_AC
            assert modality.store(wire.CT_IMAGE, _UID, _META + data_set) == 0
            assert modality.release()
        gateway.wait_settled(30, 2)
        assert peers["explicit"].stored[_UID].data == _META + data_set
        sent = peers["implicit"].stored[_UID].data
        assert sent.startswith(b"\x08\0\x16\0"), "without them"
        eventually(lambda: lines(gateway), 10, "it is told")
        (text,) = lines(gateway)
        assert text.startswith("elements of group 0002 in the data set, left out: (0002,0016) at")
        counted = {
            name: value
            for name, value in gateway.metrics().items()
            if name.startswith(_METRIC) and value
        }
        ((name, value),) = counted.items()
        assert ('kind="meta_in_data_set"' in name, value) == (True, 1)
