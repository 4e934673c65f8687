"""Files of our own that are to be sent: copies below the outbox directory.

A copy is made durable under a name of its own before the delivery that names it is committed, and
removed after its last delivery has ended. A crash in between leaves a copy that no delivery names;
the sweep finds it. The names are the writer's: one plain component, never used twice.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from engine.errors import LocalError
from engine.limits import outbox_orphan_s, outbox_portion_max
from engine.outbox.writer import OutboxWriter

OUTBOX_DIRECTORY: Final = "outbox"


def spooled_path(data_directory: Path, file: str) -> Path:
    """Where a spooled copy lies. Raises LocalError for what is no plain name."""
    if not file or file in (".", "..") or "/" in file or "\0" in file:
        raise LocalError("not the name of a file in the outbox")
    return data_directory / OUTBOX_DIRECTORY / file


def remove_finished(writer: OutboxWriter, data_directory: Path, files: Iterable[str]) -> None:
    """Remove the copies, of deliveries that ended, which no other delivery names."""
    wanted = {file for file in files if file}
    if not wanted:
        return
    with writer.view() as outbox:
        finished = [file for file in wanted if not outbox.names_file(file)]
    if not finished:
        return
    writer.sync()  # a power cut must not bring a delivery back whose copy is gone
    for file in finished:
        with suppress(FileNotFoundError):
            spooled_path(data_directory, file).unlink()


def sweep(writer: OutboxWriter, data_directory: Path, now_ns: int) -> list[str]:
    """Remove the copies that no delivery names, but for young ones; their names."""
    try:
        with os.scandir(data_directory / OUTBOX_DIRECTORY) as entries:
            old = [entry.name for entry in entries if _is_old(entry, now_ns)]
    except FileNotFoundError:
        return []
    orphans: list[str] = []
    for start in range(0, len(old), outbox_portion_max):
        with writer.view() as outbox:
            portion = old[start : start + outbox_portion_max]
            orphans += [name for name in portion if not outbox.names_file(name)]
    if orphans:
        writer.sync()
    for name in orphans:
        with suppress(FileNotFoundError):
            spooled_path(data_directory, name).unlink()
    return orphans


def _is_old(entry: os.DirEntry[str], now_ns: int) -> bool:
    """Whether it came here long ago: a file that was moved in keeps the time of its content."""
    try:
        came_ns = entry.stat(follow_symlinks=False).st_ctime_ns
        is_file = entry.is_file(follow_symlinks=False)
    except FileNotFoundError:
        return False  # removed while we looked
    return is_file and now_ns - came_ns > outbox_orphan_s * 1_000_000_000
