"""Who asks: a few decoding processes, started when a frame needs one, shared by all threads.

`Decoders.decode` is what `engine/pixels/transcode.py` takes as the other decoder. A process that
passes a limit is killed and named in the reason; one that has left for want of work is replaced
without a word.
"""

import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from engine import limits
from engine.errors import LocalError
from engine.pixels.allowance import Allowance, allowance_for
from engine.pixels.transcode import Shape
from workers.decoding import questions
from workers.frame.environment import environment_of_children

_LOADER_FAILED: Final = 127  # ld.so's exit code, as a shell's for what it does not find
_reap_s: Final = 10.0  # a killed process that the disk still holds is left behind then


class _Process:
    """One decoding process, and our end of its socket."""

    def __init__(self) -> None:
        # Threads that are never used would take address space from the frames.
        environment = {**environment_of_children(), "OPENBLAS_NUM_THREADS": "1"}
        ours, theirs = socket.socketpair()
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-P", "-m", "workers", "--decode"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._connection = ours
        self._start_s = float(limits.decoding_start_s)  # of the first frame's wall time, besides

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def decode(self, frame: bytes, shape: Shape, allowance: Allowance) -> bytes:
        """Ended when it is gone, TimeoutError when it takes too long: then it is of no more use."""
        deadline = time.monotonic() + allowance.wall_s + self._start_s
        questions.send(self._connection, questions.question(frame, shape, allowance), deadline)
        questions.send(self._connection, frame, deadline)
        head = questions.receive(self._connection, questions.ANSWER_BYTES, deadline)
        kind, length = questions.read_answer(bytes(head))
        self._start_s = 0.0
        if kind == questions.SAMPLES and length == shape.frame_bytes:
            return bytes(questions.receive(self._connection, length, deadline))
        if kind == questions.BROKEN and length <= questions.REASON_BYTES_MAX:
            reason = questions.receive(self._connection, length, deadline)
            raise LocalError(reason.decode("utf-8", "replace"))
        if kind == questions.NO_MEMORY and not length:
            raise LocalError(_too_much(allowance))
        raise questions.Ended

    def kill(self) -> None:
        """From another thread: whoever waits for it sees that it has ended."""
        self._process.kill()

    def end(self) -> int:
        """Kill it if it lives; how it ended, as subprocess says it."""
        self._connection.close()
        with suppress(subprocess.TimeoutExpired):
            if self._process.poll() is None:
                self._process.kill()
            return self._process.wait(_reap_s)
        return -signal.SIGKILL

    def reap(self) -> int:
        """How it ended of itself; it is about to, since its end of the socket is closed."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_reap_s)
        return self.end()


class Decoders:
    """At most `limits.decoding_processes_max` at a time; whoever comes meanwhile waits."""

    def __init__(self) -> None:
        self._places = threading.BoundedSemaphore(limits.decoding_processes_max)
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def decode(self, frame: bytes, shape: Shape) -> bytes:
        """The frame's samples, or a LocalError; one with an OSError as its cause is no fault of the
        frame's."""
        allowance = allowance_for(shape, len(frame))
        with self._places:
            while True:
                process, is_new = self._take()
                try:
                    samples = self._decoded(process, is_new, frame, shape, allowance)
                finally:
                    with self._lock:
                        self._busy.discard(process)
                if samples is not None:
                    return samples

    def _decoded(
        self, process: _Process, is_new: bool, frame: bytes, shape: Shape, allowance: Allowance
    ) -> bytes | None:
        """None: the process had left before it was asked."""
        try:
            samples = process.decode(frame, shape, allowance)
        except LocalError:
            self._give_back(process)
            raise
        except TimeoutError:
            process.end()
            # Not caused by a fault of the system's: tried again it would take as long.
            raise LocalError(f"its decoder took more than {allowance.wall_s:g} s") from None
        except questions.Ended:
            status = process.reap()
            if status == 0 and not is_new:
                return None
            raise LocalError(_ending(status, allowance)) from None
        except BaseException:
            process.end()
            raise
        self._give_back(process)
        return samples

    def _take(self) -> tuple[_Process, bool]:
        """(a process that lives, whether it was just started)"""
        while True:
            with self._lock:
                process = self._idle.pop() if self._idle else None
            is_new = process is None
            if process is None:
                try:
                    process = _Process()
                except OSError as error:
                    text = f"no process can be started to decode it: {error.strerror}"
                    raise LocalError(text) from error
            elif process.has_ended:
                process.end()
                continue
            with self._lock:
                self._busy.add(process)
            return process, is_new

    def _give_back(self, process: _Process) -> None:
        """It may be dead by now; whoever takes it next will see."""
        with self._lock:
            self._idle.append(process)

    @property
    def idle_processes(self) -> list[int]:
        """The numbers of those that wait for a frame."""
        with self._lock:
            return [process.pid for process in self._idle]

    @property
    def busy_processes(self) -> list[int]:
        """The numbers of those that decode."""
        with self._lock:
            return [process.pid for process in self._busy]

    def close(self) -> None:
        """End them all. A frame that is still decoded is none any more."""
        with self._lock:
            idle, self._idle = self._idle, []
            for process in self._busy:
                process.kill()
        for process in idle:
            process.end()


def _too_much(allowance: Allowance) -> str:
    return f"its decoder wanted more than {allowance.memory_bytes // limits.MIB} MiB of memory"


def _ending(status: int, allowance: Allowance) -> str:
    if status == -signal.SIGXCPU:
        return f"its decoder took more than {allowance.cpu_s} s of processor time"
    # C++ that finds no memory aborts, and the dynamic loader that finds none for a symbol leaves.
    if status in (-signal.SIGABRT, _LOADER_FAILED):
        return f"its decoder gave up: {_too_much(allowance)}, or it failed"
    if status < 0:
        return f"its decoder was killed by {signal.Signals(-status).name}"
    return f"its decoder ended with exit code {status}"
