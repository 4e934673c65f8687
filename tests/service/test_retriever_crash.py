"""The retriever over kills and storms: each job is finished once, and in its turn."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from engine.prefetch.records import JobState
from tests.material.waiting import eventually
from tests.peers.peer_scripts import Scp
from tests.peers.scripted_peer import Gone, Request, ScriptedPeer
from tests.rigs.archives import MadeStudy, make_study, prefetching, send
from tests.rigs.gateway import Gateway, resident_kib
from tests.rigs.prefetch_ends import ended_job, jobs_of
from tests.rigs.prefetch_shelf import IMPATIENT, RULE, SOON, SUCCESS, Shelf, asked

pytestmark = pytest.mark.process


@pytest.fixture
def gateway(make_gateway: Callable[..., Gateway]) -> Gateway:
    return make_gateway(IMPATIENT)


@pytest.mark.parametrize("at", ["find", "image", "move", "arrived"])
def test_after_a_kill_it_finishes_once(
    gateway: Gateway, shelf: Shelf, trigger: MadeStudy, at: str
) -> None:
    """SIGKILL to everything, at the first study query, an image query, in the retrieval, and when
    all has arrived but the last word."""
    reached = threading.Event()
    go_on = threading.Event()
    once = iter([True])

    def stop_here() -> None:
        if next(once, False):
            reached.set()
            go_on.wait(30)
            raise Gone

    deliver = shelf.delivers

    def matches(request: Request) -> Iterable[tuple[int, bytes | None]]:
        level = asked(request).QueryRetrieveLevel
        if (at, level) in (("find", "STUDY"), ("image", "IMAGE")):
            stop_here()
        return shelf.matches(request)

    def delivers() -> None:
        if at == "move":
            stop_here()
        deliver()
        if at == "arrived":
            stop_here()

    shelf.delivers = delivers
    with ScriptedPeer(Scp(matches=matches, moves=shelf.moved)) as peer:
        prefetching(gateway, peer.port, "ARCHIVE", RULE, SOON).start()
        send(trigger, gateway.port)
        assert reached.wait(20)
        gateway.kill_everything()
        go_on.set()
        gateway.start()
        job = ended_job(gateway)
    assert (job.state, job.attempts, job.interruptions) == (JobState.DONE, 1, 1)
    assert set(gateway.find()) == shelf.study.uids | trigger.uids
    expected = 0 if at == "arrived" else 1
    assert len(shelf.moves) - (at in ("move", "arrived")) == expected
    assert (job.progress.total("moved"), job.progress.total("here")) == (3, 0)


def test_a_storm_of_triggers_is_one_job_for_each_study(
    tmp_path: Path, gateway: Gateway, shelf: Shelf
) -> None:
    """200 instances of 50 studies; the queue drains in order."""
    everything = tmp_path / "storm"
    studies = [
        make_study(everything / f"{number:02}", f"P{number}", "20240601", images=4)
        for number in range(50)
    ]
    order: list[str] = []

    def matches(request: Request) -> Iterable[tuple[int, bytes | None]]:
        keys = asked(request)
        if keys.QueryRetrieveLevel == "STUDY":
            order.append(keys.PatientID)
        yield SUCCESS, None

    with ScriptedPeer(Scp(matches=matches)) as peer:
        prefetching(gateway, peer.port, "ARCHIVE", "quiet_s = 2\n", SOON).start()
        before = {name: resident_kib(gateway.pid(name)) for name in ("retriever", "indexer")}
        for study in studies:
            send(study, gateway.port)
        job = ended_job(gateway, 50, 60)
        for name, kib in before.items():
            assert resident_kib(gateway.pid(name)) - kib < 8 * 1024, name
    assert order == [study.patient_id for study in studies]
    assert {each.state for each in jobs_of(gateway)} == {JobState.DONE}
    assert job.number == 50
    eventually(
        lambda: (
            gateway.metrics()[
                'scai_prefetch_jobs{ae="PrefetchAP",process="retriever",state="done"}'
            ]
            == 50
        ),
        5,
    )
