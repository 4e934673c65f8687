"""Key stores and trust stores: PKCS#12 and JKS, told apart by their bytes; PEM for trust alone.

Called by engine/tls/material.py. A key store yields one key with its certificates, a trust store
certificates and never a key. Whatever is wrong with a file is an OperatorError that says what it
is instead and what to do; `where` names the setting and the path.
"""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_private_key, pkcs12
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12KeyAndCertificates

from engine.errors import OperatorError
from engine.limits import tls_store_bytes_max
from engine.tls.jks import JCEKS_MAGIC, JKS_MAGIC, JksEntry, decrypted_key, read_jks
from native import _core

_to_pkcs12: Final = (
    "keytool -importkeystore -srckeystore OLD -destkeystore NEW -deststoretype pkcs12"
)
_from_pem: Final = "openssl pkcs12 -export -inkey KEY -in CERT -certfile CHAIN -out STORE"
_der_sequence: Final = b"\x30"
_pem_start: Final = b"-----BEGIN"


class KeyEntry(NamedTuple):
    """A private key, its certificate, and whatever others the store holds beside it."""

    key: PrivateKeyTypes
    certificate: x509.Certificate
    others: tuple[x509.Certificate, ...]


def read_store(path: Path, where: str) -> bytes:
    """The bytes of a store's file."""
    try:
        with path.open("rb") as file:
            content = file.read(tls_store_bytes_max + 1)
    except OSError as error:
        raise OperatorError(f"cannot be read: {error.strerror}", where) from error
    if not content:
        raise OperatorError("is empty", where)
    if len(content) > tls_store_bytes_max:
        raise OperatorError(f"is longer than {tls_store_bytes_max} bytes; this is no store", where)
    return content


def read_key_store(
    content: bytes, password: str, key_password: str, alias: str, where: str
) -> KeyEntry:
    """The one key of a key store, or the one of that alias."""
    if content.startswith(JKS_MAGIC):
        return _key_of_jks(read_jks(content, password, where), key_password, alias, where)
    if content.lstrip().startswith(_pem_start):
        raise OperatorError(
            f"is a PEM file; a key store is PKCS#12 or JKS. To make one: {_from_pem}", where
        )
    _refuse_other_kinds(content, where)
    store = _open_pkcs12(content, password, where)
    if store.key is None or store.cert is None:
        raise OperatorError(
            "holds no private key with its certificate; is it the trust store?", where
        )
    name = _friendly_name(store)
    if alias and alias.casefold() != name.casefold():
        # OpenSSL opens the first key of a PKCS#12 file only.
        raise OperatorError(
            f"its key is named {name!a}, not {alias!a}; a PKCS#12 key store is taken to hold one "
            f"key. For another one: {_to_pkcs12} -srcalias NAME",
            where,
        )
    others = _readable((other.certificate for other in store.additional_certs), where)
    (own,) = _readable((store.cert.certificate,), where)
    return KeyEntry(store.key, own, others)


def read_trust_store(content: bytes, password: str, where: str) -> tuple[x509.Certificate, ...]:
    """The certificates of a trust store; never none."""
    if content.startswith(JKS_MAGIC):
        entries = read_jks(content, password, where)
        has_key = any(entry.encrypted_key for entry in entries)
        found = _certificates((c for entry in entries for c in entry.certificates), where)
    elif content.lstrip().startswith(_pem_start):
        has_key = b"PRIVATE KEY-----" in content
        found = () if has_key else _pem_certificates(content, where)
    else:
        _refuse_other_kinds(content, where)
        store = _open_pkcs12(content, password, where)
        has_key = store.key is not None
        found = _readable((other.certificate for other in store.additional_certs), where)
    if has_key:
        raise OperatorError(
            "holds a private key, so it is a key store; a trust store holds certificates alone",
            where,
        )
    if not found:
        raise OperatorError("holds no certificate: nobody would be trusted", where)
    return found


def _refuse_other_kinds(content: bytes, where: str) -> None:
    """Files that are often taken for stores, and everything that cannot be PKCS#12."""
    if content.startswith(JCEKS_MAGIC):
        raise OperatorError(f"is a JCEKS file, which is not read; convert it: {_to_pkcs12}", where)
    if not content.startswith(_der_sequence):
        raise OperatorError("is neither PKCS#12 nor JKS; its first bytes are unknown", where)
    try:
        x509.load_der_x509_certificate(content)
    except ValueError:
        return
    raise OperatorError("is a single certificate, neither PKCS#12 nor JKS", where)


def _open_pkcs12(content: bytes, password: str, where: str) -> PKCS12KeyAndCertificates:
    """A PKCS#12 file opened; its checksum holds."""
    try:
        with warnings.catch_warnings():
            # That a file is BER and not DER (OpenSSL's -legacy ones are) is no matter to anybody.
            warnings.simplefilter("ignore")
            return pkcs12.load_pkcs12(content, password.encode("ascii"))
    except ValueError as error:
        if "password" in str(error):
            wrong = "the password is wrong" if password else "needs a password, and none is set"
            raise OperatorError(f"{wrong}, or the file was changed", where) from error
        raise OperatorError(f"is a broken PKCS#12 file: {error}", where) from error
    except UnsupportedAlgorithm as error:
        raise OperatorError(f"cannot be deciphered: {error}; convert it", where) from error


def _friendly_name(store: PKCS12KeyAndCertificates) -> str:
    name = store.cert.friendly_name if store.cert is not None else None
    return (name or b"").decode("utf-8", "replace")


def _key_of_jks(entries: list[JksEntry], password: str, alias: str, where: str) -> KeyEntry:
    """The key that is meant, deciphered, with its chain."""
    keys = [entry for entry in entries if entry.encrypted_key]
    if not keys:
        raise OperatorError("holds no private key; is it the trust store?", where)
    meant = [entry for entry in keys if alias.casefold() in ("", entry.alias.casefold())]
    names = ", ".join(f"{entry.alias!a}" for entry in keys)
    if not meant:
        raise OperatorError(f"holds no key named {alias!a}; it holds {names}", where)
    if len(meant) > 1:
        raise OperatorError(
            f"holds {len(meant)} keys: {names}; say which in tls.key_store_alias", where
        )
    entry = meant[0]
    if not entry.certificates:
        raise OperatorError(f"its key {entry.alias!a} has no certificate", where)
    plain = decrypted_key(entry.encrypted_key, password, where)
    try:
        key = load_der_private_key(plain, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise OperatorError(f"its key {entry.alias!a} cannot be read: {error}", where) from error
    finally:
        _core.wipe(plain)
    leaf, *others = _certificates(entry.certificates, where)
    return KeyEntry(key, leaf, tuple(others))


def _certificates(encoded: Iterable[bytes], where: str) -> tuple[x509.Certificate, ...]:
    return _readable(map(x509.load_der_x509_certificate, encoded), where)


def _pem_certificates(content: bytes, where: str) -> tuple[x509.Certificate, ...]:
    try:
        return _readable(x509.load_pem_x509_certificates(content), where)
    except ValueError as error:
        raise OperatorError(f"holds no readable certificate: {error}", where) from error


def _readable(certificates: Iterable[x509.Certificate], where: str) -> tuple[x509.Certificate, ...]:
    """The same certificates; names and times, which are parsed only when asked for, are sound."""
    found = []
    try:
        for certificate in certificates:
            _ = certificate.subject, certificate.issuer
            _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            found.append(certificate)
    except ValueError as error:
        raise OperatorError(f"holds a broken certificate: {error}", where) from error
    return tuple(found)
