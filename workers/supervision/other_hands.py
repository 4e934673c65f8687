"""What of a service somebody else may change: its data, its configuration, its keys.

A start and a reload are refused for it, and `scai config check` says the same beforehand, each with
the command that mends it.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from engine.config.loading import Config
from engine.config.reader import Problem
from engine.errors import OperatorError
from engine.files.tree import SET_ASIDE_DIRECTORY, STORE_DIRECTORY
from engine.files.trust import who_else, who_replaces
from engine.index.environment import INDEX_DIRECTORY
from engine.outbox.spool import OUTBOX_DIRECTORY
from engine.settings.tls import TLS_PATHS

_KINDS: Final = ("journal", "incoming")
_OTHERS: Final = (
    STORE_DIRECTORY,
    INDEX_DIRECTORY,
    f"{INDEX_DIRECTORY}/data.mdb",
    f"{INDEX_DIRECTORY}/lock.mdb",
    OUTBOX_DIRECTORY,
    SET_ASIDE_DIRECTORY,
)


def directories(config: Config) -> list[Path]:
    """What a start makes of the data directory, each behind the one that it lies in."""
    data = config.data_path
    names = [entity.table for entity in config.storage_aes()]
    paths = [data, data / "run"]
    paths += [data / kind for kind in _KINDS]
    paths += [data / kind / name for kind in _KINDS for name in names]
    if config.hl7.enabled:  # its process may begin before the indexer, and may not make it
        paths.append(data / INDEX_DIRECTORY)
    return paths


def other_hands(config: Config, file: Path | None, user: int) -> Iterator[Problem]:
    """Each path that somebody else than root and the service's user may change. `file`: what the
    configuration was read from."""
    data = config.data_path
    seen = set()
    for path in dict.fromkeys([*directories(config), *(data / other for other in _OTHERS)]):
        if words := who_else(path, (user,), user):
            yield Problem(str(path), words)
        where, words = who_replaces(path, user)
        if words and where not in seen:
            seen.add(where)
            yield Problem(where, words)
    named = [(f"tls.{name} ", getattr(config.tls, name)) for name in TLS_PATHS]
    for setting, trusted in [*named, ("", file)]:
        if not trusted:
            continue
        if words := who_else(trusted, (0, user), user):
            yield Problem(f"{setting}{trusted}", words)
        where, words = who_replaces(trusted, user)
        if words and where not in seen:
            seen.add(where)
            yield Problem(where, words)


def refuse_other_hands(config: Config, file: Path | None, user: int) -> None:
    """OperatorError: somebody else may change what is stored, what is trusted, or what is set."""
    for problem in other_hands(config, file, user):
        raise OperatorError(problem.text, problem.path)


def presumed_user(config: Config) -> int:
    """Whose service it is, for commands that root or somebody else calls: its data's owner."""
    try:
        return os.stat(config.data_path).st_uid
    except OSError:
        return os.geteuid()
