"""Associations we ask for, over real sockets: what is agreed, said, and how each end is told."""

import os
import socket
import time
from pathlib import Path

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from engine.dimse.commands import CommandField
from engine.dimse.requests import (
    StatusClass,
    encode_cancel_request,
    encode_find_request,
    encode_move_request,
    encode_store_request,
)
from engine.settings.timeouts import Timeouts
from engine.upper_layer.failure import FailureKind
from engine.upper_layer.pdus import ProposedContext
from tests.material import wire
from tests.material.odd_commands import ODD_ENDING
from tests.material.waiting import free_ports
from tests.peers.peer_scripts import Scp
from tests.peers.scripted_peer import ScriptedPeer
from tests.peers.tap import data_set_of_file
from tests.rigs.associations import ECHO, STORE, TIMEOUT, opened, peer_at, run_storescp
from workers.scu import transport as scu_transport
from workers.scu.association import ScuAssociation, ScuFailure

FIND_CLASS, MOVE_CLASS = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.2"


# --- what goes well ------------------------------------------------------------------------------


def test_echo_and_release() -> None:
    with ScriptedPeer(Scp()) as peer:
        with opened(peer) as association:
            assert association.echo() == 0
            assert association.echo() == 0
            assert association.implementation == ("1.2.826.0.1.3680043.10.1.1", "")
            association.release()
        assert [request.message for request in peer.commands] == [1, 2]
        link = peer.links[0]
        assert link.titles == ("PACS", "GATEWAY")
        assert link.received.endswith(wire.pdu(wire.RELEASE_RQ, bytes(4)))


def test_the_request_proposes_what_the_statement_says() -> None:
    with ScriptedPeer(Scp()) as peer:
        opened(peer).release()
        assert peer.links[0].request is not None
        items = wire.user_items(peer.links[0].request.body)
    assert items == {
        0x51: (16378).to_bytes(4, "big"),
        0x52: b"1.2.392.200036.9116.7.39",
        0x55: b"AP-1.0",
    }


@pytest.mark.parametrize(
    ("maximum", "most"), [(16384, 16378), (0, 16378), (None, 16378), (4096, 4096), (8, 8)]
)
def test_the_peers_maximum_is_kept(maximum: int | None, most: int) -> None:
    with ScriptedPeer(Scp(maximum=maximum)) as peer, opened(peer) as association:
        assert association.pdu_bytes_max == most
        assert association.echo() == 0
        association.release()
        at, longest, received = 0, 0, bytes(peer.links[0].received)
        while at < len(received):
            length = int.from_bytes(received[at + 2 : at + 6], "big")
            longest = max(longest, length) if received[at] == wire.P_DATA else longest
            at += 6 + length
    assert 0 < longest <= most


def test_a_store_and_its_status() -> None:
    uid, data = "1.2.3.4", wire.small_data_set("1.2.3.4", pixels=bytes(40000))
    with ScriptedPeer(Scp(statuses=[0xB007])) as peer, opened(peer, STORE) as association:
        context = association.context(wire.CT_IMAGE, wire.IMPLICIT)
        assert context == 3
        assert association.context(wire.CT_IMAGE, wire.JPEG_LOSSLESS) is None
        message = association.next_message_id()
        association.send_message(context, encode_store_request(message, wire.CT_IMAGE, uid), data)
        response = association.receive_response(CommandField.C_STORE, message)
        assert (response.status, response.outcome) == (0xB007, StatusClass.WARNING)
        association.release()
    assert peer.stored[uid].data == data
    assert peer.stored[uid].transfer_syntax == wire.IMPLICIT


@pytest.mark.parametrize("status", [0x0000, 0xA700])
@pytest.mark.parametrize("name", ODD_ENDING)
def test_responses_that_real_peers_send(name: str, status: int) -> None:
    uid = "1.2.3.4"  # seven characters
    encode, kind = ODD_ENDING[name]
    data = wire.small_data_set(uid)
    service = Scp(statuses=[status], comment=b"odd", encode=encode)
    with ScriptedPeer(service) as peer, opened(peer, STORE) as association:
        for _ in range(3):  # the second one is like the first, and may be known as a whole
            message = association.next_message_id()
            command = encode_store_request(message, wire.CT_IMAGE, uid)
            association.send_message(3, command, data)
            received, comment = association.receive_stored(message, uid)
            assert (received, comment or "odd") == (status, "odd")
        assert kind in association.oddities
        association.release()


def test_a_query_with_many_answers_and_a_cancel() -> None:
    identifiers = [wire.explicit_element(0x00100020, "LO", b"P%d" % n) for n in range(500)]
    scp = Scp(matches=[*((0xFF00, one) for one in identifiers), (0xFE00, None)])
    contexts = (ProposedContext(1, FIND_CLASS, (wire.EXPLICIT,)),)
    with ScriptedPeer(scp) as peer, opened(peer, contexts, 5) as association:
        association.send_message(1, encode_find_request(7, FIND_CLASS), identifiers[0])
        association.send_message(1, encode_cancel_request(7), None)
        found = []
        while True:
            response = association.receive_response(CommandField.C_FIND, 7)
            if response.outcome is not StatusClass.PENDING:
                break
            found.append(response.data)
        assert found == identifiers
        assert response.outcome is StatusClass.CANCEL
        association.release()


def test_a_retrieval_reports_its_progress() -> None:
    counts = {0x1020: wire.us(3), 0x1021: wire.us(2), 0x1022: wire.us(1), 0x1023: wire.us(0)}
    scp = Scp(moves=[(0xFF00, counts), (0xA702, {})])
    contexts = (ProposedContext(1, MOVE_CLASS, (wire.IMPLICIT,)),)
    with ScriptedPeer(scp) as peer, opened(peer, contexts) as association:
        association.send_message(1, encode_move_request(1, MOVE_CLASS, "PrefetchAP"), b"")
        first = association.receive_response(CommandField.C_MOVE, 1)
        counted = (first.remaining, first.completed, first.failed, first.warnings)
        assert counted == (3, 2, 1, 0)
        assert association.receive_response(CommandField.C_MOVE, 1).outcome is StatusClass.FAILURE
        association.release()
        assert peer.commands[0].text(0x0600) == "PrefetchAP"


def test_a_release_collision() -> None:
    with ScriptedPeer(Scp(release_fault="collide")) as peer:
        association = opened(peer)
        association.release()


def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedPeer(Scp()) as peer:
        (deaf,) = free_ports(1)
        found = [
            (socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("::1", deaf, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", peer.port)),
        ]
        monkeypatch.setattr(scu_transport.socket, "getaddrinfo", lambda *_, **__: found)
        association = ScuAssociation.open(
            peer_at(peer.port, "two.test"), "GW", ECHO, Timeouts.each(TIMEOUT)
        )
        assert association.echo() == 0
        association.release()


def test_descriptors_are_not_inherited() -> None:
    with ScriptedPeer(Scp()) as peer, opened(peer) as association:
        assert not os.get_inheritable(association.socket.fileno())


# --- foreign acceptors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (["+B"], None),
        (["+B", "--max-pdu", "4096"], None),
        (["--refuse"], FailureKind.REJECTED),
    ],
)
def test_storescp(tmp_path: Path, options: list[str], kind: FailureKind | None) -> None:
    process, port = run_storescp(tmp_path, *options)
    try:
        if kind is None:
            image = ProposedContext(3, wire.CT_IMAGE, (wire.EXPLICIT,))
            data = wire.small_data_set("1.2.3", pixels=bytes(40000))
            with ScuAssociation.open(
                peer_at(port), "GATEWAY", (*ECHO, image), Timeouts.each(5)
            ) as one:
                assert one.echo() == 0
                assert one.implementation[1].startswith("OFFIS_DCMTK")
                one.send_message(3, encode_store_request(9, wire.CT_IMAGE, "1.2.3"), data)
                assert one.receive_response(CommandField.C_STORE, 9).status == 0
                one.release()
            (stored,) = tmp_path.iterdir()
            assert data_set_of_file(stored.read_bytes()) == data
            return
        with pytest.raises(ScuFailure) as caught:
            ScuAssociation.open(peer_at(port), "GATEWAY", ECHO, Timeouts.each(5))
        assert caught.value.kind is kind
    finally:
        process.kill()
        process.wait()


def test_storescp_with_nagles_algorithm_costs_no_pause(tmp_path: Path) -> None:
    """It writes a response in two pieces; each would wait 40 ms for a late acknowledgement."""
    process, port = run_storescp(tmp_path)
    try:
        ScuAssociation.open(peer_at(port), "GATEWAY", ECHO, Timeouts.each(5)).release()
        took = []
        for _ in range(20):
            begun = time.monotonic()
            with ScuAssociation.open(
                peer_at(port), "GATEWAY", ECHO, Timeouts.each(5)
            ) as association:
                assert association.echo() == 0
                association.release()
            took.append(time.monotonic() - begun)
        assert sorted(took)[5] < 0.03, "a pause would be in each of them"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("status", "required"), [(0x0000, False), (0x0122, False), (0, True)])
def test_pynetdicom(status: int, required: bool) -> None:
    entity = AE("PYNET")
    entity.require_called_aet = required
    entity.add_supported_context(Verification)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_ECHO, lambda _: status)]
    )
    try:
        peer = peer_at(server.server_address[1])
        if required:
            with pytest.raises(ScuFailure, match="called AE title not recognized"):
                ScuAssociation.open(peer, "GATEWAY", ECHO, Timeouts.each(5))
        else:
            with ScuAssociation.open(peer, "GATEWAY", ECHO, Timeouts.each(5)) as association:
                assert association.echo() == status
                association.release()
    finally:
        server.shutdown()
