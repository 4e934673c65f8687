"""Paths that somebody else may change while we walk them: opened step by step, held once checked.

What was looked at by its name and is then opened by its name may be another file by then. So each
directory is held by a descriptor, whatever lies in it is opened relative to that, and no symbolic
link is followed on the way (openat2(2) with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and
RESOLVE_NO_XDEV; where the kernel lacks it, one component after another with O_NOFOLLOW). Where
links are an operator's own, above a watched folder, they are followed if root or we laid them where
nobody else could have.
"""

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from engine.errors import OperatorError

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STEP: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_SYS_OPENAT2: Final = 437  # the same number on every architecture
_HOW: Final = struct.Struct("=QQQ")  # struct open_how: flags, mode, resolve
_RESOLVE: Final = 0x01 | 0x04 | 0x08  # NO_XDEV, NO_SYMLINKS (which magic links are too), BENEATH
_LINKS_MAX: Final = 40  # as the kernel's own bound
_RACES_MAX: Final = 64  # openat2 says EAGAIN where something was renamed under its walk
_GROUP_OR_OTHERS_WRITE: Final = 0o022


def open_directory(path: str | Path) -> int:
    """A directory by a path from the root, as a descriptor that its caller closes.

    OperatorError: a symbolic link on the way is neither root's nor ours, or lies where somebody
    else could put another. OSError: it is not there, or no directory.
    """
    steps = [*reversed(Path(os.path.abspath(path)).parts[1:])]
    links = 0
    held = os.open("/", _STEP | os.O_DIRECTORY)
    try:
        while steps:
            step = steps.pop()
            found = os.open(step, _STEP, dir_fd=held)
            if stat.S_ISLNK(os.fstat(found).st_mode):
                try:
                    target = _trusted_target(held, found, step, path)
                finally:
                    os.close(found)
                links += 1
                if links > _LINKS_MAX:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                parts = Path(target).parts
                if parts[:1] == ("/",):
                    found = os.open("/", _STEP | os.O_DIRECTORY)
                    parts = parts[1:]
                else:
                    found = os.open(".", _STEP | os.O_DIRECTORY, dir_fd=held)
                steps += reversed(parts)
            os.close(held)
            held = found
        return os.open(".", _DIRECTORY, dir_fd=held)
    finally:
        os.close(held)


def _trusted_target(held: int, link: int, name: str, path: str | Path) -> str:
    """Where a link leads that nobody but root or ourselves can have laid."""
    around, itself = os.fstat(held), os.fstat(link)
    trusted = (0, os.geteuid())
    open_to_others = around.st_mode & _GROUP_OR_OTHERS_WRITE and not around.st_mode & stat.S_ISVTX
    if itself.st_uid not in trusted or around.st_uid not in trusted or open_to_others:
        raise OperatorError(
            f"leads over a symbolic link, {name!a}, that somebody else may have laid: name "
            "the directory itself",
            str(path),
        )
    return os.readlink("", dir_fd=link)


def open_beneath(directory: int, relative: str, flags: int) -> int:
    """Open what lies below a directory that is held, on its file system, over no symbolic link.

    OSError: ELOOP where a link is in the way, EXDEV where another file system is.
    """
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    if not _has_openat2():
        return _open_stepwise(directory, relative, flags)
    for _ in range(_RACES_MAX):
        opened, code = _openat2(directory, relative, flags)
        if opened >= 0:
            return opened
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(code, os.strerror(code))


def open_directory_beneath(directory: int, relative: str) -> int:
    """Likewise, a directory; "" is the one that is held, as a descriptor of its own."""
    return open_beneath(directory, relative or ".", _DIRECTORY)


def _openat2(directory: int, relative: str, flags: int) -> tuple[int, int]:
    """(descriptor or -1, errno)"""
    how = ctypes.create_string_buffer(_HOW.pack(flags, 0, _RESOLVE), _HOW.size)
    name = os.fsencode(relative)
    opened = _library().syscall(
        ctypes.c_long(_SYS_OPENAT2),
        ctypes.c_int(directory),
        ctypes.c_char_p(name),
        ctypes.byref(how),
        ctypes.c_size_t(_HOW.size),
    )
    return int(opened), ctypes.get_errno()


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library


@cache
def _has_openat2() -> bool:
    """From Linux 5.6 on; filters of containers that do not know it say EPERM."""
    held = os.open("/", _STEP | os.O_DIRECTORY)
    try:
        opened, _ = _openat2(held, ".", _STEP | os.O_DIRECTORY)
    finally:
        os.close(held)
    if opened >= 0:
        os.close(opened)
    return opened >= 0


def _open_stepwise(directory: int, relative: str, flags: int) -> int:
    *above, last = relative.split("/")
    device = os.fstat(directory).st_dev
    held = os.dup(directory)
    try:
        for step in above:
            if step in ("", ".", ".."):
                raise OSError(errno.EXDEV, "leaves the directory")
            found = os.open(step, _STEP | os.O_DIRECTORY, dir_fd=held)
            os.close(held)
            held = found
            if os.fstat(held).st_dev != device:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        if last in ("", ".."):
            raise OSError(errno.EXDEV, "leaves the directory")
        opened = os.open(last, flags, dir_fd=held)
    finally:
        os.close(held)
    if os.fstat(opened).st_dev != device:
        os.close(opened)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    return opened


def own_directory(parent: int, name: str, where: str) -> int:
    """A directory of ours in one that others may change, made if it is not there.

    OperatorError: what has this name is not ours alone to write in. Its owner and mode are those of
    the very directory that the descriptor holds, so it is asked for again at each use.
    """
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    try:
        held = open_directory_beneath(parent, name)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR, errno.EXDEV, errno.EACCES):
            raise
        raise OperatorError(_not_ours(name, error.strerror or ""), where) from error
    found = os.fstat(held)
    if found.st_uid != os.geteuid() or found.st_mode & _GROUP_OR_OTHERS_WRITE:
        os.close(held)
        owner = f"its owner is {found.st_uid}, its mode {stat.S_IMODE(found.st_mode):04o}"
        raise OperatorError(_not_ours(name, owner), where)
    return held


def _not_ours(name: str, why: str) -> str:
    return (
        f"{name}/ in it is not ours alone ({why}): somebody has put it there. Move it away; the "
        "service makes its own"
    )


def identity(descriptor: int) -> tuple[int, int]:
    """What tells a directory from every other, whatever it is called."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def overlap(directory: int, others: Iterable[str | Path], holds: bool = True) -> str:
    """Which of some directories a held one is, lies in, or (if that counts) `holds`; "" for none of
    them."""
    itself = identity(directory)
    around = set(_upwards(directory))
    for other in others:
        try:
            held = os.open(other, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue  # what is not there overlaps with nothing
        try:
            if identity(held) in around or (holds and itself in _upwards(held)):
                return str(other)
        finally:
            os.close(held)
    return ""


def _upwards(descriptor: int) -> Iterator[tuple[int, int]]:
    """A directory and all that it lies in, up to the root or to where we may not go on."""
    held = os.dup(descriptor)
    try:
        while True:
            here = identity(held)
            yield here
            try:
                above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=held)
            except OSError:
                return
            os.close(held)
            held = above
            if identity(held) == here:
                return
    finally:
        os.close(held)
