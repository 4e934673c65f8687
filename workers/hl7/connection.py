"""One peer's connection: blocks in, answers out, one message at a time.

While a message is under way nothing more is read from its connection, so a peer that sends faster
than the disk takes it waits in its own buffers. Who begins a message and does not end it, or does
not read its answer, is hung up on.
"""

import asyncio
from collections import deque
from typing import Protocol, cast

from engine import limits
from engine.errors import PeerError
from engine.hl7.framing import Block, Framer, framed
from workers.hl7.desk import Answered


class Host(Protocol):
    """What a connection asks of the process."""

    def admit(self, connection: "Connection") -> bool:
        """Whether this peer is let in."""

    def answer(self, content: bytes) -> "asyncio.Future[Answered]":
        """Have the desk take a message."""

    def note(self, connection: "Connection", level: str, event: str, **fields: object) -> None:
        """A line in the log."""

    def broke(self, connection: "Connection", why: str) -> None:
        """It is ended for what the peer did, or did not do."""

    def ended(self, connection: "Connection") -> None:
        """It is gone."""


class Connection(asyncio.Protocol):
    """From the connect to the end."""

    def __init__(self, host: Host, loop: asyncio.AbstractEventLoop) -> None:
        self.peer = ""
        self.last_heard = loop.time()
        self._host = host
        self._loop = loop
        self._framer = Framer()
        self._blocks: deque[Block] = deque()
        self._transport: asyncio.Transport | None = None
        self._under_way = False
        self._full = False  # the peer does not read its answers
        self._ending = False
        self._heard_all = False  # the peer sends nothing more
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing of its peer is under way."""
        return not (self._under_way or self._blocks or self._framer.is_open)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        address = transport.get_extra_info("peername") or ("",)
        self.peer = str(address[0]).removeprefix("::ffff:")
        self._transport.set_write_buffer_limits(high=64 * limits.KIB)
        if not self._host.admit(self):
            self._ending = True
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._ending = True
        self._stop_clock()
        self._blocks.clear()
        self._host.ended(self)

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        self.last_heard = self._loop.time()
        try:
            blocks = self._framer.feed(data)
        except PeerError as error:
            self._break(str(error))
            return
        for block in blocks:
            if block.cut:
                self._host.note(self, "warning", "hl7_cut", text="a message was begun anew")
            else:
                self._blocks.append(block)
        if blocks or not self._framer.is_open:
            self._stop_clock()
        self._go_on()

    def _go_on(self) -> None:
        """The next message, if none is under way."""
        if self._ending or self._transport is None:
            return
        if self._under_way or self._full:
            self._transport.pause_reading()
        elif self._blocks:
            self._under_way = True
            self._stop_clock()  # we are not reading: the peer may be in the middle of the next one
            self._transport.pause_reading()
            future = self._host.answer(self._blocks.popleft().content)
            future.add_done_callback(self._answered)
        elif self._heard_all:
            self._transport.close()
        else:
            self._transport.resume_reading()
            if self._framer.is_open and self._deadline is None:
                self._start_clock(limits.hl7_message_s, "a message was begun and not ended in time")

    def _answered(self, future: "asyncio.Future[Answered]") -> None:
        self._under_way = False
        if future.cancelled() or future.exception() is not None:
            return  # a fault of ours, which ends the process
        answered = future.result()
        self._host.note(self, answered.level, "hl7_message", **answered.fields)
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(framed(answered.content))
        if self._ending:
            self._transport.close()
        else:
            self._go_on()

    def pause_writing(self) -> None:
        """Our answers are not read."""
        self._full = True
        self._stop_clock()
        self._start_clock(limits.hl7_answer_s, "answers are not read")

    def resume_writing(self) -> None:
        self._full = False
        self._stop_clock()
        self._go_on()

    def eof_received(self) -> bool:
        """What came before is answered, then we close too."""
        self._heard_all = True
        if self._framer.is_open:
            self._host.broke(self, "the connection ended within a message")
        self._stop_clock()
        return bool(self._blocks or self._under_way)

    def drain(self) -> None:
        """Take nothing more; a message under way is answered."""
        self._blocks.clear()
        if self._transport is None:
            return
        if self._under_way:
            self._ending = True
        else:
            self._transport.close()

    def crowd_out(self) -> None:
        """Make room for another one."""
        self._ending = True
        if self._transport is not None:
            self._transport.abort()

    def _break(self, why: str) -> None:
        self._ending = True
        self._host.broke(self, why)
        if self._transport is not None:
            self._transport.abort()

    def _start_clock(self, seconds: float, why: str) -> None:
        self._deadline = self._loop.call_later(seconds, self._break, why)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
