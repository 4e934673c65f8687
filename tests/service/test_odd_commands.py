"""Command sets as real peers write them, over the wire: what they mean is done, and told once an
association, whether the peer asks us or we ask it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from engine.prefetch.records import JobState
from tests.material import wire
from tests.material.odd_commands import ODD
from tests.material.waiting import eventually
from tests.peers.peer import Peer
from tests.peers.scripted_peer import ScriptedPeer
from tests.rigs.archives import make_study, prefetching, send
from tests.rigs.gateway import Gateway
from tests.rigs.prefetch_ends import ended_job
from tests.rigs.prefetch_shelf import IMPATIENT, RULE, SOON, Shelf
from tests.rigs.sending import ct_files

pytestmark = pytest.mark.process


def told(gateway: Gateway, kind: str, who: Mapping[str, str]) -> int:
    """Log lines of this peer and kind."""
    lines = [line for line in gateway.log() if line["event"] == "command_odd"]
    assert all(line["text"] for line in lines)
    return sum(who.items() <= line.items() and line["kind"] == kind for line in lines)


def counted(gateway: Gateway, kind: str, process: str) -> float:
    """What a process counted."""
    return sum(
        value
        for name, value in gateway.metrics().items()
        if name.startswith("scai_command_oddities_total")
        and f'kind="{kind}"' in name
        and f'process="{process}"' in name
    )


def test_requests_that_real_peers_send(gateway: Gateway) -> None:
    for number, (encode, kind) in enumerate(ODD.values()):
        before, calling = counted(gateway, kind, "storage_scp"), f"ODD{number}"
        uids = [f"1.2.826.0.1.3680043.10.1.{digits}" for digits in (100 + number, 1000 + number)]
        with Peer(gateway.address) as peer:
            peer.associate(wire.associate_request(wire.storage_contexts(), calling=calling))
            context = peer.context_for(wire.CT_IMAGE, wire.EXPLICIT)
            for uid in uids * 2:  # of odd and of even length
                elements = wire.store_elements(wire.CT_IMAGE, uid)
                peer.send(wire.p_data(context, encode(elements), command=True))
                peer.send(wire.p_data(context, wire.small_data_set(uid), command=False))
                assert peer.receive_command()[0x0900] == wire.us(0)
            assert peer.release()
        assert gateway.find().keys() >= set(uids)
        assert (
            eventually(lambda who={"calling_ae": calling}, kind=kind: told(gateway, kind, who)) == 1
        )
        assert counted(gateway, kind, "storage_scp") == before + 1


def test_responses_that_real_peers_send(
    make_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    trigger = make_study(tmp_path / "trigger", "4711", "20240601", images=1)
    encode, kind = ODD["no group length"]
    gateway = make_gateway(IMPATIENT)
    shelf = Shelf(make_study(tmp_path / "prior", "4711", "20230510"), gateway)
    with ScriptedPeer(shelf.scp(encode)) as peer:
        prefetching(gateway, peer.port, "ARCHIVE", RULE, SOON).start()
        send(trigger, gateway.port)
        job = ended_job(gateway)
        assert (job.state, job.progress.total("moved")) == (JobState.DONE, 3)
        assert peer.associations == 4
        assert told(gateway, kind, {"destination": job.ask.archive}) == 4
        assert counted(gateway, kind, "retriever") == 4
        (path,) = ct_files(tmp_path / "in", 1)
        sent = gateway.command("send", "--to", job.ask.archive, str(path))
        assert sent.returncode == 0, sent.stdout + sent.stderr
    assert told(gateway, kind, {"destination": job.ask.archive}) == 5
    assert counted(gateway, kind, "sender") == 1
