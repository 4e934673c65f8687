"""The secured AE under test: a service with it, peers that speak TLS to it, and OpenSSL's client.

`SecuredGateway` is a `Gateway` with stores made for the test; `SecuredPeer` is a scripted `Peer`
inside TLS; `offer` lets `openssl s_client` offer exactly what a test wants, and judges by the
suite that was negotiated and a C-ECHO that was answered, never by what the client says.
"""

import re
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.material import certificates, wire
from tests.material.waiting import free_ports
from tests.peers.peer import Address, Peer
from tests.rigs.gateway import Gateway

CONTEXT = 1  # the only one proposed by echo_request()


class SecuredGateway(Gateway):
    """A service whose secured AE listens on `secured_port`; `tls` goes into its table [tls]."""

    def __init__(
        self, directory: Path, settings: Mapping[str, Any] | None = None, **tls: Any
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.secured_port = free_ports(1)[0]
        self.peer_files = certificates.peer().pem_files(directory, "peer")
        self.authority = directory / "authority.pem"
        self.authority.write_bytes(certificates.pem(certificates.root().certificate))
        secured = {"enabled": True, "port": self.secured_port, "address": "127.0.0.1"}
        stores = certificates.tls_settings(directory / "stores", **tls)
        super().__init__(directory, {"secured_scp": secured, "tls": stores, **(settings or {})})

    @property
    def secured_address(self) -> Address:
        return ("127.0.0.1", self.secured_port)

    def client_context(self) -> ssl.SSLContext:
        """What a good peer connects with."""
        context = bare_context()
        context.load_verify_locations(self.authority)
        context.verify_mode = ssl.CERT_REQUIRED
        key, chain = self.peer_files
        context.load_cert_chain(chain, key)
        return context

    def results(self) -> dict[str, float]:
        """tls_handshakes_total by result, of those that are not 0."""
        return self.labelled("scai_tls_handshakes_total", "result")

    def labelled(self, name: str, label: str) -> dict[str, float]:
        """A metric of the secured AE by one of its labels."""
        found = {}
        for sample, value in self.metrics().items():
            if sample.startswith(name + "{") and 'process="secured_scp"' in sample and value:
                key = re.search(rf'{label}="(\w+)"', sample)
                assert key is not None
                found[key[1]] = value
        return found

    def events(self, name: str) -> list[dict[str, Any]]:
        """Log lines of this event."""
        return [line for line in self.log() if line["event"] == name]


def bare_context() -> ssl.SSLContext:
    """A client without a certificate that believes anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class SecuredPeer(Peer):
    """A scripted peer inside TLS."""

    def __init__(self, address: Address, context: ssl.SSLContext, timeout: float = 10.0) -> None:
        super().__init__(address, timeout)
        plain = self.socket
        try:
            self.socket = context.wrap_socket(plain)
        except BaseException:
            plain.close()
            raise


@dataclass(frozen=True)
class Offer:
    """What came of one."""

    suite: str  # empty: none was negotiated
    version: str
    echoed: bool
    said: str  # the client's words, for a failure's message

    @property
    def accepted(self) -> bool:
        return bool(self.suite) and self.echoed


def offer(gateway: SecuredGateway, *options: str, certificate: bool = True) -> Offer:
    """Connect once with `openssl s_client` and these options, and try a C-ECHO."""
    key, chain = gateway.peer_files
    identity = ["-cert", str(chain), "-key", str(key)] if certificate else []
    command = [
        *("openssl", "s_client", "-connect", f"127.0.0.1:{gateway.secured_port}"),
        *("-brief", "-nocommands", "-CAfile", str(gateway.authority), *identity, *options),
    ]
    pipe = subprocess.PIPE
    # Unbuffered: what a client that gave up did not take is nobody's any more.
    with subprocess.Popen(command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe) as client:
        watchdog = threading.Timer(10, client.kill)
        watchdog.start()
        try:
            echoed = _echo(client)
        finally:
            client.kill()
            watchdog.cancel()
        assert client.stderr is not None
        said = client.stderr.read().decode(errors="replace")
    suite = re.search(r"^Ciphersuite: (\S+)", said, re.M)
    version = re.search(r"^Protocol version: (\S+)", said, re.M)
    return Offer(suite[1] if suite else "", version[1] if version else "", echoed, said)


def _echo(client: "subprocess.Popen[bytes]") -> bool:
    """Association, C-ECHO, release, over the client's pipes."""
    try:
        _put(
            client,
            wire.associate_request(
                [wire.presentation_context(CONTEXT, wire.VERIFICATION, [wire.IMPLICIT])]
            ),
        )
        if _take(client)[0] != wire.ASSOCIATE_AC:
            return False
        _put(client, wire.p_data(CONTEXT, wire.echo_command(1), command=True))
        kind, body = _take(client)
        assert kind == wire.P_DATA
        assert wire.parse_command(body[6:])[0x0900] == b"\0\0"
        _put(client, wire.pdu(wire.RELEASE_RQ, bytes(4)))
        return _take(client)[0] == wire.RELEASE_RP
    except (BrokenPipeError, EOFError):
        return False


def _put(client: "subprocess.Popen[bytes]", data: bytes) -> None:
    assert client.stdin is not None
    client.stdin.write(data)


def _take(client: "subprocess.Popen[bytes]") -> tuple[int, bytes]:
    """The next PDU from the service: (type, body)."""
    kind, _, length = struct.unpack(">BBI", _read(client, 6))
    return kind, _read(client, length)


def _read(client: "subprocess.Popen[bytes]", count: int) -> bytes:
    assert client.stdout is not None
    data = b""
    while len(data) < count:
        piece = client.stdout.read(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


class MemoryClient:
    """TLS over a socket, by hand: `seal` gives the records of some bytes instead of sending."""

    def __init__(self, context: ssl.SSLContext, connection: socket.socket) -> None:
        self.connection = connection
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing)
        self._go_on(self.tls.do_handshake)
        self.flush()

    def _go_on(self, step: Any) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self.flush()
                data = self.connection.recv(65536)
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()

    def flush(self) -> None:
        if self.outgoing.pending:
            self.connection.sendall(self.outgoing.read())

    def seal(self, data: bytes) -> bytes:
        """The records of these bytes, not sent."""
        self.flush()
        self.tls.write(data)
        return self.outgoing.read()

    def send(self, data: bytes) -> None:
        self.connection.sendall(self.seal(data))

    def receive(self, count: int) -> bytes:
        """At most so many bytes; SSLError when the service sent an alert."""
        found: bytes = self._go_on(partial(self.tls.read, count))
        return found
