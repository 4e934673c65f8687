"""Java key stores (JKS versions 1 and 2), read from their bytes; nothing is taken from a file whose
checksum does not fit the password.

The format is keytool's default up to Java 8: big-endian entries, a SHA-1 over the password and all
of them at the end, keys enciphered by a keystream of SHA-1 chained from a salt (JavaKeyStore and
KeyProtector of sun.security.provider). Whatever is wrong is an OperatorError with `where` in front.
"""

import hashlib
import hmac
import struct
from typing import Final, NamedTuple

from engine.errors import OperatorError
from engine.limits import tls_chain_certificates_max

JKS_MAGIC: Final = b"\xfe\xed\xfe\xed"
JCEKS_MAGIC: Final = b"\xce\xce\xce\xce"

_digest_bytes: Final = 20
_key_tag: Final = 1
_certificate_tag: Final = 2
# 1.3.6.1.4.1.42.2.17.1.1, Sun's own key protector.
_protector: Final = bytes.fromhex("060a2b060104012a02110101")
_sequence: Final = 0x30
_octet_string: Final = 0x04


class JksEntry(NamedTuple):
    """A private key with its chain, the leaf first, or (`encrypted_key` empty) one certificate."""

    alias: str
    encrypted_key: bytes
    certificates: tuple[bytes, ...]  # DER


def read_jks(content: bytes, password: str, where: str) -> list[JksEntry]:
    """Every entry of a file of format JKS."""
    body, digest = content[:-_digest_bytes], content[-_digest_bytes:]
    salted = password.encode("utf-16-be") + b"Mighty Aphrodite" + body
    if not hmac.compare_digest(hashlib.sha1(salted).digest(), digest):
        wrong = "the password is wrong" if password else "needs a password, and none is set"
        raise OperatorError(
            f"{wrong}, or the file was changed or cut: its checksum does not fit", where
        )
    reader = _Reader(body, where)
    reader.take(len(JKS_MAGIC))
    version = reader.number(">I")
    if version not in (1, 2):
        raise reader.problem(f"its version is {version}, known are 1 and 2")
    entries = [_read_entry(reader, version) for _ in range(reader.count())]
    if reader.left:
        raise reader.problem(f"{reader.left} bytes follow its last entry")
    return entries


def decrypted_key(encrypted: bytes, password: str, where: str) -> bytes:
    """The PKCS#8 bytes of an entry's key."""
    try:
        outer, rest = _der_value(encrypted, _sequence)
        algorithm, after = _der_value(outer, _sequence)
        sealed, trailing = _der_value(after, _octet_string)
    except ValueError as error:
        raise OperatorError(f"the key cannot be read: {error}", where) from error
    known = algorithm.startswith(_protector) and not rest and not trailing
    if not known or len(sealed) < 2 * _digest_bytes:
        raise OperatorError("the key is not protected in the way of JKS", where)
    salt, check = sealed[:_digest_bytes], sealed[-_digest_bytes:]
    enciphered = sealed[_digest_bytes:-_digest_bytes]
    secret = password.encode("utf-16-be")
    keystream, link = bytearray(), salt
    while len(keystream) < len(enciphered):
        link = hashlib.sha1(secret + link).digest()
        keystream += link
    plain = bytes(a ^ b for a, b in zip(enciphered, keystream, strict=False))
    if not hmac.compare_digest(hashlib.sha1(secret + plain).digest(), check):
        raise OperatorError(
            "the password of the key is wrong; it may differ from the store's: tls.key_password",
            where,
        )
    return plain


class _Reader:
    """Takes what is there, and nothing beyond."""

    def __init__(self, content: bytes, where: str) -> None:
        self._content = content
        self._where = where
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._content) - self._at

    def problem(self, text: str) -> OperatorError:
        return OperatorError(f"is a broken JKS file: {text}", self._where)

    def take(self, length: int) -> bytes:
        if length > self.left:
            raise self.problem(f"it ends within an entry, at byte {self._at}")
        self._at += length
        return self._content[self._at - length : self._at]

    def number(self, layout: str) -> int:
        (value,) = struct.unpack(layout, self.take(struct.calcsize(layout)))
        assert isinstance(value, int)
        return value

    def count(self) -> int:
        """How many entries follow; never more than the bytes could hold."""
        value = self.number(">I")
        if value > self.left:
            raise self.problem(f"it says to have {value} entries in {self.left} bytes")
        return value

    def block(self) -> bytes:
        return self.take(self.number(">I"))

    def text(self) -> str:
        """Java's modified UTF-8: what is beyond 16 bits comes as two surrogates."""
        raw = self.take(self.number(">H"))
        try:
            halves = raw.decode("utf-8", "surrogatepass")
            return halves.encode("utf-16-be", "surrogatepass").decode("utf-16-be")
        except UnicodeDecodeError as error:
            raise self.problem("a name in it is no text") from error


def _read_entry(reader: _Reader, version: int) -> JksEntry:
    """One entry; the time of its making is not kept."""
    tag = reader.number(">I")
    alias = reader.text()
    reader.number(">Q")
    if tag == _certificate_tag:
        return JksEntry(alias, b"", (_read_certificate(reader, version),))
    if tag != _key_tag:
        raise reader.problem(f"an entry of kind {tag}, known are 1 (key) and 2 (certificate)")
    key = reader.block()
    length = reader.number(">I")
    if length > tls_chain_certificates_max:
        raise reader.problem(
            f"a chain of {length} certificates, at most {tls_chain_certificates_max} are taken"
        )
    return JksEntry(alias, key, tuple(_read_certificate(reader, version) for _ in range(length)))


def _read_certificate(reader: _Reader, version: int) -> bytes:
    if version == 2:
        kind = reader.text()
        if kind != "X.509":
            raise reader.problem(f"a certificate of type {kind!a}, known is X.509")
    return reader.block()


def _der_value(content: bytes, tag: int) -> tuple[bytes, bytes]:
    """The value of the DER element at the beginning, and what follows it. ValueError."""
    if len(content) < 2 or content[0] != tag:
        raise ValueError(f"no DER element of tag {tag:02X} where one must be")
    length, begin = content[1], 2
    if length & 0x80:
        begin += length & 0x7F
        length = int.from_bytes(content[2:begin], "big")
        if begin > 6 or begin > len(content):
            raise ValueError("a DER length that is too long")
    if length > len(content) - begin:
        raise ValueError("a DER element that is cut off")
    return content[begin : begin + length], content[begin + length :]
