"""The supervisor's hold on a data directory: its skeleton, its lock, the file that tells of it."""

import fcntl
import os
import signal
import struct
from pathlib import Path
from typing import Final

import msgspec

from engine.config.loading import Config
from engine.errors import OperatorError
from engine.files.tree import sync_directory
from engine.telemetry.counters import CounterSegment, RunFile, read_run_file
from workers.supervision.other_hands import directories, refuse_other_hands

RUN_FILE: Final = "supervisor.json"
# struct flock of fcntl(2): kind, whence, start, length, pid.
_flock_format: Final = "hhqqi0q"


def make_directories(config: Config, file: Path | None = None) -> None:
    """The directories processes need, for us alone: what lies in them is patient data.

    Their names are made durable here, at every start: what is acknowledged within the first
    seconds must not vanish with the directory it lies in. `file`: the configuration's own.
    """
    paths = directories(config)
    refuse_other_hands(config, file, os.geteuid())
    for path in paths:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OperatorError(
                f"cannot be made: {error.strerror}. Give the service's user the right to write "
                "there, or set another `data_directory`",
                str(path),
            ) from error
    for parent in dict.fromkeys(path.parent for path in paths):
        if not os.access(parent, os.R_OK):
            continue  # who may not read our parent did not make it either
        try:
            sync_directory(parent)
        except OSError as error:
            raise OperatorError(
                f"cannot be synced: {error.strerror}. What is acknowledged in it would not survive "
                "a power cut: look after the disk, or set another `data_directory`",
                str(parent),
            ) from error


def lock_data(run_directory: Path) -> int:
    """A descriptor that holds the lock until we end, however we end; refused while another runs."""
    path = run_directory / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OperatorError(f"cannot be opened: {error.strerror}", str(path)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        run = read_run_file(run_directory.parent)
        who = f" (pid {run.pid})" if run is not None else ""
        raise OperatorError(
            f"a service{who} already runs on this data. Stop it first, or give this one a "
            "`data_directory` of its own",
            str(run_directory.parent),
        ) from error
    return descriptor


def find_leftovers(run_directory: Path, ours: set[int]) -> list[int]:
    """Pids of workers of a killed supervisor that still live; `ours` are not among them.

    Each worker holds the locks of its `.alive` file; the kernel says who holds one. Files of a
    process that forbids looking into it (PR_SET_DUMPABLE) could not be compared.
    """
    found = []
    for path in run_directory.glob("*.alive"):
        try:
            with path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _holder(path)
            if pid and pid not in ours:
                found.append(pid)
    return found


def _holder(path: Path) -> int:
    """The process that holds the record lock of a file; 0: none does."""
    question = struct.pack(_flock_format, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    with path.open("rb") as file:
        answer = fcntl.fcntl(file, fcntl.F_GETLK, question)
    kind, *_, pid = struct.unpack(_flock_format, answer)
    return 0 if kind == fcntl.F_UNLCK else int(pid)


def kill_leftovers(run_directory: Path, ours: set[int]) -> list[int]:
    """End workers that hang and so never saw their supervisor's end; which they were."""
    killed = find_leftovers(run_directory, ours)
    for pid in killed:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended by itself
    return killed


def write_run_file(
    run_directory: Path, counters: CounterSegment, started: float, version: str
) -> None:
    """How readers find the counters; whole or not there."""
    run = RunFile(os.getpid(), counters.descriptor, started, version)
    path = run_directory / RUN_FILE
    fresh = path.with_suffix(".new")
    try:
        fresh.write_bytes(msgspec.json.encode(run) + b"\n")
        fresh.replace(path)
    except OSError as error:
        raise OperatorError(f"cannot be written: {error.strerror}", str(path)) from error
