"""Watched folders: what local applications put there is queued for the folder's remote AE.

    FOLDER/any.dcm  ->  FOLDER/.taken/NAME~any.dcm  ->  the outbox, and gone from the folder
                                                    ->  FOLDER/rejected/any.dcm and .reason.txt

A file is taken when it is complete: when nothing changed it for two seconds. It is claimed by a
rename, made durable in the outbox, and queued in a transaction that also notes its name; only then
it is removed. So a crash at any moment neither loses it nor queues it twice: what still lies in
`.taken` is looked up by its name. Files whose names begin with a dot or end in .part or .tmp are
left alone, and so is whatever is no plain file.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from engine import limits
from engine.errors import LocalError
from engine.files.tree import sync_directory
from engine.outbox.files import Examined, copy_in, examine, fresh_name, make_outbox, sync_copies
from engine.outbox.outbox import Outbox
from engine.outbox.spool import spooled_path
from engine.outbox.writer import OutboxWriter
from engine.outgoing.outgoing import CannotSend
from engine.settings.send import FOLDER

TAKEN: Final = ".taken"
REJECTED: Final = "rejected"
_UNFINISHED: Final = (".part", ".tmp")
_SEPARATOR: Final = "~"
# Another file system, one without links, or a file that is not ours to link.
_NO_LINK: Final = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP)
_name_bytes_max: Final = 255  # of a directory entry, on every Linux file system


class Folder(NamedTuple):
    """A folder, and the remote AE it belongs to."""

    destination: str
    path: Path
    transfer_syntaxes: tuple[str, ...]  # that the remote AE takes beyond the statement's


class Turn(NamedTuple):
    """What one look at a folder came to. Reasons are ours: no name of a file stands in them."""

    collected: int
    rejected: list[str]


class _Seen(NamedTuple):
    """A file as it was when it was last looked at, and since when it has been so."""

    size: int
    modified_ns: int
    inode: int
    since: float


class FolderWatch:
    """All folders of one sender. One thread's own."""

    def __init__(self, data_directory: Path, writer: Callable[[], OutboxWriter]) -> None:
        self._data_directory = data_directory
        self._writer = writer
        self._seen: dict[Path, dict[str, _Seen]] = {}  # by folder
        self._due: dict[Path, float] = {}
        # Notes in the outbox that are no longer needed, until a commit has forgotten them; and
        # those of files that are removed, by folder, until that is durable.
        self._removed: list[str] = []
        self._unlinked: dict[Path, list[str]] = {}
        self._known: set[Path] = set()  # folders whose notes of before have been looked at

    def is_due(self, folder: Folder) -> bool:
        """Whether to look again: the more lies there that is not complete, the more rarely."""
        return time.monotonic() >= self._due.get(folder.path, 0.0)

    def look(self, folder: Folder) -> Turn:
        """Take what is complete. OSError and LMDB's errors: the rest is taken another time."""
        taken = folder.path / TAKEN
        if not taken.is_dir():
            taken.mkdir(mode=0o700)
        make_outbox(self._data_directory)
        if folder.path not in self._known:
            self._forget_left(folder.path, taken)
            self._known.add(folder.path)
        claimed = [Path(entry) for entry in sorted(os.scandir(taken), key=lambda one: one.name)]
        began_s = time.thread_time()
        complete = self._complete(folder.path)
        took_s = time.thread_time() - began_s
        for path in complete[: max(0, limits.folder_files_per_turn - len(claimed))]:
            claimed.append(self._claim(folder.path, path, taken))
        pause_s = 0.0 if claimed else min(took_s / limits.folder_share, limits.folder_poll_s_max)
        self._due[folder.path] = time.monotonic() + pause_s
        if not claimed:
            return Turn(0, [])
        return self._bring(folder, claimed)

    def _forget_left(self, root: Path, taken: Path) -> None:
        """Notes that a predecessor had not yet forgotten when it ended: of files that are gone."""
        writer = self._writer()
        with writer.view() as outbox:
            noted = outbox.taken_from(os.fsencode(root))
        if not noted:
            return
        sync_directory(taken)  # before it is believed that they are gone
        present = {_copy_name(path) for path in taken.iterdir()}
        gone = [name for name in noted if name not in present]
        for start in range(0, len(gone), limits.outbox_portion_max):
            portion = gone[start : start + limits.outbox_portion_max]
            writer.commit(partial(Outbox.forget_taken, files=portion))

    # --- what is complete ----------------------------------------------------------------------
    def _complete(self, root: Path) -> list[Path]:
        now, today = time.monotonic(), time.time()
        before = self._seen.get(root, {})
        present: dict[str, _Seen] = {}
        complete = []
        for entry in _files(str(root)):
            with suppress(FileNotFoundError):
                state = entry.stat(follow_symlinks=False)
                seen = before.get(entry.path)
                found = state.st_size, state.st_mtime_ns, state.st_ino
                if seen is None or seen[:3] != found:
                    seen = _Seen(*found, now)
                present[entry.path] = seen
                # One that was complete before it was moved here need not wait.
                if max(now - seen.since, today - state.st_mtime) >= limits.folder_quiet_s:
                    complete.append(Path(entry.path))
        self._seen[root] = present
        return complete

    def _claim(self, root: Path, path: Path, taken: Path) -> Path:
        """From here on the application no longer finds it under its name."""
        self._seen[root].pop(str(path), None)
        name = fresh_name() + _SEPARATOR
        room = _name_bytes_max - len(name)
        original = os.fsdecode(os.fsencode(path.name)[-room:])
        return path.rename(taken / (name + original))

    # --- into the outbox -----------------------------------------------------------------------
    def _bring(self, folder: Folder, claimed: list[Path]) -> Turn:
        writer = self._writer()
        with writer.view() as outbox:
            queued = {path for path in claimed if outbox.was_taken(_copy_name(path))}
        found: dict[str, Examined] = {}
        rejected = []
        for path in claimed:
            if path in queued:
                continue
            try:
                examined = examine(path, [folder.transfer_syntaxes])
            except CannotSend as error:
                rejected.append(_reject(folder.path, path, error.reason))
            except LocalError as error:
                rejected.append(_reject(folder.path, path, error.comment))
            else:
                self._copy(path)
                found[_copy_name(path)] = examined
        if found:
            # A claim that a power cut undid would be queued again under another name.
            sync_directory(folder.path / TAKEN)
            sync_copies(self._data_directory)
        if found or self._removed:
            self._queue(writer, folder, found)
        unlinked = self._unlinked.setdefault(folder.path, [])
        for path in claimed:
            path.unlink(missing_ok=True)
            if path in queued or _copy_name(path) in found:
                unlinked.append(_copy_name(path))
        sync_directory(folder.path / TAKEN)
        self._removed += self._unlinked.pop(folder.path)
        return Turn(len(found), rejected)

    def _copy(self, path: Path) -> None:
        """The very file where both lie on one file system: nobody can reach it by a name."""
        target = spooled_path(self._data_directory, _copy_name(path))
        if target.exists():
            # From before a crash, or its sync failed: the disk may lack what the kernel takes for
            # clean, and another sync would not say so. So its bytes are written anew.
            fresh = fresh_name()
            copy_in(path, self._data_directory, fresh, through_memory=True)
            spooled_path(self._data_directory, fresh).replace(target)
            return
        try:
            os.link(path, target, follow_symlinks=False)
            os.utime(target)  # its age as a copy counts from now
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            target.unlink(missing_ok=True)
            copy_in(path, self._data_directory, target.name)
            return
        descriptor = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _queue(
        self,
        writer: OutboxWriter,
        folder: Folder,
        found: dict[str, Examined],
    ) -> None:
        now_ns, root = time.time_ns(), os.fsencode(folder.path)
        removed = list(self._removed)

        def work(outbox: Outbox) -> None:
            outbox.forget_taken(removed)
            for name, examined in found.items():
                outbox.enqueue(examined.delivery(folder.destination, FOLDER, name), now_ns)
                outbox.note_taken(name, root)

        writer.commit(work)
        del self._removed[: len(removed)]  # not before: a commit that failed has forgotten nothing
        writer.sync()  # the files are removed next


def _files(root: str) -> Iterator["os.DirEntry[str]"]:
    """Those of a directory, then those below it, each by name. What kind an entry is most file
    systems say in the listing, which spares a call for each."""
    directories = [root]
    aside = os.path.join(root, REJECTED)
    while directories:
        below = []
        with suppress(OSError), os.scandir(directories.pop()) as listing:  # gone, or not ours
            for entry in sorted(listing, key=lambda one: one.name):
                if entry.name.startswith(".") or entry.path == aside:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
                elif entry.is_file(follow_symlinks=False) and not _is_unfinished(entry.name):
                    yield entry
        directories += reversed(below)


def _is_unfinished(name: str) -> bool:
    return name.lower().endswith(_UNFINISHED)


def _copy_name(claimed: Path) -> str:
    return claimed.name.partition(_SEPARATOR)[0]


def _reject(root: Path, claimed: Path, reason: str) -> str:
    """Move it aside, the reason beside it."""
    directory = root / REJECTED
    directory.mkdir(mode=0o700, exist_ok=True)
    original = claimed.name.partition(_SEPARATOR)[2] or claimed.name
    stem = original
    number = 1
    while os.path.lexists(directory / stem) or os.path.lexists(_reason_file(directory, stem)):
        number += 1
        stem = f"{number}-{original}"
        stem = os.fsdecode(os.fsencode(stem)[: _name_bytes_max - len(".reason.txt")])
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in reason)
    _reason_file(directory, stem).write_text(f"{text}\n", encoding="utf-8")
    claimed.rename(directory / stem)
    return reason


def _reason_file(directory: Path, name: str) -> Path:
    return directory / f"{name}.reason.txt"
