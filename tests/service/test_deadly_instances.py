"""An instance that its sender dies or hangs of is tried by itself, fails the third time with that
reason, and everything else is delivered."""

from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest

from engine.outbox.records import State
from engine.prefetch.records import JobState
from tests.faults.deadly import ENDS, deadly
from tests.material import wire
from tests.material.waiting import eventually
from tests.peers.peer import Peer
from tests.peers.peer_scripts import Scp
from tests.peers.scripted_peer import ScriptedPeer
from tests.peers.tap import data_set_of_file
from tests.rigs.archives import prefetching
from tests.rigs.gateway import Gateway
from tests.rigs.prefetch_ends import ended_job, jobs_of

pytestmark = pytest.mark.process
_ROOT: Final = "1.2.826.0.1.3680043.10.15"
_DEADLY: Final = f"{_ROOT}.4.999"
_REASON: Final = "its sender died or hung while it was sent, 3 times, the last time with nothing"


def store(gateway: Gateway, uids: list[str]) -> None:
    with Peer(gateway.address) as peer:
        assert peer.associate().kind == wire.ASSOCIATE_AC
        for uid in uids:
            data_set = wire.small_data_set(uid, study=uid.rpartition(".")[0])
            assert peer.store(wire.CT_IMAGE, uid, data_set) == 0
        assert peer.release()


def store_one(gateway: Gateway, uid: str, data_set: bytes) -> None:
    with Peer(gateway.address) as peer:
        assert peer.associate().kind == wire.ASSOCIATE_AC
        assert peer.store(wire.CT_IMAGE, uid, data_set) == 0
        assert peer.release()


def told(gateway: Gateway) -> list[object]:
    return [row for row in gateway.log() if row["event"] == "delivery_failed"]


@pytest.mark.parametrize("end", ENDS)
def test_a_job_that_kills_the_retriever_fails_by_name(tmp_path: Path, end: str) -> None:
    """The one that came later is done meanwhile."""
    archive = Scp(matches=((0, None),))
    with ExitStack() as stack:
        peer = stack.enter_context(ScriptedPeer(archive))
        method = "workers.retriever.archive:RemoteArchive.find"
        gateway = Gateway(tmp_path / "gateway", {}, deadly(tmp_path, method, "DEADLY", end))
        stack.enter_context(closing(gateway))
        prefetching(gateway, peer.port, "ARCHIVE", "quiet_s = 0\n").start()
        for number, patient in enumerate(("DEADLY", "HARMLS")):
            uid = f"{_ROOT}.{number}.1"
            data_set = wire.small_data_set(uid, study=f"{_ROOT}.{number}")
            data_set = data_set.replace(b"WIRE-1", patient.encode())
            store_one(gateway, uid, data_set)
        ended_job(gateway, 2, 30)
        found = {job.ask.patient_id: job for job in jobs_of(gateway)}
        assert found["HARMLS"].state is JobState.DONE
        deadly_job = found["DEADLY"]
        assert (deadly_job.state, deadly_job.interruptions) == (JobState.FAILED, 3)
        assert deadly_job.reason == "the process that worked on it died or hung, 3 times"
        rows = [row for row in gateway.log() if row["event"] == "prefetch_failed"]
        assert [row["job"] for row in rows] == [deadly_job.number]


@pytest.mark.parametrize("end", ENDS)
def test_the_others_are_delivered(tmp_path: Path, end: str) -> None:
    uids = [f"{_ROOT}.{study}.{number}" for study in range(6) for number in range(5)]
    uids.insert(21, _DEADLY)
    with ExitStack() as stack:
        pacs = stack.enter_context(ScriptedPeer(Scp(slow_s=0.05)))
        quick = stack.enter_context(ScriptedPeer(Scp()))
        settings = {
            "prefetch_scp": {"enabled": False},
            "remotes": [
                {"name": name, "ae_title": "PEER", "host": "127.0.0.1", "port": peer.port}
                for name, peer in (("pacs", pacs), ("quick", quick))
            ],
            "rules": [{"name": "all", "to": ["pacs", "quick"]}],
        }
        environment = deadly(tmp_path, "workers.sender.attempt:Sender.attempt", _DEADLY, end)
        gateway = Gateway(tmp_path / "gateway", settings, environment)
        stack.enter_context(closing(gateway))
        gateway.start()
        store(gateway, uids)
        deliveries = gateway.wait_settled(60, 2 * len(uids))
        failed = [one for one in deliveries if one.state is State.FAILED]
        assert {(one.destination, one.sop_instance_uid) for one in failed} == {
            ("pacs", _DEADLY),
            ("quick", _DEADLY),
        }
        assert all(one.reason.startswith(_REASON) and one.deaths == 3 for one in failed)
        delivered = {one.sop_instance_uid for one in deliveries if one.state is State.DELIVERED}
        assert delivered == pacs.stored.keys() == quick.stored.keys() == {*uids} - {_DEADLY}
        eventually(lambda: len(told(gateway)) == 2, 10, "it is said")
        assert (
            "3 times, the last time with nothing else in"
            in gateway.command("queue", "show", str(failed[0].number)).stdout
        )


def is_set_aside(gateway: Gateway, uid: str) -> bool:
    rows = [row for row in gateway.log() if row["event"] == "instance_set_aside"]
    return [row["sop_instance_uid"] for row in rows] == [uid]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    "method", ["engine.intake.dispatch:Dispatcher.arrived", "engine.index.batch:Entry.__init__"]
)
def test_an_instance_that_kills_the_indexer_is_set_aside(
    tmp_path: Path, method: str, end: str
) -> None:
    """Before it has its place, and when rules look at it; the others are found and sent."""
    uids = [f"{_ROOT}.1.{number}" for number in range(20)]
    with ExitStack() as stack:
        peer = stack.enter_context(ScriptedPeer(Scp()))
        remote = {"name": "pacs", "ae_title": "PEER", "host": "127.0.0.1", "port": peer.port}
        settings = {"remotes": [remote], "rules": [{"name": "all", "to": ["pacs"]}]}
        gateway = Gateway(tmp_path / "gateway", settings, deadly(tmp_path, method, _DEADLY, end))
        stack.enter_context(closing(gateway))
        gateway.start()
        store(gateway, [*uids[:10], _DEADLY, *uids[10:]])
        eventually(lambda: is_set_aside(gateway, _DEADLY), 30, "it is told")
        gateway.wait_settled(30, len(uids))
        assert peer.stored.keys() == {*uids}
        assert set(gateway.find()) == {*uids}
        (kept,) = (gateway.data / "set_aside").rglob("*.dcm")
        assert kept.name.endswith(f"-{_DEADLY}.dcm")
        data_set = wire.small_data_set(_DEADLY, study=_DEADLY.rpartition(".")[0])
        assert data_set_of_file(kept.read_bytes()) == data_set
        gateway.kill_everything()
        gateway.start()
        store(gateway, [f"{_ROOT}.2.1"])
        gateway.wait_settled(30, len(uids) + 1)
        assert is_set_aside(gateway, _DEADLY), "and it stays there"
