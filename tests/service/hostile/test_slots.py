"""Peers that hold slots and do nothing keep nobody out of the running service."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from tests.material import wire
from tests.material.waiting import eventually, within
from tests.peers.peer import Address, Peer, PeerClosedError
from tests.rigs.gateway import Gateway
from tests.rigs.slot_contest import Contest, shares
from tests.rigs.slot_contestants import CT_CONTEXT, LONG_PDU, BoundPeer, play, undisturbed

pytestmark = pytest.mark.process
WRONG_TITLE = wire.associate_request(wire.storage_contexts(), called="OTHER")
LIMIT_EXCEEDED = (2, 3, 2)
VERIFICATION = 21
_numbers = iter(range(1, 10**6))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as holder:
        yield holder


def stand(stack: ExitStack, address: Address, host: str, request: bytes | None = None) -> Peer:
    """An association of this host."""
    peer = stack.enter_context(BoundPeer(address, host))
    assert peer.associate(request).kind == wire.ASSOCIATE_AC
    return peer


def store(peer: Peer) -> int:
    uid = f"1.2.826.0.1.3680043.10.14.1.{next(_numbers)}"
    return peer.store(wire.CT_IMAGE, uid, wire.small_data_set(uid))


def stores(address: Address, host: str) -> bool:
    """Whether a scanner gets in now, and its instance is taken."""
    with suppress(PeerClosedError, ConnectionError), BoundPeer(address, host) as peer:
        if peer.associate().kind == wire.ASSOCIATE_AC:
            return store(peer) == 0 and peer.release()
    return False


def told(gateway: Gateway, event: str) -> list[dict[str, Any]]:
    return [line for line in gateway.log() if line["event"] == event]


@pytest.mark.parametrize("entity", ["SCP_AE", "PrefetchAP"])
def test_who_can_only_verify_takes_no_slot_of_those_who_store(
    gateway: Gateway, stack: ExitStack, entity: str
) -> None:
    address, count = (gateway.address, 5) if entity == "SCP_AE" else (gateway.prefetch_address, 1)
    quiet = [stand(stack, address, "127.0.3.1", WRONG_TITLE) for _ in range(count)]
    with BoundPeer(address, "127.0.3.1") as one_more:
        assert one_more.associate(WRONG_TITLE).rejection == LIMIT_EXCEEDED
    request = wire.associate_request(wire.storage_contexts(), called=entity)
    for number in range(count):
        assert store(stand(stack, address, f"127.0.3.{10 + number}", request)) == 0
    assert all(peer.echo() == 0 for peer in quiet), "nobody had to give way for that"


def drip(peer: Peer) -> None:
    peer.socket.sendall(LONG_PDU[peer.message : peer.message + 1])
    peer.message += 1


def echo(peer: Peer) -> None:
    peer.socket.sendall(wire.p_data(VERIFICATION, wire.echo_command(), True))


@pytest.mark.parametrize("say", [lambda _: None, drip, echo], ids=["nothing", "a byte", "echo"])
def test_a_scanner_gets_the_place_of_one_that_does_nothing(
    start_gateway: Callable[..., Gateway], stack: ExitStack, say: Callable[[Peer], None]
) -> None:
    gateway = start_gateway()
    quiet = [stand(stack, gateway.address, f"127.0.3.{number}") for number in range(1, 6)]
    with BoundPeer(gateway.address, "127.0.3.9") as early:
        assert early.associate().rejection == LIMIT_EXCEEDED, "they have only just come"
    begun = time.monotonic()

    def served() -> bool:
        for peer in quiet:
            with suppress(OSError):
                say(peer)
        return stores(gateway.address, "127.0.3.9")

    eventually(served, 10, "the scanner stores")
    assert time.monotonic() - begun < within(8)
    # Now it is known, and need not wait any more: nobody else makes progress.
    for _ in range(3):
        assert stores(gateway.address, "127.0.3.9")
    line = eventually(lambda: told(gateway, "association_gave_way"), 5, "the log says so")[0]
    assert line["peer"].startswith("127.0.3.")
    assert "no progress" in line["reason"]
    assert "127.0.3.9 asks" in line["reason"]
    metrics = gateway.metrics()
    (gave_way,) = [it for name, it in metrics.items() if 'cause="gave_way"' in name and it]
    assert gave_way == 1, "once, and then there was room"


def test_who_gives_way_is_told_so(start_gateway: Callable[..., Gateway], stack: ExitStack) -> None:
    """PrefetchAP has one place: the quiet one gets an A-ABORT."""
    gateway = start_gateway()
    request = wire.associate_request(wire.storage_contexts(), called="PrefetchAP")
    quiet = stand(stack, gateway.prefetch_address, "127.0.3.1", request)

    def served() -> bool:
        with BoundPeer(gateway.prefetch_address, "127.0.3.9") as peer:
            return peer.associate(request).kind == wire.ASSOCIATE_AC and store(peer) == 0

    eventually(served, 10, "the scanner stores")
    answer = quiet.receive()
    assert answer is not None
    assert answer.abort == (0, 0)
    assert quiet.receive() is None


def test_a_release_gives_the_place_back_whether_the_peer_closes_or_not(
    start_gateway: Callable[..., Gateway], stack: ExitStack
) -> None:
    gateway = start_gateway({"application_timeout_s": 60})
    for _ in range(3):
        peers = [stand(stack, gateway.address, "127.0.3.1") for _ in range(5)]
        assert all(peer.release() for peer in peers)


def test_a_host_has_all_places_until_another_one_asks(
    start_gateway: Callable[..., Gateway], stack: ExitStack
) -> None:
    """The statement's five from one host; four of them once somebody else wants to store."""
    gateway = start_gateway()
    greedy = [stand(stack, gateway.address, "127.0.3.1") for _ in range(5)]
    assert all(store(peer) == 0 for peer in greedy)
    assert BoundPeer(gateway.address, "127.0.3.1").associate().rejection == LIMIT_EXCEEDED
    eventually(lambda: _at_work(greedy) and stores(gateway.address, "127.0.3.9"), 15)
    left = sum(_is_open(peer) for peer in greedy)
    assert left == 4


def _at_work(peers: list[Peer]) -> bool:
    for peer in peers:
        with suppress(PeerClosedError, OSError):
            store(peer)
    return True


def _is_open(peer: Peer) -> bool:
    try:
        return peer.echo() == 0
    except (PeerClosedError, OSError):
        return False


@pytest.mark.parametrize("context", [None, CT_CONTEXT])
def test_a_whole_message_has_a_time_however_often_a_byte_comes(
    start_gateway: Callable[..., Gateway], stack: ExitStack, context: int | None
) -> None:
    """A PDU that never ends, and a data set in fragments of two bytes."""
    gateway = start_gateway({"message_timeout_s": 2})
    peer = stand(stack, gateway.address, "127.0.3.1")
    piece = b""
    if context is not None:
        peer.send(wire.p_data(context, wire.store_command(wire.CT_IMAGE, "1.2.3"), True))
        piece = wire.pdu(wire.P_DATA, wire.pdv(context, bytes(2), 0))
    begun = time.monotonic()
    peer.socket.settimeout(0.25)

    def ended() -> bool:
        with suppress(BrokenPipeError, ConnectionResetError):
            peer.socket.sendall(piece) if piece else drip(peer)
        try:
            return peer.socket.recv(1)[:1] in (bytes([wire.ABORT]), b"")
        except TimeoutError:
            return False

    eventually(ended, 10, "an A-ABORT")
    assert 1.5 < time.monotonic() - begun < within(5)
    eventually(lambda: told(gateway, "message_expired"), 5, "the log says so")


def test_who_never_reads_its_answers_frees_its_slot(
    start_gateway: Callable[..., Gateway], stack: ExitStack
) -> None:
    """Five of one host, so that nobody of it may ask them to give way."""
    gateway = start_gateway()
    deaf = [stand(stack, gateway.address, "127.0.3.1") for _ in range(5)]
    begun = time.monotonic()

    def flood(peer: Peer) -> None:
        requests = wire.p_data(VERIFICATION, wire.echo_command(), True)
        peer.socket.settimeout(60)
        with suppress(OSError):
            while True:
                peer.socket.sendall(requests * 100)

    for peer in deaf:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        threading.Thread(target=flood, args=(peer,), daemon=True).start()

    def room() -> bool:
        with BoundPeer(gateway.address, "127.0.3.1") as peer:
            return peer.associate().kind == wire.ASSOCIATE_AC

    eventually(room, 36, "a slot is free")
    assert time.monotonic() - begun < within(25)
    eventually(lambda: told(gateway, "peer_does_not_read"), 5, "the log says so")


def test_scanners_store_among_hostile_hosts(start_gateway: Callable[..., Gateway]) -> None:
    """The contest of `python -m tests.service.hostile contest`, in short: what the simulation says
    is what happens."""
    contest = Contest(
        attacks=("quiet", "drip", "echo", "churn"),
        hostile=8,
        images=5,
        pause_s=0.5,
        warm_up_s=12,
        measured_s=15,
    )
    expected = min(shares(contest))
    assert expected > 0.95
    rates = play(start_gateway({"log": {"instances": False}}).address, contest)
    found = min(rates) / undisturbed(contest)
    assert found > 0.85, f"{found:.2f}; the simulation says {expected:.2f}"
