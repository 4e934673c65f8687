"""The sender's lanes against peers of every kind: each delivery ends in the right state."""

import ssl
import threading
import time
from pathlib import Path
from typing import Final

import pydicom
import pytest

from engine import limits
from engine.outbox.records import State
from engine.outbox.spool import OUTBOX_DIRECTORY
from engine.settings.tls import Tls
from engine.tls.client import context_of
from engine.tls.material import load_material
from tests.material import certificates, wire
from tests.material.odd_commands import ODD_ENDING
from tests.material.waiting import eventually, within
from tests.peers.peer_scripts import Scp, full_listener, rejecting, silent
from tests.peers.scripted_peer import Link, ScriptedPeer, accept_only
from tests.rigs.sending import ct_files, destination, office
from workers.sender.ledger import Policy

ONE_MORE: Final = Policy(retry_count=1, retry_pause_s=1, delivered_days=7)


def body(path: Path) -> bytes:
    """The data set of a file, byte for byte."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[140:144], "little")
    return raw[144 + length :]


@pytest.mark.parametrize("reuses", [False, True])
def test_instances_arrive_as_they_are(tmp_path: Path, reuses: bool) -> None:
    paths = ct_files(tmp_path / "in", 20, extra_bytes=300_000)
    with ScriptedPeer(Scp()) as peer, office(tmp_path / "data") as sending:
        numbers = sending.queue(paths, "pacs")
        sending.run([destination(peer.port, reuses=reuses)])
        assert sending.states() == {("pacs", State.DELIVERED): 20}
        assert {sending.delivery(number).status for number in numbers} == {0}
    assert len(peer.stored) == 20
    for path in paths:
        uid = str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
        stored = peer.stored[uid]
        assert stored.data == body(path)
        assert (stored.sop_class, stored.transfer_syntax) == (wire.CT_IMAGE, wire.EXPLICIT)
        assert (stored.calling, stored.called) == ("SCP_AE", "PACS")
    assert peer.open_most <= limits.associations_sending_max
    assert peer.associations <= limits.associations_sending_max if reuses else 20


@pytest.mark.parametrize("maximum", [0, None, 8, 1024, 16378, 131072])
def test_the_peers_longest_pdu_is_honoured(tmp_path: Path, maximum: int | None) -> None:
    paths = ct_files(tmp_path / "in", 1, extra_bytes=50_000)
    with ScriptedPeer(Scp(maximum=maximum)) as peer, office(tmp_path / "data") as sending:
        sending.queue(paths, "pacs")
        sending.run([destination(peer.port, timeout_s=5)])
        assert sending.states() == {("pacs", State.DELIVERED): 1}
    received, lengths = bytes(peer.links[0].received), []
    while received:
        length = int.from_bytes(received[2:6], "big")
        if received[0] == wire.P_DATA:
            lengths.append(length)
        received = received[6 + length :]
    bound = limits.pdu_bytes_advertised
    assert max(lengths) <= (min(maximum, bound) if maximum else bound)
    assert max(lengths) > min(maximum or bound, bound) - 1024, "and used"


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_warnings_are_delivered_and_recorded(tmp_path: Path, status: int) -> None:
    paths = ct_files(tmp_path / "in", 1)
    peer_says = Scp(statuses=[status], comment=b"some element")
    with ScriptedPeer(peer_says) as peer, office(tmp_path / "data") as sending:
        (number,) = sending.queue(paths, "pacs")
        sending.run([destination(peer.port)])
        delivery = sending.delivery(number)
    assert delivery.state is State.DELIVERED
    assert delivery.warning
    assert delivery.status == status
    assert delivery.reason.endswith("some element")


@pytest.mark.parametrize("status", [0xA700, 0xA900, 0xC000, 0x0110, 0x0122])
def test_a_failure_status_is_tried_again_and_then_failed(tmp_path: Path, status: int) -> None:
    paths = ct_files(tmp_path / "in", 1)
    with ScriptedPeer(Scp(statuses=[status])) as peer, office(tmp_path / "data") as sending:
        (number,) = sending.queue(paths, "pacs")
        sending.run([destination(peer.port)])
        delivery = sending.delivery(number)
        assert (delivery.state, delivery.attempts) == (State.FAILED, 2)
        assert delivery.status == status
        assert f"{status:04X}" in delivery.reason
        assert (tmp_path / "data" / OUTBOX_DIRECTORY / delivery.file).exists()
    assert len(peer.commands) == 2


def test_a_retry_may_succeed(tmp_path: Path) -> None:
    paths = ct_files(tmp_path / "in", 3)
    with ScriptedPeer(Scp(statuses=[0xA700, 0xC123, 0])) as peer, office(tmp_path / "d") as sending:
        sending.queue(paths, "pacs")
        sending.run([destination(peer.port)])
        assert sending.states() == {("pacs", State.DELIVERED): 3}
        sending.ledger.keep((), ())
        sending.ledger.tidy(ONE_MORE, ["pacs"])
        assert not list((tmp_path / "d" / OUTBOX_DIRECTORY).iterdir()), "copies are gone"
    assert len(peer.stored) == 3


BROKEN: Final = {
    "aborts in the middle": Scp(fault="abort", fault_bytes=50_000),
    "closes in the middle": Scp(fault="close", fault_bytes=50_000),
    "resets in the middle": Scp(fault="reset", fault_bytes=50_000),
    "stops reading": Scp(fault="hang", fault_bytes=50_000),
    "answers A700 in the middle": Scp(fault="early", fault_bytes=50_000),
    "vanishes before the response": Scp(fault="close"),
    "never responds": Scp(fault="hang"),
    "aborts instead of a response": Scp(fault="abort"),
}


@pytest.mark.parametrize("which", list(BROKEN))
@pytest.mark.parametrize("reuses", [False, True])
def test_a_broken_peer_costs_its_attempts_and_nothing_else(
    tmp_path: Path, which: str, reuses: bool
) -> None:
    paths = ct_files(tmp_path / "in", 2, extra_bytes=2_000_000)
    with (
        ScriptedPeer(BROKEN[which]) as broken,
        ScriptedPeer(Scp()) as good,
        office(tmp_path / "data") as sending,
    ):
        numbers = sending.queue(paths, "broken", "good")
        sending.run(
            [
                destination(broken.port, "broken", reuses, timeout_s=0.5),
                destination(good.port, "good", reuses),
            ],
            timeout_s=40,
        )
        assert sending.states() == {("good", State.DELIVERED): 2, ("broken", State.FAILED): 2}
        failed = [sending.delivery(number) for number in numbers]
        failed = [one for one in failed if one.destination == "broken"]
        assert all(one.attempts == 2 and one.reason for one in failed)
        assert len(list((tmp_path / "data" / OUTBOX_DIRECTORY).iterdir())) == 2, "still needed"
    assert len(good.stored) == 2


def test_what_no_retry_mends_fails_at_once(tmp_path: Path) -> None:
    paths = ct_files(tmp_path / "in", 1)
    with (
        ScriptedPeer(rejecting(1, 1, 7)) as rejects,
        ScriptedPeer(Scp(decide=accept_only("1.2.3"))) as refuses,
        office(tmp_path / "data") as sending,
    ):
        numbers = sending.queue(paths, "rejects", "refuses")
        began = time.monotonic()
        sending.run([destination(rejects.port, "rejects"), destination(refuses.port, "refuses")])
        rejected, refused = (sending.delivery(number) for number in numbers)
        assert time.monotonic() - began < within(3)
    assert (rejected.state, rejected.attempts) == (State.FAILED, 1)
    assert "called AE title not recognized" in rejected.reason
    assert (refused.state, refused.attempts) == (State.FAILED, 1)
    assert "no presentation context was accepted" in refused.reason


def test_a_copy_that_is_gone_fails_at_once(tmp_path: Path) -> None:
    paths = ct_files(tmp_path / "in", 1)
    with ScriptedPeer(Scp()) as peer, office(tmp_path / "data") as sending:
        (number,) = sending.queue(paths, "pacs")
        (tmp_path / "data" / OUTBOX_DIRECTORY / sending.delivery(number).file).unlink()
        sending.run([destination(peer.port)])
        delivery = sending.delivery(number)
    assert (delivery.state, delivery.attempts) == (State.FAILED, 1)
    assert "not there" in delivery.reason


@pytest.mark.parametrize("reuses", [False, True])
def test_the_end_does_not_wait_for_an_association_that_is_being_opened(
    tmp_path: Path, reuses: bool
) -> None:
    paths = ct_files(tmp_path / "in", 3)
    with (
        full_listener() as dead,
        ScriptedPeer(silent) as mute,
        office(tmp_path / "data") as sending,
    ):
        numbers = sending.queue(paths, "dead", "mute")
        destinations = [
            destination(dead, "dead", reuses, 30),
            destination(mute.port, "mute", reuses, 30),
        ]
        sending.lanes.open_for({one.peer.name: one for one in destinations})
        sending.turn()
        eventually(lambda: sending.lanes.active == 5)
        began = time.monotonic()
        sending.lanes.close()
        eventually(lambda: not sending.lanes.active)
        assert time.monotonic() - began < within(1)
        sending.turn()
        waiting = [sending.delivery(number) for number in numbers]
    assert {(one.state, one.attempts) for one in waiting} == {(State.WAITING, 0)}


def test_what_waits_for_a_slow_peer_can_be_held(tmp_path: Path) -> None:
    paths = ct_files(tmp_path / "in", 30)
    with ScriptedPeer(silent) as slow, office(tmp_path / "data") as sending:
        numbers = sending.queue(paths, "slow")
        sending.lanes.open_for({"slow": destination(slow.port, "slow", timeout_s=10)})

        def leased() -> int:
            sending.turn()
            return sending.states().get(("slow", State.SENDING), 0)

        eventually(lambda: leased() > limits.associations_sending_max)
        eventually(lambda: leased() == limits.associations_sending_max + 1)
        held = sending.ledger.writer.commit(lambda outbox: outbox.hold(numbers, time.time_ns()))
    assert len(held) == len(numbers) - limits.associations_sending_max - 1


def test_a_dead_destination_delays_nobody(tmp_path: Path) -> None:
    paths = ct_files(tmp_path / "in", 60)
    with (
        ScriptedPeer(silent) as dead,
        ScriptedPeer(Scp(slow_s=0.4)) as slow,
        ScriptedPeer(Scp()) as quick,
        office(tmp_path / "data") as sending,
    ):
        sending.queue(paths, "dead", "slow", "quick")
        ports = {"dead": dead.port, "slow": slow.port, "quick": quick.port}
        sending.lanes.open_for({name: destination(port, name) for name, port in ports.items()})
        began = time.monotonic()
        while len(quick.stored) < 60:
            sending.turn()
            assert time.monotonic() - began < within(5), sending.states()
            time.sleep(0.005)
        assert len(slow.stored) < 30
    assert dead.links, "it was tried meanwhile"


def test_a_pause_is_heeded_at_once(tmp_path: Path) -> None:
    paths = ct_files(tmp_path / "in", 60)
    with ScriptedPeer(Scp(slow_s=0.05)) as peer, office(tmp_path / "data") as sending:
        sending.queue(paths, "pacs")
        pacs = {"pacs": destination(peer.port)}
        sending.lanes.open_for(pacs)
        while len(peer.stored) < 10:
            sending.turn()
            time.sleep(0.005)
        sending.lanes.open_for({})
        before = len(peer.stored)
        while sending.lanes.active or sending.turn():
            time.sleep(0.005)
        sending.turn()
        states = sending.states()
        assert states["pacs", State.WAITING] == 60 - len(peer.stored)
        assert len(peer.stored) <= before + limits.associations_sending_max
        assert ("pacs", State.SENDING) not in states
        sending.run(pacs.values())
        assert sending.states() == {("pacs", State.DELIVERED): 60}


def test_what_is_interrupted_counts_for_nothing(tmp_path: Path) -> None:
    paths = ct_files(tmp_path / "in", 8)
    with ScriptedPeer(Scp(fault="hang")) as peer, office(tmp_path / "data") as sending:
        numbers = sending.queue(paths, "pacs")
        sending.lanes.open_for({"pacs": destination(peer.port, timeout_s=30)})
        while sending.lanes.active < 5 or len(peer.links) < 5:
            sending.turn()
            time.sleep(0.01)
        time.sleep(0.1)
        sending.lanes.close()
        sending.lanes.interrupt()
        while sending.lanes.active:
            time.sleep(0.01)
        sending.turn()
        assert sending.states() == {("pacs", State.WAITING): 8}
        assert {sending.delivery(number).attempts for number in numbers} == {0}
    with ScriptedPeer(Scp()) as peer, office(tmp_path / "data") as sending:
        sending.run([destination(peer.port)])
        assert sending.states() == {("pacs", State.DELIVERED): 8}


def test_leases_of_a_killed_sender_are_returned(tmp_path: Path) -> None:
    paths = ct_files(tmp_path / "in", 3)
    with office(tmp_path / "data") as sending:
        sending.queue(paths, "pacs")
        sending.ledger.look()
        leased, _ = sending.ledger.keep_books({"pacs": 2}, ONE_MORE)
        assert len(leased["pacs"]) == 2
        assert sending.states()["pacs", State.SENDING] == 2
    with ScriptedPeer(Scp()) as peer, office(tmp_path / "data") as sending:
        assert sending.ledger.returned_at_start == 2
        sending.run([destination(peer.port)])
        assert sending.states() == {("pacs", State.DELIVERED): 3}


def test_a_reused_association_that_the_peer_ended_is_opened_anew(tmp_path: Path) -> None:
    paths = ct_files(tmp_path / "in", 6)
    one_each = [Scp(fault="close", fault_after=2, fault_bytes=0) for _ in range(2)]
    with ScriptedPeer(*one_each, Scp()) as peer, office(tmp_path / "data", lanes=1) as sending:
        numbers = sending.queue(paths, "pacs")
        sending.run([destination(peer.port, reuses=True)])
        assert sending.states() == {("pacs", State.DELIVERED): 6}
        assert {sending.delivery(number).attempts for number in numbers} == {1}
    assert peer.associations == 3


def test_a_peer_that_takes_two_at_a_time(tmp_path: Path) -> None:
    """Rejections that are our own doing use up nobody's attempts."""
    paths = ct_files(tmp_path / "in", 40)
    reject = rejecting(2, 3, 2)
    serve = Scp(slow_s=0.02)

    def two_at_a_time(link) -> None:  # type: ignore[no-untyped-def]
        busy = sum(not other.finished for other in peer.links if other is not link)
        link.finished = False
        try:
            (reject if busy >= 2 else serve)(link)
        finally:
            link.finished = True

    with ScriptedPeer(two_at_a_time) as peer, office(tmp_path / "data") as sending:
        numbers = sending.queue(paths, "pacs")
        sending.run([destination(peer.port)], timeout_s=30)
        assert sending.states() == {("pacs", State.DELIVERED): 40}
        attempts = [sending.delivery(number).attempts for number in numbers]
    assert max(attempts) <= 2
    assert attempts.count(1) >= 38


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("reads_on", [False, True])
def test_an_answer_in_the_middle_is_heard_at_once_over_tls(
    tmp_path: Path, version: ssl.TLSVersion, reads_on: bool
) -> None:
    """The peer that reads on takes it all, slowly; the other one takes nothing more."""
    over = threading.Event()

    def script(link: Link) -> None:
        link.associate()

        def refuse(size: int) -> None:
            if size > 100_000 and not link.peer.commands:
                assert link.under_way is not None
                link.peer.commands.append(link.under_way)
                link.respond(link.under_way, 0xA700)
                over.wait(0 if reads_on else 20)
            time.sleep(0.01 if link.peer.commands else 0)

        link.message(refuse)

    context = certificates.server_context(tmp_path)
    context.minimum_version = context.maximum_version = version
    stores = certificates.tls_settings(tmp_path / "stores")
    paths = ct_files(tmp_path / "in", 1, extra_bytes=30_000_000)
    with ScriptedPeer(script, tls=context) as peer, office(tmp_path / "data") as sending:
        made = context_of(load_material(Tls(**stores)))
        to = destination(peer.port, timeout_s=10)
        to = to._replace(peer=to.peer._replace(tls=made))
        (number,) = sending.queue(paths, "pacs")
        began = time.monotonic()
        sending.lanes.open_for({"pacs": to})
        eventually(sending.turn)
        assert time.monotonic() - began < within(5)
        delivery = sending.delivery(number)
        over.set()
    assert delivery.status == 0xA700
    assert "answered before it had the whole data set" in delivery.reason


@pytest.mark.parametrize("name", ODD_ENDING)
@pytest.mark.parametrize("reuses", [False, True])
def test_responses_that_real_peers_send_are_read_and_told_once_an_association(
    tmp_path: Path, name: str, reuses: bool
) -> None:
    encode, kind = ODD_ENDING[name]
    paths = ct_files(tmp_path / "in", 4)
    peer_is = Scp(encode=encode)
    with ScriptedPeer(peer_is) as peer, office(tmp_path / "data", lanes=1) as sending:
        sending.queue(paths, "pacs")
        sending.run([destination(peer.port, reuses=reuses)])
        assert sending.states() == {("pacs", State.DELIVERED): 4}
    told = [sorted(booked.report.odd_answers) for booked in sending.booked]
    assert sum(kind in kinds for kinds in told) == peer.associations == (1 if reuses else 4)


@pytest.mark.parametrize("reuses", [False, True])
def test_enhanced_ct_is_sent_to_whom_it_may_go(tmp_path: Path, reuses: bool) -> None:
    (path,) = ct_files(tmp_path / "in", 1)
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = wire.ENHANCED_CT
    dataset.save_as(path)
    with ScriptedPeer(Scp()) as peer, office(tmp_path / "data", lanes=1) as sending:
        sending.queue([path], "may", "may not")
        may = destination(peer.port, "may", reuses, sop_classes=(wire.ENHANCED_CT,))
        sending.run([may, destination(peer.port, "may not", reuses)])
        assert sending.states() == {("may", State.DELIVERED): 1, ("may not", State.FAILED): 1}
    (stored,) = peer.stored.values()
    assert (stored.sop_class, stored.data) == (wire.ENHANCED_CT, body(path))
