"""The secured AE and those who should not get through: refused, logged, counted, and nobody hurt.

Five good associations store all the while. What was refused is looked at from both sides: the
alert that the peer was sent, the line in the log and the counter.
"""

import contextlib
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.material import certificates, wire
from tests.material.waiting import eventually, within
from tests.peers.peer import Peer, Sender
from tests.rigs.gateway import under_way
from tests.rigs.secured import MemoryClient, SecuredGateway, SecuredPeer, bare_context

pytestmark = pytest.mark.process
HALF_OPEN = 1000
STORED_SYNTAX = 3  # of wire.storage_contexts: CT Image, Explicit VR


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredGateway]:
    gateway = SecuredGateway(tmp_path_factory.mktemp("secured"))
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.close()


def make(number: int) -> tuple[str, bytes]:
    uid = f"1.2.826.0.1.3680043.10.6.{number}"
    return uid, wire.small_data_set(uid, pixels=bytes(128 * 1024))


@contextlib.contextmanager
def good_ones(gateway: SecuredGateway, first: int, number: int = 5) -> Iterator[None]:
    """Associations that store all the while; each instance is acknowledged, none is lost."""
    context = gateway.client_context()
    senders = [
        Sender(
            gateway.secured_address,
            range(first + at, first + 1_000_000, 5),
            make,
            deadline=120,
            per_association=100_000,
            connect=lambda address, timeout: SecuredPeer(address, context, timeout),
        )
        for at in range(number)
    ]
    for sender in senders:
        sender.start()
    eventually(lambda: all(len(sender.acknowledged) > 3 for sender in senders), 20, "they store")
    before = [len(sender.acknowledged) for sender in senders]
    yield
    eventually(
        lambda: all(
            len(sender.acknowledged) > had for sender, had in zip(senders, before, strict=True)
        ),
        5,
        "all of them go on",
    )
    for sender in senders:
        sender.stopping.set()
    for sender in senders:
        sender.join(30)
        assert not sender.failure
        assert (sender.refused, sender.interrupted) == (0, 0)
    rows = gateway.find()
    for sender in senders:
        assert set(sender.acknowledged) <= set(rows)


def refused(
    gateway: SecuredGateway, reason: str, action: Callable[[], object]
) -> dict[str, object]:
    """The log line of a refusal that `action` brings about; it is counted too."""
    seen = len(gateway.events("tls_refused"))
    counted = gateway.results().get(reason, 0)
    action()
    lines = eventually(
        lambda: [line for line in gateway.events("tls_refused")[seen:] if line["reason"] == reason],
        5,
        f"refused for {reason}: {gateway.log_tail(5)}",
    )
    eventually(lambda: gateway.results().get(reason, 0) > counted, 5, f"{reason} is counted")
    line: dict[str, object] = lines[0]
    assert line["peer"] == "127.0.0.1"
    return line


def connect_as(
    gateway: SecuredGateway, identity: certificates.Identity | None, directory: Path, version: str
) -> str:
    """Come with this certificate and ask for an association; the alert that came instead."""
    context = bare_context()
    context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    if identity is not None:
        key, chain = identity.pem_files(directory, "hostile")
        context.load_cert_chain(chain, key)
    try:
        with SecuredPeer(gateway.secured_address, context) as peer:
            # In TLS 1.3 the client's handshake is over before we have looked at its certificate.
            peer.socket.sendall(wire.associate_request(wire.storage_contexts()))
            heard = peer.socket.recv(1)
    except (ssl.SSLError, ConnectionError) as error:
        return str(error)
    pytest.fail(f"no alert came, but {heard!r}")


BAD_CERTIFICATES = [
    ("foreign", "untrusted", "UNKNOWN_CA|DECRYPT_ERROR|BAD_CERTIFICATE"),
    ("expired", "expired", "CERTIFICATE_EXPIRED"),
    ("not yet valid", "expired", "BAD_CERTIFICATE|CERTIFICATE_EXPIRED"),
    ("rsa 1024", "weak", "HANDSHAKE_FAILURE|BAD_CERTIFICATE|INSUFFICIENT|INTERNAL"),
    ("server only", "purpose", "UNSUPPORTED_CERTIFICATE"),
    (None, "no_certificate", "CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE"),
]


def test_bad_certificates(secured: SecuredGateway, tmp_path: Path) -> None:
    """In both versions, told by an alert, a line and a counter, while five good ones store."""
    with good_ones(secured, 0):
        for kind, reason, alert in BAD_CERTIFICATES:
            identity = None if kind is None else certificates.bad(kind)
            for version in ("TLSv1_2", "TLSv1_3"):
                alerts: list[str] = []
                line = refused(
                    secured,
                    reason,
                    lambda: alerts.append(connect_as(secured, identity, tmp_path, version)),  # noqa: B023
                )
                assert any(word in alerts[0] for word in alert.split("|")), (kind, version, alerts)
                assert str(line["alert"]).startswith("sent: ")
                if kind is not None:
                    assert "CN=" in str(line["text"])


def raw(gateway: SecuredGateway, data: bytes, shut: bool = False) -> bytes:
    """Say this and hear what comes until the service closes."""
    with socket.create_connection(gateway.secured_address, 5) as connection:
        connection.sendall(data)
        if shut:
            connection.shutdown(socket.SHUT_WR)
        heard = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(4096):
                heard += piece
        return heard


def client_hello() -> bytes:
    """A good one."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        bare_context().wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def test_what_is_no_tls(secured: SecuredGateway) -> None:
    """Plain DICOM, a browser, noise: closed at once and without a byte in the clear."""
    strangers = [
        (wire.associate_request(wire.storage_contexts()), "plain DICOM on a TLS port"),
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP"),
        (b"\0" * 64, "no TLS"),
    ]
    for data, words in strangers:
        begun = time.monotonic()
        line = refused(secured, "not_tls", partial(_hears_nothing, secured, data))
        assert words in str(line["text"])
        assert time.monotonic() - begun < within(2)


def _hears_nothing(gateway: SecuredGateway, data: bytes) -> None:
    assert raw(gateway, data) == b""


def test_tls_on_the_plain_port(secured: SecuredGateway) -> None:
    """Ends at once; there is no way from one to the other."""
    begun = time.monotonic()
    with pytest.raises(ssl.SSLError), SecuredPeer(secured.address, secured.client_context()):
        pytest.fail("TLS on the plain port")
    assert time.monotonic() - begun < within(2)
    name = 'scai_tls_on_plain_port_total{ae="SCP_AE",process="storage_scp"}'
    eventually(lambda: secured.metrics()[name] == 1, 5, "counted")
    lines = [line for line in secured.events("association_aborted") if "text" in line]
    assert any("a TLS ClientHello on a DICOM port" in line["text"] for line in lines)


def test_handshakes_that_break_off(secured: SecuredGateway) -> None:
    with good_ones(secured, 2_000_000):
        hello = client_hello()
        refused(secured, "closed", partial(raw, secured, hello[: len(hello) // 2], shut=True))
        refused(secured, "closed", partial(raw, secured, hello, shut=True))
        broken = bytearray(hello)
        broken[9:12] = (
            b"\xff\xff\xff"  # the handshake message's version and the random's first byte
        )
        refused(secured, "protocol", partial(raw, secured, bytes(broken[:5]) + b"\x05" + hello[6:]))


def test_a_silent_one_is_closed_in_time(secured: SecuredGateway) -> None:
    begun = time.monotonic()
    refused(secured, "timeout", partial(_waits_for_the_end, secured, client_hello()[:20]))
    assert 4 < time.monotonic() - begun < within(8)


def _waits_for_the_end(gateway: SecuredGateway, data: bytes) -> None:
    with socket.create_connection(gateway.secured_address, 15) as connection:
        connection.sendall(data)
        assert connection.recv(1) == b""


def test_a_thousand_half_open_ones(secured: SecuredGateway) -> None:
    """Silent ones, halves of a hello, and whole ones that cost us a signature: five go on."""
    hello = client_hello()
    openings = [b"", hello[:11], hello]
    crowd: list[socket.socket] = []
    with good_ones(secured, 10_000):
        try:
            for number in range(HALF_OPEN):
                connection = socket.create_connection(secured.secured_address, 5)
                crowd.append(connection)
                with contextlib.suppress(ConnectionError):
                    connection.sendall(openings[number % 3])
            pending = 'scai_connections_pending{ae="SCP_AE",process="secured_scp"}'
            assert secured.metrics()[pending] <= 256
            # A newcomer is not shut out by them: it gets through TLS, and its turn as the sixth.
            begun = time.monotonic()
            with SecuredPeer(secured.secured_address, secured.client_context()) as sixth:
                assert sixth.associate().rejection == (2, 3, 2)
            assert time.monotonic() - begun < within(3)
        finally:
            for connection in crowd:
                connection.close()
    assert secured.results()["crowded_out"] >= HALF_OPEN - 256 - 6
    eventually(lambda: secured.metrics()[pending] == 0, 10, "all of them are gone")


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_flipped_byte(secured: SecuredGateway, version: str) -> None:
    """One bit of one record in the middle of an instance: nothing of it is kept."""
    context = secured.client_context()
    context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
    uid, data_set = make(20_000)
    broken = secured.labelled("scai_tls_sessions_broken_total", "cause").get("integrity", 0)
    four = good_ones(secured, 30_000 if version == "TLSv1_2" else 40_000, 4)
    with four, socket.create_connection(secured.secured_address, 5) as connection:
        client = MemoryClient(context, connection)
        client.send(wire.associate_request(wire.storage_contexts()))
        assert client.receive(1) == bytes([wire.ASSOCIATE_AC])
        client.receive(65536)
        client.send(wire.p_data(STORED_SYNTAX, wire.store_command(wire.CT_IMAGE, uid), True))
        records = bytearray(client.seal(wire.p_data(STORED_SYNTAX, data_set, command=False)))
        records[len(records) // 2] ^= 0x10
        with contextlib.suppress(ConnectionError):
            connection.sendall(records)
        with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
            client.receive(1)
    line = eventually(lambda: secured.events("tls_broken"), 5, "it is in the log")[-1]
    assert (line["source"], line["provider_reason"], line["calling_ae"]) == (
        2,
        "integrity",
        "TESTER",
    )
    counts = secured.labelled("scai_tls_sessions_broken_total", "cause")
    assert counts["integrity"] == broken + 1
    assert uid not in secured.find()
    incoming = secured.data / "incoming" / "secured_scp"
    eventually(lambda: not under_way(incoming), 5, "all gone")


def test_renegotiation(secured: SecuredGateway) -> None:
    """By `openssl s_client`, whose command letter R asks for it in TLS 1.2."""
    with good_ones(secured, 3_000_000):
        before = len(secured.events("tls_established"))
        key, chain = secured.peer_files
        command = [
            "openssl",
            "s_client",
            "-connect",
            f"127.0.0.1:{secured.secured_port}",
            "-tls1_2",
        ]
        command += ["-cert", str(chain), "-key", str(key)]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, bufsize=0, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT
        ) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            eventually(lambda: len(secured.events("tls_established")) > before, 5)
            time.sleep(0.3)
            client.stdin.write(b"R\n")
            said = client.stdout.read()
            client.wait(5)
        assert b"no renegotiation" in said, said[-500:]
        eventually(
            lambda: secured.labelled("scai_tls_sessions_broken_total", "cause").get(
                "renegotiation"
            ),
            5,
            "counted",
        )
        line = secured.events("tls_broken")[-1]
        assert line["provider_reason"] == "renegotiation"


def test_nothing_of_it_is_a_fault_of_ours(secured: SecuredGateway) -> None:
    """After all this the same process serves on."""
    assert not secured.events("worker_ended")
    with SecuredPeer(secured.secured_address, secured.client_context()) as peer:
        assert peer.associate().kind == wire.ASSOCIATE_AC
        assert peer.echo() == 0
        assert peer.release()
    with Peer(secured.address) as plain:
        assert plain.associate().kind == wire.ASSOCIATE_AC
