"""What the running service does besides keeping what it fetches: it goes where the rule says, what
nobody asked for is named, and an archive that does not answer holds up no end."""

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.outbox.records import State as Queued
from engine.prefetch.records import JobState
from engine.settings.timeouts import Timeouts
from tests.material.waiting import eventually, within
from tests.peers.peer_scripts import silent
from tests.peers.receivers import Storescp
from tests.peers.scripted_peer import ScriptedPeer
from tests.rigs.archives import MadeStudy, Qrscp, make_study, prefetching, send
from tests.rigs.gateway import Gateway
from tests.rigs.prefetch_ends import ended_job, jobs_of
from tests.rigs.prefetch_shelf import IMPATIENT, RULE, SOON, Shelf
from workers.retriever.conversation import Interrupted, Stop, open_association
from workers.scu.association import Peer

pytestmark = pytest.mark.process
_FIND = "1.2.840.10008.5.1.4.1.2.2.1"


@pytest.fixture
def gateway(make_gateway: Callable[..., Gateway]) -> Gateway:
    return make_gateway(IMPATIENT)


@pytest.fixture
def workstation(tmp_path: Path) -> Iterator[Storescp]:
    made = Storescp(tmp_path / "workstation")
    yield made
    made.close()


def known(workstation: Storescp) -> str:
    """It as a remote AE."""
    return (
        f'[[remotes]]\nname = "ws"\nae_title = "WS"\nhost = "127.0.0.1"\n'
        f"port = {workstation.port}\n"
    )


def add(gateway: Gateway, text: str) -> None:
    gateway.config_file.write_text(f"{gateway.config_file.read_text()}\n{text}")


@pytest.mark.skipif(not shutil.which("/usr/bin/dcmqrscp"), reason="DCMTK is not installed")
def test_priors_go_on_to_the_workstation_once(
    tmp_path: Path, gateway: Gateway, trigger: MadeStudy, workstation: Storescp
) -> None:
    """One study from the archive, one that is here whole, and one that is here in part."""
    archive = Qrscp(tmp_path / "archive", gateway.prefetch_port)
    try:
        absent = make_study(tmp_path / "absent", "4711", "20230510", ("CT", "MR"))
        whole = make_study(tmp_path / "whole", "4711", "20220510", ("MR",))
        partly = make_study(tmp_path / "partly", "4711", "20210510", ("MR",), 6)
        for study in (absent, whole, partly):
            send(study, archive.port, archive.ae_title)
        add(gateway, known(workstation))
        rule = RULE + 'to = ["ws"]\nlevel = "image"\n'
        prefetching(gateway, archive.port, archive.ae_title, rule).start()
        for file in sorted(partly.directory.iterdir())[:2]:
            file.unlink()
        for study in (whole, partly):
            send(study, gateway.port)
        send(trigger, gateway.port)
        job = ended_job(gateway)
        wanted = absent.uids | whole.uids | partly.uids
        settled = gateway.wait_settled(30, len(wanted))
    finally:
        archive.close()
    assert (job.state, job.reason) == (JobState.DONE, "")
    assert (job.progress.total("moved"), job.progress.total("queued")) == (8, 7)
    assert Counter(it.sop_instance_uid for it in settled) == Counter(wanted), "each once"
    assert {(it.origin, it.destination) for it in settled} == {("prefetch priors", "ws")}
    assert {it.state for it in settled} == {Queued.DELIVERED}
    assert set(workstation.kept()) == wanted
    told = gateway.command("prefetch")
    assert "2 studies fetched, 0 used" in told.stdout, "nobody has looked at them"
    sent = gateway.command("send", "--study", whole.uid, "--to", "ws")
    assert sent.returncode == 0, sent.stderr
    sent = gateway.command("send", "--study", absent.uid, "--to", "ws")
    assert sent.returncode == 0, sent.stderr
    gateway.wait_settled(20, len(wanted) + 9)
    told = gateway.command("prefetch")
    assert "2 studies fetched, 1 used (50 %)" in told.stdout


def test_what_nobody_asked_for_is_named(
    tmp_path: Path, gateway: Gateway, shelf: Shelf, trigger: MadeStudy
) -> None:
    stray = make_study(tmp_path / "stray", "9999", "20230510", images=2)

    def delivers() -> None:
        for study in (shelf.study, stray):
            send(study, gateway.prefetch_port, "PrefetchAP")

    shelf.delivers = delivers
    with ScriptedPeer(shelf.scp()) as peer:
        prefetching(gateway, peer.port, "ARCHIVE", RULE, SOON).start()
        send(trigger, gateway.port)
        job = ended_job(gateway)
    assert (job.state, job.progress.total("moved")) == (JobState.DONE, 3)
    assert job.progress.unasked_count == 2
    assert set(job.progress.unasked) == stray.uids
    own = '{ae="PrefetchAP",process="retriever"'
    eventually(lambda: gateway.metrics()[f"scai_prefetch_unasked_total{own}}}"] == 2, 5)
    assert gateway.metrics()[f'scai_prefetch_ended_total{own},state="done"}}'] == 1
    shown = gateway.command("prefetch", "show", "1").stdout
    assert all(uid in shown for uid in stray.uids)


def test_a_destination_that_was_taken_away_is_noted(
    gateway: Gateway, shelf: Shelf, trigger: MadeStudy, workstation: Storescp
) -> None:
    """The job was made while there was one, and worked on when there was none."""
    with ScriptedPeer(shelf.scp()) as peer:
        without = prefetching(gateway, peer.port, "ARCHIVE", RULE, SOON).config_file.read_text()
        waiting = without.replace(RULE, 'quiet_s = 3600\nwait_at_most_s = 4\nto = ["ws"]\n')
        gateway.config_file.write_text(waiting + known(workstation))
        gateway.start()
        send(trigger, gateway.port)
        eventually(lambda: len(jobs_of(gateway)) == 1, 5)
        assert gateway.stop() == 0
        gateway.config_file.write_text(without)
        gateway.start()
        job = ended_job(gateway)
    assert (job.state, job.progress.total("moved")) == (JobState.DONE, 3)
    assert "'ws' is no remote AE any more: nothing is queued for it" in job.progress.notes
    assert gateway.deliveries() == []


def test_an_order_to_stop_does_not_wait_for_an_archive_that_does_not_answer(
    gateway: Gateway, trigger: MadeStudy
) -> None:
    patient = SOON.replace("timeout_s = 1", "timeout_s = 60")
    with ScriptedPeer(silent) as peer:
        prefetching(gateway, peer.port, "ARCHIVE", RULE, patient).start()
        send(trigger, gateway.port)
        eventually(lambda: peer.links, 10, "the archive is being asked")
        began = time.monotonic()
        assert gateway.stop() == 0
        took_s = time.monotonic() - began
    (job,) = jobs_of(gateway)
    assert (job.state, job.attempts, job.interruptions) == (JobState.WAITING, 0, 0)
    assert took_s < 5, "of sixty seconds that the archive has to answer"
    assert any(row["event"] == "prefetch_interrupted" for row in gateway.log())


def test_opening_an_association_is_left_at_once() -> None:
    stop = Stop()
    try:
        with ScriptedPeer(silent) as peer:
            other = Peer("archive", "ARCHIVE", "127.0.0.1", peer.port)
            timer = threading.Timer(0.2, stop.set)
            timer.start()
            began = time.monotonic()
            with pytest.raises(Interrupted):
                open_association(other, "PrefetchAP", _FIND, Timeouts.each(30), stop)
            assert time.monotonic() - began < within(1)
            timer.join()
            with pytest.raises(Interrupted):
                open_association(other, "PrefetchAP", _FIND, Timeouts.each(30), stop)
    finally:
        stop.close()
