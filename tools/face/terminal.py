"""What a command hands back: its exit code; text and questions for the terminal."""

from datetime import UTC, datetime
from enum import IntEnum
from typing import Literal

import click

from engine.errors import OperatorError


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


def counted(count: int, one: str, many: str) -> str:
    """So many of something: "1 study", "2 studies"."""
    return f"{count} {one if count == 1 else many}"


def is_text(argument: str) -> bool:
    """Whether an argument is UTF-8: other bytes arrive as halves of characters (PEP 383)."""
    return not any("\ud800" <= c <= "\udfff" for c in argument)


def confirmed(question: str) -> bool:
    """Ask. OperatorError where nobody is there to answer: in a script, in a pipe."""
    try:
        return click.confirm(printable(question), err=True)
    except click.Abort as abort:
        if not isinstance(abort.__context__, EOFError):
            raise  # Ctrl-C
        click.echo(err=True)
        raise OperatorError("nobody answers; --yes answers beforehand") from abort
