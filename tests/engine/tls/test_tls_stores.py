"""Key stores and trust stores: every format, every mistake with its own words, hostile bytes.

Those below tests/stores were made by keytool of Java 17: java8.* with its settings for Java 8, all
for CN=gateway certified by CN=ca; several-keys.jks has the key "second" besides, whose password is
the store's own.
"""

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import limits
from engine.errors import OperatorError
from engine.tls.jks import read_jks
from engine.tls.stores import KeyEntry, read_key_store, read_store, read_trust_store
from tests.material import certificates
from tests.material.certificates import PASSWORD
from tests.material.jks_writer import JksKey, jks, protect, seal

STORES = Path(__file__).parent.parent.parent / "stores"


def key_entry(
    content: bytes, password: str = PASSWORD, key_password: str = "", alias: str = ""
) -> KeyEntry:
    return read_key_store(content, password, key_password or password, alias, "here")


def refused(content: bytes, password: str = PASSWORD, alias: str = "") -> str:
    """Why a key store is refused."""
    with pytest.raises(OperatorError) as problem:
        key_entry(content, password, alias=alias)
    assert problem.value.where == "here"
    assert PASSWORD not in problem.value.text
    return problem.value.text


def distrusted(content: bytes, password: str = PASSWORD) -> str:
    """Why a trust store is refused."""
    with pytest.raises(OperatorError) as problem:
        read_trust_store(content, password, "here")
    return problem.value.text


def subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()


def good_jks(version: int = 2, alias: str = "gateway") -> bytes:
    identity = certificates.good()
    chain = [c.public_bytes(serialization.Encoding.DER) for c in identity.sent]
    entry = JksKey(alias, identity.key_der, chain, PASSWORD)
    return jks(PASSWORD, [entry], [("root", certificates.root().der)], version)


@pytest.mark.parametrize(
    ("name", "key_password"),
    [("java8.jks", "keypass1"), ("java8.p12", ""), ("java17.p12", "")],
)
def test_key_stores_of_java(name: str, key_password: str) -> None:
    entry = key_entry((STORES / name).read_bytes(), "storepass1", key_password)
    assert subject(entry.certificate) == "CN=gateway"
    assert [subject(other) for other in entry.others] == ["CN=ca"]
    assert entry.certificate.public_key() == entry.key.public_key()


@pytest.mark.parametrize("name", ["trust.jks", "trust.p12"])
def test_trust_stores_of_java(name: str) -> None:
    (trusted,) = read_trust_store((STORES / name).read_bytes(), "trustpass1", "here")
    assert subject(trusted) == "CN=ca"


def test_one_of_several_keys_is_chosen_by_its_alias() -> None:
    content = (STORES / "several-keys.jks").read_bytes()
    said = refused(content, "storepass1")
    assert "holds 2 keys: " in said
    assert "'gateway'" in said
    assert "'second'" in said
    assert subject(key_entry(content, "storepass1", alias="Second").certificate) == "CN=second"
    own = key_entry(content, "storepass1", "keypass1", "GATEWAY")
    assert subject(own.certificate) == "CN=gateway"
    assert "no key named 'third'" in refused(content, "storepass1", "third")


def test_the_alias_of_pkcs12_is_compared() -> None:
    content = certificates.good().pkcs12(alias="One")
    assert subject(key_entry(content, alias="one").certificate) == "CN=gateway"
    assert "is named 'One', not 'two'" in refused(content, alias="two")


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_of_jks(version: int) -> None:
    entry = key_entry(good_jks(version))
    assert subject(entry.certificate) == "CN=gateway"
    assert entry.key.public_key() == entry.certificate.public_key()


def test_an_alias_beyond_ascii() -> None:
    # Java writes a character beyond 16 bits as two surrogates of three bytes each.
    body = jks("p", (), [("Prüfgerät", certificates.root().der)])
    assert [entry.alias for entry in read_jks(body, "p", "here")] == ["Prüfgerät"]
    pair = body[:-20].replace(
        b"\x00\x0bPr\xc3\xbcfger\xc3\xa4t", b"\x00\x06\xed\xa0\xbd\xed\xb8\x80"
    )
    (entry,) = read_jks(pair + seal("p", pair), "p", "here")
    assert entry.alias == "😀"


@pytest.mark.parametrize("content", [good_jks(), certificates.good().pkcs12()])
def test_a_wrong_password_is_named_as_such(content: bytes) -> None:
    assert "the password is wrong" in refused(content, "sesame")
    with pytest.raises(OperatorError, match="needs a password, and none is set"):
        read_trust_store(content, "", "here")


def test_the_wrong_password_of_the_key_is_told_apart() -> None:
    content = (STORES / "java8.jks").read_bytes()
    assert "the password of the key is wrong" in refused(content, "storepass1")


def test_what_is_no_key_store_is_named() -> None:
    root, good = certificates.root(), certificates.good()
    assert "JCEKS" in refused((STORES / "old.jceks").read_bytes())
    assert "is a PEM file" in refused(certificates.pem(good.certificate))
    assert "single certificate" in refused(good.der)
    assert "first bytes are unknown" in refused(b"PK\x03\x04")
    assert "broken PKCS#12" in refused(b"\x30\x82\x01\x00" + bytes(256))
    assert "holds no private key" in refused(certificates.trust_pkcs12([root.certificate]))
    assert "holds no private key" in refused(jks(PASSWORD, (), [("root", root.der)]))
    no_chain = jks(PASSWORD, [JksKey("a", good.key_der, [], PASSWORD)])
    assert "has no certificate" in refused(no_chain)
    no_key = jks(PASSWORD, [JksKey("a", b"no PKCS#8", [good.der], PASSWORD)])
    assert "cannot be read" in refused(no_key)


def test_what_is_no_trust_store_is_named() -> None:
    good = certificates.good()
    assert "is a key store" in distrusted(good.pkcs12())
    assert "is a key store" in distrusted(good_jks())
    assert "holds no certificate" in distrusted(jks(PASSWORD))
    assert "the password is wrong" in distrusted(
        certificates.trust_pkcs12([good.certificate]), "no"
    )
    assert "broken certificate" in distrusted(jks(PASSWORD, (), [("a", b"none")]))


def test_trust_as_pem(tmp_path: Path) -> None:
    root, good = certificates.root(), certificates.good()
    both = certificates.pem(root.certificate) + certificates.pem(good.certificate)
    assert len(read_trust_store(b"\n" + both, "", "here")) == 2
    key, _ = good.pem_files(tmp_path, "good")
    assert "is a key store" in distrusted(both + key.read_bytes())
    assert "no readable certificate" in distrusted(both.replace(b"MII", b"!!!"))


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    for size, said in ((0, "is empty"), (limits.tls_store_bytes_max + 1, "is longer than")):
        path = tmp_path / "store"
        path.write_bytes(bytes(size))
        with pytest.raises(OperatorError, match=said):
            read_store(path, "here")
    with pytest.raises(OperatorError, match="No such file"):
        read_store(tmp_path / "none", "here")
    with pytest.raises(OperatorError, match="Is a directory"):
        read_store(tmp_path, "here")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "password is wrong"),
        (struct.pack(">III", 0xFEEDFEED, 3, 0), "version is 3"),
        (struct.pack(">III", 0xFEEDFEED, 2, 0xFFFFFFFF), "4294967295 entries in 0 bytes"),
        (struct.pack(">III", 0xFEEDFEED, 2, 0) + b"more", "4 bytes follow"),
        (struct.pack(">IIIIHQ", 0xFEEDFEED, 2, 1, 3, 0, 0), "kind 3"),
        (struct.pack(">IIIIH", 0xFEEDFEED, 2, 1, 2, 9), "ends within an entry"),
        (struct.pack(">IIIIHQIII", 0xFEEDFEED, 2, 1, 1, 0, 0, 0, 11, 0), "chain of 11"),
        (struct.pack(">IIIIH", 0xFEEDFEED, 2, 1, 2, 2) + b"\xc0\x80", "is no text"),
        (struct.pack(">IIIIHQHI", 0xFEEDFEED, 2, 1, 2, 0, 0, 0, 0), "certificate of type ''"),
    ],
)
def test_a_sealed_file_with_nonsense_in_it(body: bytes, said: str) -> None:
    """Who knows the password may still have a file that is broken."""
    content = body + seal(PASSWORD, body) if body else b"\xfe\xed\xfe\xed"
    assert said in refused(content)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(1, 2))
def test_any_sealed_bytes_are_read_or_refused(rest: bytes, version: int) -> None:
    body = struct.pack(">III", 0xFEEDFEED, version, 3) + rest
    try:
        entries = read_jks(body + seal("p", body), "p", "here")
    except OperatorError:
        return
    assert len(entries) == 3
    assert sum(len(c) for entry in entries for c in entry.certificates) <= len(rest)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_changed_byte_is_noticed_or_harmless(data: st.DataObject) -> None:
    """Sealed anew, so that the reader has to go through it; keys and certificates too."""
    body = bytearray(good_jks()[:-20])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(4, len(body) - 1))] = data.draw(st.integers(0, 255))
    for cut in (len(body), data.draw(st.integers(4, len(body)))):
        content = bytes(body[:cut]) + seal(PASSWORD, bytes(body[:cut]))
        for read in (key_entry, trusted_of):
            with suppress(OperatorError):
                read(content)


def trusted_of(content: bytes) -> tuple[x509.Certificate, ...]:
    return read_trust_store(content, PASSWORD, "here")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_changed_pkcs12_is_refused_or_harmless(data: st.DataObject) -> None:
    body = bytearray(certificates.good().pkcs12())
    position = data.draw(st.integers(1, len(body) - 1))
    body[position] ^= data.draw(st.integers(1, 255))
    try:
        entry = key_entry(bytes(body))
    except OperatorError:
        return
    assert subject(entry.certificate) == "CN=gateway"


@pytest.mark.parametrize("cut", [1, 20, 41, 60, 200])
def test_an_enciphered_key_that_is_cut(cut: int) -> None:
    identity = certificates.good()
    sealed = protect(identity.key_der, PASSWORD)
    whole = jks(PASSWORD, [JksKey("a", identity.key_der, [identity.der], PASSWORD)])[:-20]
    begin = whole.index(bytes.fromhex("300e060a2b0601")) - 4
    short = whole[begin : begin + cut]
    body = whole[: begin - 4] + struct.pack(">I", cut) + short + whole[begin + len(sealed) :]
    assert "key" in refused(body + seal(PASSWORD, body))
