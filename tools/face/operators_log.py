"""What operators did, and who: a JSON line for each order, in the data directory.

The service need not run when an order is given, so its log cannot have them all. Each line is
durable before the command says that it is done. Names of users and remote AEs, numbers and UIDs;
nothing of a patient, whose corrections have a history of their own in the index.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from engine.files.tree import sync_directory
from engine.limits import operators_log_bytes_max
from tools.face.operator import user
from tools.face.terminal import moment

LOG_NAME: Final = "operators.log"
_EARLIER: Final = "operators.log.1"
LOG_NAMES: Final = (_EARLIER, LOG_NAME)
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


def note_order(data_directory: Path, who: str, order: str, **fields: object) -> None:
    """Keep an order that was carried out. A full log makes room for the next: one is kept."""
    head = {"time": moment(time.time_ns()), "event": "operator_order", "who": who, "order": order}
    line = json.dumps(head | user() | fields).encode("ascii") + b"\n"
    path = data_directory / LOG_NAME
    with _locked(path) as log:
        size = os.fstat(log.fileno()).st_size
        if size == 0:
            _belong_as(data_directory, log.fileno())
        elif os.pread(log.fileno(), 1, size - 1) != b"\n":
            line = b"\n" + line  # a crash cut the last one short
        log.write(line)
        log.flush()
        os.fsync(log.fileno())
        if size + len(line) >= operators_log_bytes_max:
            path.replace(data_directory / _EARLIER)
    if size == 0:
        sync_directory(data_directory)


def orders(data_directory: Path) -> Iterator[dict[str, object]]:
    """Those kept, the oldest first. A line that a crash cut short is left out."""
    for name in (_EARLIER, LOG_NAME):
        try:
            lines = (data_directory / name).read_text("ascii", "replace").splitlines()
        except FileNotFoundError:
            continue
        for line in lines:
            try:
                order = json.loads(line)
            except ValueError:
                continue
            if isinstance(order, dict):
                yield order


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """The log, this process's alone until it is closed: two may write, and one make room."""
    while True:
        with open(os.open(path, _FLAGS, 0o600), "a+b") as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):  # another has just made room
                if os.path.samestat(os.fstat(log.fileno()), os.lstat(path)):
                    yield log
                    return


def _belong_as(data_directory: Path, descriptor: int) -> None:
    """A log that root began is the service's user's to go on with."""
    if os.geteuid() == 0:
        owner = os.stat(data_directory)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
