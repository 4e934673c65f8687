"""Requests to the one process that may write, left in a directory, and its answers.

Whoever may not write the index leaves a request and waits for its answer; the indexer looks every
second. A request is whole when it has its name, and stays until it was answered, so it outlives a
crash of either side. Names sort by the time at which the requests were left. Reads the clock.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from engine.errors import OperatorError

_REQUEST_SUFFIX: Final = ".request.json"
_RESULT_SUFFIX: Final = ".result.json"
_old_s: Final = 3600.0  # a result nobody fetched
_look_s: Final = 0.05


def leave(directory: Path, content: bytes) -> Path:
    """Ask; the path is what answer_to() wants."""
    _make(directory)
    request = directory / f"{time.time_ns():016x}-{os.getpid()}{_REQUEST_SUFFIX}"
    fresh = request.with_suffix(".new")
    # The directory is the service's user's, who may have put anything there.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(fresh, flags, 0o600), "wb") as file:
        _give(file.fileno(), directory.parent)
        file.write(content)
    fresh.replace(request)
    return request


def _give(descriptor: int, to_owner_of: Path) -> None:
    """What root asks for, the service's own user has to read."""
    if os.geteuid() == 0:
        owner = os.stat(to_owner_of)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _make(directory: Path) -> None:
    """The directory of a letterbox."""
    if directory.is_dir():
        return
    directory.mkdir(mode=0o700, exist_ok=True)
    # Not by its name: the service's user could have put a link there by now.
    held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _give(held, directory.parent)
    finally:
        os.close(held)


def name_of(request: Path) -> str:
    """What no other request of this letterbox is called."""
    return request.name.removesuffix(_REQUEST_SUFFIX)


def answer_to(request: Path, goes_on: Callable[[], bool], whose: str) -> bytes:
    """The answer, as soon as there is one. When `goes_on` says no, the request is withdrawn and
    OperatorError says that the indexer did not take up `whose` request."""
    result = request.with_name(name_of(request) + _RESULT_SUFFIX)
    while True:
        try:
            content = result.read_bytes()
        except FileNotFoundError:
            if not goes_on():
                break
            time.sleep(_look_s)
            continue
        result.unlink()
        return content
    request.unlink(missing_ok=True)
    raise OperatorError(f"the indexer did not take up {whose}; is the service in trouble?")


def within(seconds: float) -> Callable[[], bool]:
    """Whether so much time has not passed since now."""
    deadline = time.monotonic() + seconds
    return lambda: time.monotonic() < deadline


def waiting(directory: Path) -> list[Path]:
    """The requests without an answer, the oldest first. What nobody fetched or finished is
    removed after an hour."""
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    for name in names:
        if not name.endswith(_REQUEST_SUFFIX):
            with suppress(FileNotFoundError):
                if time.time() - (directory / name).stat().st_mtime > _old_s:
                    (directory / name).unlink()
    return [directory / name for name in names if name.endswith(_REQUEST_SUFFIX)]


def answer(request: Path, content: bytes) -> None:
    """The request is done with. After a crash in between it is answered again."""
    fresh = request.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(request.with_name(name_of(request) + _RESULT_SUFFIX))
    request.unlink(missing_ok=True)
