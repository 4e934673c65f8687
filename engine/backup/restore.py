"""From a backup to a data directory, on this machine or a new one.

The data directory is empty or not there. All is copied beside its place first, each file compared
with the checksum in the index. It is synced, and moved to its place last, the index after all
others: what was cut short is no data directory yet. The journals begin anew, and the index finds
that out. An index may also be brought back alone, to files that are still there.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from engine.backup import bringing
from engine.backup.bringing import take_back
from engine.backup.catalogue import (
    Description,
    check_index,
    description_of,
)
from engine.backup.files import PORTION, copy_index
from engine.errors import OperatorError
from engine.files.tree import (
    MADE_BY_MKFS,
    SET_ASIDE_DIRECTORY,
    STORE_DIRECTORY,
    StoreTree,
    sync_directory,
    sync_file_system,
)
from engine.index.environment import INDEX_DIRECTORY, open_index_reader
from engine.index.portions import portions
from engine.outbox.spool import OUTBOX_DIRECTORY

_STAGE: Final = "restoring"
_ORDER: Final = (STORE_DIRECTORY, OUTBOX_DIRECTORY, SET_ASIDE_DIRECTORY, INDEX_DIRECTORY)


class Restored(NamedTuple):
    """What was brought back, and what the backup itself did not have, or has otherwise."""

    instances: int
    file_bytes: int
    lost: int


def restore(
    backup: Path,
    data_directory: Path,
    step: Callable[[int], None] = lambda done: None,
    besides: Sequence[str] = (),
) -> Restored:
    """Bring a whole backup back. `step` is told how many instances more have their file. `besides`:
    the names of other files that belong to it, if they are there.

    OperatorError: it is none, or has the index alone, or something is in the data directory.
    OSError: it cannot be read or written; then nothing is left.
    """
    if described(backup).index_only:
        raise OperatorError("has the index alone: say --index-only", str(backup))
    data_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if set(os.listdir(data_directory)) - MADE_BY_MKFS:
        raise OperatorError(
            "is not empty; a backup is restored into a new data directory", str(data_directory)
        )
    with _staged(data_directory) as stage:
        return _fill(backup, stage, step, besides)


def restore_index(backup: Path, data_directory: Path) -> int:
    """Bring the index of a backup back, alone; how many instances it has.

    OperatorError: it is none, or there is an index. OSError: likewise.
    """
    described(backup)
    if os.path.lexists(data_directory / INDEX_DIRECTORY):
        raise OperatorError(
            f"there is an index: move {INDEX_DIRECTORY}/ away first", str(data_directory)
        )
    data_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _staged(data_directory) as stage, closing(open_index_reader(backup)) as reader:
        copy_index(reader, stage)
        with reader.view() as view:
            return view.count("instances")


def described(backup: Path) -> Description:
    """What a backup says of itself. OperatorError: it is none, or its index is damaged."""
    description = description_of(backup)
    check_index(backup, description)
    return description


@contextmanager
def _staged(data_directory: Path) -> Iterator[Path]:
    """A directory beside the places. What is in it is synced and put in its place at the end."""
    stage = data_directory / _STAGE
    stage.mkdir(mode=0o700)
    # Before the first byte is written: see decision 0024.
    held = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield stage
        sync_file_system(held, str(stage))
    except BaseException:
        take_back(stage)
        raise
    finally:
        os.close(held)
    others = sorted(set(os.listdir(stage)) - {*_ORDER})
    for name in (*others, *_ORDER):
        if os.path.lexists(stage / name):
            os.rename(stage / name, data_directory / name)
            sync_directory(data_directory)
    stage.rmdir()
    sync_directory(data_directory)


def _fill(
    backup: Path, stage: Path, step: Callable[[int], None], besides: Sequence[str]
) -> Restored:
    instances = file_bytes = lost = 0
    source, target = StoreTree(backup), StoreTree(stage)
    with closing(open_index_reader(backup)) as reader:
        for portion in portions(reader, PORTION):
            for instance, path in portion:
                if source.size(path) is None:
                    lost += 1
                    continue
                copied = bringing.copy(source.absolute(path), target.prepare(path))
                if copied != (instance.file_bytes, instance.file_crc32c):
                    lost += 1  # what there is of it is kept
                    continue
                instances += 1
                file_bytes += copied.file_bytes
            step(len(portion))
        copy_index(reader, stage)
    for name in (OUTBOX_DIRECTORY, SET_ASIDE_DIRECTORY):
        _copy_directory(backup, stage, name)
    for name in besides:
        if os.path.lexists(backup / name):
            bringing.copy(str(backup / name), str(stage / name))
    return Restored(instances, file_bytes, lost)


def _copy_directory(backup: Path, stage: Path, name: str) -> None:
    for above, _, files in os.walk(backup / name):
        inside = stage / os.path.relpath(above, backup)
        inside.mkdir(mode=0o700)
        for file in files:
            bringing.copy(os.path.join(above, file), str(inside / file))
