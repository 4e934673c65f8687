"""Directories that a command is told of, to write to or to trust: whose they are, and whose not."""

import os
from collections.abc import Iterable
from pathlib import Path

from engine.config.loading import Config
from engine.errors import OperatorError
from engine.files.beneath import overlap
from engine.files.trust import who_else, who_replaces


def services_own(config: Config) -> list[str | Path]:
    """The data, and the folders that are watched: what is laid there would be sent."""
    folders = [one.outgoing_directory for one in config.remotes if one.outgoing_directory]
    return [config.data_path, *folders]


def refuse_taken(held: int, target: Path, taken: Iterable[str | Path], holds: bool = True) -> None:
    """OperatorError: what is held is, or lies in, one of those, or (if that counts) `holds` one."""
    other = overlap(held, taken, holds)
    if other:
        raise OperatorError(f"overlaps with {other}, which is the service's", str(target))


def refuse_changeable(directory: Path) -> None:
    """OperatorError: somebody else may change what lies there."""
    others = who_else(directory, (os.geteuid(), 0))
    if others:
        raise OperatorError(others, str(directory))


def refuse_other_hands(directory: Path) -> None:
    """OperatorError: likewise, or put another directory in its place."""
    refuse_changeable(directory)
    above, words = who_replaces(directory)
    if words:
        raise OperatorError(words, above)
