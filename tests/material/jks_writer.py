"""Writes Java key stores for tests, from the format's description and apart from what reads them.

(sun.security.provider.JavaKeyStore and KeyProtector; files of Java's own keytool are read in
tests/engine/tls/test_tls_stores.py as well.)
"""

import hashlib
import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

_protector = bytes.fromhex("300e060a2b060104012a021101010500")


class JksKey(NamedTuple):
    alias: str
    key: bytes  # PKCS#8, DER
    chain: Sequence[bytes]  # DER, leaf first
    password: str


def jks(
    password: str,
    keys: Sequence[JksKey] = (),
    trusted: Sequence[tuple[str, bytes]] = (),
    version: int = 2,
) -> bytes:
    """The bytes of a whole file."""
    body = struct.pack(">III", 0xFEEDFEED, version, len(keys) + len(trusted))
    for entry in keys:
        body += struct.pack(">I", 1) + _utf(entry.alias) + struct.pack(">Q", 1_700_000_000_000)
        sealed = protect(entry.key, entry.password)
        body += struct.pack(">I", len(sealed)) + sealed + struct.pack(">I", len(entry.chain))
        body += b"".join(_certificate(certificate, version) for certificate in entry.chain)
    for alias, certificate in trusted:
        body += struct.pack(">I", 2) + _utf(alias) + struct.pack(">Q", 1_700_000_000_000)
        body += _certificate(certificate, version)
    return body + seal(password, body)


def seal(password: str, body: bytes) -> bytes:
    """The checksum that ends a file."""
    return hashlib.sha1(password.encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()


def protect(plain: bytes, password: str) -> bytes:
    """A key as the file holds it."""
    secret, salt = password.encode("utf-16-be"), os.urandom(20)
    links, link = b"", salt
    for _ in range(0, len(plain), 20):
        link = hashlib.sha1(secret + link).digest()
        links += link
    enciphered = bytes(a ^ b for a, b in zip(plain, links[: len(plain)], strict=True))
    sealed = salt + enciphered + hashlib.sha1(secret + plain).digest()
    return _der(0x30, _protector + _der(0x04, sealed))


def _der(tag: int, value: bytes) -> bytes:
    if len(value) < 128:
        return bytes([tag, len(value)]) + value
    size = (len(value).bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + len(value).to_bytes(size, "big") + value


def _utf(text: str) -> bytes:
    raw = text.encode("utf-8")
    return struct.pack(">H", len(raw)) + raw


def _certificate(certificate: bytes, version: int) -> bytes:
    kind = _utf("X.509") if version == 2 else b""
    return kind + struct.pack(">I", len(certificate)) + certificate
