"""A throwaway public-key infrastructure: an authority, our stores, a peer's, and how to try them.

Called by `scai tls make-demo`. The authority's key is in memory only and gone when this returns, so
nobody can ever certify anything with it. Every other key lies enciphered with a random password, in
a directory and files that belong to the user alone. Good for trying, for nothing else.
"""

import os
import secrets
import shlex
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from engine.config.loading import parse_config
from engine.errors import OperatorError
from engine.files.trust import who_else, who_replaces

_days: Final = 90
_rsa_bits: Final = 3072
_listener_port: Final = 2762
_peer_port: Final = 2763

_configuration: Final = """\
# Made by `scai tls make-demo`: a throwaway set to try TLS with, for nobody's patients.
data_directory = "data"

[storage_scp]
enabled = false

[prefetch_scp]
enabled = false

# So that it starts beside a service that runs already.
[stats]
enabled = false

[secured_scp]
enabled = true
address = "127.0.0.1"
port = {listener}

[tls]
profile = "bcp195"
key_store = "gateway.p12"
key_store_password_file = "password"
trust_store = "trust.p12"
trust_store_password_file = "password"
client_authentication = "need"

[[remotes]]
name = "demo-peer"
ae_title = "PEER"
host = "127.0.0.1"
port = {peer}
tls = true
"""


class Certified(NamedTuple):
    key: rsa.RSAPrivateKey
    certificate: x509.Certificate


def make_demo(directory: Path) -> str:
    """Write everything below `directory`, which must not exist or be empty; what to do with it."""
    _make_directory(directory)
    password = secrets.token_hex(12)
    authority = _authority()
    ends = authority.certificate.not_valid_after_utc
    for name in ("gateway", "peer"):
        own = _certify(name, authority)
        _write(directory / f"{name}.p12", _key_store(name, own, authority, password))
        if name == "peer":
            _write(directory / "peer.pem", _pem(own.certificate))
            _write(directory / "peer.key", _enciphered(own.key, password))
    _write(directory / "ca.pem", _pem(authority.certificate))
    _write(directory / "trust.p12", _trust_store(authority, password))
    _write(directory / "password", f"{password}\n".encode("ascii"))
    text = _configuration.format(listener=_listener_port, peer=_peer_port)
    parse_config(text)  # What is handed out must hold.
    _write(directory / "scai.toml", text.encode("ascii"))
    return _instructions(directory.absolute(), password, ends)


def _instructions(directory: Path, password: str, ends: datetime) -> str:
    """The command lines, each as it is typed."""
    place = shlex.quote(str(directory))
    keys = f"+tls {place}/peer.key {place}/peer.pem +pw {password} +cf {place}/ca.pem"
    return "\n".join(
        (
            f"{directory}: stores and certificates for trying TLS, good until {ends:%Y-%m-%d};",
            "the authority's key is gone already. Not for anything that is to be secured.",
            "",
            "Look at it:",
            f"  scai tls show -c {place}/scai.toml",
            f"The gateway, listening on 127.0.0.1 port {_listener_port}:",
            f"  scai run -c {place}/scai.toml",
            "A peer (DCMTK) that connects to it:",
            f"  echoscu -v -aec SCP_AE {keys} 127.0.0.1 {_listener_port}",
            f"  storescu -v -aec SCP_AE {keys} 127.0.0.1 {_listener_port} FILE.dcm",
            "A peer that it connects to, and the connection:",
            f"  storescp -v -aet PEER -od {place} {keys} {_peer_port}",
            f"  scai echo -c {place}/scai.toml demo-peer",
        )
    )


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        occupied = any(directory.iterdir())
        # Whose directory it is may open what will lie in it; whoever may change those above may
        # put another in its place.
        others = who_else(directory, (os.geteuid(),)) or who_replaces(directory)[1]
    except OSError as error:
        raise OperatorError(f"cannot be made: {error.strerror}", str(directory)) from error
    if occupied:
        raise OperatorError("is not empty; name a new directory", str(directory))
    if others:
        raise OperatorError(f"is not for private keys: {others}", str(directory))
    directory.chmod(0o700)


def _write(path: Path, content: bytes) -> None:
    """A new file for the user alone."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        raise OperatorError(f"cannot be written: {error.strerror}", str(path)) from error


def _authority() -> Certified:
    key = rsa.generate_private_key(65537, _rsa_bits)
    name = _name(f"SCAI demo authority {secrets.token_hex(4)}")
    builder = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(True, 0), critical=True)
        .add_extension(_usage(certifies=True), critical=True)
    )
    return Certified(key, builder.sign(key, hashes.SHA256()))


def _certify(name: str, authority: Certified) -> Certified:
    """For this machine, in both directions."""
    key = rsa.generate_private_key(65537, _rsa_bits)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    places = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    issuer = authority.certificate
    builder = (
        _builder(_name(f"SCAI demo {name}"), issuer.subject, key.public_key())
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(_usage(certifies=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(places), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
    )
    return Certified(key, builder.sign(authority.key, hashes.SHA256()))


def _builder(
    subject: x509.Name, issuer: x509.Name, public: rsa.RSAPublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # for peers whose clock is behind
        .not_valid_after(now + timedelta(days=_days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(certifies: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certifies,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certifies,
        crl_sign=certifies,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _enciphered(key: rsa.RSAPrivateKey, password: str) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode("ascii")),
    )


def _key_store(name: str, own: Certified, authority: Certified, password: str) -> bytes:
    protection = serialization.BestAvailableEncryption(password.encode("ascii"))
    return pkcs12.serialize_key_and_certificates(
        name.encode("ascii"), own.key, own.certificate, [authority.certificate], protection
    )


def _trust_store(authority: Certified, password: str) -> bytes:
    protection = serialization.BestAvailableEncryption(password.encode("ascii"))
    named = pkcs12.PKCS12Certificate(authority.certificate, b"authority")
    return pkcs12.serialize_java_truststore([named], protection)
