"""The tree of stored files: where an instance lies, how it gets there, how it goes.

    store/<2 hex digits of the study's digest>/<study>/<series>/<sop instance>.dcm

A person can walk it with nothing but the UIDs in hand (find store -name '<StudyInstanceUID>'). A
copied study folder is a whole study. 256 first-level folders keep each listing short with millions
of instances. Patients are left out on purpose: names and identifiers in paths would be in
every backup log, and a correction would have to move files.

A UID that came from a peer is a name here only if it has nothing but digits and dots and the length
the standard allows. Any other becomes "x-" and a digest, so "../", NUL or 300 characters never
reach the file system. Everything is readable by the service's user alone.

Large instances are linked, not moved, from incoming/: until the checkpoint the bytes can be reached
from there, so that placing may be repeated after a crash however far it came.
"""

import ctypes
import errno
import hashlib
import os
import re
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

from engine.limits import uid_characters_max

STORE_DIRECTORY: Final = "store"
SET_ASIDE_DIRECTORY: Final = "set_aside"  # what is kept and not taken for stored
FILE_SUFFIX: Final = ".dcm"
MADE_BY_MKFS: Final = frozenset({"lost+found"})  # what an empty file system has
# Of a file that is being put in another's place; the native side uses the same.
REPLACEMENT_SUFFIX: Final = ".new"

_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_DIRECTORY_MODE: Final = 0o700
# Directories known to exist: far more than are written to at a time, far less than there are.
_directories_known_max: Final = 4096


def component(uid: str) -> str:
    """A UID as a file name."""
    if len(uid) <= uid_characters_max and _UID.fullmatch(uid):
        return uid
    digest = hashlib.blake2b(uid.encode("utf-8", "surrogatepass"), digest_size=16)
    return "x-" + digest.hexdigest()


@lru_cache(maxsize=1024)
def series_path(study_uid: str, series_uid: str) -> str:
    """Relative to the tree's root."""
    shard = hashlib.blake2b(study_uid.encode("utf-8", "surrogatepass"), digest_size=1).hexdigest()
    return f"{shard}/{component(study_uid)}/{component(series_uid)}"


def instance_path(study_uid: str, series_uid: str, sop_instance_uid: str, mark: str = "") -> str:
    """Relative to the tree's root. `mark`: of a patient whose instance has UIDs that are another
    patient's as well, and whose file has that name."""
    name = component(sop_instance_uid) + (f"-{mark}" if mark else "")
    return f"{series_path(study_uid, series_uid)}/{name}{FILE_SUFFIX}"


class StoreTree:
    """The tree under one root. One process writes; anyone with the right may read."""

    def __init__(self, data_directory: Path, directory: str = STORE_DIRECTORY) -> None:
        self.root = data_directory / directory
        self._directories: set[str] = set()
        self._descriptor = -1  # what the file system's errors are told to

    def absolute(self, relative: str) -> str:
        return f"{self.root}/{relative}"

    def prepare(self, relative: str) -> str:
        """The absolute path; its directory exists."""
        directory = relative.rpartition("/")[0]
        if directory not in self._directories:
            os.makedirs(self.absolute(directory), mode=_DIRECTORY_MODE, exist_ok=True)
            if len(self._directories) >= _directories_known_max:
                self._directories.clear()
            self._directories.add(directory)
        return self.absolute(relative)

    def forget_directories(self) -> None:
        """After an error: somebody may have removed a directory under our hands."""
        self._directories.clear()

    def place(self, source: str, relative: str) -> None:
        """Give the file at `source` its final name, in the place of what has it now."""
        target = self.prepare(relative)
        try:
            os.link(source, target)
            return
        except FileExistsError:
            if os.path.samefile(source, target):
                return
        replacement = target + REPLACEMENT_SUFFIX
        with suppress(FileNotFoundError):
            os.unlink(replacement)
        os.link(source, replacement)
        os.replace(replacement, target)

    def size(self, relative: str) -> int | None:
        """The file's size, None when there is none."""
        try:
            return os.stat(self.absolute(relative), follow_symlinks=False).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def remove(self, relative: str) -> None:
        """Remove a file, if it is there, and the folders it leaves empty."""
        path = self.absolute(relative)
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)
        directory = relative.rpartition("/")[0]
        while directory.count("/") >= 1:
            self._directories.discard(directory)
            try:
                os.rmdir(self.absolute(directory))
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                    return
                raise
            directory = directory.rpartition("/")[0]

    def begin(self) -> None:
        """From here on every write that fails is told by `sync`, by whomever it was made.

        The kernel tells each open descriptor once of what failed since it was opened: one that was
        opened for the sync would not hear of what another had been told before.
        """
        if self._descriptor < 0:
            self.root.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
            self._descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def sync(self) -> None:
        """Every file and directory placed since `begin` survives a power cut from here on.

        On an error nothing that was placed since the last success may be believed: it is placed
        again (docs/decisions/0024-a-failed-sync-is-not-believed.md).
        """
        self.begin()
        sync_file_system(self._descriptor, str(self.root))

    def close(self) -> None:
        """Give the descriptor back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def sync_directory(path: Path) -> None:
    """The names in a directory survive a power cut from here on."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(descriptor: int, path: str) -> None:
    """syncfs(2), which Python has no name for: one call for thousands of files, and it reports
    the file system's write errors since the descriptor was opened (from Linux 5.8 on), which
    sync(2) does not."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.syncfs(ctypes.c_int(descriptor)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
