"""Making a backup, while the service receives, sends and forgets.

What waits in the outbox is brought first, since it goes when it is delivered. Then comes the index:
one state of it. Then each instance of that state gets its file. What changed meanwhile is settled
at the end. All of it is on the disk before the backup gets its name, which is what the clock says.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from engine.backup.bringing import copy, take_back
from engine.backup.catalogue import (
    PART_SUFFIX,
    Description,
    describe,
    fresh_name,
    index_crc32c,
    newest,
    unfinished,
)
from engine.backup.files import Brought, Files, copy_index
from engine.backup.settling import Settling
from engine.errors import OperatorError
from engine.files.tree import sync_directory, sync_file_system
from engine.index.environment import INDEX_DIRECTORY, IndexReader, open_index_reader
from engine.index.freshness import catch_up
from engine.index.writer import LOCK_FILE

_LOCK: Final = ".lock"
_LOCKS: Final = (LOCK_FILE, "lock.mdb")  # LMDB's, and ours: of a process, not of the data
# Under a full load the index is seconds behind; after a crash it may be a minute.
_index_wait_s: Final = 600.0


class Made(NamedTuple):
    """A backup, and what it says of itself."""

    directory: Path
    description: Description


def make_backup(
    data_directory: Path,
    reader: IndexReader,
    directory: Path,
    release: str,
    index_only: bool = False,
    step: Callable[[int], None] = lambda done: None,
    besides: Sequence[str] = (),
) -> Made:
    """A backup of a data directory, in a directory of backups. `step` is told how many instances
    more have their file. `besides`: names of other files in the data directory that belong to it.

    OperatorError: another is being made there, or the index does not catch up. OSError: the place
    cannot be written. Either way nothing is left there but the backups before.
    """
    began_ns = time.time_ns()
    if not catch_up(data_directory, _index_wait_s):
        raise OperatorError(
            "the index does not catch up with what is received: see scai status",
            str(data_directory),
        )
    with _alone(directory), _held(directory) as held:
        name = fresh_name(directory, began_ns)
        part = directory / f"{name}{PART_SUFFIX}"
        part.mkdir(mode=0o700)
        try:
            brought = _fill(data_directory, reader, part, newest(directory), index_only, step)
            for other in besides:
                with suppress(FileNotFoundError):
                    copy(str(data_directory / other), str(part / other))
            description = Description(
                release=release,
                index_crc32c=index_crc32c(part),
                complete_until_ns=began_ns,
                ended_ns=time.time_ns(),
                index_only=index_only,
                instances=brought.instances,
                file_bytes=brought.file_bytes,
                linked=brought.linked,
                shared=brought.shared,
                copied=brought.copied,
                lost=brought.lost,
            )
            describe(part, description)
            _sync(held, part)
            os.rename(part, directory / name)
        except BaseException:
            take_back(part)
            raise
        sync_directory(directory)
    return Made(directory / name, description)


def _fill(
    data_directory: Path,
    reader: IndexReader,
    part: Path,
    previous: Path | None,
    index_only: bool,
    step: Callable[[int], None],
) -> Brought:
    if index_only:
        copy_index(reader, part)
        with reader.view() as view:
            return Brought(instances=view.count("instances"))
    with closing(Files(data_directory, part, previous)) as files:
        files.bring_copies()
        copy_index(reader, part)
        files.bring_copies()
        files.bring_set_aside()
        with closing(open_index_reader(part)) as copied:
            files.bring_all(copied, step)
        catch_up(data_directory, _index_wait_s)
        Settling(part, reader, files).run()
    for name in _LOCKS:
        (part / INDEX_DIRECTORY / name).unlink(missing_ok=True)
    return files.brought


@contextmanager
def _held(directory: Path) -> Iterator[int]:
    """Open before the first byte is written: one that was opened for the sync would miss an error
    that the service was told of meanwhile (decision 0024)."""
    held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield held
    finally:
        os.close(held)


def _sync(held: int, part: Path) -> None:
    sync_file_system(held, str(part))


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Nobody else makes a backup here meanwhile. What a killed one left is removed."""
    held = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for left in unfinished(directory):
            take_back(left)
        yield
    except BlockingIOError as error:
        raise OperatorError("another backup is being made there", str(directory)) from error
    finally:
        os.close(held)
