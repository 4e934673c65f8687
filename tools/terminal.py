"""What a command hands back: its exit code to the shell, its text to the terminal."""

from enum import IntEnum


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
