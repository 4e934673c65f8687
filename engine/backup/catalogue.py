"""The directory that backups are made in: which there are, which is the newest, and what each says.

Each has its own directory, named by the time at which it began, in UTC: 20240131T235959Z. While it
is being made, and when making it was cut short, the name ends in `.part`.
"""

import os
import re
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from engine.errors import OperatorError
from engine.index.environment import INDEX_DIRECTORY
from engine.verify.repair import checksum

DESCRIPTION_FILE: Final = "backup.json"
PART_SUFFIX: Final = ".part"
_FORMAT: Final = 1
_NAME: Final = re.compile(r"\d{8}T\d{6}Z(-\d+)?")


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup says of itself.

    `complete_until_ns`: what was acknowledged before this time is in it. `linked` files have a
    second name here, `shared` ones are the backup's before, `copied` ones were written. `lost`
    instances are in the index and had no file, or not the bytes that were stored.
    """

    format: int = _FORMAT
    release: str
    index_crc32c: int  # of its file
    complete_until_ns: int
    ended_ns: int
    index_only: bool
    instances: int
    file_bytes: int
    linked: int
    shared: int
    copied: int
    lost: int


def describe(directory: Path, description: Description) -> None:
    """Written with the rest, before a backup gets its name."""
    (directory / DESCRIPTION_FILE).write_bytes(msgspec.json.encode(description) + b"\n")


def description_of(backup: Path) -> Description:
    """Of a whole backup. OperatorError: there is none, or one of another release's kind."""
    try:
        found = msgspec.json.decode((backup / DESCRIPTION_FILE).read_bytes(), type=Description)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise OperatorError(f"is no backup: it has no {DESCRIPTION_FILE}", str(backup)) from error
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise OperatorError(f"{DESCRIPTION_FILE} cannot be read: {error}", str(backup)) from error
    if found.format != _FORMAT:
        raise OperatorError(
            f"was made by release {found.release}, in a form that this one does not read",
            str(backup),
        )
    return found


def index_crc32c(backup: Path) -> int:
    """Of the file that the index of a backup is."""
    with (backup / INDEX_DIRECTORY / "data.mdb").open("rb") as file:
        return checksum(file.fileno())[0]


def check_index(backup: Path, description: Description) -> None:
    """OperatorError: the index is not what was written. It is asked before it is opened: what is
    damaged could end the process."""
    try:
        found = index_crc32c(backup)
    except OSError as error:
        raise OperatorError(f"its index cannot be read: {error.strerror}", str(backup)) from error
    if found != description.index_crc32c:
        raise OperatorError("its index is damaged: take another backup", str(backup))


def newest(directory: Path) -> Path | None:
    """The last whole backup in a directory of backups."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return None
    whole = [
        name
        for name in names
        if _NAME.fullmatch(name) and (directory / name / DESCRIPTION_FILE).is_file()
    ]
    return directory / max(whole, key=_order) if whole else None


def unfinished(directory: Path) -> list[Path]:
    """What backups left that were cut short: directories of that name alone, and our own."""
    return [
        directory / name
        for name in sorted(os.listdir(directory))
        if name.endswith(PART_SUFFIX)
        and _NAME.fullmatch(name.removesuffix(PART_SUFFIX))
        and stat.S_ISDIR((found := os.lstat(directory / name)).st_mode)
        and found.st_uid == os.geteuid()
    ]


def _order(name: str) -> tuple[str, int]:
    moment, _, number = name.partition("-")
    return moment, int(number or 0)


def chosen(directory: Path) -> Path:
    """The backup that is meant: the directory itself, or the newest in it. OperatorError: none."""
    if (directory / DESCRIPTION_FILE).is_file():
        return directory
    found = newest(directory)
    if found is None:
        raise OperatorError("holds no whole backup", str(directory))
    return found


def fresh_name(directory: Path, now_ns: int) -> str:
    """A name that no backup has, nor one that is being made."""
    moment = datetime.fromtimestamp(now_ns / 1e9, UTC).strftime("%Y%m%dT%H%M%SZ")
    name, number = moment, 1
    while any(os.path.lexists(directory / f"{name}{end}") for end in ("", PART_SUFFIX)):
        number += 1
        name = f"{moment}-{number}"
    return name
