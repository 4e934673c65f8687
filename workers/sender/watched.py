"""One watched folder while it is looked at: held by descriptors, whatever happens to its names.

Whoever may write to the folder may rename, link, replace and remove in it at any moment. So nothing
in it is opened by a path: its directories are opened from the folder's own descriptor, over no
link and on its file system alone, and what was claimed is looked at again when it is open. `.taken`
and `rejected` must be ours alone to write in.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Self

from engine import limits
from engine.errors import LocalError, OperatorError
from engine.files.beneath import (
    open_beneath,
    open_directory,
    open_directory_beneath,
    overlap,
    own_directory,
)
from engine.files.tree import STORE_DIRECTORY
from engine.index.environment import INDEX_DIRECTORY
from engine.outbox.files import fresh_name
from engine.outbox.spool import OUTBOX_DIRECTORY

TAKEN: Final = ".taken"
REJECTED: Final = "rejected"
_UNFINISHED: Final = (".part", ".tmp")
_SEPARATOR: Final = "~"
_CLAIMED: Final = re.compile(r"[0-9a-f]{32}\.dcm~", re.ASCII)
_REASON: Final = ".reason.txt"
_name_bytes_max: Final = 255  # of a directory entry, on every Linux file system
# A link laid in its place, a pipe or a socket, a file that is not ours to read.
_CANNOT_BE_OPENED: Final = (errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM, errno.ENODEV)
# Parts of the data that may lie elsewhere, by a link of the operator's.
_PARTS: Final = ("", STORE_DIRECTORY, INDEX_DIRECTORY, OUTBOX_DIRECTORY, "journal", "incoming")


class Stamp(NamedTuple):
    """What a file is like; one that changed is not complete."""

    size: int
    modified_ns: int
    inode: int
    links: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Stamp":
        """Of what the system says."""
        return cls(found.st_size, found.st_mtime_ns, found.st_ino, found.st_nlink)


class Entry(NamedTuple):
    """A file in the folder."""

    directory: str  # relative to the folder; "" for the folder itself
    name: str
    stamp: Stamp

    @property
    def path(self) -> str:
        """Relative to the folder."""
        return f"{self.directory}/{self.name}" if self.directory else self.name


class OpenFolder:
    """A folder for one look, and `.taken` in it. A context manager.

    OperatorError: it overlaps with the data, or what is ours in it is not ours alone.
    """

    def __init__(self, path: Path, data_directory: Path) -> None:
        self._path = path
        self._taken = -1
        self._root = open_directory(path)
        try:
            parts = [data_directory / part for part in _PARTS]
            if met := overlap(self._root, parts):
                raise OperatorError(
                    f"lies in {met}, or holds it: what is stored there would be taken for what is "
                    "to be sent. Give `outgoing_directory` a place of its own",
                    str(path),
                )
            self._taken = own_directory(self._root, TAKEN, str(path))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Once."""
        os.close(self._root)
        if self._taken >= 0:
            os.close(self._taken)

    # --- what lies in it -------------------------------------------------------------------------
    def files(self) -> Iterator[Entry]:
        """Those of a directory, then those below it, each by name; down to a depth, since whoever
        may write here may nest as deep as he likes. What kind an entry is most file systems say in
        the listing, which spares a call for each."""
        directories = [""]
        while directories:
            directory = directories.pop()
            below: list[str] = []
            with suppress(OSError):  # gone, not ours to read, or a link by now
                held = open_directory_beneath(self._root, directory)
                try:
                    yield from self._files_of(held, directory, below)
                finally:
                    os.close(held)
            if directory.count("/") + bool(directory) < limits.folder_depth_max:
                directories += reversed(below)

    def _files_of(self, held: int, directory: str, below: list[str]) -> Iterator[Entry]:
        with os.scandir(held) as listing:
            entries = sorted(listing, key=lambda one: one.name)
        for entry in entries:
            if entry.name.startswith(".") or (not directory and entry.name == REJECTED):
                continue
            if entry.is_dir(follow_symlinks=False):
                below.append(f"{directory}/{entry.name}" if directory else entry.name)
            elif not entry.is_symlink() and not entry.name.lower().endswith(_UNFINISHED):
                with suppress(OSError):  # gone meanwhile
                    stamp = Stamp.of(os.stat(entry.name, dir_fd=held, follow_symlinks=False))
                    yield Entry(directory, entry.name, stamp)

    def claimed(self) -> list[Entry]:
        """What lies in `.taken`, by name. Each has a name that we gave it: another directory of
        ours may have been renamed to this one."""
        names = []
        for name in os.listdir(self._taken):
            if not _CLAIMED.match(name):
                name, given = _fresh(name), name
                os.rename(given, name, src_dir_fd=self._taken, dst_dir_fd=self._taken)
            names.append(name)
        return [Entry(TAKEN, name, self.stamp(name)) for name in sorted(names)]

    def stamp(self, name: str) -> Stamp:
        """Of what was claimed."""
        return Stamp.of(os.stat(name, dir_fd=self._taken, follow_symlinks=False))

    # --- taking ----------------------------------------------------------------------------------
    def claim(self, entry: Entry) -> Entry:
        """From here on the application no longer finds it under its name. What was claimed may be
        another file than was seen."""
        name = _fresh(entry.name)
        held = open_directory_beneath(self._root, entry.directory)
        try:
            os.rename(entry.name, name, src_dir_fd=held, dst_dir_fd=self._taken)
        finally:
            os.close(held)
        return Entry(TAKEN, name, self.stamp(name))

    def open_claimed(self, name: str) -> int:
        """A plain file with no other name. LocalError: it is none, or cannot be read."""
        try:
            descriptor = open_beneath(self._taken, name, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno not in _CANNOT_BE_OPENED:
                raise
            raise LocalError(f"the file cannot be opened: {error.strerror}") from error
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            return descriptor
        os.close(descriptor)
        if stat.S_ISREG(found.st_mode):
            raise LocalError(
                "the file has another name besides (a hard link), under which it may be changed, "
                "or be somebody else's; copy it here"
            )
        raise LocalError("it is no plain file")

    def remove_claimed(self, name: str) -> None:
        """It is queued."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._taken)

    def sync_claimed(self) -> None:
        """The names in `.taken` survive a power cut from here on."""
        os.fsync(self._taken)

    def reject(self, name: str, reason: str) -> None:
        """Move it aside, the reason beside it."""
        rejected = own_directory(self._root, REJECTED, str(self._path))
        try:
            original = name.partition(_SEPARATOR)[2] or name
            stem, number = original, 1
            while _is_there(rejected, stem) or _is_there(rejected, stem + _REASON):
                number += 1
                numbered = os.fsencode(f"{number}-{original}")
                stem = os.fsdecode(numbered[: _name_bytes_max - len(_REASON)])
            text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in reason)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            written = os.open(stem + _REASON, flags, 0o644, dir_fd=rejected)
            with open(written, "w", encoding="utf-8") as file:
                file.write(f"{text}\n")
            os.rename(name, stem, src_dir_fd=self._taken, dst_dir_fd=rejected)
        finally:
            os.close(rejected)


def _fresh(original: str) -> str:
    """A name for what is claimed: that of its copy, and as much of its own as there is room for."""
    prefix = fresh_name() + _SEPARATOR
    room = _name_bytes_max - len(prefix)
    return prefix + os.fsdecode(os.fsencode(original)[-room:])


def copy_name(claimed: str) -> str:
    """The name of the copy of what was claimed, in the outbox."""
    return claimed.partition(_SEPARATOR)[0]


def _is_there(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return True
        raise
    return True
