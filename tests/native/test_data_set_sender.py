"""The native sender of data sets: what arrives, and what it says when something is in the way."""

import errno
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from engine import limits
from native import _core
from tests.rigs.listeners import Listener, fragments, loopback

COMMAND: Final = bytes(range(150))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """With small buffers."""
    with loopback() as (ours, theirs):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        yield ours, theirs


def file_with(path: Path, content: bytes) -> int:
    path.write_bytes(content)
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


@pytest.mark.parametrize("pdu_bytes_max", [8, 4096, limits.pdu_bytes_advertised])
@pytest.mark.parametrize("length", [0, 2, 16370, 16372, 16374, 3 * 16372, 1_000_002])
def test_a_file_arrives_as_fragments(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path, pdu_bytes_max: int, length: int
) -> None:
    ours, theirs = pair
    if pdu_bytes_max == 8:
        length = min(length, 50_002)  # two bytes a PDU: taking them apart here takes its time
    content = random.Random(length).randbytes(length)
    descriptor = file_with(tmp_path / "file", b"head" + content)
    listener = Listener(theirs)
    sender = _core.DataSetSender(limits.send_buffer_bytes)
    sender.begin(5, pdu_bytes_max, COMMAND)
    sent = sender.send_file(descriptor, 4, length, ours.fileno(), -1, 5000)
    assert sent == _core.SENDING_SENT
    sender.finish()
    assert sender.flush(ours.fileno(), -1, 5000) == _core.SENDING_SENT
    ours.close()
    listener.join(10)
    os.close(descriptor)
    found = fragments(bytes(listener.stream))
    command = [fragment for _, control, fragment in found if control & 1]
    data = [(control, fragment) for _, control, fragment in found if not control & 1]
    assert {context for context, _, _ in found} == {5}
    assert b"".join(command) == COMMAND
    assert b"".join(fragment for _, fragment in data) == content
    assert [control for control, _ in data] == [0] * (len(data) - 1) + [2]
    assert all(len(fragment) == pdu_bytes_max - 6 for _, fragment in data[:-1])
    assert sender.sent_bytes == len(listener.stream)


def test_a_small_message_is_one_write(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    sender = _core.DataSetSender(limits.send_buffer_bytes)
    sender.begin(1, limits.pdu_bytes_advertised, COMMAND)
    assert sender.append(b"ab" * 100) == 200
    sender.finish()
    sender.flush(ours.fileno(), -1, 5000)
    assert len(theirs.recv(65536)) == 12 + len(COMMAND) + 12 + 200


def test_pieces_from_memory_and_file_join(tmp_path: Path) -> None:
    """Lent instead of written, as a TLS connection needs it."""
    descriptor = file_with(tmp_path / "file", b"0123456789" * 5000)
    sender = _core.DataSetSender(4096)
    sender.begin(3, 128, COMMAND)
    stream = bytearray()

    def drain() -> None:
        with sender.staged() as view:
            stream.extend(view)
        sender.drop_staged()

    left = memoryview(b"x" * 9001)
    while left:
        left = left[sender.append(left) :]
        drain()
    done = 0
    while done < 50000:
        done += sender.append_file(descriptor, done, 50000 - done)
        drain()
    sender.finish()
    drain()
    os.close(descriptor)
    data = [fragment for _, control, fragment in fragments(bytes(stream)) if not control & 1]
    assert b"".join(data) == b"x" * 9001 + b"0123456789" * 5000


def test_a_file_that_shrank_is_an_error(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    descriptor = file_with(tmp_path / "file", bytes(100_000))
    os.truncate(tmp_path / "file", 50_000)
    sender = _core.DataSetSender(limits.send_buffer_bytes)
    sender.begin(1, 16378, COMMAND)
    with pytest.raises(OSError, match="shorter") as caught:
        sender.send_file(descriptor, 0, 100_000, pair[0].fileno(), -1, 1000)
    os.close(descriptor)
    assert caught.value.errno == errno.ENODATA


def fill(sender: _core.DataSetSender, ours: socket.socket, wake: int, timeout_ms: int) -> int:
    """Send without end to a peer that takes nothing."""
    sender.begin(1, 16378, COMMAND)
    descriptor = os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return sender.send_file(descriptor, 0, 1 << 40, ours.fileno(), wake, timeout_ms)
    finally:
        os.close(descriptor)


class Sipper(threading.Thread):
    """Reads little at a time, as if a slow line lay between."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self.taken = 0
        self.start()

    def run(self) -> None:
        while piece := self._connection.recv(20_000):
            self.taken += len(piece)
            time.sleep(0.025)


@pytest.fixture
def slow_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """(ours, theirs): the kernel holds much of ours and little of theirs."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        server.bind(("127.0.0.1", 0))
        server.listen()
        ours = socket.socket()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 300_000)
        ours.connect(server.getsockname())
        theirs, _ = server.accept()
    with ours, theirs:
        yield ours, theirs


def test_a_slow_line_is_not_taken_for_a_silent_peer(
    slow_pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = slow_pair
    sender = _core.DataSetSender(limits.send_buffer_bytes)
    sender.begin(1, 16378, COMMAND)
    reader = Sipper(theirs)
    descriptor = os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC)
    began = time.monotonic()
    sent = sender.send_file(descriptor, 0, 1_200_000, ours.fileno(), -1, 300)
    assert sent == _core.SENDING_SENT
    sender.finish()
    assert sender.flush(ours.fileno(), -1, 300) == _core.SENDING_SENT
    left = 1_200_000 - reader.taken
    assert left > 250_000, "the kernel has the rest"
    taken = _core.DataSetSender.wait_until_taken(ours.fileno(), -1, 300, True)
    assert taken == _core.SENDING_SENT
    assert 1_200_000 - reader.taken < left - 100_000
    assert time.monotonic() - began > 1.0, "it took many times the time-out"
    os.close(descriptor)
    ours.shutdown(socket.SHUT_WR)
    reader.join(10)


def test_what_the_kernel_holds_is_not_waited_for_without_end(
    slow_pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = slow_pair
    ours.setblocking(False)
    ours.send(bytes(500_000))
    wait = _core.DataSetSender.wait_until_taken
    assert wait(ours.fileno(), -1, 200, True) == _core.SENDING_LATE
    theirs.send(b"early")
    assert wait(ours.fileno(), -1, 200, True) == _core.SENDING_INPUT
    assert wait(ours.fileno(), -1, 200, False) == _core.SENDING_LATE


def test_a_peer_that_takes_nothing_is_late(pair: tuple[socket.socket, socket.socket]) -> None:
    sender = _core.DataSetSender(limits.send_buffer_bytes)
    assert fill(sender, pair[0], -1, 200) == _core.SENDING_LATE


def test_a_waiting_sender_can_be_woken(pair: tuple[socket.socket, socket.socket]) -> None:
    reading, writing = os.pipe()
    timer = threading.Timer(0.2, os.write, (writing, b"x"))
    timer.start()
    sender = _core.DataSetSender(limits.send_buffer_bytes)
    assert fill(sender, pair[0], reading, 10_000) == _core.SENDING_WOKEN
    timer.join()
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("says", [b"\x07\0\0\0\0\x04\0\0\0\0", b""])
def test_a_peer_that_speaks_or_leaves_in_the_middle_is_heard(
    pair: tuple[socket.socket, socket.socket], says: bytes
) -> None:
    ours, theirs = pair

    def interrupt() -> None:
        theirs.sendall(says)
        if not says:
            theirs.shutdown(socket.SHUT_WR)

    timer = threading.Timer(0.2, interrupt)
    timer.start()
    sender = _core.DataSetSender(limits.send_buffer_bytes)
    assert fill(sender, ours, -1, 10_000) == _core.SENDING_INPUT
    timer.join()
    assert ours.recv(100) == says


def test_a_connection_that_is_gone_is_an_error(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    timer = threading.Timer(0.2, theirs.close)
    timer.start()
    sender = _core.DataSetSender(limits.send_buffer_bytes)
    # A reset shows as something to read or as an error, whichever is asked for first.
    if fill(sender, ours, -1, 10_000) == _core.SENDING_BROKEN:
        assert sender.socket_error in (errno.ECONNRESET, errno.EPIPE)
    else:
        with pytest.raises(ConnectionError):
            ours.recv(1)
    timer.join()


def test_a_connection_shut_by_another_thread_is_broken(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    timer = threading.Timer(0.2, pair[0].shutdown, (socket.SHUT_WR,))
    timer.start()
    sender = _core.DataSetSender(limits.send_buffer_bytes)
    assert fill(sender, pair[0], -1, 10_000) == _core.SENDING_BROKEN
    assert sender.socket_error == errno.EPIPE
    timer.join()


@pytest.mark.parametrize(("buffer_bytes", "pdu_bytes_max"), [(262144, 7), (32000, 16378), (10, 8)])
def test_what_does_not_fit_is_refused(buffer_bytes: int, pdu_bytes_max: int) -> None:
    with pytest.raises(ValueError, match=r"fragment|buffer"):
        _core.DataSetSender(buffer_bytes).begin(1, pdu_bytes_max, COMMAND)
