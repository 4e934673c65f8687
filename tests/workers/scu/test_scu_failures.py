"""How associations we ask for fail, over real sockets: each end has its kind and its words."""

import os
import socket
import ssl
import threading
import time

import pytest

from engine import limits
from engine.dimse.requests import encode_store_request
from engine.settings.timeouts import Timeouts
from engine.upper_layer.failure import FailureKind
from engine.upper_layer.pdus import ProposedContext
from tests.material import wire
from tests.material.waiting import eventually, free_ports, within
from tests.peers.peer_scripts import Scp, aborting, closing, full_listener, rejecting, silent
from tests.peers.scripted_peer import (
    Gone,
    Link,
    Script,
    ScriptedPeer,
    accept_only,
    answered_context,
)
from tests.rigs.associations import ECHO, STORE, TIMEOUT, opened, peer_at
from workers.scu import transport as scu_transport
from workers.scu.association import Interruption, Peer, ScuAssociation, ScuFailure


def failure_of(
    *scripts: Script,
    contexts: tuple[ProposedContext, ...] = ECHO,
    timeout: float | Timeouts = TIMEOUT,
) -> ScuFailure:
    """How opening, C-ECHO and release fail."""

    def attempt(peer: ScriptedPeer) -> None:
        association = opened(peer, contexts, timeout)
        association.echo()
        association.release()

    with ScriptedPeer(*scripts) as peer, pytest.raises(ScuFailure) as caught:
        attempt(peer)
    return caught.value


def test_a_name_without_an_address() -> None:
    with pytest.raises(ScuFailure, match="has no address") as caught:
        ScuAssociation.open(peer_at(104, "no.such.host.invalid"), "GW", ECHO, Timeouts.each(20))
    assert caught.value.kind is FailureKind.NAME
    assert not caught.value.permanent


@pytest.mark.parametrize("host", ["a" * 70, "..", "a..b"])
def test_what_is_no_name_at_all(host: str) -> None:
    with pytest.raises(ScuFailure) as caught:
        ScuAssociation.open(peer_at(104, host), "GW", ECHO, Timeouts.each(20))
    assert caught.value.kind is FailureKind.NAME


def test_a_name_service_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answering = threading.Event()
    real = socket.getaddrinfo

    def never(host: str, port: int, **options: int) -> object:
        if not options["flags"]:
            answering.wait(10)
        return real("not numeric.invalid", port, type=options["type"], flags=options["flags"])

    monkeypatch.setattr(scu_transport.socket, "getaddrinfo", never)
    begun = time.monotonic()
    with pytest.raises(ScuFailure, match="name service") as caught:
        ScuAssociation.open(peer_at(104, "slow.test"), "GW", ECHO, Timeouts.each(0.2))
    answering.set()
    assert caught.value.kind is FailureKind.TIMEOUT
    assert time.monotonic() - begun < within(2)


def test_a_port_where_nobody_listens() -> None:
    (port,) = free_ports(1)
    with pytest.raises(ScuFailure, match=f"127.0.0.1 port {port}: nobody listens") as caught:
        ScuAssociation.open(peer_at(port), "GW", ECHO, Timeouts.each(TIMEOUT))
    assert caught.value.kind is FailureKind.REFUSED


def test_a_connect_that_is_not_answered() -> None:
    with (
        full_listener() as port,
        pytest.raises(ScuFailure, match="no answer to the connect") as caught,
    ):
        ScuAssociation.open(peer_at(port), "GW", ECHO, Timeouts.each(0.3))
    assert caught.value.kind is FailureKind.TIMEOUT


@pytest.mark.parametrize(
    ("rejection", "words", "permanent"),
    [
        ((1, 1, 7), "permanently by the DICOM UL service-user: called AE title not rec", True),
        ((1, 1, 3), "calling AE title not recognized (1, 1, 3)", True),
        ((1, 1, 2), "application context name not supported", True),
        ((1, 2, 2), "(ACSE related function): protocol version not supported", True),
        ((2, 3, 1), "for now by the DICOM UL service-provider (pres", False),
        ((2, 3, 2), "local limit exceeded (2, 3, 2)", False),
        ((9, 8, 7), "an unknown result by the unknown source: unknown reason (9, 8, 7)", False),
    ],
)
def test_a_rejection_in_the_standards_words(
    rejection: tuple[int, int, int], words: str, permanent: bool
) -> None:
    failure = failure_of(rejecting(*rejection))
    assert failure.kind is FailureKind.REJECTED
    assert words in failure.text
    assert failure.permanent is permanent
    assert failure.rejection is not None
    assert failure.rejection.reason == rejection[2]


@pytest.mark.parametrize(
    ("source", "reason", "words"),
    [
        (0, 3, "service-user (0, 3)"),
        (2, 1, "service-provider: unrecognized PDU (2, 1)"),
        (2, 6, "invalid PDU parameter value (2, 6)"),
        (7, 9, "unknown source: unknown reason (7, 9)"),
    ],
)
def test_an_abort_in_the_standards_words(source: int, reason: int, words: str) -> None:
    failure = failure_of(aborting(source, reason))
    assert (failure.kind, failure.permanent) == (FailureKind.ABORTED, False)
    assert failure.text.endswith(words)
    assert failure.abort == (source, reason)


def test_a_silent_listener() -> None:
    begun = time.monotonic()
    failure = failure_of(silent, timeout=0.3)
    assert failure.kind is FailureKind.TIMEOUT
    assert failure.text == "no answer to the association request within 0.3 s"
    assert time.monotonic() - begun < 0.3 + limits.abort_linger_s + within(1)


def drip(link: Link) -> None:
    """An A-ASSOCIATE-AC of which a byte comes now and then."""
    link.request = link.receive()
    link.send(link.acceptance(lambda *_: (0, wire.IMPLICIT)), step=1, pause=0.05)


def test_bytes_that_trickle_in_do_not_move_the_deadline() -> None:
    begun = time.monotonic()
    failure = failure_of(drip, timeout=0.4)
    assert failure.kind is FailureKind.TIMEOUT
    assert "only a part of it came" in failure.text
    assert time.monotonic() - begun < 0.4 + limits.abort_linger_s + within(1)


def test_the_end_of_a_connection() -> None:
    failure = failure_of(closing)
    assert failure.kind is FailureKind.LOST
    assert "where the answer to the association request was due" in failure.text


def scripted(answer: bytes) -> Script:
    """Accepts, and answers the first message with these bytes."""

    def script(link: Link) -> None:
        link.associate()
        link.message()
        if not answer:
            return
        link.send(answer)
        link.hang()

    return script


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (b"", FailureKind.LOST, "where the response was due"),
        (wire.pdu(wire.ABORT, bytes((0, 0, 2, 0))), FailureKind.ABORTED, "reason not specified"),
        (wire.pdu(wire.RELEASE_RQ, bytes(4)), FailureKind.ABORTED, "released the association"),
        (wire.p_data(1, wire.echo_command(1), True), FailureKind.PROTOCOL, "request 0030H"),
        (wire.pdu(wire.ASSOCIATE_AC, bytes(80)), FailureKind.PROTOCOL, "ASSOCIATE_AC PDU in Sta6"),
        (wire.pdu(0x47), FailureKind.PROTOCOL, "PDU of type 71"),
        (wire.pdu(wire.P_DATA, length=1 << 31), FailureKind.PROTOCOL, "P_DATA PDU of 2147483648"),
        (wire.p_data(3, bytes(20), True), FailureKind.PROTOCOL, "presentation context 3"),
    ],
)
def test_wrong_answers(answer: bytes, kind: FailureKind, words: str) -> None:
    failure = failure_of(scripted(answer))
    assert failure.kind is kind
    assert words in failure.text


def test_the_abort_arrives() -> None:
    """What the peer still sends must not turn our A-ABORT into a reset."""
    heard: list[wire.Pdu] = []

    def script(link: Link) -> None:
        link.associate()
        link.message()
        link.send(b"GARBAGE!" * 20000)
        heard.append(link.receive())

    assert failure_of(script).kind is FailureKind.PROTOCOL
    eventually(lambda: heard)
    assert heard[0].abort == (2, 1)


def test_a_response_to_another_message() -> None:
    def script(link: Link) -> None:
        link.associate()
        request = link.message()
        assert request is not None
        link.respond(request, 0, None, {0x0120: wire.us(99)})
        with pytest.raises(Gone) as gone:
            link.message()
        assert gone.value.pdu is not None
        assert gone.value.pdu.abort == (0, 0)

    failure = failure_of(script)
    assert failure.kind is FailureKind.PROTOCOL
    assert "message 99" in failure.text


def test_no_response_and_no_answer_to_the_release() -> None:
    failure = failure_of(Scp(slow_s=2), timeout=0.2)
    assert failure.text == "no response within 0.2 s"
    failure = failure_of(Scp(release_fault="hang"), timeout=0.2)
    assert failure.text == "no answer to the release request within 0.2 s"
    failure = failure_of(Scp(release_fault="close"))
    assert "where the answer to the release request was due" in failure.text


@pytest.mark.parametrize(
    ("script", "step", "words"),
    [
        (silent, "association_s", "no answer to the association request within 0.2 s"),
        (Scp(slow_s=20), "response_s", "no response within 0.2 s"),
        (
            Scp(release_fault="hang"),
            "release_s",
            "no answer to the release request within 0.2 s",
        ),
    ],
)
def test_each_step_has_its_own_time(script: Script, step: str, words: str) -> None:
    failure = failure_of(script, timeout=Timeouts.each(20)._replace(**{step: 0.2}))
    assert (failure.kind, failure.text) == (FailureKind.TIMEOUT, words)


def test_a_connect_has_its_own_time() -> None:
    timeouts = Timeouts.each(20)._replace(connect_s=0.2)
    with full_listener() as port, pytest.raises(ScuFailure, match="no answer to the connect"):
        ScuAssociation.open(peer_at(port), "GW", ECHO, timeouts)


def test_no_context_is_accepted() -> None:
    with ScriptedPeer(Scp(decide=accept_only(wire.EXPLICIT))) as peer:
        with pytest.raises(ScuFailure) as caught:
            opened(peer)
        # It was established, and is released as such.
        eventually(lambda: peer.links[0].received.endswith(wire.pdu(wire.RELEASE_RQ, bytes(4))))
    assert caught.value.kind is FailureKind.NO_CONTEXT
    assert caught.value.permanent
    assert "1.2.840.10008.1.1 in 1.2.840.10008.1.2: transfer syntaxes not" in caught.value.text


def test_contexts_that_must_not_be_used() -> None:
    """In any order, one that was not proposed, one with another transfer syntax."""

    def script(link: Link) -> None:
        link.request = link.receive()
        link.contexts[3] = (wire.CT_IMAGE, wire.IMPLICIT)
        answers = link.acceptance(
            lambda identifier, *_: (0, wire.IMPLICIT if identifier == 3 else wire.JPEG_LOSSLESS)
        )
        stranger = answered_context(99, 0, wire.IMPLICIT)
        body = answers[6:74] + stranger + answers[74:]
        link.send(wire.pdu(wire.ASSOCIATE_AC, body))
        assert link.message() is None
        link.release()

    with ScriptedPeer(script) as peer, opened(peer, STORE) as association:
        assert list(association.accepted) == [3]
        assert association.context(wire.CT_IMAGE, wire.JPEG_LOSSLESS) is None
        assert f"accepted with {wire.JPEG_LOSSLESS}, which was not prop" in association.refusals()
        association.release()


# --- while data is being sent --------------------------------------------------------------------


def flood(association: ScuAssociation) -> None:
    """P-DATA without end, as the sender writes it."""
    association.announce_data()
    pdus = wire.p_data(1, encode_store_request(1, wire.CT_IMAGE, "1.2"), True)
    piece = wire.pdu(wire.P_DATA, wire.pdv(1, bytes(16000), 0))
    association.socket.settimeout(2)
    association.socket.sendall(pdus)
    for _ in range(20000):
        association.socket.sendall(piece)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("abort", FailureKind.ABORTED), ("reset", FailureKind.LOST), ("close", FailureKind.LOST)],
)
def test_a_peer_that_leaves_in_the_middle(fault: str, kind: FailureKind) -> None:
    scp = Scp(fault=fault, fault_bytes=50000)
    with ScriptedPeer(scp) as peer:
        association = opened(peer, STORE, 2)
        if fault == "abort":  # the peer goes on reading, and has said so: there is input
            association.announce_data()
            data = wire.p_data(1, encode_store_request(1, wire.CT_IMAGE, "1.2"), True)
            association.socket.sendall(data + wire.pdu(4, wire.pdv(1, bytes(16000), 0)) * 10)
            with pytest.raises(ScuFailure) as caught:
                association.receive_message()
            failure = caught.value
        else:
            with pytest.raises(ConnectionError) as broken:
                flood(association)
            failure = association.fault(broken.value)
        assert failure.kind is kind
        with pytest.raises(ScuFailure):
            association.announce_data()


def test_no_time_at_all_is_no_time() -> None:
    """Not the association's own time-out, which None stands for."""

    def say_nothing(link: Link) -> None:
        link.associate()
        ended.wait(20)

    ended = threading.Event()
    with ScriptedPeer(say_nothing) as peer:
        association = opened(peer, STORE, 600)
        with pytest.raises(ScuFailure) as caught:
            association.receive_message(0)
        ended.set()
        assert caught.value.kind is FailureKind.TIMEOUT


def test_a_response_before_its_time_is_heard() -> None:
    def script(link: Link) -> None:
        link.associate()

        def refuse(size: int) -> None:
            assert link.under_way is not None
            link.respond(link.under_way, 0xA700)
            raise Gone

        link.message(refuse)

    with ScriptedPeer(script) as peer:
        association = opened(peer, STORE, 2)
        with pytest.raises(ConnectionError) as broken:
            flood(association)
        assert association.fault(broken.value).kind is FailureKind.LOST
        message = association.receive_message()
        assert message.elements[0x0900] == wire.us(0xA700)


def test_a_peer_that_takes_no_data() -> None:
    stopped = threading.Event()

    def stop_reading(link: Link) -> None:
        link.associate()
        stopped.wait(10)

    with ScriptedPeer(stop_reading) as peer:
        association = opened(peer, STORE, 0.3)
        begun = time.monotonic()
        command = encode_store_request(1, wire.CT_IMAGE, "1.2")
        with pytest.raises(ScuFailure, match=r"takes no data for 0\.3 s") as caught:
            association.send_message(1, command, bytes(30 << 20))
        assert caught.value.kind is FailureKind.TIMEOUT
        assert time.monotonic() - begun < within(3)
        stopped.set()


def test_interrupt_from_another_thread() -> None:
    with ScriptedPeer(Scp(slow_s=5)) as peer:
        association = opened(peer, timeout=10)
        threading.Timer(0.1, association.interrupt).start()
        begun = time.monotonic()
        with pytest.raises(ScuFailure) as caught:
            association.echo()
        assert caught.value.kind is FailureKind.INTERRUPTED
        assert time.monotonic() - begun < within(2)
        association.interrupt()  # once more is harmless


def interrupted(peer: Peer) -> None:
    """Whatever opening waits for, the order ends it, given before or meanwhile."""
    for delay_s in (0.0, 0.2):
        order = Interruption()
        timer = threading.Timer(delay_s, order.set)
        timer.start()
        if not delay_s:
            timer.join()
        begun = time.monotonic()
        with pytest.raises(ScuFailure) as caught:
            ScuAssociation.open(peer, "GW", ECHO, Timeouts.each(20), order)
        timer.join()
        assert caught.value.kind is FailureKind.INTERRUPTED
        assert time.monotonic() - begun < within(2)


def test_opening_ends_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    with full_listener() as port:
        interrupted(peer_at(port))
    with ScriptedPeer(silent) as peer:
        interrupted(peer_at(peer.port))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname = False
        interrupted(peer_at(peer.port, tls=tls))
    answering = threading.Event()

    def never(host: str, port: int, **options: int) -> object:
        if not options["flags"]:
            answering.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    monkeypatch.setattr(scu_transport.socket, "getaddrinfo", never)
    interrupted(peer_at(104, "slow.test"))
    answering.set()


def test_leaving_the_block_aborts() -> None:
    with ScriptedPeer(Scp()) as peer:
        with opened(peer):
            pass
        aborted = wire.pdu(wire.ABORT, bytes(4))
        eventually(lambda: peer.links[0].received.endswith(aborted))


def test_an_idle_association_is_looked_at() -> None:
    ended = threading.Event()

    def script(link: Link) -> None:
        link.associate()
        ended.wait(5)
        link.send(wire.pdu(wire.RELEASE_RQ, bytes(4)))
        assert link.receive().kind == wire.RELEASE_RP

    with ScriptedPeer(script) as peer, opened(peer) as association:
        assert association.still_open()
        assert association.still_open()
        ended.set()
        eventually(lambda: not association.still_open())
        assert not association.still_open()


def test_no_descriptor_is_left_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for script in (rejecting(1, 1, 1), aborting(), silent, closing, Scp(release_fault="close")):
        failure_of(script, timeout=0.2)
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before, what="descriptors closed")
