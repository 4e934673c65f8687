"""The configuration: one TOML text, read whole or refused with everything that is wrong in it.

load_config() is what the commands and the supervisor call; parse_config() is its pure part. The
settings themselves, with their defaults and documentation, are in engine/settings/settings.py. A
value in the file goes before the environment, the environment before the default.
"""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePath
from typing import Final

import msgspec

from engine.config.checks import findings
from engine.config.folder_checks import folder_findings
from engine.config.lines import find_lines
from engine.config.reader import Origin, Problem, Reading
from engine.errors import OperatorError
from engine.limits import configuration_bytes_max
from engine.settings.entities import Context, Remote, StorageAe, StorageEntity
from engine.settings.send import Rule, Send
from engine.settings.settings import Config
from engine.settings.tls import PASSWORD_VARIABLES, TLS_PATHS, store_of
from engine.settings.values import check_password, check_path

__all__ = [
    "Config",
    "ConfigurationError",
    "Context",
    "LoadedConfig",
    "Origin",
    "Problem",
    "Remote",
    "Rule",
    "Send",
    "StorageAe",
    "StorageEntity",
    "load_config",
    "parse_config",
]

data_variable: Final = "SCAI_DATA"


class ConfigurationError(OperatorError):
    """A configuration that is refused, with all its problems in the order of the file.

    `config` is what could be read of it, with defaults for the rest: nothing to run with, but
    some commands need little of it."""

    def __init__(self, problems: list[Problem], source: str, config: Config) -> None:
        self.config = config
        self.problems = sorted(problems, key=lambda problem: problem.line or 0)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        rows = "".join(f"\n  {problem}" for problem in self.problems)
        super().__init__(f"{count}, nothing of it is used:{rows}", source)


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration that holds, and where its values come from."""

    config: Config
    origins: Mapping[str, Origin]
    path: Path | None  # the file; None: there was none

    def origin(self, setting: str) -> Origin:
        """Where the value of `storage_scp.port`, `remotes[0].name` ... comes from."""
        return self.origins.get(setting, Origin("default"))


def load_config(path: Path | None, environment: Mapping[str, str]) -> LoadedConfig:
    """Read and check a file; without one, the defaults. OperatorError tells all that is wrong."""
    if path is None:
        loaded = parse_config("", "default settings", None, environment, os.path.realpath)
        return _made_absolute(loaded, None)
    try:
        with path.open("rb") as file:
            content = file.read(configuration_bytes_max + 1)
        base = path.absolute().parent
    except OSError as error:
        raise OperatorError(f"cannot be read: {error.strerror}", str(path)) from error
    if len(content) > configuration_bytes_max:
        raise OperatorError(
            f"is longer than {configuration_bytes_max} bytes; this is no configuration of ours",
            str(path),
        )
    try:
        # A byte order mark is what some editors leave behind; it means nothing.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise OperatorError(f"line {line}: is not UTF-8 text", str(path)) from error
    loaded = parse_config(text, str(path), base, environment, os.path.realpath)
    return _made_absolute(loaded, path)


def parse_config(
    text: str,
    source: str = "configuration",
    base_directory: PurePath | None = None,
    environment: Mapping[str, str] | None = None,
    resolve: Callable[[str], str] = os.path.normpath,
) -> LoadedConfig:
    """Check a text. `base_directory` is what a relative data directory counts from, `resolve` how
    paths are made comparable."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OperatorError(_syntax_text(str(error)), source) from error
    reading = Reading(find_lines(text))
    config = reading.read_table(Config, Config(), table, ())
    assert isinstance(config, Config), "every top-level setting has a default"
    config = _place_data(config, reading, base_directory or PurePath(), environment or {})
    config = _place_outgoing(config, base_directory or PurePath())
    config = _place_tls(config, reading, base_directory or PurePath(), environment or {})
    base = "" if base_directory is None else str(base_directory)
    for finding in chain(findings(config), folder_findings(config, resolve, base)):
        if not any(_is_broken(path, reading.broken) for path in (finding.path, *finding.others)):
            others = [_split(path) for path in finding.others]
            reading.refuse(_split(finding.path), finding.text, others=others)
    if reading.problems:
        raise ConfigurationError(reading.problems, source, config)
    return LoadedConfig(config, reading.origins, None)


def _made_absolute(loaded: LoadedConfig, path: Path | None) -> LoadedConfig:
    """A path that is still relative, from the environment or without a file, is the caller's."""
    placed = str(loaded.config.data_path.absolute())
    config = msgspec.structs.replace(loaded.config, data_directory=placed)
    return LoadedConfig(config, loaded.origins, path)


def _place_data(
    config: Config, reading: Reading, base_directory: PurePath, environment: Mapping[str, str]
) -> Config:
    """The data directory: the file's, else the environment's, else the default."""
    name = "data_directory"
    given = environment.get(data_variable, "")
    if name not in reading.origins and given:
        try:
            check_path(given)
        except ValueError as problem:
            reading.problems.append(Problem(f"${data_variable}", str(problem), value=ascii(given)))
            return config
        reading.origins[name] = Origin("environment")
        placed = given
    else:
        placed = str(base_directory / config.data_directory)
    return msgspec.structs.replace(config, data_directory=placed)


def _place_tls(
    config: Config, reading: Reading, base_directory: PurePath, environment: Mapping[str, str]
) -> Config:
    """The stores' paths, and the passwords that the file leaves to the environment."""
    tls = config.tls
    placed: dict[str, str] = {
        name: str(base_directory / getattr(tls, name)) for name in TLS_PATHS if getattr(tls, name)
    }
    for name, variable in PASSWORD_VARIABLES.items():
        given = environment.get(variable, "") if getattr(tls, store_of(name)) else ""
        paths = (f"tls.{name}", f"tls.{name}_file")
        if not given or any(path in reading.origins for path in paths):
            continue
        try:
            placed[name] = check_password(given)
            reading.origins[paths[0]] = Origin("environment")
        except ValueError as problem:
            reading.problems.append(Problem(f"${variable}", str(problem), value="(not shown)"))
    return msgspec.structs.replace(config, tls=msgspec.structs.replace(tls, **placed))


def _place_outgoing(config: Config, base_directory: PurePath) -> Config:
    """The watched folders of remote AEs."""
    remotes = tuple(
        msgspec.structs.replace(
            remote, outgoing_directory=str(base_directory / remote.outgoing_directory)
        )
        if remote.outgoing_directory
        else remote
        for remote in config.remotes
    )
    return msgspec.structs.replace(config, remotes=remotes)


def _is_broken(path: str, broken: set[str]) -> bool:
    """Whether a setting, or one around it, could not be read as it was written."""
    parts = re.split(r"(?=[.\[])", path)
    return any("".join(parts[: length + 1]) in broken for length in range(len(parts)))


def _split(path: str) -> tuple[str | int, ...]:
    """`remotes[0].port` as a row of keys and positions; a key that is not plain is in quotes."""
    parts = re.findall(r"'[^']*'|[^.\[\]]+", path)
    return tuple(int(part) if part.isdigit() else part.strip("'") for part in parts)


def _syntax_text(message: str) -> str:
    """tomllib's message with the line in front, as in every other message."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    if found is None:
        return f"is no valid TOML: {message}"
    return f"line {found[2]}, column {found[3]}: is no valid TOML: {found[1]}"
