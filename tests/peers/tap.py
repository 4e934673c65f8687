"""A wire tap: a TCP relay in front of the service that keeps the data sets a client really sent.

A foreign client may encode a file anew before it sends it; what counts as "bit for bit" is what
went over the wire, so it is cut from the client's own P-DATA-TF stream here.
"""

import contextlib
import socket
import struct
import threading

from tests.material import wire


class Tap:
    """Listens on a free loopback port and relays to `target`, one thread a direction."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.streams: list[bytearray] = []
        self.relays: list[threading.Thread] = []
        self.acceptor = threading.Thread(target=self._accept, daemon=True)
        self.acceptor.start()

    def __enter__(self) -> "Tap":
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.target)
            stream = bytearray()
            self.streams.append(stream)
            for source, sink, keep in ((client, server, stream), (server, client, None)):
                relay = threading.Thread(target=_relay, args=(source, sink, keep), daemon=True)
                self.relays.append(relay)
                relay.start()

    def wait(self) -> None:
        """Until every connection so far has closed."""
        for relay in self.relays:
            relay.join(10)
            assert not relay.is_alive(), "a relayed connection is still open"

    def data_sets(self) -> dict[str, bytes]:
        """SOP instance UID -> the data set bytes as they were sent, of all connections."""
        self.wait()
        found: dict[str, bytes] = {}
        for stream in self.streams:
            found.update(data_sets_of(bytes(stream)))
        return found


def _relay(source: socket.socket, sink: socket.socket, keep: bytearray | None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if keep is not None:
                keep += data
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def data_sets_of(stream: bytes) -> dict[str, bytes]:
    """Cut one client's stream of PDUs into its C-STORE data sets."""
    found: dict[str, bytes] = {}
    command = bytearray()
    data_set = bytearray()
    uid = ""
    at = 0
    while at + 6 <= len(stream):
        kind, _, length = struct.unpack_from(">BBI", stream, at)
        body = memoryview(stream)[at + 6 : at + 6 + length]
        at += 6 + length
        if kind != wire.P_DATA:
            continue
        while body:
            size, _, flags = struct.unpack_from(">IBB", body)
            (command if flags & 1 else data_set).extend(body[6 : 4 + size])
            body = body[4 + size :]
            if flags == 3:
                fields = wire.parse_command(bytes(command))
                uid = fields.get(0x1000, b"").rstrip(b"\0").decode()
                command.clear()
            elif flags == 2:
                found[uid] = bytes(data_set)
                data_set.clear()
    return found


def data_set_of_file(content: bytes) -> bytes:
    """The data set of a Part 10 file: what follows the file meta information."""
    assert content[128:132] == b"DICM", "no Part 10 file"
    group, tag, vr, _, length = struct.unpack_from("<HH2sHI", content, 132)
    assert (group, tag, vr) == (2, 0, b"UL"), "no group length first"
    return content[144 + length :]
