"""What TLS is made of: passwords from everywhere, and every reason for which a start is refused."""

import datetime
import struct
import subprocess
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_der_private_key
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config.loading import parse_config
from engine.errors import OperatorError
from engine.settings.tls import Tls
from engine.tls.chain import Purpose
from engine.tls.material import TlsMaterial, load_material, material_of, purposes_of
from tests.material import certificates
from tests.material.certificates import PASSWORD, Identity, bad, good, intermediate, issue, root
from tests.material.jks_writer import JksKey, jks, seal
from tests.rigs.gateway import ROOT

_both = frozenset(Purpose)


def loaded(
    directory: Path,
    identity: Identity | None = None,
    purposes: Collection[Purpose] = _both,
    trusted: list[Identity] | None = None,
    **more: Any,
) -> TlsMaterial:
    tls = certificates.tls_settings(directory, identity, trusted, **more)
    return load_material(Tls(**tls), None, purposes)


def refused(directory: Path, identity: Identity | None = None, **more: Any) -> str:
    with pytest.raises(OperatorError) as problem:
        loaded(directory, identity, **more)
    assert PASSWORD not in str(problem.value)
    return str(problem.value)


def test_what_is_good_is_taken(tmp_path: Path) -> None:
    material = loaded(tmp_path, profile="extended", client_authentication="want")
    assert material.chain == (good().der, intermediate().der)
    assert material.trust == (root().der,)
    key = load_der_private_key(material.key, None)
    assert key.public_key() == good().key.public_key()
    assert material.not_after == good().certificate.not_valid_after_utc
    assert (material.profile.name, material.client_authentication) == ("extended", "want")
    assert material.warnings == ()


def test_certificates_made_around_the_end_of_a_second_end_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    earlier = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=5)
    monkeypatch.setattr(certificates, "moment", lambda: earlier)
    first, second = issue("first", root()), issue("second", root())
    ends = (earlier + datetime.timedelta(400)).replace(microsecond=0)
    assert first.certificate.not_valid_after_utc == ends
    assert second.certificate.not_valid_after_utc == ends
    assert certificates.moment() == certificates.moment()


def test_it_can_be_sent_and_shows_no_key(tmp_path: Path) -> None:
    material = loaded(tmp_path)
    sent = msgspec.msgpack.encode(material)
    assert msgspec.msgpack.decode(sent, type=TlsMaterial) == material
    assert repr(material).count("key") == 0
    assert len(repr(material)) < 100


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("expired", "the certificate CN=peer expired on 2"),
        ("not yet valid", "is valid from 2"),
        ("rsa 1024", "RSA key has 1024 bits, at least 2048"),
        ("server only", "not made for remote AEs with TLS: its extended key usage lacks client"),
        ("client only", "not made for the secured listener: its extended key usage lacks server"),
        ("mail only", "not made for TLS: its extended key usage has neither"),
    ],
)
def test_a_bad_certificate_is_refused_with_its_reason(tmp_path: Path, kind: str, said: str) -> None:
    text = refused(tmp_path, bad(kind))
    assert said in text
    assert text.startswith(f"tls.key_store {tmp_path}")


def test_a_certificate_for_one_purpose_serves_that_purpose(tmp_path: Path) -> None:
    assert loaded(tmp_path, bad("server only"), [Purpose.LISTENER]).chain
    assert loaded(tmp_path, bad("client only"), [Purpose.REMOTES]).chain
    assert loaded(tmp_path, bad("client only"), []).chain
    assert loaded(tmp_path, issue("any", root(), usages=()), _both).chain


def test_weak_and_wrong_keys_are_refused(tmp_path: Path) -> None:
    curve = issue("curve", root(), key=certificates.curve_key())
    assert "must be an RSA key" in refused(tmp_path, curve)
    silent = issue("silent", root(), signs=False)
    assert "lacks digitalSignature" in refused(tmp_path, silent)
    weak = issue("weak authority", root(), authority=True, key=certificates.rsa_key("w", 1024))
    assert "CN=weak authority has an RSA key of 1024" in refused(tmp_path, issue("a", weak))


@pytest.mark.parametrize("hashed", ["sha1", "md5"])
def test_signatures_that_peers_refuse(tmp_path: Path, hashed: str) -> None:
    """OpenSSL still makes them, the library that makes our other certificates does not."""
    key, certificate = root().pem_files(tmp_path, "root")
    own, _ = good().pem_files(tmp_path, "own")
    request = f"openssl req -new -key {own} -subj /CN=old"
    sign = f"openssl x509 -req -{hashed} -days 9 -CA {certificate} -CAkey {key} -set_serial 1"
    made = subprocess.run(
        f"{request} | {sign} -outform DER", shell=True, capture_output=True, check=True
    )
    old = Identity(good().key, x509.load_der_x509_certificate(made.stdout))
    assert f"CN=old is signed with {hashed.upper()}" in refused(tmp_path, old)


def test_a_certificate_of_another_key(tmp_path: Path) -> None:
    other = certificates.rsa_key("foreign")
    key = other.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    store = tmp_path / "keys.jks"
    store.write_bytes(jks(PASSWORD, [JksKey("a", key, [bad("expired").der], PASSWORD)]))
    assert "not that of its key" in refused(tmp_path, key_store=str(store))


def test_an_incomplete_chain_is_refused(tmp_path: Path) -> None:
    alone = Identity(good().key, good().certificate)
    text = refused(tmp_path, alone)
    assert "the issuer of CN=gateway, CN=Test Intermediate, is neither in" in text
    half = Identity(good().key, good().certificate, (intermediate().certificate,))
    foreign = [certificates.foreign_root()]
    assert "the issuer of CN=Test Intermediate, CN=Test Root" in refused(
        tmp_path, half, trusted=foreign
    )


def test_a_chain_may_end_at_what_is_trusted(tmp_path: Path) -> None:
    alone = Identity(good().key, good().certificate)
    # From the trust store come what peers that know only the root need, and no root.
    both = loaded(tmp_path, alone, trusted=[root(), intermediate()])
    assert both.chain == (good().der, intermediate().der)
    assert loaded(tmp_path, alone, trusted=[intermediate()]).chain == both.chain
    assert loaded(tmp_path, alone, trusted=[good()]).chain == (good().der,)


def test_a_self_signed_certificate_is_sent(tmp_path: Path) -> None:
    own = issue("own")
    assert loaded(tmp_path, own, trusted=[own]).chain == (own.der,)


def test_a_chain_is_bounded(tmp_path: Path) -> None:
    last = root()
    for number in range(11):
        last = issue(f"authority {number}", last, authority=True)
    assert "more than 10 certificates" in refused(tmp_path, issue("deep", last))


def test_stores_are_needed_for_what_they_are_for(tmp_path: Path) -> None:
    assert "tls.key_store: TLS needs a key store" in refused(tmp_path, key_store="")
    need = refused(tmp_path, trust_store="", trust_store_password="")
    assert "need a trust store" in need
    listener = {"purposes": [Purpose.LISTENER], "trust_store": ""}
    assert 'tls.client_authentication = "none"' in refused(tmp_path, **listener)
    assert loaded(tmp_path, **listener, client_authentication="none").trust == ()


def test_both_stores_are_told_of_at_once(tmp_path: Path) -> None:
    text = refused(tmp_path, key_store_password="", trust_store=str(tmp_path / "gone"))
    assert "$SCAI_TLS_KEY_STORE_PASSWORD; tls.trust_store " in text
    assert text.endswith("No such file or directory")


def test_a_key_store_must_have_a_password(tmp_path: Path) -> None:
    text = refused(tmp_path, key_store_password="")
    assert "$SCAI_TLS_KEY_STORE_PASSWORD" in text


def test_passwords_from_files(tmp_path: Path) -> None:
    file = tmp_path / "password"
    names = ("key_store_password", "trust_store_password")
    in_files = {f"{name}_file": str(file) for name in names} | dict.fromkeys(names, "")
    file.write_text(f"{PASSWORD}\r\nanything else\n")
    file.chmod(0o600)
    assert loaded(tmp_path, **in_files).warnings == ()
    file.chmod(0o644)
    told = loaded(tmp_path, **in_files).warnings
    assert len(told) == 2
    assert all("chmod o-r" in warning for warning in told)
    for content, said in ((b"\n", "is empty"), (b"\xfc\n", "ASCII"), (bytes(1025), "longer than")):
        file.write_bytes(content)
        assert said in refused(tmp_path, **in_files)
    file.unlink()
    assert "password: cannot be read: No such file" in refused(tmp_path, **in_files)


def test_what_ends_soon_is_warned_of(tmp_path: Path) -> None:
    soon = issue("soon", root(), ends=20)
    material = loaded(tmp_path, soon, trusted=[root(), soon])
    ours, theirs = material.warnings
    assert ours.startswith("certificate CN=soon expires on 2")
    assert theirs.startswith("trusted certificate CN=soon expires on 2")
    assert material.not_after == soon.certificate.not_valid_after_utc


def test_the_earliest_end_in_the_chain_counts(tmp_path: Path) -> None:
    soon = issue("soon", root(), authority=True, ends=100)
    material = loaded(tmp_path, issue("later", soon, ends=200))
    assert material.not_after == soon.certificate.not_valid_after_utc


def test_trust_that_has_expired(tmp_path: Path) -> None:
    old = issue("old", authority=True, begins=-9, ends=-1)
    assert "every certificate in it has expired" in refused(tmp_path, trusted=[old])
    (warning,) = loaded(tmp_path, trusted=[root(), old]).warnings
    assert warning.startswith("trusted certificate CN=old has expired on")


def test_the_time_may_be_given(tmp_path: Path) -> None:
    tls = Tls(**certificates.tls_settings(tmp_path))
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=401)
    with pytest.raises(OperatorError, match="expired on"):
        load_material(tls, later)


def test_nothing_is_read_where_nothing_is_secured(tmp_path: Path) -> None:
    unused = parse_config('tls.key_store = "/none"').config
    assert purposes_of(unused) == frozenset()
    assert material_of(unused) is None
    tls = "".join(
        f"{name} = {value!r}\n" for name, value in certificates.tls_settings(tmp_path).items()
    )
    remote = '[[remotes]]\nname = "a"\nae_title = "A"\nhost = "h"\nport = 1\ntls = true'
    used = parse_config(f"[tls]\n{tls}{remote}").config
    assert purposes_of(used) == frozenset({Purpose.REMOTES})
    material = material_of(used)
    assert material is not None
    assert material.chain


def test_a_start_without_tls_does_not_import_cryptography() -> None:
    """Its import takes a fifth of the time of all others together."""
    script = (
        "import sys\n"
        "import tools.commands.run\n"
        "from engine.config.loading import parse_config\n"
        "from workers.supervision.plan import Resources\n"
        "Resources('1', {}).secure(parse_config('').config)\n"
        "sys.exit('imported' if 'cryptography' in sys.modules else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_changed_certificate_is_refused_or_sound(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever leaves the reader is an OperatorError, with words that can be shown."""
    directory = tmp_path_factory.getbasetemp()
    identity = bad("client only")
    changed = bytearray(identity.der)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(4, len(changed) - 1))] = data.draw(st.integers(0, 255))
    body = jks(PASSWORD, [JksKey("a", identity.key_der, [bytes(changed)], PASSWORD)])[:-20]
    assert struct.unpack(">I", body[:4]) == (0xFEEDFEED,)
    store = directory / "changed.jks"
    store.write_bytes(body + seal(PASSWORD, body))
    with suppress(OperatorError):
        loaded(directory, purposes=[Purpose.REMOTES], key_store=str(store))


def test_an_old_authority_signed_itself_with_sha1(tmp_path: Path) -> None:
    """Its own signature is of no account: it is not sent, and trust does not look at it."""
    key, _ = root().pem_files(tmp_path, "root")
    made = subprocess.run(
        f"openssl req -x509 -sha1 -key {key} -subj /CN=old -days 9 -outform DER".split(),
        capture_output=True,
        check=True,
    )
    old = Identity(root().key, x509.load_der_x509_certificate(made.stdout))
    assert old.certificate.signature_hash_algorithm.name == "sha1"
    young = issue("young", old)
    assert loaded(tmp_path, young, trusted=[old]).chain == (young.der,)
