"""A connection to a peer that we ask: name, connect, TLS, each with the whole time-out.

What fails leaves as a `ScuFailure` that tells a name without an address from a port where nobody
listens, silence from a refusal, and says what TLS did not like. A name that has several addresses
is tried at each.
"""

import errno
import os
import socket
import ssl
import threading
import time
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple

from engine import limits
from engine.scu_failure import FailureKind, ScuFailure

_Address = tuple[socket.AddressFamily, tuple[Any, ...]]

# What OpenSSL calls them, in words that say where to look.
_TLS_WORDS: Final = {
    "WRONG_VERSION_NUMBER": "what answers there does not speak TLS",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the peer refuses all that we offer (alert handshake failure)",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the peer refuses our TLS versions (alert protocol version)",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not trust our certificate (alert unknown CA)",
    "TLSV1_ALERT_DECRYPT_ERROR": "the peer finds our certificate forged (alert decrypt error)",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer refuses our certificate (alert bad certificate)",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer finds our certificate expired",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer wants a certificate of ours",
}


class Peer(NamedTuple):
    """Whom to ask. `tls`: the context that connections to it are wrapped with; None: plain."""

    name: str
    ae_title: str
    host: str
    port: int
    tls: ssl.SSLContext | None = None


# host, port -> until when, addresses. Threads may look up the same twice; the last one stays.
_addresses: dict[tuple[str, int], tuple[float, list[_Address]]] = {}


def connect(peer: Peer, timeout_s: float) -> socket.socket:
    """An open connection, TLS spoken if the peer is to be spoken to over TLS; or ScuFailure."""
    addresses = _resolve(peer, timeout_s)
    deadline = time.monotonic() + timeout_s
    failures: list[ScuFailure] = []
    for number, (family, address) in enumerate(addresses):
        # One that swallows connects must not eat the time of those behind it.
        share = (deadline - time.monotonic()) / (len(addresses) - number)
        opened = socket.socket(family, socket.SOCK_STREAM)
        try:
            opened.settimeout(max(share, 0.001))
            opened.connect(address)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            opened.close()
            failures.append(_connect_failure(error, address, share))
            continue
        return opened if peer.tls is None else _secure(opened, peer.tls, timeout_s)
    _addresses.pop((peer.host, peer.port), None)
    text = "; ".join(dict.fromkeys(failure.text for failure in failures))
    raise ScuFailure(failures[-1].kind, text)


def _resolve(peer: Peer, timeout_s: float) -> list[_Address]:
    now = time.monotonic()
    known = _addresses.get((peer.host, peer.port))
    if known is not None and now < known[0]:
        return known[1]
    try:
        found = _look_up(peer.host, peer.port, timeout_s)
    except (OSError, UnicodeError) as error:
        words = error.strerror if isinstance(error, OSError) else "is no host name"
        text = f"host {peer.host} has no address: {words}"
        raise ScuFailure(FailureKind.NAME, text) from error
    if len(_addresses) >= limits.proposals_cached_max:
        _addresses.clear()
    _addresses[peer.host, peer.port] = (now + limits.address_cached_s, found)
    return found


def _look_up(host: str, port: int, timeout_s: float) -> list[_Address]:
    """getaddrinfo(), which knows no time-out, in a thread that is left behind when it takes
    longer; the resolver's own patience bounds how long."""
    try:
        return _addresses_of(host, port, socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # a name
    answers: SimpleQueue[list[_Address] | OSError | UnicodeError] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_addresses_of(host, port, 0))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, name="name lookup", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except Empty:
        text = f"host {host}: no address from the name service within {timeout_s:g} s"
        raise ScuFailure(FailureKind.TIMEOUT, text) from None
    if isinstance(answer, list):
        return answer
    raise answer


def _addresses_of(host: str, port: int, flags: int) -> list[_Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in found]


def _connect_failure(error: OSError, address: tuple[Any, ...], waited_s: float) -> ScuFailure:
    where = f"{address[0]} port {address[1]}"
    if isinstance(error, ConnectionRefusedError):
        return ScuFailure(FailureKind.REFUSED, f"{where}: nobody listens (connection refused)")
    if isinstance(error, TimeoutError):
        text = f"{where}: no answer to the connect within {waited_s:.3g} s"
        return ScuFailure(FailureKind.TIMEOUT, text)
    if error.errno == errno.EADDRNOTAVAIL:
        text = f"{where}: no local port is free; too many connections of late"
        return ScuFailure(FailureKind.UNREACHABLE, text)
    words = os.strerror(error.errno) if error.errno else str(error)
    return ScuFailure(FailureKind.UNREACHABLE, f"{where} cannot be reached: {words}")


def _secure(plain: socket.socket, context: ssl.SSLContext, timeout_s: float) -> ssl.SSLSocket:
    """Shake hands. The peer's certificate is the context's to judge."""
    plain.settimeout(timeout_s)
    try:
        return context.wrap_socket(plain)
    except TimeoutError:
        plain.close()
        text = f"the TLS handshake was not complete within {timeout_s:g} s"
        raise ScuFailure(FailureKind.TIMEOUT, text) from None
    except OSError as error:
        plain.close()
        text = f"TLS handshake failed: {tls_words(error)}"
        raise ScuFailure(FailureKind.TLS, text) from error


def tls_words(error: OSError) -> str:
    """OpenSSL's reason, in words where it needs them."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"we do not trust the peer's certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError) or not isinstance(error, ssl.SSLError):
        return "the peer closed the connection"
    reason = error.reason or str(error)
    return _TLS_WORDS.get(reason, reason.lower().replace("_", " "))
