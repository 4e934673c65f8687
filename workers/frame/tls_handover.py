"""How what TLS is made of gets from the supervisor to a receiver: through memory, never a disk.

The supervisor reads the stores, has OpenSSL try what it found, and writes it to a memfd that the
receiver inherits. A reload writes it anew in place; the digest in the receiver's spec changes with
it, and whoever reads always gets one whole version. Copies on the way are overwritten as soon as
they have served; that in the memfd stays, for the workers that are replaced.
"""

import hashlib
import os
import ssl
import time
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from engine import limits
from engine.errors import OperatorError
from engine.tls.traces import without_traces
from native import _core

if TYPE_CHECKING:
    from engine.tls.material import TlsMaterial

_digest_bytes: Final = 32
_attempts_max: Final = 50
_attempt_s: Final = 0.002  # a write takes less than a tenth of it


class Secured(msgspec.Struct, frozen=True):
    """What a listener's context is made of, in the words of `_core.TlsServer`."""

    key: bytes
    chain: tuple[bytes, ...]
    trust: tuple[bytes, ...]
    tls12: tuple[str, ...]
    tls13: tuple[str, ...]
    client_authentication: Literal["need", "want", "none"]
    profile: str
    ends_ns: int  # when our chain's first certificate expires; since 1970

    def wipe(self) -> None:
        """The key is no more, here; contexts that were made of it have it in OpenSSL's memory."""
        _core.wipe(self.key)

    def __repr__(self) -> str:
        """Without the key."""
        return f"Secured(profile={self.profile!r}, ...)"

    def material(self) -> "TlsMaterial":
        """The same for our own connections to remote AEs (engine/tls/client.py)."""
        from datetime import UTC, datetime

        from engine.tls.material import TlsMaterial
        from engine.tls.profiles import PROFILES

        return TlsMaterial(
            key=self.key,
            chain=self.chain,
            trust=self.trust,
            not_after=datetime.fromtimestamp(self.ends_ns // 10**9, UTC),
            profile=PROFILES[self.profile],
            client_authentication=self.client_authentication,
            warnings=(),
        )

    def client(self) -> ssl.SSLContext:
        """What remote AEs with TLS are spoken to with."""
        from engine.tls.client import (
            context_of,  # cryptography is not imported where nothing is secured
        )

        return context_of(self.material())

    def listener(self) -> ssl.SSLContext:
        """What a listener of the event loop is secured with (HL7's)."""
        from engine.tls.server import listener_context

        return listener_context(self.material())

    def server(self) -> _core.TlsServer:
        """The context; ValueError if OpenSSL would do anything else than asked."""
        return _core.TlsServer(
            self.key,
            self.chain,
            self.trust,
            self.tls12,
            self.tls13,
            self.client_authentication,
            limits.tls_read_ahead_bytes,
            limits.tls_security_level,
            limits.tls_chain_certificates_max,
        )


class Handover:
    """The supervisor's side. Staging may fail, publishing does not: so a reload is whole or not at
    all."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("scai-tls", os.MFD_CLOEXEC)
        self._staged = b""

    def stage(self, material: "TlsMaterial") -> str:
        """Keep it for publish(); its digest. OperatorError: OpenSSL does not take it as it is."""
        secured = Secured(
            key=material.key,
            chain=material.chain,
            trust=material.trust,
            tls12=material.profile.tls12,
            tls13=material.profile.tls13,
            client_authentication=material.client_authentication,
            profile=material.profile.name,
            ends_ns=int(material.not_after.timestamp()) * 10**9,
        )
        try:
            secured.server()
        except ValueError as error:
            raise OperatorError(f"no listener can be secured with it: {error}", "tls") from error
        _core.wipe(self._staged)
        self._staged = msgspec.msgpack.encode(secured)
        return hashlib.sha256(self._staged).hexdigest()

    def publish(self) -> None:
        """What was staged last is what receivers read from now on."""
        if not self._staged:
            return
        content = hashlib.sha256(self._staged).digest() + self._staged
        os.pwrite(self.descriptor, content, 0)
        os.ftruncate(self.descriptor, len(content))
        _core.wipe(self._staged)
        _core.wipe(content)
        self._staged = b""


def read_secured(descriptor: int) -> Secured:
    """The receiver's side: the newest version. OperatorError: there is none that is whole."""
    for _ in range(_attempts_max):
        content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        digest, payload = content[:_digest_bytes], content[_digest_bytes:]
        try:
            if payload and hashlib.sha256(payload).digest() == digest:
                return msgspec.msgpack.decode(payload, type=Secured)
        finally:
            _core.wipe(content)
            _core.wipe(payload)
        time.sleep(_attempt_s)  # it is being written
    raise OperatorError("the supervisor handed over no key for it", "tls")


def read_client(descriptor: int) -> ssl.SSLContext:
    """What remote AEs with TLS are spoken to with, by the newest version."""
    with without_traces():
        secured = read_secured(descriptor)
        try:
            return secured.client()
        finally:
            secured.wipe()
