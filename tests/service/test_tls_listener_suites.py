"""What the secured AE negotiates: of all that OpenSSL knows exactly the table, in its order.

One suite or one pair is offered a connection. What counts is the suite that was negotiated and a
C-ECHO that came back; `openssl s_client` calls many a failure a success.
"""

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from engine import limits
from engine.tls.profiles import PROFILES, Profile
from native import _core
from tests.material import certificates
from tests.rigs.secured import Offer, SecuredGateway, offer

pytestmark = pytest.mark.process

OFFERS_AT_ONCE = 3  # below the five associations


@pytest.fixture(scope="module", params=list(PROFILES))
def secured(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[SecuredGateway, Profile]]:
    gateway = SecuredGateway(tmp_path_factory.mktemp("secured"), profile=request.param)
    try:
        gateway.start()
        yield gateway, PROFILES[request.param]
    finally:
        gateway.close()


def known_suites(version: str) -> list[str]:
    """Everything this OpenSSL can speak in that version, the unsafe included."""
    names = ["openssl", "ciphers", "-s", version, "ALL:COMPLEMENTOFALL:@SECLEVEL=0"]
    said = subprocess.run(names, capture_output=True, text=True, check=True).stdout
    return [
        name
        for name in said.strip().split(":")
        if name.startswith("TLS_") == (version == "-tls1_3")
    ]


TLS13 = [
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_128_CCM_SHA256",
    "TLS_AES_128_CCM_8_SHA256",
]


def one_suite(gateway: SecuredGateway, version: str, suite: str) -> Offer:
    if version == "-tls1_3":
        return offer(gateway, version, "-ciphersuites", suite)
    return offer(gateway, version, "-cipher", f"{suite}:@SECLEVEL=0")


def test_exactly_the_table_is_accepted(secured: tuple[SecuredGateway, Profile]) -> None:
    gateway, profile = secured
    old = known_suites("-tls1_2")
    assert len(old) > 60, "this OpenSSL knows too little to mean anything"
    offers = [("-tls1_3", suite) for suite in TLS13]
    offers += [("-tls1_2", suite) for suite in old]
    offers += [(version, "ALL") for version in ("-tls1", "-tls1_1")]
    with ThreadPoolExecutor(OFFERS_AT_ONCE) as pool:
        outcomes = list(pool.map(lambda one: one_suite(gateway, *one), offers))
    accepted = {
        (version, outcome.suite)
        for (version, _), outcome in zip(offers, outcomes, strict=True)
        if outcome.accepted
    }
    expected = {("-tls1_3", suite) for suite in profile.tls13}
    expected |= {("-tls1_2", suite) for suite in profile.tls12}
    assert accepted == expected
    for (_, suite), outcome in zip(offers, outcomes, strict=True):
        # A refusal that comes after the suite was agreed on would be one for another reason.
        assert outcome.accepted or not outcome.echoed, (suite, outcome.said)
        assert not outcome.accepted or outcome.suite == suite
    assert set(gateway.results()) == {"done", "suite", "version"} | (
        {"closed"} & set(gateway.results())  # a client that had nothing to offer
    )


def test_the_order_is_ours(secured: tuple[SecuredGateway, Profile]) -> None:
    """Of each neighbouring pair, offered in the wrong order, the table's first is taken."""
    gateway, profile = secured
    for better, worse in pairwise(profile.tls12):
        found = offer(gateway, "-tls1_2", "-cipher", f"{worse}:{better}")
        assert (found.suite, found.echoed) == (better, True), found.said
    for better, worse in pairwise(profile.tls13):
        found = offer(gateway, "-tls1_3", "-ciphersuites", f"{worse}:{better}")
        assert (found.suite, found.echoed) == (better, True), found.said


def test_versions(secured: tuple[SecuredGateway, Profile]) -> None:
    """The highest in common, and none below TLS 1.2, not even by a pretended fall-back."""
    gateway, profile = secured
    best = offer(gateway)
    assert best.accepted, best.said
    assert best.version == ("TLSv1.3" if profile.tls13 else "TLSv1.2")
    assert offer(gateway, "-tls1_2").version == "TLSv1.2"
    fallen_back = offer(gateway, "-tls1_2", "-fallback_scsv")
    assert fallen_back.accepted is not bool(profile.tls13), fallen_back.said


def test_ephemeral_keys_are_long(secured: tuple[SecuredGateway, Profile]) -> None:
    """DHE of 2048 bits or more, ECDHE of 256 and no shorter curve."""
    gateway, profile = secured
    for suite in profile.tls12:
        found = offer(gateway, "-tls1_2", "-cipher", suite)
        key = re.search(r"Server Temp Key: (?:ECDH, )?(\S+?), (?:\S+, )?(\d+) bits", found.said)
        assert key is not None, found.said
        least = 2048 if suite.startswith("DHE") else 253  # what OpenSSL calls X25519
        assert int(key[2]) >= least, found.said
        assert suite.startswith("DHE") is (key[1] == "DH")
    short = offer(gateway, "-tls1_2", "-cipher", "ECDHE:@SECLEVEL=0", "-groups", "secp224r1")
    assert not short.accepted, short.said


def server(**changes: object) -> _core.TlsServer:
    own = certificates.good()
    given = {
        "key": own.key_der,
        "chain": [own.der],
        "trust": [certificates.root().der],
        "tls12": PROFILES["bcp195"].tls12,
        "tls13": PROFILES["bcp195"].tls13,
        "client_authentication": "need",
        "read_ahead_bytes": 65536,
        "security_level": limits.tls_security_level,
        "chain_certificates_max": limits.tls_chain_certificates_max,
    }
    return _core.TlsServer(**{**given, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("profile", list(PROFILES.values()), ids=list(PROFILES))
def test_what_openssl_offers_is_asked_for(profile: Profile) -> None:
    assert server(tls12=profile.tls12, tls13=profile.tls13).suites == list(profile.suites)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        # OpenSSL shortens such a list in silence.
        ({"tls12": ["ECDHE-RSA-AES256-GCM-SHA384", "NO-SUCH-SUITE"]}, "would offer"),
        ({"tls13": ["TLS_AES_128_GCM_SHA256", "TLS_AES_129_GCM_SHA256"]}, "would offer"),
        ({"tls12": ["AES128-GCM-SHA256:CHACHA20"]}, "would offer"),
        ({"tls12": ["AES128-SHA:@SECLEVEL=0"]}, "would offer"),
        ({"key": b"no key"}, "private key"),
        ({"chain": [b"no certificate"]}, "certificate"),
        ({"chain": []}, "no certificate"),
        ({"chain": [certificates.root().der]}, "does not fit"),
        ({"client_authentication": "perhaps"}, "client authentication"),
    ],
)
def test_a_context_that_differs_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        server(**changes)
