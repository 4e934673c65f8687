"""The secured AE as its peers know it: foreign clients, and all that holds on the plain port too.

DCMTK in each of its profiles and pynetdicom, both with certificates on both sides; the five
associations, what is stored and what survives a kill; new stores without an association lost.
"""

import hashlib
import os
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from tests.material import certificates, samples, wire
from tests.material.waiting import eventually, within
from tests.peers.peer import Peer, Sender
from tests.peers.tap import data_set_of_file
from tests.rigs.gateway import Gateway, toml
from tests.rigs.secured import SecuredGateway, SecuredPeer, bare_context

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not samples.available(), reason="DCMTK is not installed"),
]
LIMIT_EXCEEDED = (2, 3, 2)


@pytest.fixture(scope="module", params=["bcp195", "non-downgrading", "extended"])
def profiled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecuredGateway]:
    gateway = SecuredGateway(tmp_path_factory.mktemp("secured"), profile=request.param)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.close()


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[SecuredGateway]:
    gateway = SecuredGateway(tmp_path / "secured")
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.close()


def dcmtk(
    gateway: SecuredGateway, tool: str, profile: str, *more: str
) -> subprocess.CompletedProcess[str]:
    """A DCMTK client with its certificate and ours verified; `more` goes behind the port."""
    key, chain = gateway.peer_files
    command = [
        *(f"/usr/bin/{tool}", "+tls", str(key), str(chain), "-pw", "+cf", str(gateway.authority)),
        *("-rc", profile, "-aec", "SCP_AE", "127.0.0.1", str(gateway.secured_port), *more),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
def test_dcmtk_in_its_profiles(profiled: SecuredGateway, profile: str, tmp_path: Path) -> None:
    """DCMTK's three BCP 195 profiles get through each of ours, and what they store is found."""
    answer = dcmtk(profiled, "echoscu", profile)
    assert answer.returncode == 0, answer.stderr
    files = [
        samples.clone(one, tmp_path / one.path.name)
        for one in samples.every_sample()
        if one.syntax == wire.EXPLICIT
    ]
    answer = dcmtk(profiled, "storescu", profile, "-xe", *(str(one.path) for one in files))
    assert answer.returncode == 0, answer.stderr
    rows = profiled.find()
    for one in files:
        stored = pydicom.dcmread(profiled.stored_file(rows[one.sop_instance]))
        assert stored.PixelData == pydicom.dcmread(one.path).PixelData


def test_dcmtk_in_a_retired_profile(profiled: SecuredGateway) -> None:
    """PS3.15's AES profile is TLS_RSA_WITH_AES_128_CBC_SHA and older."""
    answer = dcmtk(profiled, "echoscu", "+pa")
    assert answer.returncode != 0
    assert "handshake failure" in answer.stderr
    assert profiled.results()["suite"] >= 1


def test_dcmtk_against_the_other_port(profiled: SecuredGateway) -> None:
    """Plain DICOM on the TLS port, TLS on the plain one: both fail at once."""
    begun = time.monotonic()
    plain = ["/usr/bin/echoscu", "127.0.0.1", str(profiled.secured_port)]
    assert subprocess.run(plain, capture_output=True, timeout=20, check=False).returncode != 0
    assert profiled.results()["not_tls"] >= 1
    assert time.monotonic() - begun < within(5)


def test_pynetdicom(profiled: SecuredGateway) -> None:
    entity = AE("PYNETDICOM")
    entity.add_requested_context(Verification)
    association = entity.associate(
        *profiled.secured_address, ae_title="SCP_AE", tls_args=(profiled.client_context(), None)
    )
    assert association.is_established
    assert association.send_c_echo().Status == 0
    association.release()


def make(number: int) -> tuple[str, bytes]:
    """128 kB and 512 kB in turn, one on each side of what is inlined."""
    uid = f"1.2.826.0.1.3680043.10.7.{number}"
    return uid, wire.small_data_set(uid, pixels=os.urandom((128 if number % 2 else 512) * 1024))


def secured_senders(gateway: SecuredGateway, count: int, each: int) -> list[Sender]:
    context = gateway.client_context()
    return [
        Sender(
            gateway.secured_address,
            range(at, each * count, count),
            make,
            deadline=90,
            per_association=50,
            connect=lambda address, timeout: SecuredPeer(address, context, timeout),
        )
        for at in range(count)
    ]


def assert_found(gateway: Gateway, senders: list[Sender]) -> None:
    """Every acknowledged instance is there, byte for byte."""
    rows = gateway.find()
    for sender in senders:
        assert not sender.failure
        for uid, digest in sender.acknowledged.items():
            stored = data_set_of_file(gateway.stored_file(rows[uid]).read_bytes())
            assert hashlib.sha256(stored).hexdigest() == digest, uid


def test_five_at_a_time_on_each_port(secured: SecuredGateway) -> None:
    """The sixth is rejected as on the plain port, and each port has its own five."""
    context = secured.client_context()
    held: list[Peer] = []
    for _ in range(5):
        held.append(SecuredPeer(secured.secured_address, context))
        assert held[-1].associate().kind == wire.ASSOCIATE_AC
    for _ in range(3):
        with SecuredPeer(secured.secured_address, context) as sixth:
            assert sixth.associate().rejection == LIMIT_EXCEEDED
            assert sixth.receive() is None
    for _ in range(5):
        held.append(Peer(secured.address))
        assert held[-1].associate().kind == wire.ASSOCIATE_AC
    for peer in held:
        assert peer.echo() == 0
        assert peer.release()
        peer.close()
    with SecuredPeer(secured.secured_address, context) as again:
        assert eventually(again.associate, 3).kind == wire.ASSOCIATE_AC


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_requests_in_many_records(secured: SecuredGateway, step: int) -> None:
    """A message cut into records anywhere is the same message; so are many in one."""
    with SecuredPeer(secured.secured_address, secured.client_context()) as peer:
        assert peer.associate(step=step).kind == wire.ASSOCIATE_AC
        uid = f"1.2.3.{step}"
        data_set = wire.small_data_set(uid, pixels=bytes(3000))
        context = peer.context_for(wire.CT_IMAGE, wire.EXPLICIT)
        command = wire.store_command(wire.CT_IMAGE, uid)
        peer.send(wire.p_data(context, command, True) + wire.p_data(context, data_set, False), step)
        assert peer.receive_command()[0x0900] == b"\0\0"
        assert peer.release()
    stored = secured.stored_file(secured.find()[uid]).read_bytes()
    assert data_set_of_file(stored) == data_set


def test_what_is_acknowledged_survives_kills(secured: SecuredGateway) -> None:
    """The secured receiver is killed while five store over TLS; nothing acknowledged is lost."""
    senders = secured_senders(secured, 5, 60)
    for sender in senders:
        sender.start()
    for _ in range(3):
        had = sum(len(sender.acknowledged) for sender in senders)
        eventually(lambda: sum(len(one.acknowledged) for one in senders) > had + 10, 20)  # noqa: B023
        os.kill(secured.pid("secured_scp"), signal.SIGKILL)
    for sender in senders:
        sender.join(90)
        assert len(sender.acknowledged) == 60
    assert sum(sender.interrupted for sender in senders) > 0
    assert_found(secured, senders)


def replace_stores(gateway: SecuredGateway, **settings: Any) -> None:
    """New settings for [tls], and a reload."""
    merged = {**gateway.settings, "tls": {**gateway.settings["tls"], **settings}}
    gateway.config_file.write_text(toml(merged))
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGHUP)


def seen_certificate(gateway: SecuredGateway) -> bytes:
    with SecuredPeer(gateway.secured_address, gateway.client_context()) as peer:
        assert isinstance(peer.socket, ssl.SSLSocket)
        shown = peer.socket.getpeercert(binary_form=True)
        assert shown is not None
        return shown


def test_new_stores_without_an_association_lost(secured: SecuredGateway) -> None:
    """New connections see the new certificate; old ones, and the process, go on as they were."""
    pid = secured.pid("secured_scp")
    assert seen_certificate(secured) == certificates.good().der
    with SecuredPeer(secured.secured_address, secured.client_context()) as old:
        assert old.associate().kind == wire.ASSOCIATE_AC
        renewed = certificates.issue("gateway", certificates.intermediate(), ends=300)
        store = secured.directory / "renewed.p12"
        store.write_bytes(renewed.pkcs12())
        replace_stores(secured, key_store=str(store))
        eventually(lambda: secured.events("reloaded"), 5)
        eventually(lambda: seen_certificate(secured) == renewed.der, 5, "the new certificate")
        name = 'scai_certificate_expiry_timestamp_seconds{ae="",process="supervisor"}'
        ends = renewed.certificate.not_valid_after_utc.timestamp()
        assert secured.metrics()[name] == pytest.approx(ends, abs=1)
        assert old.store(wire.CT_IMAGE, *make(1)) == 0
        assert old.release()
    # Another profile is a new context as well.
    replace_stores(secured, profile="extended")
    eventually(lambda: len(secured.events("reloaded")) == 2, 5)
    newest = secured.client_context()
    newest.minimum_version = ssl.TLSVersion.TLSv1_3
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        SecuredPeer(secured.secured_address, newest)
    assert secured.pid("secured_scp") == pid


def test_bad_stores_change_nothing(secured: SecuredGateway) -> None:
    """A reload with a wrong password is refused whole; the old certificate serves on."""
    replace_stores(secured, key_store_password="abracadabra")
    refused = eventually(lambda: secured.events("reload_refused"), 5)
    assert "password is wrong" in refused[0]["text"]
    assert "abracadabra" not in secured.log_file.read_text()
    assert seen_certificate(secured) == certificates.good().der
    os.kill(secured.pid("secured_scp"), signal.SIGKILL)
    assert eventually(lambda: _tried(secured), 10) == certificates.good().der


def _tried(gateway: SecuredGateway) -> bytes | None:
    try:
        return seen_certificate(gateway)
    except OSError:
        return None


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ({"key_store_password": "wrong"}, "password"),
        ({"identity": certificates.bad("expired")}, "expired"),
        ({"identity": certificates.bad("rsa 1024")}, "1024"),
        ({"identity": certificates.bad("client only")}, "serverAuth"),
    ],
)
def test_a_start_that_would_not_secure_is_refused(
    tmp_path: Path, tls: dict[str, Any], words: str
) -> None:
    gateway = SecuredGateway(tmp_path / "secured", **tls)
    try:
        with pytest.raises(AssertionError, match="ended with 2"):
            gateway.start()
        assert words in gateway.log_tail()
    finally:
        gateway.close()


@pytest.mark.parametrize("authentication", ["want", "none"])
def test_peers_without_a_certificate(tmp_path: Path, authentication: str) -> None:
    """By setting they may come; under "want" a bad certificate is still refused."""
    gateway = SecuredGateway(tmp_path / "secured", client_authentication=authentication)
    try:
        gateway.start()
        with SecuredPeer(gateway.secured_address, bare_context()) as peer:
            assert peer.associate().kind == wire.ASSOCIATE_AC
            assert peer.echo() == 0
        line = eventually(lambda: gateway.events("tls_established"), 5)[0]
        assert line["certificate"] == ""
        context = bare_context()
        key, chain = certificates.bad("foreign").pem_files(tmp_path, "foreign")
        context.load_cert_chain(chain, key)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        if authentication == "want":
            with pytest.raises(ssl.SSLError):
                SecuredPeer(gateway.secured_address, context)
        else:
            SecuredPeer(gateway.secured_address, context).close()
    finally:
        gateway.close()


def test_nothing_secret_is_said(secured: SecuredGateway) -> None:
    """Neither password nor key in log, status or files; the key is in memory alone."""
    with SecuredPeer(secured.secured_address, secured.client_context()) as peer:
        assert peer.associate().kind == wire.ASSOCIATE_AC
    secrets = [certificates.PASSWORD.encode(), certificates.good().key_der[30:200]]
    status = secured.command("status", "--json").stdout.encode()
    files = [path for path in secured.data.rglob("*") if path.is_file()]
    texts = [status, secured.log_file.read_bytes(), *(path.read_bytes() for path in files)]
    for pid in secured.processes().values():
        for name in ("cmdline", "environ"):
            texts.append(Path(f"/proc/{pid}/{name}").read_bytes())
    assert len(texts) > 10
    assert not [secret for secret in secrets for text in texts if secret in text]
