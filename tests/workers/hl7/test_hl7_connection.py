"""One peer of the HL7 listener: one message at a time, and nobody holds a place for nothing."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from engine import limits
from engine.hl7.framing import framed
from workers.hl7.connection import Connection
from workers.hl7.desk import Answered


class Host:
    """Answers when it is told to, and remembers what it heard."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, asyncio.Future[Answered]]] = []
        self.broken: list[str] = []
        self.lines: list[str] = []
        self.heard = asyncio.Event()
        self.gone = asyncio.Event()
        self.admits = True

    def admit(self, connection: Connection) -> bool:
        return self.admits

    def answer(self, content: bytes) -> asyncio.Future[Answered]:
        future: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self.asked.append((content, future))
        self.heard.set()
        return future

    def note(self, connection: Connection, level: str, event: str, **fields: object) -> None:
        self.lines.append(event)

    def broke(self, connection: Connection, why: str) -> None:
        self.broken.append(why)

    def ended(self, connection: Connection) -> None:
        self.gone.set()

    async def next_asked(self, number: int) -> asyncio.Future[Answered]:
        """The future of the message of that number, as soon as it came."""
        while len(self.asked) <= number:
            self.heard.clear()
            await asyncio.wait_for(self.heard.wait(), 10)
        return self.asked[number][1]


Script = Callable[[Host, socket.socket, Connection], Awaitable[None]]


def play(script: Script, receive_bytes: int = 0) -> Host:
    """A connection over a socket pair, and the peer's side of it for the script."""

    async def run() -> Host:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        if receive_bytes:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, receive_bytes)
        theirs.setblocking(False)
        host = Host()
        connection = Connection(host, loop)
        transport, _ = await loop.create_connection(lambda: connection, sock=ours)
        try:
            await script(host, theirs, connection)
        finally:
            transport.abort()
            theirs.close()
        return host

    return asyncio.run(run())


def answered(content: bytes = b"answer") -> Answered:
    return Answered(content, "info", {})


async def receive(peer: socket.socket, count: int) -> bytes:
    loop, got = asyncio.get_running_loop(), b""
    while len(got) < count:
        more = await asyncio.wait_for(loop.sock_recv(peer, 65536), 10)
        if not more:
            break
        got += more
    return got


def test_one_message_is_under_way_at_a_time() -> None:
    async def script(host: Host, peer: socket.socket, connection: Connection) -> None:
        peer.send(framed(b"one") + framed(b"two"))
        first = await host.next_asked(0)
        await asyncio.sleep(0)
        assert [content for content, _ in host.asked] == [b"one"]
        assert not connection.is_idle
        first.set_result(answered(b"A"))
        second = await host.next_asked(1)
        assert await receive(peer, 4) == framed(b"A")
        second.set_result(answered(b"B"))
        assert await receive(peer, 4) == framed(b"B")
        assert connection.is_idle

    assert play(script).lines == ["hl7_message", "hl7_message"]


def test_while_a_message_is_under_way_nothing_more_is_read() -> None:
    """A peer that sends faster than the disk takes it waits in its own buffers."""

    async def script(host: Host, peer: socket.socket, connection: Connection) -> None:
        peer.send(framed(b"one"))
        first = await host.next_asked(0)
        heard = connection.last_heard
        peer.send(framed(b"two"))
        for _ in range(10):  # turns of the loop: what may be read is read in the first
            await asyncio.sleep(0)
        assert connection.last_heard == heard, "not even once"
        flood = framed(b"x" * 60_000)
        taken = 0
        try:
            while True:
                taken += peer.send(flood)
                await asyncio.sleep(0)
        except BlockingIOError:
            pass  # the kernel's buffers are full: that is what we are here for
        assert taken < 4 * limits.MIB
        assert len(host.asked) == 1
        first.set_result(answered())
        await host.next_asked(1)

    play(script)


@pytest.mark.parametrize("sent", [b"\x0bhalf of a message", framed(b"whole") + b"\x0bhalf"])
def test_a_message_that_is_not_ended_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(limits, "hl7_message_s", 0.05)

    async def script(host: Host, peer: socket.socket, connection: Connection) -> None:
        peer.send(sent)
        if sent.startswith(framed(b"whole")):
            (await host.next_asked(0)).set_result(answered())
        await asyncio.wait_for(host.gone.wait(), 10)

    assert play(script).broken == ["a message was begun and not ended in time"]


def test_a_silent_connection_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interface engines keep theirs open for days."""
    monkeypatch.setattr(limits, "hl7_message_s", 0.01)

    async def script(host: Host, peer: socket.socket, connection: Connection) -> None:
        peer.send(framed(b"one"))
        (await host.next_asked(0)).set_result(answered())
        await receive(peer, 9)
        await asyncio.sleep(0.1)  # ten times the deadline of a message
        assert not host.gone.is_set()
        peer.send(framed(b"two"))
        await host.next_asked(1)

    assert play(script).broken == []


def test_who_does_not_read_his_answers_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "hl7_answer_s", 0.05)

    async def script(host: Host, peer: socket.socket, connection: Connection) -> None:
        peer.send(framed(b"one"))
        (await host.next_asked(0)).set_result(answered(b"x" * limits.MIB))
        await asyncio.wait_for(host.gone.wait(), 10)

    assert play(script, receive_bytes=4096).broken == ["answers are not read"]


def test_what_came_whole_before_the_end_is_answered() -> None:
    async def script(host: Host, peer: socket.socket, connection: Connection) -> None:
        peer.send(framed(b"one"))
        peer.shutdown(socket.SHUT_WR)
        (await host.next_asked(0)).set_result(answered(b"A"))
        assert await receive(peer, 1000) == framed(b"A")
        await asyncio.wait_for(host.gone.wait(), 10)

    assert play(script).broken == []


def test_a_connection_that_ends_within_a_message_is_told() -> None:
    async def script(host: Host, peer: socket.socket, connection: Connection) -> None:
        peer.send(b"\x0bhalf")
        peer.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(host.gone.wait(), 10)

    host = play(script)
    assert host.broken == ["the connection ended within a message"]
    assert not host.asked


def test_draining_answers_what_is_under_way_and_takes_nothing_more() -> None:
    async def script(host: Host, peer: socket.socket, connection: Connection) -> None:
        peer.send(framed(b"one") + framed(b"two"))
        first = await host.next_asked(0)
        connection.drain()
        first.set_result(answered(b"A"))
        assert await receive(peer, 1000) == framed(b"A")
        await asyncio.wait_for(host.gone.wait(), 10)
        assert len(host.asked) == 1

    play(script)


def test_what_is_no_mllp_ends_the_connection() -> None:
    async def script(host: Host, peer: socket.socket, connection: Connection) -> None:
        peer.send(b"GET / HTTP/1.1\r\n" * 100)
        await asyncio.wait_for(host.gone.wait(), 10)

    (why,) = play(script).broken
    assert "no MLLP" in why
