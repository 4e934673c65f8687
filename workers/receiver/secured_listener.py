"""The secured side of a receiver: TLS up to the point where a connection can begin.

Holds the context that new connections are secured with; a reload brings a new one and leaves
standing connections alone. Handshakes cost a signature each, so one step of one handshake is done a
turn of the loop: however many there are, associations have every other turn.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Mapping
from typing import Final

from engine import limits
from engine.errors import OperatorError
from engine.telemetry.metrics import Counter
from native import _core
from workers.frame.tls_handover import read_secured
from workers.receiver.connection import Connection
from workers.receiver.host import Host
from workers.receiver.transport import Farewells, SecuredTransport

# By the kinds of TlsSession.fault; what breaks a session that stood is in
# workers/receiver/connection.py.
_results: Final[dict[str, Counter]] = {
    "not_tls": Counter.HANDSHAKES_NOT_TLS,
    "version": Counter.HANDSHAKES_VERSION,
    "suite": Counter.HANDSHAKES_SUITE,
    "no_certificate": Counter.HANDSHAKES_NO_CERTIFICATE,
    "untrusted": Counter.HANDSHAKES_UNTRUSTED,
    "expired": Counter.HANDSHAKES_EXPIRED,
    "weak": Counter.HANDSHAKES_WEAK,
    "purpose": Counter.HANDSHAKES_PURPOSE,
    "peer_alert": Counter.HANDSHAKES_PEER_ALERT,
    "closed": Counter.HANDSHAKES_CLOSED,
    "integrity": Counter.HANDSHAKES_PROTOCOL,
    "renegotiation": Counter.HANDSHAKES_PROTOCOL,
    "protocol": Counter.HANDSHAKES_PROTOCOL,
}


class SecuredListener:
    """What all secured connections of a receiver share."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.farewells = Farewells(host.loop)
        self._waiting: deque[Handshake] = deque()
        self._turn_due = False
        self._digest = host.spec.tls_digest
        self._server = self._load()
        self._retry: asyncio.TimerHandle | None = None

    def _load(self) -> _core.TlsServer:
        secured = read_secured(self.host.spec.tls_descriptor)
        try:
            server = secured.server()
        finally:
            secured.wipe()
        self.host.child.log.info("tls_loaded", profile=secured.profile, suites=server.suites)
        return server

    def reload(self) -> None:
        """New connections are secured by what the supervisor has published meanwhile. If it cannot
        be had they are secured as before, and it is tried again."""
        first = self._retry is None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        digest = self.host.spec.tls_digest
        if digest == self._digest:
            return
        try:
            self._server = self._load()
        except (OperatorError, ValueError) as error:
            if first:
                self.host.child.log.error("tls_reload_failed", text=str(error))
            self._retry = self.host.loop.call_later(limits.tls_reload_retry_s, self.reload)
        else:
            self._digest = digest

    def open(self, connection: socket.socket, peer: str, number: str) -> "Handshake":
        """A connection that was just accepted."""
        session = self._server.open(connection.fileno())
        return Handshake(self, SecuredTransport(connection, session, self.farewells), peer, number)

    def take_turn(self, handshake: "Handshake") -> None:
        """Go on with it when all that came before have gone on."""
        self._waiting.append(handshake)
        if not self._turn_due:
            self._turn_due = True
            self.host.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._waiting.popleft().proceed()
        self._turn_due = bool(self._waiting)
        if self._turn_due:
            self.host.loop.call_soon(self._turn)


class Handshake:
    """A connection from accept() until TLS stands: then a `Connection` takes its place."""

    def __init__(
        self, listener: SecuredListener, transport: SecuredTransport, peer: str, number: str
    ) -> None:
        self.closed = False
        self._listener = listener
        self._host = listener.host
        self._transport = transport
        self._peer = peer
        self._number = number
        loop = self._host.loop
        self._began = loop.time()
        self._timer = loop.call_later(limits.tls_handshake_s, self._expire)
        loop.add_reader(transport.descriptor, self._ready)

    def _ready(self) -> None:
        """The socket has, or takes, bytes: nothing more is heard of it until our turn came."""
        self._stop_watching()
        self._listener.take_turn(self)

    def proceed(self) -> None:
        """Our turn has come."""
        if self.closed:
            return
        code = self._transport.session.handshake()
        loop, descriptor = self._host.loop, self._transport.descriptor
        if code == _core.HANDSHAKE_READS:
            loop.add_reader(descriptor, self._ready)
        elif code == _core.HANDSHAKE_WRITES:
            loop.add_writer(descriptor, self._ready)
        elif code == _core.HANDSHAKE_DONE:
            self._finish()
        else:
            self._refuse()

    def _finish(self) -> None:
        self._end()
        session = self._transport.session
        subject, fingerprint = session.peer_certificate
        self._host.counters.add(Counter.HANDSHAKES_DONE)
        self.note(
            "info",
            "tls_established",
            {
                "version": session.version,
                "suite": session.suite,
                "certificate": subject,
                "sha256": fingerprint,
                "seconds": round(self._host.loop.time() - self._began, 6),
            },
        )
        connection = Connection(self._host, self._transport, self._peer, self._number)
        self._host.await_request(connection)

    def _refuse(self) -> None:
        kind, text = self._transport.fault
        self._host.counters.add(_results[kind])
        # Who connects and says nothing at all is a port scanner or a health check.
        level = "info" if kind == "closed" else "warning"
        alert = self._transport.session.alert
        more = {"alert": alert} if alert else {}
        self.note(level, "tls_refused", {"reason": kind, "text": text, **more})
        self._close()

    def _expire(self) -> None:
        self._host.counters.add(Counter.HANDSHAKES_TIMEOUT)
        text = f"the handshake did not end within {limits.tls_handshake_s} s"
        self.note("warning", "tls_refused", {"reason": "timeout", "text": text})
        self._close()

    def crowd_out(self) -> None:
        """Make room for a newer one."""
        self._host.counters.add(Counter.HANDSHAKES_CROWDED_OUT)
        self.close()

    def note(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        """A log line that says whose it is."""
        whose = {"association": self._number, "peer": self._peer}
        self._host.child.log.note(level, event, {**whose, **fields})

    def close(self) -> None:
        """Without a word: the service ends, or there is no room."""
        if not self.closed:
            self._close()

    def _close(self) -> None:
        self._end()
        self._transport.close()

    def _end(self) -> None:
        self.closed = True
        self._timer.cancel()
        self._stop_watching()
        self._host.forget(self)

    def _stop_watching(self) -> None:
        self._host.loop.remove_reader(self._transport.descriptor)
        self._host.loop.remove_writer(self._transport.descriptor)
