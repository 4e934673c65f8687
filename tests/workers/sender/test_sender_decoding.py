"""An image that its decoder does not come back from fails alone; everything else is delivered."""

from pathlib import Path

import pydicom
import pytest

from engine import limits
from engine.outbox.records import State
from tests.material import wire
from tests.material.hostile_frames import COLUMNS, ROWS, open_rows
from tests.material.jpeg_encoder import Form, encode, picture
from tests.peers.peer_scripts import Scp
from tests.peers.scripted_peer import ScriptedPeer, accept_only
from tests.rigs.outgoing_images import image
from tests.rigs.sending import ct_files, destination, office
from workers.decoding.decoders import Decoders


def subsampled() -> bytes:
    made = bytearray(encode(picture(ROWS, COLUMNS, 3, 8), Form(8)))
    for component in range(3):
        made[made.index(b"\xff\xc3") + 11 + 3 * component] = 0x22
    return bytes(made)


def test_one_image_does_not_stop_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "decoding_cpu_s_base", 1)
    shape = (ROWS, COLUMNS, 1, 16)
    paths = ct_files(tmp_path / "in", 4)
    for number, (frame, said) in enumerate(
        [
            (open_rows(), shape),
            (open_rows(True), shape),
            (subsampled(), (ROWS, COLUMNS, 3, 8)),
        ]
    ):
        (tmp_path / str(number)).mkdir()
        path = image(tmp_path / str(number), [frame], said)
        made = pydicom.dcmread(path)
        uid = f"1.2.826.0.1.3680043.10.2.{number}"
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = uid
        made.save_as(path)
        paths.append(path)
    with (
        ScriptedPeer(Scp(decide=accept_only(wire.EXPLICIT))) as peer,
        Decoders() as decoders,
        office(tmp_path / "data", other=decoders.decode) as sending,
    ):
        numbers = sending.queue(paths, "pacs")
        sending.run([destination(peer.port)], timeout_s=60)
        ends = [sending.delivery(number) for number in numbers]
        assert [end.state for end in ends] == [
            *[State.DELIVERED] * 4,
            *[State.FAILED] * 2,
            State.DELIVERED,
        ]
        assert "leaves the number of rows open" in ends[4].reason
        assert "its decoder" in ends[5].reason
