"""The process that decodes: `python -P -m workers --decode`, its socket as standard input.

It has nothing but that socket, writes no file and dumps no core. Before each frame it takes the
limits that came with it; the kernel ends it by SIGXCPU when its time is over. It leaves when nobody
has asked for a while, and when whoever started it is gone.
"""

import os
import resource
import signal
import socket
from contextlib import suppress
from pathlib import Path

from setproctitle import setproctitle

from engine import limits
from engine.errors import LocalError
from workers.decoding import questions


def serve(descriptor: int = 0) -> int:
    """Answer until nobody asks any more; the exit code."""
    connection = socket.socket(fileno=descriptor)
    setproctitle("scai: decoder")
    _give_up_what_is_not_needed()
    from engine.pixels.libjpeg import decode_by_libjpeg

    base_bytes = _address_space_bytes()
    for _ in range(limits.decoding_frames_per_process):
        connection.settimeout(limits.decoding_idle_s)
        try:
            asked = questions.read_question(
                bytes(questions.receive(connection, questions.QUESTION_BYTES))
            )
            connection.settimeout(None)
            frame = bytes(questions.receive(connection, asked.frame_bytes))
            _limit(asked.cpu_s, base_bytes + asked.memory_bytes)
            try:
                kind, content = questions.SAMPLES, decode_by_libjpeg(frame, asked.shape)
            except LocalError as error:
                kind, content = questions.BROKEN, error.comment.encode("utf-8", "replace")
                content = content[: questions.REASON_BYTES_MAX]
            except MemoryError:
                kind, content = questions.NO_MEMORY, b""
            _limit_memory(resource.RLIM_INFINITY)  # for the answer, and the next question
            questions.send(connection, questions.answer(kind, len(content)))
            questions.send(connection, content)
            if kind == questions.NO_MEMORY:
                # What is left may lie all over: the next frame has a fresh process.
                os._exit(0)
        except (questions.Ended, TimeoutError):
            break
    return 0


def _give_up_what_is_not_needed() -> None:
    # A terminal signals the whole group; whoever asks closes the socket when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    with suppress(OSError):  # where the system is short of memory we are who goes
        Path("/proc/self/oom_score_adj").write_text("1000")


def _limit(cpu_s: int, address_space_bytes: int) -> None:
    """For the frame that comes now. The hard limits stay, or the next frame could get no more."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent_s = int(used.ru_utime + used.ru_stime) + 1
    _, cpu_most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (_at_most(spent_s + cpu_s, cpu_most), cpu_most))
    _limit_memory(address_space_bytes)


def _limit_memory(address_space_bytes: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_at_most(address_space_bytes, most), most))


def _at_most(wanted: int, hard: int) -> int:
    if resource.RLIM_INFINITY in (wanted, hard):
        return hard if wanted == resource.RLIM_INFINITY else wanted
    return min(wanted, hard)


def _address_space_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")
