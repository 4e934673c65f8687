"""Destinations that are away: what waits for them uses no attempt, and goes out on their return."""

import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pydicom
import pytest

from engine import limits
from engine.limits import away_asked_in_hour_min
from engine.outbox.outbox import Outbox
from engine.outbox.records import State
from engine.settings.tls import Tls
from engine.tls.client import context_of
from engine.tls.material import load_material
from tests.material import certificates, wire
from tests.material.waiting import eventually, free_ports, within
from tests.peers.peer_scripts import Scp, aborting, closing, full_listener, rejecting, silent
from tests.peers.scripted_peer import Gone, ScriptedPeer
from tests.rigs.sending import POLICY, Office, ct_files, destination, office

_HOUR_NS: Final = 3_600_000_000_000


def attempts_of(sending: Office, numbers: list[int]) -> set[tuple[State, int]]:
    return {(one.state, one.attempts) for one in map(sending.delivery, numbers)}


def turn_until(sending: Office, condition: Callable[[], bool], seconds: float = 20) -> None:
    def holds() -> bool:
        sending.turn()
        return condition()

    eventually(holds, seconds)


AWAY: Final = {
    "silent": silent,
    "closing": closing,
    "aborting": aborting(),
    "rejected for now": rejecting(2, 3, 2),
}


@pytest.mark.parametrize("which", list(AWAY))
@pytest.mark.parametrize("reuses", [False, True])
def test_what_was_never_offered_uses_no_attempt(tmp_path: Path, which: str, reuses: bool) -> None:
    """More refusals than there are attempts, then the peer is well."""
    paths = ct_files(tmp_path / "in", 4)
    with (
        ScriptedPeer(*[AWAY[which]] * 4, Scp()) as peer,
        ScriptedPeer(Scp()) as good,
        office(tmp_path / "data") as sending,
    ):
        numbers = sending.queue(paths, "pacs", "good")
        sending.run(
            [
                destination(peer.port, "pacs", reuses, timeout_s=0.3),
                destination(good.port, "good", reuses),
            ],
            timeout_s=40,
        )
        assert attempts_of(sending, numbers) == {(State.DELIVERED, 1)}
        assert sending.ledger.away == {}
    assert len(peer.stored) == len(good.stored) == 4


def test_who_is_away_is_known_with_the_reason_and_since_when(tmp_path: Path) -> None:
    paths = ct_files(tmp_path / "in", 1)
    nowhere = destination(free_ports(1)[0], "nowhere")
    nameless = destination(1, "nameless")
    nameless = nameless._replace(peer=nameless.peer._replace(host="no-such-host.invalid"))
    with full_listener() as full, office(tmp_path / "data") as sending:
        mute = destination(full, "mute", timeout_s=0.3)
        numbers = sending.queue(paths, "nowhere", "nameless", "mute")
        began_ns = time.time_ns()
        sending.run([nowhere, nameless, mute], away=3)
        away = sending.ledger.away
        assert attempts_of(sending, numbers) == {(State.WAITING, 0)}
    assert "refused" in away["nowhere"].reason
    assert "no-such-host.invalid" in away["nameless"].reason
    assert "no answer to the connect" in away["mute"].reason
    for one in away.values():
        assert began_ns <= one.since_ns <= one.asked_ns <= time.time_ns()
        assert one.asked_ns < one.due_ns <= one.asked_ns + limits.trouble_pause_s_max * 10**9


def test_a_tls_handshake_that_fails_uses_no_attempt(tmp_path: Path) -> None:
    """A peer whose certificate nobody trusts, until it is another one."""
    context = certificates.server_context(tmp_path)
    stores = certificates.tls_settings(tmp_path / "stores")
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    paths = ct_files(tmp_path / "in", 2)
    with ScriptedPeer(Scp(), tls=context) as peer, office(tmp_path / "data") as sending:
        made = context_of(load_material(Tls(**stores)))
        to = destination(peer.port, timeout_s=10)
        numbers = sending.queue(paths, "pacs")
        bare.check_hostname = False  # it trusts nobody
        bare.verify_mode = ssl.CERT_REQUIRED
        sending.run([to._replace(peer=to.peer._replace(tls=bare))], away=1)
        assert "do not trust" in sending.ledger.away["pacs"].reason
        assert attempts_of(sending, numbers) == {(State.WAITING, 0)}
        sending.run([to._replace(peer=to.peer._replace(tls=made))])
        assert attempts_of(sending, numbers) == {(State.DELIVERED, 1)}


def test_one_that_is_offered_and_lost_uses_an_attempt_also_over_tls(tmp_path: Path) -> None:
    """Whose bytes make a peer fall must not be sent for ever."""
    context = certificates.server_context(tmp_path)
    made = context_of(load_material(Tls(**certificates.tls_settings(tmp_path / "stores"))))
    paths = ct_files(tmp_path / "in", 1, extra_bytes=2_000_000)
    with (
        ScriptedPeer(Scp(fault="close", fault_bytes=20_000), tls=context) as peer,
        office(tmp_path / "data") as sending,
    ):
        to = destination(peer.port, timeout_s=10)
        (number,) = sending.queue(paths, "pacs")
        sending.run([to._replace(peer=to.peer._replace(tls=made))])
        assert attempts_of(sending, [number]) == {(State.FAILED, 2)}


def test_the_state_outlives_the_sender(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    paths = ct_files(tmp_path / "in", 3)
    with office(tmp_path / "data") as sending:
        numbers = sending.queue(paths, "pacs")
        sending.lanes.open_for({"pacs": destination(port)})
        turn_until(sending, lambda: "pacs" in (a := sending.ledger.away) and a["pacs"].asked >= 4)
        first = sending.ledger.away["pacs"]
    with office(tmp_path / "data") as sending:
        asked, seconds = sending.ledger.resumed()["pacs"]
        assert asked == first.asked
        assert 0 < seconds <= limits.trouble_pause_s_max
        sending.lanes.open_for({"pacs": destination(port)})
        sending.lanes.resume({"pacs": (asked, seconds)})
        assert sending.lanes.wanted() == {}, "its successor asks when it would have"
        sending.lanes.resume({"pacs": (asked, 0.0)})
        turn_until(sending, lambda: sending.ledger.away["pacs"].asked > asked)
        later = sending.ledger.away["pacs"]
        assert later.since_ns == first.since_ns
        assert (later.due_ns - later.asked_ns) / 1e9 > limits.trouble_pause_s_max / 2
        assert attempts_of(sending, numbers) == {(State.WAITING, 0)}


def test_a_person_has_it_asked_at_once(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    paths = ct_files(tmp_path / "in", 3)
    with office(tmp_path / "data") as sending:
        numbers = sending.queue(paths, "pacs")
        sending.lanes.open_for({"pacs": destination(port)})
        sending.lanes.resume({"pacs": (20, 0.0)})
        turn_until(sending, lambda: "pacs" in sending.ledger.away)
        asked_ns = sending.ledger.away["pacs"].asked_ns
        with ScriptedPeer(Scp(), port=port):
            changed = sending.ledger.writer.commit(
                lambda outbox: outbox.retry(numbers[:1], time.time_ns())
            )
            assert [one.number for one in changed] == numbers[:1]
            began = time.monotonic()
            turn_until(sending, lambda: not sending.ledger.away)
            assert (time.time_ns() - asked_ns) / 1e9 < limits.trouble_pause_s_max
            assert time.monotonic() - began < within(3)
            turn_until(sending, lambda: not sending.under_way())
        assert attempts_of(sending, numbers) == {(State.DELIVERED, 1)}


def test_patience_ends_for_what_waited_so_long_and_for_nothing_else(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    paths = ct_files(tmp_path / "in", 5)
    policy = POLICY._replace(give_up_after_hours=3)
    now_ns = time.time_ns()

    def age(outbox: Outbox) -> None:
        """Away for four hours; two deliveries wait as long, one failed an attempt before."""
        for _ in range(3 * away_asked_in_hour_min):
            outbox.note_away("pacs", now_ns - 4 * _HOUR_NS, 1.0, "nobody listens")
        outbox.note_away("gone", now_ns - 4 * _HOUR_NS, 1.0, "nobody listens")
        outbox.retry(old, now_ns - 4 * _HOUR_NS)
        leased = outbox.lease("pacs", 1, now_ns - 4 * _HOUR_NS)
        outbox.attempt_failed(leased[0].number, 1, "A700", 0xA700, now_ns - 4 * _HOUR_NS)
        outbox.hold([numbers[3]], now_ns)

    with office(tmp_path / "data") as sending:
        numbers = sending.queue(paths, "pacs")
        old = [*numbers[:2], numbers[3]]
        sending.ledger.writer.commit(age)
        assert sending.ledger.tidy(POLICY, ["pacs"]) == [], "0: never"
        assert sending.ledger.tidy(policy._replace(give_up_after_hours=5), ["pacs"]) == []
        assert sending.ledger.tidy(policy, ["pacs"]) == [("pacs", 2)]
        states = [sending.delivery(number).state for number in numbers]
        assert states == [State.FAILED] * 2 + [State.WAITING, State.HELD, State.WAITING]
        reasons = [sending.delivery(number).reason for number in numbers[:2]]
        assert all("given up after 3 h" in one and "nobody listens" in one for one in reasons)
        assert sum("before: A700" in one for one in reasons) == 1
        sending.ledger.look()
        assert sending.ledger.away.keys() == {"pacs"}, "who is not asked is not away"
        assert sending.ledger.tidy(policy, ["pacs"]) == []
        with ScriptedPeer(Scp(), port=port):
            sending.ledger.writer.commit(lambda outbox: outbox.release([numbers[3]], now_ns))
            sending.ledger.writer.commit(lambda outbox: outbox.retry(numbers[:2], time.time_ns()))
            sending.run([destination(port)])
        assert {state for state, _ in attempts_of(sending, numbers)} == {State.DELIVERED}


def test_a_clock_that_was_set_forward_is_no_waiting(tmp_path: Path) -> None:
    """By a year, as where the battery of a machine is empty and the time comes over the network."""
    paths = ct_files(tmp_path / "in", 2)
    policy = POLICY._replace(give_up_after_hours=168)
    asked = 168 * away_asked_in_hour_min
    year_ns = 365 * 24 * _HOUR_NS
    with office(tmp_path / "data") as sending:
        numbers = sending.queue(paths, "pacs")
        begun_ns = time.time_ns() - year_ns

        def note(count: int) -> None:
            def work(outbox: Outbox) -> None:
                for _ in range(count):
                    outbox.note_away("pacs", begun_ns, 1.0, "nobody listens")

            sending.ledger.writer.commit(work)

        note(asked - 1)
        sending.ledger.writer.commit(lambda outbox: outbox.retry(numbers, begun_ns))
        assert sending.ledger.tidy(policy, ["pacs"]) == []
        assert {sending.delivery(number).state for number in numbers} == {State.WAITING}
        note(1)
        assert sending.ledger.tidy(policy, ["pacs"]) == [("pacs", 2)]


def test_a_new_address_is_asked_at_once(tmp_path: Path) -> None:
    paths = ct_files(tmp_path / "in", 2)
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        ScriptedPeer(Scp()) as peer,
        office(tmp_path / "data") as sending,
    ):
        port = taken.getsockname()[1]
        taken.close()
        numbers = sending.queue(paths, "pacs")
        sending.lanes.open_for({"pacs": destination(port)})
        sending.lanes.resume({"pacs": (20, 0.0)})
        turn_until(sending, lambda: "pacs" in sending.ledger.away)
        began = time.monotonic()
        sending.run([destination(peer.port)])
        assert time.monotonic() - began < within(3)
        assert attempts_of(sending, numbers) == {(State.DELIVERED, 1)}


def test_an_instance_that_a_peer_cannot_stand_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves at the sight of one SOP class: the others are asked with in its place. That one
    uses no attempt for long, and then it does."""
    monkeypatch.setattr(limits, "trouble_pause_s_first", 0.01)
    monkeypatch.setattr(limits, "turned_away_max", 4)
    secondary = "1.2.840.10008.5.1.4.1.1.7"
    paths = ct_files(tmp_path / "in", 30)
    for path in paths[:3]:
        made = pydicom.dcmread(path)
        made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = secondary
        made.file_meta.TransferSyntaxUID = wire.IMPLICIT
        made.save_as(path, implicit_vr=True, little_endian=True)

    def flees(_: int, abstract: str, syntaxes: list[str]) -> tuple[int, str]:
        if abstract == secondary:
            raise Gone
        return 0, syntaxes[0]

    with ScriptedPeer(Scp(decide=flees)) as peer, office(tmp_path / "data", lanes=1) as sending:
        numbers = sending.queue(paths, "pacs")
        sending.lanes.open_for({"pacs": destination(peer.port)})
        turn_until(sending, lambda: len(peer.stored) >= 2)
        assert {one.attempts for one in map(sending.delivery, numbers[:3])} == {0}
        turn_until(sending, lambda: len(peer.stored) == 27)
        assert attempts_of(sending, numbers[3:]) == {(State.DELIVERED, 1)}
        for path in ct_files(tmp_path / "more", 200)[30:]:
            sending.queue([path], "pacs")
        turn_until(sending, lambda: sending.states().get(("pacs", State.FAILED)) == 3, seconds=60)
        failed = [sending.delivery(number) for number in numbers[:3]]
        assert {one.attempts for one in failed} == {2}
        assert all("closed the connection" in one.reason for one in failed)


def test_who_is_away_for_all_is_held_against_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "trouble_pause_s_first", 0.01)
    monkeypatch.setattr(limits, "trouble_pause_s_max", 0.02)
    monkeypatch.setattr(limits, "turned_away_max", 2)
    with ScriptedPeer(closing) as peer, office(tmp_path / "data") as sending:
        numbers = sending.queue(ct_files(tmp_path / "in", 3), "pacs")
        sending.lanes.open_for({"pacs": destination(peer.port)})
        turn_until(sending, lambda: len(peer.links) > 20)
        assert {one.attempts for one in map(sending.delivery, numbers)} == {0}
