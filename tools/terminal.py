"""What a command hands back: its exit code to the shell, its text to the terminal."""

from datetime import UTC, datetime
from enum import IntEnum
from typing import Literal


class Exit(IntEnum):
    """What the shell, and systemd, are told."""

    OK = 0
    NEGATIVE = 1  # the command worked; its answer is no: nothing found, differences, drift
    OPERATOR = 2  # the configuration or the command line is wrong; trying again changes nothing
    INTERNAL = 4  # a bug of ours
    INTERRUPTED = 130  # as shells do for SIGINT


def printable(text: str) -> str:
    """Text for a terminal: whatever could steer it is escaped, the line ends stay."""
    return "".join(
        c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def one_line(text: str) -> str:
    """As printable(), and the line ends shown too: for a cell, or a line of a list."""
    return printable(text).replace("\n", "\\n")


def moment(nanoseconds: int, timespec: Literal["seconds", "milliseconds"] = "milliseconds") -> str:
    """A time since 1970 as ISO 8601 has it, in UTC."""
    when = datetime.fromtimestamp(nanoseconds / 1e9, UTC)
    return when.isoformat(timespec=timespec).replace("+00:00", "Z")
