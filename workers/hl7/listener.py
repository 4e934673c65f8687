"""The listener of HL7 messages: a process of its own beside the receivers.

Its loop moves bytes and keeps time, one thread beside it does everything that may wait for the disk
(`desk.py`). The listening sockets are the supervisor's.
"""

import asyncio
import ipaddress
import os
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from engine import limits
from engine.telemetry.metrics import Counter, Gauge
from engine.tls.traces import without_traces
from workers.frame.child import Child
from workers.frame.spec import Hl7Spec
from workers.frame.tls_handover import read_secured
from workers.hl7.connection import Connection
from workers.hl7.desk import Answered, Desk
from workers.hl7.handshakes import Handshakes

_house_s: Final = 1.0


class Listener:
    """The state of the process."""

    def __init__(self, child: Child[Hl7Spec], loop: asyncio.AbstractEventLoop) -> None:
        self._child = child
        self._loop = loop
        self._desk = Desk(child)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scai-hl7")
        self._sockets = [socket.socket(fileno=fd) for fd in child.spec.listen_descriptors]
        self._servers: list[asyncio.Server] = []
        self._handshakes: Handshakes | None = None
        self._connections: set[Connection] = set()
        self._changed = asyncio.Event()
        self._digest = ""
        self._gone = asyncio.Event()
        child.reconfigured(lambda spec: self._changed.set())

    async def run(self) -> None:
        """Until the draining begins, and what is under way has been answered."""
        loop = self._loop
        await loop.run_in_executor(self._thread, self._desk.warm)
        await loop.run_in_executor(self._thread, self._desk.keep_house)
        await self._listen()
        self._child.ready()
        drained = loop.create_task(self._child.draining.wait())
        try:
            while not self._child.draining.is_set():
                changed = loop.create_task(self._changed.wait())
                await asyncio.wait(
                    {drained, changed}, timeout=_house_s, return_when=asyncio.FIRST_COMPLETED
                )
                changed.cancel()
                if self._changed.is_set():
                    self._changed.clear()
                    await self._listen_anew()
                await loop.run_in_executor(self._thread, self._desk.keep_house)
            await self._drain()
        finally:
            drained.cancel()
            await loop.run_in_executor(self._thread, self._desk.close)
            self._thread.shutdown()

    # --- listening ---
    async def _listen(self) -> None:
        spec = self._child.spec
        context: ssl.SSLContext | None = None
        if spec.tls_descriptor >= 0:
            with without_traces():
                secured = read_secured(spec.tls_descriptor)
                try:
                    context = secured.listener()
                finally:
                    secured.wipe()
            self._child.log.info("tls_loaded", profile=secured.profile)
        self._digest = spec.tls_digest
        # Who listens closes the socket that it was given; the supervisor's goes on listening.
        given = [listener.dup() for listener in self._sockets]
        if context is not None:
            self._handshakes = Handshakes(self, context, given, self._connection)
            return
        self._servers = [
            await self._loop.create_server(
                self._connection, sock=listener, backlog=limits.listen_backlog
            )
            for listener in given
        ]

    def _connection(self) -> Connection:
        return Connection(self, self._loop)

    async def _listen_anew(self) -> None:
        if self._child.spec.tls_digest != self._digest:
            self._stop_listening()
            await self._listen()

    def _stop_listening(self) -> None:
        for server in self._servers:
            server.close()
        self._servers = []
        if self._handshakes is not None:
            self._handshakes.close()

    async def _drain(self) -> None:
        """No new connection; a message under way is committed and answered."""
        self._stop_listening()
        if self._handshakes is not None:
            self._handshakes.abandon()
        for listener in self._sockets:
            listener.close()
        for connection in list(self._connections):
            connection.drain()
        while self._connections and self._loop.time() < self._child.drain_deadline:
            self._gone.clear()
            left = min(_house_s, self._child.drain_deadline - self._loop.time())
            try:
                await asyncio.wait_for(self._gone.wait(), max(0.01, left))
            except TimeoutError:
                continue  # the deadline decides
        for connection in list(self._connections):
            connection.crowd_out()

    # --- what handshakes ask ---
    def may_knock(self, peer: str) -> bool:
        """Whether this host is let in at all."""
        allowed = self._child.spec.settings.allowed_hosts
        if not allowed or _is_allowed(peer, allowed):
            return True
        self._child.counters.add(Counter.HL7_HOSTS_REFUSED)
        fields = {"peer": peer, "text": "host is not allowed"}
        self._child.log.note("warning", "hl7_refused", fields)
        return False

    def crowded_out(self, peer: str) -> None:
        """A handshake was ended for another one."""
        self._child.counters.add(Counter.HL7_CROWDED_OUT)
        fields = {"peer": peer, "text": "too many handshakes are under way"}
        self._child.log.note("warning", "hl7_crowded_out", fields)

    def failed(self, peer: str, why: str) -> None:
        """A handshake came to nothing."""
        self._child.counters.add(Counter.HL7_BROKEN)
        self._child.log.note("warning", "hl7_broken", {"peer": peer, "text": why})

    def watch(self, task: "asyncio.Task[None]") -> None:
        """A fault of ours in it ends the process."""
        self._child.faults.watch(task)

    # --- what a connection asks ---
    def admit(self, connection: Connection) -> bool:
        """Whether this peer is let in; the one that was silent for longest makes room for it."""
        if not self.may_knock(connection.peer):
            return False
        if self._child.draining.is_set():
            return False
        if len(self._connections) >= limits.hl7_connections_max:
            idle = [each for each in self._connections if each.is_idle]
            if not idle:
                self._child.counters.add(Counter.HL7_CROWDED_OUT)
                self.note(connection, "warning", "hl7_refused", text="too many connections")
                return False
            oldest = min(idle, key=lambda each: each.last_heard)
            self._child.counters.add(Counter.HL7_CROWDED_OUT)
            self.note(oldest, "warning", "hl7_crowded_out")
            oldest.crowd_out()
            self._connections.discard(oldest)
        self._child.counters.add(Counter.HL7_CONNECTIONS)
        self._connections.add(connection)
        self._publish()
        return True

    def answer(self, content: bytes) -> "asyncio.Future[Answered]":
        """In the thread, in the order of arrival. A fault of ours there ends the process."""
        future = self._loop.run_in_executor(self._thread, self._desk.answer, content)
        self._child.faults.watch(future)
        return future

    def note(self, connection: Connection, level: str, event: str, **fields: object) -> None:
        """A line in the log."""
        self._child.log.note(level, event, {"peer": connection.peer, **fields})

    def broke(self, connection: Connection, why: str) -> None:
        """A connection is ended for what its peer did, or did not do."""
        self._child.counters.add(Counter.HL7_BROKEN)
        self.note(connection, "warning", "hl7_broken", text=why)

    def ended(self, connection: Connection) -> None:
        """It is gone."""
        self._connections.discard(connection)
        self._publish()
        self._gone.set()

    def _publish(self) -> None:
        self._child.counters.set(Gauge.HL7_OPEN, len(self._connections))


def _is_allowed(peer: str, networks: tuple[str, ...]) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(network, strict=False) for network in networks)


async def run(child: Child[Hl7Spec]) -> None:
    """The role `hl7`."""
    os.umask(0o077)
    await Listener(child, asyncio.get_running_loop()).run()
