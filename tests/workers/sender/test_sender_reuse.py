"""Associations that are reused: each instance goes out in the syntax that one of its own would have
given it, whatever the one before it was, and however the peer chooses."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pydicom
import pytest
from pydicom.encaps import encapsulate

from engine.outbox.records import State
from tests.material import samples, wire
from tests.material.jpeg_encoder import Form, encode, picture
from tests.peers.peer_scripts import Scp
from tests.peers.scripted_peer import Decide, ScriptedPeer, accept_first, accept_only
from tests.rigs.sending import destination, office

_US: Final = "1.2.840.10008.5.1.4.1.1.6.1"  # not in table 4.2-33
_LOSSLESS: Final = "1.2.840.10008.1.2.4.70"
_WIDER: Final = (_LOSSLESS, wire.EXPLICIT, wire.IMPLICIT)
_ORDER: Final = ("explicit", "lossless", "implicit", "implicit", "lossless", "explicit") * 2
_SYNTAXES: Final = {"explicit": wire.EXPLICIT, "implicit": wire.IMPLICIT, "lossless": _LOSSLESS}


def one_for_each_class() -> Decide:
    """The first context of an abstract syntax, as many peers have it; no other."""
    taken: set[str] = set()

    def decide(identifier: int, abstract: str, syntaxes: list[str]) -> tuple[int, str]:
        if identifier == 1:  # a new association
            taken.clear()
        if abstract in taken:
            return 1, syntaxes[0]
        taken.add(abstract)
        return 0, syntaxes[0]

    return decide


_PEERS: Final[dict[str, Callable[[], Decide]]] = {
    "takes all": lambda: accept_first,
    "takes one context of a class": one_for_each_class,
    "takes no JPEG": lambda: accept_only(wire.EXPLICIT, wire.IMPLICIT),
    "takes implicit": lambda: accept_only(wire.IMPLICIT),
}


def images(directory: Path, sop_class: str, kinds: Sequence[str]) -> dict[str, Path]:
    """UID -> file, one of each kind in turn."""
    directory.mkdir()
    found = {}
    for number, kind in enumerate(kinds):
        made = pydicom.dcmread(samples.original("CT_small.dcm"))
        uid = f"1.2.826.0.1.3680043.10.14.{number + 1}"
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = uid
        made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = sop_class
        made.file_meta.TransferSyntaxUID = _SYNTAXES[kind]
        if kind == "lossless":
            made.PixelData = encapsulate([encode(picture(128, 128, 1, 16), Form(16))])
            made["PixelData"].VR = "OB"
        found[uid] = directory / f"{number:03}.dcm"
        made.save_as(found[uid], implicit_vr=kind == "implicit", little_endian=True)
    return found


def delivered(
    directory: Path, peer_of: Callable[[], Decide], paths: dict[str, Path], reuses: bool
) -> tuple[dict[str, str], int]:
    """(in which syntax each arrived, over how many associations), by one lane."""
    decide = peer_of()
    with ScriptedPeer(Scp(decide=decide)) as peer, office(directory, lanes=1) as sending:
        sending.queue(paths.values(), "pacs")
        sending.run([destination(peer.port, reuses=reuses, syntaxes=_WIDER, timeout_s=10)])
        assert sending.states() == {("pacs", State.DELIVERED): len(paths)}
    return {uid: stored.transfer_syntax for uid, stored in peer.stored.items()}, peer.associations


@pytest.mark.parametrize("sop_class", [_US, wire.CT_IMAGE])
@pytest.mark.parametrize("which", _PEERS)
def test_an_open_association_gives_what_a_fresh_one_would(
    tmp_path: Path, which: str, sop_class: str
) -> None:
    paths = images(tmp_path / "in", sop_class, _ORDER)
    alone, _ = delivered(tmp_path / "each", _PEERS[which], paths, reuses=False)
    reused, associations = delivered(tmp_path / "reuse", _PEERS[which], paths, reuses=True)
    assert reused == alone
    assert associations < len(paths), "and they are reused"


def test_what_the_peer_refuses_once_is_not_asked_for_each_time(tmp_path: Path) -> None:
    """Kinds that alternate, each decoded or encoded anew for this peer: one association for each
    kind tells what it takes."""
    kinds = ("lossless", "explicit") * 6
    paths = images(tmp_path / "in", wire.CT_IMAGE, kinds)
    found, associations = delivered(tmp_path / "data", _PEERS["takes implicit"], paths, reuses=True)
    assert set(found.values()) == {wire.IMPLICIT}
    assert associations == 2
