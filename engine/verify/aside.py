"""What was set aside: kept in `set_aside/`, neither found nor sent.

Three set aside: the intake what it may not put in the place of another, or what it died of
(`set_aside/<journal>/<record>-<UID>.dcm`), and the repairs what is not wanted in the tree (by its
path there). Taking back is an action of engine/verify/repair.py.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from engine.errors import LocalError
from engine.files.tree import SET_ASIDE_DIRECTORY
from engine.index.stored_head import read_stored_head


class Aside(NamedTuple):
    """A file that was set aside; `path` is relative to `set_aside/`, the UID "" of what is none."""

    path: str
    sop_instance_uid: str
    file_bytes: int
    since_ns: int


def set_aside(data_directory: Path) -> Iterator[Aside]:
    """All there is, in the order of their paths. OSError: it cannot be looked at."""
    root = data_directory / SET_ASIDE_DIRECTORY

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for directory, below, names in os.walk(root, onerror=refuse):
        below.sort()
        for name in sorted(names):
            path = Path(directory, name)
            with suppress(FileNotFoundError):  # taken back meanwhile
                found = path.lstat()
                yield Aside(
                    str(path.relative_to(root)), _uid_of(path), found.st_size, found.st_ctime_ns
                )


def _uid_of(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        return ""
    try:
        with path.open("rb") as file:
            return read_stored_head(file)[0].sop_instance
    except LocalError:
        return ""


def discard(data_directory: Path, path: str) -> None:
    """Remove one for good, and the directories that it leaves empty."""
    root = data_directory / SET_ASIDE_DIRECTORY
    (root / path).unlink(missing_ok=True)
    directory = (root / path).parent
    while directory != root:
        with suppress(OSError):
            directory.rmdir()
        directory = directory.parent
