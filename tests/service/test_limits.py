"""The conformance tables' numbers and admissions, seen on the wire of the running service."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.material import wire
from tests.material.waiting import eventually, within
from tests.peers.peer import Peer, PeerClosedError, Sender
from tests.rigs.gateway import Gateway

pytestmark = pytest.mark.process
LIMIT_EXCEEDED = (2, 3, 2)
VERIFICATION_CONTEXT = 21


def associated(address: tuple[str, int], request: bytes | None = None) -> Peer:
    """A peer with an association; a slot just given up may take a moment to be free."""

    def attempt() -> Peer | None:
        peer = Peer(address)
        answer = peer.associate(request)
        if answer.kind == wire.ASSOCIATE_AC:
            return peer
        assert answer.rejection == LIMIT_EXCEEDED
        peer.close()
        return None

    peer: Peer = eventually(attempt, 3, "an association")
    return peer


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as holder:
        yield holder


def make(number: int) -> tuple[str, bytes]:
    """Instance `number`: 128 kB and 512 kB in turn, one on each side of what is inlined."""
    uid = f"1.2.826.0.1.3680043.10.2.{number}"
    return uid, wire.small_data_set(uid, pixels=bytes((128 if number % 2 else 512) * 1024))


def test_the_sixth_is_rejected_and_five_store_undisturbed(gateway: Gateway) -> None:
    senders = [
        Sender(gateway.address, range(at, 300, 5), make, deadline=60, per_association=1000)
        for at in range(5)
    ]
    for sender in senders:
        sender.start()

    def turned_down() -> bool:
        with Peer(gateway.address) as peer:
            return peer.associate().kind == wire.ASSOCIATE_RJ

    eventually(turned_down, 10, "five associations stand")
    rejected = 0
    while any(sender.is_alive() for sender in senders):
        with Peer(gateway.address) as sixth:
            begun = time.monotonic()
            answer = sixth.associate()
            seconds = time.monotonic() - begun
            if answer.kind != wire.ASSOCIATE_RJ:
                break  # one of the five has finished
            assert answer.rejection == LIMIT_EXCEEDED
            assert sixth.receive() is None, "not closed after the A-ASSOCIATE-RJ"
            assert seconds < within(1)
            rejected += 1
        time.sleep(0.02)
    for sender in senders:
        sender.join(60)
        assert not sender.failure
        assert sender.refused == 0
        assert sender.interrupted == 0
        assert len(sender.acknowledged) == 60
    assert rejected > 0


def test_fifty_associations_by_choice(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway({"storage_scp": {"associations": 50}, "ring_mib": 1})
    senders = [
        Sender(gateway.address, range(at, 200, 50), make, deadline=60, per_association=1000)
        for at in range(50)
    ]
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(associated(gateway.address))
        with Peer(gateway.address) as peer:
            assert peer.associate().rejection == LIMIT_EXCEEDED
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(60)
    stored = [uid for sender in senders for uid in sender.acknowledged]
    assert len(set(stored)) == 200


def test_prefetch_takes_one(gateway: Gateway, stack: ExitStack) -> None:
    first = stack.enter_context(associated(gateway.prefetch_address))
    for _ in range(3):
        second = stack.enter_context(Peer(gateway.prefetch_address))
        assert second.associate().rejection == LIMIT_EXCEEDED
    assert first.echo() == 0
    # A limit belongs to its own title and port.
    assert stack.enter_context(associated(gateway.address)).echo() == 0
    assert first.release()


def leave_by_release(peer: Peer) -> None:
    assert peer.release()
    peer.close()


def leave_by_abort(peer: Peer) -> None:
    peer.send(wire.pdu(wire.ABORT, bytes(4)))


def leave_by_reset(peer: Peer) -> None:
    peer.close()


def leave_by_reset_behind_bytes(peer: Peer) -> None:
    """The reset comes while bytes in front of it are still to be read."""
    linger = struct.pack("ii", 1, 0)
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    peer.send(wire.p_data(3, wire.store_command(wire.CT_IMAGE, "1.2.3"), True))
    peer.send(wire.pdu(4, wire.pdv(3, bytes(16000), 0)) * 3)
    peer.close()


def leave_by_fault(peer: Peer) -> None:
    peer.send(wire.pdu(0x42, bytes(4)))
    answer = peer.receive()
    assert answer is not None
    assert answer.kind == wire.ABORT
    peer.close()


def leave_amid_a_data_set(peer: Peer) -> None:
    peer.send(wire.p_data(3, wire.store_command(wire.CT_IMAGE, "1.2.3"), True))
    peer.send(wire.pdu(4, wire.pdv(3, bytes(16000), 0)) * 100)
    peer.close()


@pytest.mark.parametrize(
    "leave",
    [
        leave_by_release,
        leave_by_abort,
        leave_by_reset,
        leave_by_reset_behind_bytes,
        leave_by_fault,
        leave_amid_a_data_set,
    ],
)
def test_a_slot_is_free_again(
    gateway: Gateway, stack: ExitStack, leave: Callable[[Peer], None]
) -> None:
    """All five in, all five gone, five times over: every slot comes back."""
    for _ in range(5):
        peers = [stack.enter_context(associated(gateway.address)) for _ in range(5)]
        for peer in peers:
            assert peer.echo() == 0
        for peer in peers:
            leave(peer)
    assert stack.enter_context(associated(gateway.address)).echo() == 0


def test_who_does_not_close_is_closed(
    start_gateway: Callable[..., Gateway], stack: ExitStack
) -> None:
    """Released, but the transport left open: the slot is free when ARTIM has run out."""
    gateway = start_gateway({"application_timeout_s": 1})
    for _ in range(5):
        assert stack.enter_context(associated(gateway.address)).release()
    assert stack.enter_context(associated(gateway.address)).echo() == 0


def test_half_open_connections_take_no_slot(gateway: Gateway, stack: ExitStack) -> None:
    silent = [stack.enter_context(Peer(gateway.address)) for _ in range(20)]
    for _ in range(5):
        assert stack.enter_context(associated(gateway.address)).echo() == 0
    assert len(silent) == 20


@pytest.mark.parametrize("entity", ["SCP_AE", "PrefetchAP"])
def test_what_is_advertised(gateway: Gateway, stack: ExitStack, entity: str) -> None:
    address = gateway.address if entity == "SCP_AE" else gateway.prefetch_address
    user = wire.user_information(16384, wire.asynchronous_window(0, 5))
    request = wire.associate_request(wire.storage_contexts(), called=entity, user=user)
    peer = stack.enter_context(Peer(address))
    answer = eventually(lambda: accepted(peer.associate(request)), 3)
    found = wire.user_items(answer.body)
    assert int.from_bytes(found[0x51], "big") == 16378
    assert found[0x52] == b"1.2.392.200036.9116.7.39"
    assert found[0x53] == bytes.fromhex("00010001")
    assert found[0x55] == b"AP-1.0"
    assert answer.body[4:20] == wire.title(entity)
    assert all(result == 0 for result, _ in peer.contexts.values())
    assert peer.release()


def accepted(answer: wire.Pdu) -> wire.Pdu | None:
    return answer if answer.kind == wire.ASSOCIATE_AC else None


def test_no_window_when_none_is_proposed(gateway: Gateway, stack: ExitStack) -> None:
    answer = stack.enter_context(Peer(gateway.address)).associate()
    assert 0x53 not in wire.user_items(answer.body)


@pytest.mark.parametrize("maximum", [16378, 16384, 32768, 131072])
def test_longer_pdus_are_tolerated(gateway: Gateway, stack: ExitStack, maximum: int) -> None:
    peer = stack.enter_context(associated(gateway.address))
    uid = f"1.2.826.0.1.3680043.10.2.9.{maximum}"
    data_set = wire.small_data_set(uid, pixels=bytes(400_000))
    peer.send(wire.p_data(3, wire.store_command(wire.CT_IMAGE, uid), True))
    peer.send(wire.p_data(3, data_set, False, maximum))
    assert peer.receive_command()[0x0900] == b"\0\0"
    assert peer.release()


def test_no_pdu_longer_than_the_peer_takes(gateway: Gateway, stack: ExitStack) -> None:
    """A peer that takes 40 bytes gets its response in PDUs of at most 40 bytes."""
    user = wire.user_information(40)
    request = wire.associate_request(wire.storage_contexts(), user=user)
    peer = stack.enter_context(associated(gateway.address, request))
    peer.send(wire.p_data(VERIFICATION_CONTEXT, wire.echo_command(), True))
    payload = b""
    while True:
        answer = peer.receive()
        assert answer is not None
        assert len(answer.body) <= 40
        payload += answer.body[6:]
        if answer.body[5] & 2:
            break
    assert wire.parse_command(payload)[0x0900] == b"\0\0"


def test_a_request_before_the_response_is_aborted(gateway: Gateway, stack: ExitStack) -> None:
    """Two C-STORE requests at once: one outstanding operation is all that was agreed on."""
    peer = stack.enter_context(associated(gateway.address))
    both = b""
    for number in (1, 2):
        uid = f"1.2.826.0.1.3680043.10.2.8.{number}"
        both += wire.p_data(3, wire.store_command(wire.CT_IMAGE, uid, number), True)
        both += wire.p_data(3, wire.small_data_set(uid, pixels=bytes(600_000)), False)
    threading.Thread(target=peer.send, args=(both,), daemon=True).start()
    answer = peer.receive()
    while answer is not None and answer.kind == wire.P_DATA:  # the first one was quicker
        answer = peer.receive()
    assert answer is not None
    assert answer.kind == wire.ABORT


def outcome(address: tuple[str, int], **request: str) -> tuple[int, int, int] | str:
    """What an association request with these titles gets: "accepted", or the rejection."""
    with Peer(address) as peer:
        answer = peer.associate(wire.associate_request(wire.storage_contexts(), **request))
        if answer.kind == wire.ASSOCIATE_RJ:
            return answer.rejection
        try:
            return "accepted" if peer.echo() == 0 and peer.release() else "broken"
        except PeerClosedError:
            return "broken"


def test_titles_that_are_not_ours_may_only_verify(gateway: Gateway, stack: ExitStack) -> None:
    request = wire.associate_request(wire.storage_contexts(), called="OTHER")
    peer = stack.enter_context(associated(gateway.address, request))
    results = {key: result for key, (result, _) in peer.contexts.items()}
    assert results.pop(VERIFICATION_CONTEXT) == 0
    assert set(results.values()) == {1}
    assert peer.echo() == 0
    assert peer.release()
    said = ("warning", "the called AE title is not SCP_AE: all but Verification is refused")
    eventually(lambda: said in [(line["level"], line.get("text")) for line in gateway.log()])


@pytest.mark.parametrize("calling", ["", "K\u00c4FER", "A\\B"])
def test_what_is_no_title_is_rejected_though_any_is_let_in(gateway: Gateway, calling: str) -> None:
    assert outcome(gateway.address, calling="ANYBODY") == "accepted"
    assert outcome(gateway.address, calling=calling) == (1, 1, 3)
    reason = "calling AE title is blank, or has characters other than printable ASCII"
    eventually(lambda: reason in [line.get("text") for line in gateway.log()])


def test_titles_on_the_lists(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(
        {"storage_scp": {"called_ae_titles": ["SCP_AE", "ARCHIVE"], "calling_ae_titles": ["CT1"]}}
    )
    address = gateway.address
    assert outcome(address, called="SCP_AE", calling="CT1") == "accepted"
    assert outcome(address, called=" ARCHIVE", calling=" CT1 ") == "accepted"
    assert outcome(address, called="OTHER", calling="CT1") == (1, 1, 7)
    assert outcome(address, called="scp_ae", calling="CT1") == (1, 1, 7)
    assert outcome(address, called="SCP_AE", calling="CT2") == (1, 1, 3)
    assert outcome(address, called="SCP_AE", calling="ct1") == (1, 1, 3)
    # The other entity has lists of its own.
    assert outcome(gateway.prefetch_address, called="PrefetchAP", calling="CT2") == "accepted"


def test_hosts_that_are_not_allowed(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(
        {
            "storage_scp": {"allowed_hosts": ["192.0.2.0/24"]},
            "prefetch_scp": {"allowed_hosts": ["127.0.0.0/8"]},
        }
    )
    assert outcome(gateway.address) == (1, 1, 3)
    assert outcome(gateway.prefetch_address, called="PrefetchAP") == "accepted"


def test_idle_associations_are_let_go(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway({"idle_timeout_s": 1})
    with associated(gateway.address) as peer:
        begun = time.monotonic()
        assert peer.echo() == 0
        answer = peer.receive()
        assert answer is not None
        assert answer.kind == wire.ABORT
        assert 0.5 < time.monotonic() - begun < within(4)


def let_in(address: tuple[str, int]) -> bool:
    """Whether a new association is accepted; refused in whatever way counts as no."""
    try:
        with Peer(address, 2) as late:
            return late.associate().kind == wire.ASSOCIATE_AC
    except (OSError, PeerClosedError):
        return False


def is_refused(address: tuple[str, int]) -> bool:
    """Whether nobody listens there: a client is told at once instead of waiting."""
    try:
        socket.create_connection(address, timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_draining_lets_an_association_finish(start_gateway: Callable[..., Gateway]) -> None:
    """SIGTERM: no new association, the one under way stores on until it releases; then exit 0."""
    gateway = start_gateway()
    assert gateway.process is not None
    with associated(gateway.address) as peer:
        assert peer.echo() == 0
        gateway.process.terminate()
        time.sleep(0.5)
        for number in range(3):
            uid = f"1.2.826.0.1.3680043.10.2.7.{number}"
            assert peer.store(wire.CT_IMAGE, uid, wire.small_data_set(uid)) == 0
        for address in (gateway.address, gateway.prefetch_address):
            assert not let_in(address)
            eventually(lambda address=address: is_refused(address), 5, "late clients are refused")
        assert gateway.metrics(), "what is measured can be read until the end"
        assert peer.release()
    assert gateway.process.wait(20) == 0
    gateway.process = None
    found = gateway.find()
    assert {f"1.2.826.0.1.3680043.10.2.7.{number}" for number in range(3)} <= set(found)
