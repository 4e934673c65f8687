"""Watched folders: what local applications put there is queued for the folder's remote AE.

    FOLDER/any.dcm  ->  FOLDER/.taken/NAME~any.dcm  ->  the outbox, and gone from the folder
                                                    ->  FOLDER/rejected/any.dcm and .reason.txt

A file is taken when it is complete: when nothing changed it for two seconds. It is claimed by a
rename, copied into the outbox, examined there where nobody else reaches it, made durable, and
queued in a transaction that also notes its name; only then it is removed. So a crash at any moment
neither loses it nor queues it twice: what still lies in `.taken` is looked up by its name. Files
whose names begin with a dot or end in .part or .tmp are left alone, and so are symbolic links. What
is no plain file, or has a second name, is set aside. How a folder is opened that others may change
meanwhile is in `watched.py`.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from engine import limits
from engine.errors import LocalError, OperatorError
from engine.outbox.files import (
    Examined,
    copy_from,
    examine,
    examine_open,
    fresh_name,
    make_outbox,
    sync_copies,
)
from engine.outbox.outbox import Outbox
from engine.outbox.spool import spooled_path
from engine.outbox.writer import OutboxWriter
from engine.outgoing.outgoing import CannotSend, Taken
from engine.settings.send import FOLDER
from workers.sender.watched import REJECTED, TAKEN, Entry, OpenFolder, Stamp, copy_name

__all__ = ["REJECTED", "TAKEN", "Folder", "FolderWatch", "Turn"]


class Folder(NamedTuple):
    """A folder, and the remote AE it belongs to."""

    destination: str
    path: Path
    taken: Taken  # by the remote AE, beyond the statement's


class Turn(NamedTuple):
    """What one look at a folder came to. Reasons are ours: no name of a file stands in them."""

    collected: int
    rejected: list[str]
    fault: Exception | None = None  # of what could not be taken or set aside; the rest was


class _Seen(NamedTuple):
    """A file as it was when it was last looked at, and since when it has been so."""

    stamp: Stamp
    since: float


class FolderWatch:
    """All folders of one sender. One thread's own."""

    def __init__(self, data_directory: Path, writer: Callable[[], OutboxWriter]) -> None:
        self._data_directory = data_directory
        self._writer = writer
        self._seen: dict[Path, dict[str, _Seen]] = {}  # by folder, then by the path in it
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
        """Take what is complete. OSError, OperatorError and LMDB's errors: the rest is taken
        another time."""
        with OpenFolder(folder.path, self._data_directory) as opened:
            make_outbox(self._data_directory)
            if folder.path not in self._known:
                self._forget_left(folder.path, opened)
                self._known.add(folder.path)
            began_s = time.thread_time()
            claimed, complete = self._complete(folder.path, opened)
            took_s = time.thread_time() - began_s
            claimed, faults = self._claim(folder.path, opened, claimed, complete)
            pause_s = (
                0.0 if claimed else min(took_s / limits.folder_share, limits.folder_poll_s_max)
            )
            self._due[folder.path] = time.monotonic() + pause_s
            if not claimed:
                return Turn(0, [], next(iter(faults), None))
            collected, rejected = self._bring(folder, opened, claimed, faults)
            return Turn(collected, rejected, next(iter(faults), None))

    def _forget_left(self, root: Path, opened: OpenFolder) -> None:
        """Notes that a predecessor had not yet forgotten when it ended: of files that are gone."""
        writer = self._writer()
        with writer.view() as outbox:
            noted = outbox.taken_from(os.fsencode(root))
        if not noted:
            return
        opened.sync_claimed()  # before it is believed that they are gone
        present = {copy_name(entry.name) for entry in opened.claimed()}
        gone = [name for name in noted if name not in present]
        for start in range(0, len(gone), limits.outbox_portion_max):
            portion = gone[start : start + limits.outbox_portion_max]
            writer.commit(partial(Outbox.forget_taken, files=portion))

    # --- what is complete ----------------------------------------------------------------------
    def _complete(self, root: Path, opened: OpenFolder) -> tuple[list[str], list[Entry]]:
        """The names of what was claimed before, and what else there is."""
        before = self._seen.get(root, {})
        self._seen[root] = {}
        claimed = [
            entry.name for entry in opened.claimed() if self._is_complete(root, entry, before)
        ]
        complete = [entry for entry in opened.files() if self._is_complete(root, entry, before)]
        return claimed, complete

    def _is_complete(self, root: Path, entry: Entry, before: dict[str, _Seen]) -> bool:
        now = time.monotonic()
        seen = before.get(entry.path)
        if seen is None or seen.stamp != entry.stamp:
            seen = _Seen(entry.stamp, now)
        self._seen[root][entry.path] = seen
        quiet_s = now - seen.since
        if entry.stamp.links == 1:
            # One that was complete before it was moved here need not wait.
            quiet_s = max(quiet_s, time.time() - entry.stamp.modified_ns / 1e9)
        return quiet_s >= limits.folder_quiet_s

    def _claim(
        self, root: Path, opened: OpenFolder, claimed: list[str], complete: list[Entry]
    ) -> tuple[list[str], list[Exception]]:
        """What is claimed by now, and why others could not be: one that cannot be does not keep
        the rest. What came in the place of what was seen waits until it is complete itself."""
        faults: list[Exception] = []
        for entry in complete:
            if len(claimed) >= limits.folder_files_per_turn:
                break
            try:
                found = opened.claim(entry)
            except FileNotFoundError:
                continue  # its owner took it back
            except OSError as error:
                faults.append(error)
                continue
            seen = self._seen[root].pop(entry.path)
            self._seen[root][found.path] = seen
            if found.stamp == seen.stamp or self._is_complete(root, found, self._seen[root]):
                claimed.append(found.name)
        return claimed, faults

    # --- into the outbox -----------------------------------------------------------------------
    def _bring(
        self, folder: Folder, opened: OpenFolder, claimed: list[str], faults: list[Exception]
    ) -> tuple[int, list[str]]:
        writer = self._writer()
        with writer.view() as outbox:
            queued = {name for name in claimed if outbox.was_taken(copy_name(name))}
        found: dict[str, Examined] = {}
        refused: dict[str, str] = {}
        done = []
        for name in claimed:
            if name not in queued:
                try:
                    examined = self._copy(folder, opened, name)
                except CannotSend as error:
                    refused[name] = error.reason
                    continue
                except LocalError as error:
                    refused[name] = error.comment
                    continue
                if examined is None:
                    continue
                found[copy_name(name)] = examined
            done.append(name)
        rejected = _set_aside(opened, refused, faults)
        if found:
            # A claim that a power cut undid would be queued again under another name.
            opened.sync_claimed()
            sync_copies(self._data_directory)
        if found or self._removed:
            self._queue(writer, folder, found)
        elif queued:
            writer.sync()  # theirs may have failed, or whoever queued them died before it
        unlinked = self._unlinked.setdefault(folder.path, [])
        for name in done:
            opened.remove_claimed(name)
            unlinked.append(copy_name(name))
        opened.sync_claimed()
        self._removed += self._unlinked.pop(folder.path)
        return len(found), rejected

    def _copy(self, folder: Folder, opened: OpenFolder, name: str) -> Examined | None:
        """What lies in the outbox now, where nobody changes it. None: somebody goes on writing.

        CannotSend, LocalError: it is set aside, and no copy is left.
        """
        descriptor = opened.open_claimed(name)
        try:
            before = Stamp.of(os.fstat(descriptor))
            # So that what is no image at all is not copied first, however long it is.
            examine_open(descriptor, [folder.taken])
            fresh = fresh_name()
            target = spooled_path(self._data_directory, copy_name(name))
            # One from before a crash, or whose sync failed: the disk may lack what the kernel takes
            # for clean, and another sync would not say so. So its bytes are written anew.
            again = target.exists()
            copy_from(descriptor, self._data_directory, fresh, through_memory=again)
            copy = spooled_path(self._data_directory, fresh)
            try:
                if Stamp.of(os.fstat(descriptor)) != before:
                    copy.unlink()
                    return None
                examined = examine(copy, [folder.taken])
                copy.replace(target)
            except BaseException:
                with suppress(FileNotFoundError):
                    copy.unlink()
                raise
            return examined
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


def _set_aside(opened: OpenFolder, refused: dict[str, str], faults: list[Exception]) -> list[str]:
    """Why, of those that could be. What cannot be set aside waits, and does not keep the rest."""
    rejected = []
    for name, reason in refused.items():
        try:
            opened.reject(name, reason)
        except OperatorError as error:
            faults.append(error)
        else:
            rejected.append(reason)
    return rejected
