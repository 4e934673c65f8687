"""A loopback connection, and who reads all that comes over it."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def loopback() -> Iterator[tuple[socket.socket, socket.socket]]:
    """(ours, theirs): TCP over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    with ours, theirs:
        yield ours, theirs


def fragments(stream: bytes) -> list[tuple[int, int, bytes]]:
    """(context, message control header, fragment) of each PDU, every header checked."""
    found = []
    while stream:
        kind, _, length, item, context, control = struct.unpack(">BBIIBB", stream[:12])
        assert kind == 4
        assert item == length - 4
        found.append((context, control, stream[12 : 6 + length]))
        stream = stream[6 + length :]
    return found


class Listener(threading.Thread):
    """Takes all there is until the other side ends."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(daemon=True)
        self.stream = bytearray()
        self._connection = connection
        self.start()

    def run(self) -> None:
        while piece := self._connection.recv(1 << 20):
            self.stream += piece
