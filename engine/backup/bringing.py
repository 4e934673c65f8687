"""Bringing a file into a backup, or out of one: by a second name where that will do, else by copy.

A copy has its checksum compared on the way. Nothing is synced here: whoever brings thousands of
files syncs their file system once.
"""

import errno
import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

from engine.limits import MIB
from native import _core

_step_bytes: Final = MIB
_SOURCE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TARGET: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# The names cannot be on one file system, or a file has as many as it may, or is another user's.
_CANNOT_LINK: Final = frozenset(
    {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP}
)


class Copied(NamedTuple):
    """What was read while a file was copied."""

    file_bytes: int
    crc32c: int


def link(source: str, target: str) -> bool:
    """Give a file a second name. False: that cannot be, it has to be copied. OSError: it is not
    there, or is no plain file, or the place cannot be written to."""
    if not stat.S_ISREG(os.lstat(source).st_mode):
        raise OSError(errno.EINVAL, "is no plain file", source)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno in _CANNOT_LINK:
            return False
        raise
    return True


def copy(source: str, target: str) -> Copied:
    """Copy a plain file to a name that is not there. OSError: it cannot be read or written; the
    name it belongs to is its `filename`."""
    descriptor = os.open(source, _SOURCE)
    try:
        return _copy(descriptor, source, target)
    finally:
        os.close(descriptor)


def _copy(descriptor: int, source: str, target: str) -> Copied:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "is no plain file", source)
    crc32c = at = 0
    with open(os.open(target, _TARGET, 0o600), "wb", 0) as file:
        while data := _read(descriptor, at, source):
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            crc32c = _core.crc32c(data, crc32c)
            at += len(data)
    return Copied(at, crc32c)


def _read(descriptor: int, at: int, source: str) -> bytes:
    try:
        return os.pread(descriptor, _step_bytes, at)
    except OSError as error:
        raise OSError(error.errno, error.strerror, source) from error


def take_back(directory: Path) -> None:
    """Remove a directory of ours with all that was brought into it."""
    for _, directories, files, held in os.fwalk(directory, topdown=False):
        for name in files:
            os.unlink(name, dir_fd=held)
        for name in directories:
            os.rmdir(name, dir_fd=held)
    directory.rmdir()
