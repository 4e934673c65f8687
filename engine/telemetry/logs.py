"""JSON lines, one for each event, cheap enough for one line per stored instance.

Within an event loop lines are gathered and written once a turn; without one, at once. Every write
to a pipe holds whole lines and at most PIPE_BUF bytes, so lines of several processes never mix. A
slow reader never blocks a process. What it does not take waits, up to a bound. Beyond that lines of
level info are dropped and counted, and the loss is told in a line of its own. Faults have a far
larger bound. Output is pure ASCII: no control character of a peer's text reaches a terminal. The
caller sees to it that no patient data comes in. Reads the clock for the moment of a line, and
writes to a socket where standard error is one.
"""

import asyncio
import os
import select
import socket
import stat
import time
from collections import deque
from itertools import islice
from typing import Any, Final

import orjson

from engine import limits

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_fault_level: Final = LEVELS["warning"]
_retry_s: Final = 0.02
_time_characters: Final = len("2026-11-23T18:43:59.473974Z")


class Log:
    """One process's log. `fields` of the constructor stand in every line."""

    def __init__(self, level: str = "info", descriptor: int = 2, **fields: object) -> None:
        self._threshold = LEVELS[level]
        self._fields = fields
        self._output = _Output(descriptor)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._flush_is_due = False
        self._dropped = 0
        self._dropped_told = 0
        self._second = 0
        self._second_text = ""

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on lines are written once a turn of this loop."""
        self._loop = loop

    def detach(self) -> None:
        """The loop ends: from now on lines are written at once."""
        self._loop = None
        self.flush()

    def set_level(self, level: str) -> None:
        self._threshold = LEVELS[level]

    @property
    def dropped(self) -> int:
        return self._dropped

    def info(self, event: str, **fields: object) -> None:
        if self._threshold <= 20:
            self._put("info", 20, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._put("warning", 30, event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._put("error", 40, event, fields)

    def note(self, level: str, event: str, fields: dict[str, Any]) -> None:
        """The level as text, for what the protocol core wants noted."""
        rank = LEVELS[level]
        if rank >= self._threshold:
            self._put(level, rank, event, fields)

    def pieces(
        self, level: str, event: str, fields: dict[str, Any], mark: str
    ) -> tuple[bytes, bytes]:
        """A line for others to fill in: what stands between the time and `mark`, a value of
        `fields` that stands in no other, and what stands behind it but for the closing brace."""
        before, after = self._line(level, event, fields).split(mark.encode())
        return before[len('{"ts":"') + _time_characters :], after[: -len("}\n")]

    def add(self, level: str, lines: list[bytes]) -> None:
        """Lines that were made of pieces()."""
        rank = LEVELS[level]
        if rank >= self._threshold:
            for line in lines:
                if self._has_room(rank):
                    self._take(line)

    def flush(self) -> bool:
        """Write what waits. False: the reader is slow, some still waits."""
        self._flush_is_due = False
        waiting = self._waiting
        if self._dropped > self._dropped_told:
            lost = self._dropped - self._dropped_told
            self._append(self._line("warning", "log_lines_dropped", {"lines": lost}))
            self._dropped_told = self._dropped
        while waiting:
            lines = [waiting[0]]
            size = len(waiting[0])
            for line in islice(waiting, 1, None):
                if size + len(line) > self._output.write_bytes_max:
                    break
                lines.append(line)
                size += len(line)
            taken = self._output.write(b"".join(lines))
            self._forget(taken)
            if taken < size:
                if self._loop is not None:
                    self._flush_is_due = True
                    self._loop.call_later(_retry_s, self.flush)
                return False
        return True

    def _append(self, line: bytes) -> None:
        self._waiting.append(line)
        self._waiting_bytes += len(line)

    def _forget(self, taken: int) -> None:
        """The first `taken` bytes of what waits are written."""
        self._waiting_bytes -= taken
        while taken:
            line = self._waiting.popleft()
            if len(line) > taken:
                self._waiting.appendleft(line[taken:])
                return
            taken -= len(line)

    def close(self) -> None:
        """At the end of the process: what waits is written, within a bound."""
        self.detach()
        deadline = time.monotonic() + limits.log_close_s
        while not self.flush() and time.monotonic() < deadline:
            time.sleep(_retry_s)

    def _put(self, level: str, rank: int, event: str, fields: dict[str, Any]) -> None:
        if self._has_room(rank):
            self._take(self._line(level, event, fields))

    def _has_room(self, rank: int) -> bool:
        """Whether the reader is not too far behind; if it is, the line is dropped and counted."""
        fault = rank >= _fault_level
        bound = limits.log_fault_backlog_bytes_max if fault else limits.log_backlog_bytes_max
        if self._waiting_bytes < bound:
            return True
        self._dropped += 1
        return False

    def _take(self, line: bytes) -> None:
        self._append(line)
        if self._loop is None:
            self.flush()
        elif not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self.flush)

    def _line(self, level: str, event: str, fields: dict[str, Any]) -> bytes:
        now = time.time_ns()
        second, rest = divmod(now, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        record = {
            "ts": f"{self._second_text}.{rest // 1000:06d}Z",
            "level": level,
            "event": event,
            **self._fields,
            **fields,
        }
        try:
            line = orjson.dumps(record)
        except (TypeError, ValueError):  # lone surrogates, bytes, numbers beyond 64 bits
            line = orjson.dumps(_plain(record))
        # Shorter than the bound: no field can be longer than its own bound by much.
        if len(line) > limits.log_text_characters_max:
            line = _bounded(record, line)
        if not line.isascii() or b"\x7f" in line:
            line = _ascii(line)
        return line + b"\n"


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """Every value as something JSON has."""
    return {
        key: value
        if value is None or isinstance(value, bool | float)
        else value
        if isinstance(value, int) and abs(value) < 2**53
        else str(value).encode("utf-8", "backslashreplace").decode("utf-8")
        for key, value in record.items()
    }


def _bounded(record: dict[str, Any], line: bytes) -> bytes:
    longest = limits.log_text_characters_max
    if any(isinstance(value, str) and len(value) > longest for value in record.values()):
        record = {
            key: value[:longest] + "..."
            if isinstance(value, str) and len(value) > longest
            else value
            for key, value in record.items()
        }
        line = orjson.dumps(_plain(record))
    # Escaping can make six bytes of one.
    if len(_ascii(line)) < limits.log_line_bytes_max:
        return line
    kept = {key: record[key] for key in ("ts", "level", "event")}
    return orjson.dumps(_plain({**kept, "cut": True}))


def _ascii(line: bytes) -> bytes:
    """The same JSON in ASCII: C1 controls, DEL and direction marks become escapes."""
    pieces = []
    for character in line.decode("utf-8"):
        code = ord(character)
        if 0x20 <= code < 0x7F:
            pieces.append(character)
        elif code < 0x10000:
            pieces.append(f"\\u{code:04x}")
        else:
            code -= 0x10000
            pieces.append(f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}")
    return "".join(pieces).encode("ascii")


class _Output:
    """Where lines go, without ever blocking and without changing what others share.

    O_NONBLOCK belongs to the open file description, which other processes share (a terminal, the
    service manager's pipe). A pipe is therefore opened anew for ourselves; a socket is written with
    MSG_DONTWAIT; a file does not block. Where opening anew is forbidden, poll() is asked first.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._socket: socket.socket | None = None
        self._poll: select.poll | None = None
        self.write_bytes_max = 64 * limits.KIB
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(descriptor))
        elif stat.S_ISFIFO(mode) or os.isatty(descriptor):
            self.write_bytes_max = limits.log_line_bytes_max
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
            try:
                self._descriptor = os.open(f"/proc/self/fd/{descriptor}", flags)
            except OSError:
                self._poll = select.poll()
                self._poll.register(descriptor, select.POLLOUT)

    def write(self, lines: bytes) -> int:
        """How many bytes were taken; to a pipe all or none. A reader that is gone takes all."""
        try:
            if self._socket is not None:
                return self._socket.send(lines, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            if self._poll is not None and not self._poll.poll(0):
                return 0
            return os.write(self._descriptor, lines)
        except BlockingIOError:
            return 0
        except OSError:
            # A full disk, a closed pipe: a log that cannot be written must not stop the service,
            # and there is no other place to say so.
            return len(lines)
