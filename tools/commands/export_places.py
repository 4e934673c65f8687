"""Where an export goes: a directory of its own, or one ZIP file. Nothing that is there is changed.

A place is written, sealed (from then on its bytes are on the disk), read back, and published last.
Until then it does not look whole: a directory has no list of its files yet, a ZIP file has another
name. What is discarded leaves nothing behind. All are the user's alone to read.
"""

import contextlib
import os
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from engine.errors import OperatorError
from engine.files.beneath import open_beneath, open_directory
from engine.files.tree import MADE_BY_MKFS, sync_file_system
from engine.limits import MIB, export_zip_files_max
from tools.commands.places import refuse_changeable, refuse_taken

_FILE: Final = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PART: Final = ".part"
_step_bytes: Final = MIB

Pieces = Iterable[bytes | bytearray | memoryview]


def open_place(target: Path, taken: Iterable[str | Path]) -> "DirectoryPlace | ZipPlace":
    """What `--to` names: a ZIP file by its suffix, else a directory. `taken`: directories that are
    the service's own. OperatorError: it cannot be there."""
    kind = ZipPlace if target.suffix.lower() == ".zip" else DirectoryPlace
    try:
        return kind(target, taken)
    except OSError as error:
        raise OperatorError(f"cannot be written to: {error.strerror}", str(target)) from error


def _refuse_full(held: int, file_bytes: int, target: Path) -> None:
    state = os.statvfs(held)
    room = state.f_bavail * state.f_frsize
    if file_bytes > room:
        raise OperatorError(f"{file_bytes} bytes are asked for, {room} are free there", str(target))


class DirectoryPlace:
    """A new directory, or one that is empty: the list of its files, written last, makes it whole.

    It is held by a descriptor, and nobody else may write into it, so its names lead nowhere else.
    """

    def __init__(self, target: Path, taken: Iterable[str | Path]) -> None:
        self._target = target
        self._is_made = False
        with contextlib.suppress(FileExistsError):
            os.mkdir(target, 0o700)
            self._is_made = True
        try:
            self._held = open_directory(target)
        except OSError:
            self._remove_made()
            raise
        try:
            self._check(taken)
        except BaseException:
            os.close(self._held)
            self._remove_made()
            raise

    def _check(self, taken: Iterable[str | Path]) -> None:
        if set(os.listdir(self._held)) - MADE_BY_MKFS:
            raise OperatorError("is not empty: name a new directory", str(self._target))
        refuse_taken(self._held, self._target, taken)
        refuse_changeable(self._target)

    def reserve(self, file_bytes: int) -> None:
        """OperatorError: there is no room for so much."""
        _refuse_full(self._held, file_bytes, self._target)

    def write(self, name: str, pieces: Pieces) -> None:
        """A new file; / stands between the parts of its name."""
        *above, _ = name.split("/")
        for count in range(1, len(above) + 1):
            with contextlib.suppress(FileExistsError):
                os.mkdir("/".join(above[:count]), 0o700, dir_fd=self._held)
        with open(os.open(name, os.O_WRONLY | _FILE, 0o600, dir_fd=self._held), "wb") as file:
            for piece in pieces:
                file.write(piece)

    def seal(self, lists: Mapping[str, BinaryIO]) -> None:
        """What was written is on the disk from here on, or OSError."""
        del lists  # they come last
        sync_file_system(self._held, str(self._target))

    def read(self, name: str) -> Iterator[bytes]:
        """A sealed file, from the disk and not from memory, as far as the kernel lets go of it."""
        with open(open_beneath(self._held, name, os.O_RDONLY), "rb", 0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while data := file.read(_step_bytes):
                yield data

    def publish(self, lists: Mapping[str, BinaryIO]) -> None:
        """It is whole: the lists are there, and on the disk."""
        for name, file in lists.items():
            self.write(name, _from_start(file))
        sync_file_system(self._held, str(self._target))

    def discard(self) -> None:
        """Remove what was written; nobody else could have put anything there."""
        for _, directories, files, held in os.fwalk(".", topdown=False, dir_fd=self._held):
            for name in files:
                os.unlink(name, dir_fd=held)
            for name in set(directories) - MADE_BY_MKFS:
                os.rmdir(name, dir_fd=held)
        self._remove_made()

    def _remove_made(self) -> None:
        if self._is_made:
            with contextlib.suppress(OSError):  # an empty directory harms nobody
                os.rmdir(self._target)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._held)


class ZipPlace:
    """One ZIP file, not compressed: images hardly are. It gets its name when it is whole."""

    def __init__(self, target: Path, taken: Iterable[str | Path]) -> None:
        self._target = target
        self._part = target.name + _PART
        self._written = 0
        self._parent = open_directory(target.parent)
        try:
            refuse_taken(self._parent, target, taken, holds=False)
            if self._is_there(target.name):
                raise OperatorError("is there already: name a new file", str(target))
            self._descriptor = self._made()
        except BaseException:
            os.close(self._parent)
            raise
        self._file = os.fdopen(self._descriptor, "w+b", closefd=False)
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED)

    def _is_there(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _made(self) -> int:
        try:
            return os.open(self._part, os.O_RDWR | _FILE, 0o600, dir_fd=self._parent)
        except FileExistsError as error:
            raise OperatorError(
                f"{self._part} is there: an export to it goes on, or was killed; then remove that",
                str(self._target),
            ) from error

    def reserve(self, file_bytes: int) -> None:
        """OperatorError: there is no room for so much."""
        _refuse_full(self._parent, file_bytes, self._target)

    def write(self, name: str, pieces: Pieces) -> None:
        """A new file in it. OperatorError: there are too many."""
        self._written += 1
        if self._written > export_zip_files_max:
            raise OperatorError(
                f"a ZIP file takes at most {export_zip_files_max} files: name a directory",
                str(self._target),
            )
        info = zipfile.ZipInfo(name, time.localtime()[:6])
        info.external_attr = 0o600 << 16
        with self._zip.open(info, "w", force_zip64=True) as file:
            for piece in pieces:
                file.write(piece)

    def seal(self, lists: Mapping[str, BinaryIO]) -> None:
        """What was written, and the lists, are on the disk from here on, or OSError."""
        for name, file in lists.items():
            self.write(name, _from_start(file))
        self._zip.close()
        self._file.flush()
        os.fsync(self._descriptor)
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        self._zip = zipfile.ZipFile(self._file)

    def read(self, name: str) -> Iterator[bytes]:
        """A sealed file, likewise."""
        with self._zip.open(name) as file:
            while data := file.read(_step_bytes):
                yield data

    def publish(self, lists: Mapping[str, BinaryIO]) -> None:
        """It is whole, and gets its name; what has that name meanwhile stays."""
        del lists  # they are in it
        try:
            os.link(self._part, self._target.name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        except FileExistsError as error:
            raise OperatorError("was made by somebody meanwhile", str(self._target)) from error
        except OSError:  # a file system without hard links, as those of sticks are
            os.rename(
                self._part, self._target.name, src_dir_fd=self._parent, dst_dir_fd=self._parent
            )
        else:
            os.unlink(self._part, dir_fd=self._parent)
        os.fsync(self._parent)

    def discard(self) -> None:
        """Remove it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._part, dir_fd=self._parent)

    def close(self) -> None:
        """Let go of it."""
        with contextlib.suppress(OSError):  # ZipFile writes its directory, even onto a full disk
            self._zip.close()
        with contextlib.suppress(OSError):
            self._file.close()
        os.close(self._descriptor)
        os.close(self._parent)


def _from_start(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while data := file.read(_step_bytes):
        yield data
