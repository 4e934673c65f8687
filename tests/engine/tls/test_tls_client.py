"""Our side of connections to remote AEs, against an OpenSSL server that offers one thing at a time,
and against DCMTK's storescp in each of its profiles."""

import base64
import os
import ssl
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine.config import loading as config
from engine.errors import OperatorError
from engine.settings.tls import Tls
from engine.tls.client import bare_context, client_context, context_of, effective_suites
from engine.tls.material import load_material
from engine.tls.profiles import PROFILES, Profile
from tests.material import certificates
from tests.material.certificates import bad, good, intermediate, issue, peer, root
from tests.material.waiting import eventually, free_ports
from tests.peers.openssl_server import ANYTHING, negotiated, openssl_server, root_file
from tests.peers.receivers import is_listening

_names = sorted(PROFILES)
_tls12 = {
    "ECDHE-RSA-AES256-GCM-SHA384",
    "DHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "DHE-RSA-AES128-GCM-SHA256",
}
_tls13 = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"}


def context(directory: Path, profile: str = "bcp195", **more: Any) -> ssl.SSLContext:
    tls = certificates.tls_settings(directory, profile=profile, **more)
    return context_of(load_material(Tls(**tls)))


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ssl.SSLContext]:
    """One for each profile."""
    directory = tmp_path_factory.mktemp("stores")
    return {name: context(directory, name) for name in _names}


def anybody() -> ssl.SSLContext:
    """A client that takes whatever OpenSSL can still do."""
    liberal = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    liberal.check_hostname = False
    liberal.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        liberal.minimum_version = ssl.TLSVersion.TLSv1
    liberal.set_ciphers(f"ALL:COMPLEMENTOFALL:{ANYTHING}")
    return liberal


def known_suites() -> list[str]:
    """Every suite below TLS 1.3 that the OpenSSL of this machine knows."""
    said = subprocess.run(
        ["openssl", "ciphers", f"ALL:COMPLEMENTOFALL:{ANYTHING}"],
        capture_output=True,
        check=True,
        text=True,
    )
    return [name for name in said.stdout.strip().split(":") if not name.startswith("TLS_")]


def test_the_profiles_are_the_statements() -> None:
    bcp195 = (
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "DHE-RSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "DHE-RSA-AES128-GCM-SHA256",
    )
    assert PROFILES["bcp195"].suites == bcp195
    assert PROFILES["non-downgrading"].suites == bcp195
    assert PROFILES["extended"].suites == (
        "DHE-RSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "DHE-RSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
    )


@pytest.mark.slow
def test_every_suite_below_tls13(contexts: dict[str, ssl.SSLContext], tmp_path: Path) -> None:
    """Those that anybody can agree upon with such a server, and those that we do: exactly four."""
    curve = issue("curve", root(), key=certificates.curve_key())
    key, chain = curve.pem_files(tmp_path, "curve")
    second = ("-dcert", str(chain), "-dkey", str(key), "-psk", "1a2b3c")
    suites = known_suites()
    assert len(suites) > 100
    possible: set[str] = set()
    accepted: dict[str, set[str]] = {name: set() for name in _names}
    liberal = anybody()
    for suite in suites:
        options = ("-tls1_2", "-cipher", f"{suite}:{ANYTHING}", *second)
        with openssl_server(tmp_path, peer(), *options) as port:
            if negotiated(liberal, port):
                possible.add(suite)
            for name in _names:
                if negotiated(contexts[name], port) == ("TLSv1.2", suite):
                    accepted[name].add(suite)
    assert accepted == dict.fromkeys(_names, _tls12)
    # The servers were good ones: most of what needs no shared secret could be had from them.
    assert possible > _tls12
    assert len(possible) > 50


def test_every_suite_of_tls13(contexts: dict[str, ssl.SSLContext], tmp_path: Path) -> None:
    known = {*_tls13, "TLS_CHACHA20_POLY1305_SHA256"}
    known |= {"TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"}
    accepted: dict[str, set[str]] = {name: set() for name in _names}
    for suite in known:
        with openssl_server(tmp_path, peer(), "-tls1_3", "-ciphersuites", suite) as port:
            for name in _names:
                if negotiated(contexts[name], port) == ("TLSv1.3", suite):
                    accepted[name].add(suite)
    assert accepted == {"bcp195": _tls13, "non-downgrading": _tls13, "extended": set()}


@pytest.mark.parametrize("version", ["tls1", "tls1_1"])
def test_old_versions_are_refused(
    contexts: dict[str, ssl.SSLContext], tmp_path: Path, version: str
) -> None:
    options = (f"-{version}", "-cipher", f"ALL:{ANYTHING}")
    with openssl_server(tmp_path, peer(), *options) as port:
        assert negotiated(anybody(), port) is not None
        assert [negotiated(contexts[name], port) for name in _names] == [None] * 3


@pytest.mark.parametrize("name", _names)
def test_the_order_is_the_profiles(
    contexts: dict[str, ssl.SSLContext], tmp_path: Path, name: str
) -> None:
    """A server that follows its clients is offered every two neighbours, in the other order."""
    profile = PROFILES[name]
    for first, second in (*pairwise(profile.tls12), *pairwise(profile.tls13)):
        kind = "-ciphersuites" if first in profile.tls13 else "-cipher"
        version = "-tls1_3" if first in profile.tls13 else "-tls1_2"
        with openssl_server(tmp_path, peer(), version, kind, f"{second}:{first}") as port:
            agreed = negotiated(contexts[name], port)
        assert agreed is not None
        assert agreed[1] == first


@pytest.mark.parametrize("kind", ["foreign", "expired", "not yet valid", "rsa 1024", "client only"])
def test_a_bad_server_is_refused(
    contexts: dict[str, ssl.SSLContext], tmp_path: Path, kind: str
) -> None:
    with openssl_server(tmp_path, bad(kind), "-cipher", f"ALL:{ANYTHING}") as port:
        assert negotiated(anybody(), port) is not None
        assert [negotiated(contexts[name], port) for name in _names] == [None] * 3


# RFC 2409 6.2: a prime of 1024 bits; with the generator 2 as PKCS#3 parameters.
_oakley_2 = bytes.fromhex(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74"
    "020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437"
    "4FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE65381FFFFFFFFFFFFFFFF"
)
_weak_parameters = bytes.fromhex("308187028181 00") + _oakley_2 + bytes.fromhex("020102")


@pytest.mark.parametrize("weakness", ["DHE of 1024 bits", "ECDHE of 224 bits", "SHA-1"])
def test_weak_parameters_are_refused(
    contexts: dict[str, ssl.SSLContext], tmp_path: Path, weakness: str
) -> None:
    liberal = anybody()
    liberal.maximum_version = ssl.TLSVersion.TLSv1_2
    if weakness == "DHE of 1024 bits":
        file = tmp_path / "dh.pem"
        body = base64.encodebytes(_weak_parameters).decode()
        file.write_text(f"-----BEGIN DH PARAMETERS-----\n{body}-----END DH PARAMETERS-----\n")
        options = ("-cipher", f"DHE-RSA-AES128-GCM-SHA256:{ANYTHING}", "-dhparam", str(file))
    elif weakness == "ECDHE of 224 bits":
        liberal.set_ecdh_curve("secp224r1")
        options = ("-cipher", f"ECDHE-RSA-AES128-GCM-SHA256:{ANYTHING}", "-groups", "secp224r1")
    else:
        options = ("-cipher", f"ECDHE-RSA-AES128-GCM-SHA256:{ANYTHING}", "-sigalgs", "RSA+SHA1")
    with openssl_server(tmp_path, peer(), "-tls1_2", *options) as port:
        assert negotiated(liberal, port) is not None
        assert [negotiated(contexts[name], port) for name in _names] == [None] * 3


def test_a_server_sees_our_certificate(contexts: dict[str, ssl.SSLContext], tmp_path: Path) -> None:
    """It knows the root alone, and has to be sent what is between."""
    options = ("-Verify", "3", "-verify_return_error", "-CAfile", str(root_file(tmp_path)))
    with openssl_server(tmp_path, peer(), *options) as port:
        assert negotiated(anybody(), port) is None
        assert all(negotiated(contexts[name], port) for name in _names)


def test_any_certificate_in_the_trust_store_is_trusted(tmp_path: Path) -> None:
    own = issue("own")
    for server, trusted in ((good(), intermediate()), (own, own), (peer(), peer())):
        trusting = context(tmp_path, trusted=[trusted])
        with openssl_server(tmp_path, server) as port:
            assert negotiated(trusting, port) is not None


def test_a_profile_that_openssl_cannot_offer_exactly_is_refused() -> None:
    """Each fails silently in OpenSSL: a suite it does not know, an order it has of its own."""
    good = PROFILES["bcp195"]
    unknown = Profile("a", "", (*good.tls12, "ECDHE-RSA-AES512-GCM-SHA512"), good.tls13)
    with pytest.raises(OperatorError, match="would offer"):
        bare_context(unknown)
    with pytest.raises(OperatorError, match="would offer"):
        bare_context(Profile("b", "", good.tls12, tuple(reversed(good.tls13))))
    with pytest.raises(OperatorError, match="knows none"):
        bare_context(Profile("c", "", ("NONSENSE",), good.tls13))
    assert effective_suites(bare_context(good)) == good.suites


def test_the_context_of_a_configuration(tmp_path: Path) -> None:
    tls = certificates.tls_settings(tmp_path)
    lines = "".join(f"{name} = {value!r}\n" for name, value in tls.items())
    made = client_context(config.parse_config(f"[tls]\n{lines}").config)
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, False)
    with openssl_server(tmp_path, peer()) as port:
        assert negotiated(made, port) == ("TLSv1.3", "TLS_AES_128_GCM_SHA256")


def test_the_key_is_on_no_disk_and_enciphered_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: dict[str, bytes] = {}
    load = ssl.SSLContext.load_cert_chain

    def look(made: ssl.SSLContext, path: str, **more: Any) -> None:
        held[os.readlink(path)] = Path(path).read_bytes()
        load(made, path, **more)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", look)
    context(tmp_path)
    ((place, content),) = held.items()
    assert place.startswith("/memfd:")
    assert content.count(b"BEGIN ENCRYPTED PRIVATE KEY") == content.count(b"PRIVATE KEY") / 2 == 1
    descriptors = Path("/proc/self/fd").iterdir()
    assert place not in [os.readlink(one) for one in descriptors if one.is_symlink()]


@contextmanager
def storescp(directory: Path, *options: str) -> Iterator[int]:
    """DCMTK's, with client authentication."""
    key, chain = peer().pem_files(directory, "scp")
    (port,) = free_ports(1)
    command = ["/usr/bin/storescp", "-od", str(directory), "+tls", str(key), str(chain), "-pw"]
    command += ["+cf", str(root_file(directory)), *options, str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as scp:
        try:
            eventually(lambda: is_listening(port), 10, "storescp listens")
            yield port
        finally:
            scp.kill()


def echo(made: ssl.SSLContext, port: int) -> int | None:
    """The status of a C-ECHO over TLS by pynetdicom; None: no association."""
    from pynetdicom import AE
    from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

    entity = AE("GATEWAY")
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", port, tls_args=(made, None))
    if not association.is_established:
        return None
    status = association.send_c_echo().Status
    association.release()
    return int(status)


@pytest.mark.skipif(not Path("/usr/bin/storescp").exists(), reason="DCMTK is not installed")
@pytest.mark.parametrize("option", ["+py", "+px", "+pz", "+pa"])
def test_storescp_in_each_of_its_profiles(
    contexts: dict[str, ssl.SSLContext], tmp_path: Path, option: str
) -> None:
    """+pa is the retired AES profile: suites without forward secrecy."""
    with storescp(tmp_path, option) as port:
        answers = [echo(contexts[name], port) for name in _names]
    assert answers == [None if option == "+pa" else 0] * 3
