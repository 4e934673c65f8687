"""What is corrected goes out in a character set that this remote AE takes, or not at all."""

from pathlib import Path

import pydicom
import pytest

from engine.outbox.records import Delivery, State
from engine.sending.verdict import Ending
from tests.material import wire
from tests.peers.peer_scripts import Scp
from tests.peers.scripted_peer import ScriptedPeer
from tests.rigs.sending import ct_files, destination
from workers.sender.attempt import Errand, Sender

NAME = 0x00100010


@pytest.mark.parametrize("reuses", [False, True])
def test_only_who_takes_utf_8_is_sent_it(tmp_path: Path, reuses: bool) -> None:
    (path,) = ct_files(tmp_path, 1)
    uid = str(pydicom.dcmread(path).SOPInstanceUID)
    delivery = Delivery(
        *(1, "pacs", uid, wire.CT_IMAGE, "1", "2", wire.EXPLICIT, 1, "rule", ""),
        *(State.SENDING, 0, 0, 0, 0),
    )
    errand = Errand(delivery, str(path), {NAME: "Đặng^Hòa"})
    with ScriptedPeer(Scp()) as peer:
        strict = destination(peer.port, reuses=reuses)
        sender = Sender()
        refused = sender.attempt(strict, errand)
        assert refused.ending is Ending.IMPOSSIBLE
        assert "(0010,0010): not possible in the character set" in refused.reason
        assert not peer.stored
        sent = sender.attempt(strict._replace(character_sets=("ISO_IR 192",)), errand)
        assert sent.ending is Ending.DELIVERED
        sender.release()
    assert "Đặng^Hòa".encode() in peer.stored[uid].data
