"""A throwaway public-key infrastructure for tests: good certificates and every kind of bad one.

Keys are made once for a process and shared, because they are what takes time: one for the
authorities, one for a foreign authority, one for whoever is certified. `issue` makes a certificate,
`good`, `peer` and `bad` are ready ones; `tls_settings` writes stores and gives the settings.
"""

import datetime
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PASSWORD = "open sesame"

SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
MAIL = ExtendedKeyUsageOID.EMAIL_PROTECTION

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def rsa_key(owner: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The key of "authority", "foreign" or "leaf"."""
    return rsa.generate_private_key(65537, bits)


@cache
def curve_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def moment() -> datetime.datetime:
    """The one from which all certificates of a process count their days: dates have whole seconds,
    and two that were made around the end of one would differ."""
    return datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True, slots=True)
class Identity:
    """A key with its certificate and the certificates above it, the root last."""

    key: Key
    certificate: x509.Certificate
    issuers: tuple[x509.Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def key_der(self) -> bytes:
        """PKCS#8, not enciphered."""
        return _key_bytes(self.key, serialization.Encoding.DER)

    @property
    def sent(self) -> tuple[x509.Certificate, ...]:
        """What goes on the wire: without the root."""
        return (self.certificate, *self.issuers[:-1])

    def pem_files(self, directory: Path, name: str) -> tuple[Path, Path]:
        """(key, chain) as PEM files, for OpenSSL, DCMTK and Python's ssl."""
        key, chain = directory / f"{name}.key", directory / f"{name}.pem"
        key.write_bytes(_key_bytes(self.key, serialization.Encoding.PEM))
        chain.write_bytes(b"".join(map(pem, self.sent)))
        return key, chain

    def pkcs12(self, password: str = PASSWORD, alias: str = "scai") -> bytes:
        return pkcs12.serialize_key_and_certificates(
            alias.encode(), self.key, self.certificate, self.issuers, _protection(password)
        )


def issue(
    name: str,
    issuer: Identity | None = None,
    *,
    key: Key | None = None,
    authority: bool = False,
    usages: Sequence[x509.ObjectIdentifier] = (SERVER, CLIENT),
    begins: float = -1,
    ends: float = 400,
    signs: bool = True,
    algorithm: hashes.HashAlgorithm | None = None,
) -> Identity:
    """A certificate by `issuer`, or by itself; `begins` and `ends` are days from `moment()`."""
    own = key or rsa_key("authority" if authority else "leaf")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment() + datetime.timedelta(begins))
        .not_valid_after(moment() + datetime.timedelta(ends))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(_key_usage(authority, signs), critical=True)
    )
    if not authority and usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    signer = issuer.key if issuer else own
    certificate = builder.sign(signer, algorithm or hashes.SHA256())
    issuers = (issuer.certificate, *issuer.issuers) if issuer else ()
    return Identity(own, certificate, issuers)


@cache
def root() -> Identity:
    return issue("Test Root", authority=True)


@cache
def intermediate() -> Identity:
    return issue("Test Intermediate", root(), authority=True)


@cache
def foreign_root() -> Identity:
    """An authority that nobody here trusts, of the same name as the trusted one."""
    return issue("Test Root", authority=True, key=rsa_key("foreign"))


@cache
def good() -> Identity:
    """What anybody takes: two levels below the root, for both directions."""
    return issue("gateway", intermediate())


@cache
def peer() -> Identity:
    """The other side's, directly below the root."""
    return issue("peer", root())


@cache
def bad(kind: str) -> Identity:
    """A certificate that must be refused, for one reason only."""
    if kind == "foreign":
        return issue("peer", foreign_root())
    if kind == "expired":
        return issue("peer", root(), begins=-30, ends=-1)
    if kind == "not yet valid":
        return issue("peer", root(), begins=10)
    if kind == "rsa 1024":
        return issue("peer", root(), key=rsa_key("weak", 1024))
    if kind == "server only":
        return issue("peer", root(), usages=[SERVER])
    if kind == "client only":
        return issue("peer", root(), usages=[CLIENT])
    assert kind == "mail only", kind
    return issue("peer", root(), usages=[MAIL])


def trust_pkcs12(certificates: Sequence[x509.Certificate], password: str = PASSWORD) -> bytes:
    """A trust store as keytool makes them: certificates with names, no key."""
    named = [PKCS12Certificate(c, f"trusted-{n}".encode()) for n, c in enumerate(certificates)]
    return pkcs12.serialize_java_truststore(named, _protection(password))


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def tls_settings(
    directory: Path,
    identity: Identity | None = None,
    trusted: Sequence[Identity] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Stores written below `directory`, and the settings of the table [tls] that name them."""
    directory.mkdir(parents=True, exist_ok=True)
    key_store, trust_store = directory / "keys.p12", directory / "trust.p12"
    key_store.write_bytes((identity or good()).pkcs12())
    anchors = [root()] if trusted is None else trusted
    trust_store.write_bytes(trust_pkcs12([anchor.certificate for anchor in anchors]))
    return {
        "key_store": str(key_store),
        "key_store_password": PASSWORD,
        "trust_store": str(trust_store),
        "trust_store_password": PASSWORD,
    } | more


def _key_usage(authority: bool, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs and not authority,
        content_commitment=False,
        key_encipherment=not authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _key_bytes(key: Key, encoding: serialization.Encoding) -> bytes:
    return key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _protection(password: str) -> serialization.KeySerializationEncryption:
    """With few iterations: the library's own 20000 would be most of a test's time."""
    return (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(1000)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(password.encode())
    )


def server_context(directory: Path) -> ssl.SSLContext:
    """A peer's, which wants to see a certificate of ours."""
    key, chain = peer().pem_files(directory, "peer")
    authority = directory / "authority.pem"
    authority.write_bytes(pem(root().certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
