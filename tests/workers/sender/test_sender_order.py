"""Instances go out study after study, each in its order, to peers that are full, away or back.

Several lanes send at once, so an instance may overtake those that other lanes have in hand when it
is begun, and no other: as many as there are other lanes. With one lane there is no overtaking.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

import pydicom
import pytest

from engine import limits
from engine.outbox.records import State
from tests.material import samples, wire
from tests.material.waiting import free_ports
from tests.peers.peer_scripts import Scp
from tests.peers.scripted_peer import Link, ScriptedPeer
from tests.rigs.sending import Office, destination, office

STUDIES, EACH = 6, 25
LANES = limits.associations_sending_max


def files_of_studies(directory: Path) -> list[Path]:
    """They come turn about: the first of each study, then the second of each."""
    dataset = pydicom.dcmread(samples.original("CT_small.dcm"))
    directory.mkdir()
    paths = []
    for number in range(EACH):
        for study in range(STUDIES):
            uid = f"1.2.826.0.1.3680043.10.2.{study}.{number}"
            dataset.StudyInstanceUID = uid.rpartition(".")[0]
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
            paths.append(directory / f"{uid}.dcm")
            dataset.save_as(paths[-1])
    return paths


def place(uid: str) -> int:
    """Which one it is, study after study."""
    study, number = uid.split(".")[-2:]
    return int(study) * EACH + int(number)


def overtaken(stored: Sequence[str]) -> int:
    """How many of those before it an instance has overtaken, at most."""
    places = [place(uid) for uid in stored]
    return max(sum(later < own for later in places[at + 1 :]) for at, own in enumerate(places))


class LettingIn:
    """A service that lets only so many in at once: "local limit exceeded"."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.refused = 0
        self._inside = 0
        self._lock = threading.Lock()
        self._scp = Scp()

    def __call__(self, link: Link) -> None:
        with self._lock:
            is_full = self._inside >= self.most
            self.refused += is_full
            self._inside += not is_full
        if is_full:
            link.request = link.receive()
            link.send(wire.pdu(wire.ASSOCIATE_RJ, bytes((0, 2, 3, 2))))
            link.hang()
            return
        try:
            self._scp(link)
        finally:
            with self._lock:
                self._inside -= 1


def all_delivered(sending: Office, numbers: list[int]) -> None:
    assert {sending.delivery(number).state for number in numbers} == {State.DELIVERED}


@pytest.mark.parametrize("lanes", [1, LANES])
@pytest.mark.parametrize("most", [1, 2, LANES])
@pytest.mark.parametrize("reuses", [False, True])
def test_no_more_is_overtaken_than_other_lanes_have(
    lanes: int, most: int, reuses: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a peer does not let all lanes in, and is asked again and again for one more: what
    it turned away goes first."""
    monkeypatch.setattr(limits, "crowding_forgotten_s", 0.05)
    paths = files_of_studies(tmp_path / "in")
    letting_in = LettingIn(most)
    with ScriptedPeer(letting_in) as peer, office(tmp_path / "data", lanes) as sending:
        numbers = sending.queue(paths, "pacs")
        sending.run([destination(peer.port, "pacs", reuses)], timeout_s=60)
        all_delivered(sending, numbers)
        assert {sending.delivery(number).attempts for number in numbers} == {1}
    assert letting_in.refused > 0 or most >= lanes
    assert len(peer.stored) == len(paths)
    assert overtaken([*peer.stored]) <= lanes - 1


@pytest.mark.parametrize("lanes", [1, LANES])
def test_the_order_holds_over_an_absence(lanes: int, tmp_path: Path) -> None:
    """What a peer that goes away had in hand goes first when it is back."""
    paths = files_of_studies(tmp_path / "in")
    (port,) = free_ports(1)
    with office(tmp_path / "data", lanes) as sending:
        numbers = sending.queue(paths, "pacs")
        with ScriptedPeer(Scp(), port=port) as first:
            sending.lanes.open_for({"pacs": destination(port)})
            while len(first.stored) < EACH * 2:
                sending.turn()
        sending.run([destination(port)], away=1)
        with ScriptedPeer(Scp(), port=port) as second:
            sending.run([destination(port)], timeout_s=60)
            all_delivered(sending, numbers)
    assert overtaken([*first.stored]) <= lanes - 1
    assert overtaken([*second.stored]) <= lanes - 1
    assert {*first.stored, *second.stored} == {path.stem for path in paths}
