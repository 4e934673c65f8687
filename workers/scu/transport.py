"""A connection to a peer that we ask: name, connect, TLS, each with the whole time-out.

What fails leaves as a `ScuFailure` that tells a name without an address from a port where nobody
listens, silence from a refusal, and says what TLS did not like. A name that has several addresses
is tried at each. Whatever is waited for ends at an `Interruption`.
"""

import contextlib
import errno
import fcntl
import os
import select
import socket
import ssl
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple

from engine import limits
from engine.upper_layer.failure import FailureKind, ScuFailure

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


class Interruption:
    """The order, from another thread, to leave off what one thread is waiting for. Given once."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._wake: Callable[[], None] | None = None

    def set(self) -> None:
        self._event.set()
        with self._lock:
            if self._wake is not None:
                self._wake()

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Whether it was given within this time."""
        return self._event.wait(seconds)

    @contextlib.contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Call this, in whichever thread gives the order, or at once if it was given before."""
        with self._lock:
            self._wake = wake
            if self.is_set():
                wake()
        try:
            yield
        finally:
            with self._lock:
                self._wake = None

    def check(self) -> None:
        """ScuFailure if the order was given: whatever else went wrong is its doing."""
        if self.is_set():
            raise ScuFailure(FailureKind.INTERRUPTED, "interrupted by us")


# host, port -> until when, addresses. Threads may look up the same twice; the last one stays.
_addresses: dict[tuple[str, int], tuple[float, list[_Address]]] = {}


def connect(peer: Peer, timeout_s: float, order: Interruption | None = None) -> socket.socket:
    """An open connection, TLS spoken if the peer is to be spoken to over TLS; or ScuFailure."""
    order = order or Interruption()
    addresses = _resolve(peer, timeout_s, order)
    deadline = time.monotonic() + timeout_s
    failures: list[ScuFailure] = []
    for number, (family, address) in enumerate(addresses):
        # One that swallows connects must not eat the time of those behind it.
        share = (deadline - time.monotonic()) / (len(addresses) - number)
        opened = socket.socket(family, socket.SOCK_STREAM)
        try:
            _connect(opened, address, max(share, 0.001), order)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            opened.close()
            order.check()
            failures.append(_connect_failure(error, address, share))
            continue
        return opened if peer.tls is None else _secure(opened, peer.tls, timeout_s, order)
    _addresses.pop((peer.host, peer.port), None)
    text = "; ".join(dict.fromkeys(failure.text for failure in failures))
    raise ScuFailure(failures[-1].kind, text)


def _connect(
    opened: socket.socket, address: tuple[Any, ...], timeout_s: float, order: Interruption
) -> None:
    """As connect() of a socket with a time-out; begun before it is waited for, since only what is
    under way can be shut down."""
    opened.settimeout(0)
    code = opened.connect_ex(address)
    if code == errno.EINPROGRESS:
        with order.waking(lambda: _shut(opened)):
            poll = select.poll()
            poll.register(opened, select.POLLOUT)
            if not poll.poll(timeout_s * 1000):
                raise TimeoutError
        code = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def _shut(opened: socket.socket) -> None:
    """Wake whoever waits for it. Not SSLSocket.shutdown(), which would go on in plain text."""
    with contextlib.suppress(OSError):  # closed already, or never opened
        socket.socket.shutdown(opened, socket.SHUT_RDWR)


def _resolve(peer: Peer, timeout_s: float, order: Interruption) -> list[_Address]:
    now = time.monotonic()
    known = _addresses.get((peer.host, peer.port))
    if known is not None and now < known[0]:
        return known[1]
    try:
        found = _look_up(peer.host, peer.port, timeout_s, order)
    except (OSError, UnicodeError) as error:
        words = error.strerror if isinstance(error, OSError) else "is no host name"
        text = f"host {peer.host} has no address: {words}"
        raise ScuFailure(FailureKind.NAME, text) from error
    if len(_addresses) >= limits.proposals_cached_max:
        _addresses.clear()
    _addresses[peer.host, peer.port] = (now + limits.address_cached_s, found)
    return found


def _look_up(host: str, port: int, timeout_s: float, order: Interruption) -> list[_Address]:
    """getaddrinfo(), which knows no time-out, in a thread that is left behind when it takes
    longer; the resolver's own patience bounds how long."""
    try:
        return _addresses_of(host, port, socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # a name
    answers: SimpleQueue[list[_Address] | OSError | UnicodeError | None] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_addresses_of(host, port, 0))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, name="name lookup", daemon=True).start()
    try:
        with order.waking(lambda: answers.put(None)):
            answer = answers.get(timeout=timeout_s)
    except Empty:
        text = f"host {host}: no address from the name service within {timeout_s:g} s"
        raise ScuFailure(FailureKind.TIMEOUT, text) from None
    order.check()
    assert answer is not None, "only the order says nothing"
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


def _secure(
    plain: socket.socket, context: ssl.SSLContext, timeout_s: float, order: Interruption
) -> ssl.SSLSocket:
    """Shake hands. The peer's certificate is the context's to judge."""
    plain.settimeout(timeout_s)
    opened = plain  # until it is taken over
    try:
        opened = secured = context.wrap_socket(plain, do_handshake_on_connect=False)
        with order.waking(lambda: _shut(secured)):
            secured.do_handshake()
        return secured
    except TimeoutError:
        opened.close()
        text = f"the TLS handshake was not complete within {timeout_s:g} s"
        raise ScuFailure(FailureKind.TIMEOUT, text) from None
    except OSError as error:
        opened.close()
        order.check()
        text = f"TLS handshake failed: {tls_words(error)}"
        raise ScuFailure(FailureKind.TLS, text) from error


def send_secured(
    secured: ssl.SSLSocket, data: memoryview, timeout_s: float, heed: Callable[[], bool]
) -> bool:
    """Send all of it. `heed` is asked whenever the peer says something; if that settles the matter
    nothing more is sent: False. TimeoutError: the peer takes nothing for so long.

    OSError leaves as it is. Afterwards the socket does not block.
    """
    secured.settimeout(0)
    wanted = select.POLLIN | select.POLLOUT
    poll = select.poll()
    poll.register(secured, wanted)
    queued = _queued_bytes(secured)
    while data:
        ready = poll.poll(timeout_s * 1000)
        if not ready:
            # The kernel says that there is room when a third of its buffer is, which on a slow
            # line may take longer, while the peer takes what it can.
            before, queued = queued, _queued_bytes(secured)
            if queued >= before:
                raise TimeoutError
            continue
        ((_, events),) = ready
        if events & ~select.POLLOUT and heed():
            return False
        try:
            if events & select.POLLOUT:
                data = data[secured.send(data) :]
                queued = _queued_bytes(secured)
        except ssl.SSLWantWriteError:
            queued = _queued_bytes(secured)
    return True


def _queued_bytes(connection: socket.socket) -> int:
    """What was written and the peer has not acknowledged (SIOCOUTQ, tcp(7))."""
    return int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def tls_words(error: OSError) -> str:
    """OpenSSL's reason, in words where it needs them."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"we do not trust the peer's certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError) or not isinstance(error, ssl.SSLError):
        return "the peer closed the connection"
    reason = error.reason or str(error)
    return _TLS_WORDS.get(reason, reason.lower().replace("_", " "))
