"""What is said between who asks for a frame's samples and the process that decodes it.

A question: the head with shape and allowance, then the frame. An answer: the head with its kind and
length, then the samples or the reason. Both ends are ours, and the answering one may have been
taken over by what it decoded: who asks checks every length before there is room for it.
"""

import socket
import struct
import time
from typing import Final, NamedTuple

from engine.pixels.allowance import Allowance
from engine.pixels.transcode import Shape

_QUESTION: Final = struct.Struct("<QHHHHIQ")
_ANSWER: Final = struct.Struct("<BQ")
QUESTION_BYTES: Final = _QUESTION.size
ANSWER_BYTES: Final = _ANSWER.size

SAMPLES: Final = 0
BROKEN: Final = 1  # with the reason, in UTF-8
NO_MEMORY: Final = 2
REASON_BYTES_MAX: Final = 4096


class Ended(Exception):  # noqa: N818  # no error where it is an idle process that has left
    """The other side is gone."""


class Question(NamedTuple):
    """The head of one; the frame's bytes follow."""

    frame_bytes: int
    shape: Shape
    cpu_s: int
    memory_bytes: int


def question(frame: bytes, shape: Shape, allowance: Allowance) -> bytes:
    return _QUESTION.pack(
        len(frame),
        shape.rows,
        shape.columns,
        shape.samples,
        shape.bits_allocated,
        allowance.cpu_s,
        allowance.memory_bytes,
    )


def read_question(head: bytes) -> Question:
    frame_bytes, rows, columns, samples, bits, cpu_s, memory_bytes = _QUESTION.unpack(head)
    return Question(frame_bytes, Shape(rows, columns, samples, bits), cpu_s, memory_bytes)


def answer(kind: int, length: int) -> bytes:
    return _ANSWER.pack(kind, length)


def read_answer(head: bytes) -> tuple[int, int]:
    """(kind, length) of what follows."""
    kind, length = _ANSWER.unpack(head)
    return kind, length


def send(connection: socket.socket, content: bytes, deadline: float | None = None) -> None:
    """All of it; TimeoutError past the deadline (time.monotonic()), Ended when nobody reads."""
    _set_time_left(connection, deadline)
    try:
        connection.sendall(content)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise Ended from error


def receive(connection: socket.socket, length: int, deadline: float | None = None) -> bytearray:
    """Exactly so many bytes, likewise."""
    content = bytearray(length)
    left = memoryview(content)
    while left:
        _set_time_left(connection, deadline)
        try:
            count = connection.recv_into(left)
        except ConnectionResetError as error:
            raise Ended from error
        if not count:
            raise Ended
        left = left[count:]
    return content


def _set_time_left(connection: socket.socket, deadline: float | None) -> None:
    if deadline is None:
        return
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)
