"""The supervisor's hold on a data directory: its skeleton, its lock, the file that tells of it."""

import fcntl
import os
from pathlib import Path
from typing import Final

import msgspec

from engine.config import Config
from engine.counters import CounterSegment, RunFile, read_run_file
from engine.errors import OperatorError

RUN_FILE: Final = "supervisor.json"


def make_directories(config: Config) -> None:
    """The directories processes need, for us alone: what lies in them is patient data."""
    data = config.data_path
    names = [entity.table for entity in config.storage_aes()]
    for path in (
        data,
        data / "run",
        *(data / kind / name for kind in ("journal", "incoming") for name in names),
    ):
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OperatorError(
                f"cannot be made: {error.strerror}. Give the service's user the right to write "
                "there, or set another `data_directory`",
                str(path),
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
