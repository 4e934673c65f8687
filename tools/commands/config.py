"""`scai config check` and `scai config show`: what a configuration file says, and what holds."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from engine.config.loading import Config, ConfigurationError, LoadedConfig, Problem, StorageEntity
from engine.config.reach import never_sent
from engine.errors import OperatorError
from tools.face.options import config_option, json_option, load
from tools.face.telling import tell
from tools.face.terminal import printable
from tools.face.toml_text import settings_of, toml_text
from workers.frame.placement import as_ranges
from workers.supervision.other_hands import other_hands, presumed_user

# The settings that say what is secured, and with what.
_SECURING: Final = re.compile(r"tls|\$SCAI_TLS|secured_scp\.enabled|remotes\[\d+\]\.tls")


@click.group(name="config")
def command() -> None:
    """Check and show the configuration."""


@command.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@config_option
@json_option
def check(file: Path | None, config_path: Path | None, as_json: bool) -> None:
    """Check FILE: say ok and what it amounts to (exit 0), or all that is wrong (exit 2)."""
    path = file or config_path
    if path is None:
        raise click.UsageError("which file? scai config check FILE")
    try:
        config = load(path).config
    except ConfigurationError as error:
        raise _with_stores(error) from error
    hands = list(other_hands(config, path, presumed_user(config)))
    if hands:
        raise _with_stores(ConfigurationError(hands, str(path), config))
    secured = _secured_text(config)
    warnings = [*_missing_here(config), *never_sent(config)]
    if as_json:
        tell(True, "ok", file=str(path), warnings=warnings, tls=secured)
        return
    for warning in warnings:
        click.echo(printable(f"warning: {warning}"), err=True)
    text = f"{path}: ok\n{summary(config)}"
    click.echo(printable(f"{text}\n  TLS: {secured}" if secured else text))


@command.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def show(config_path: Path | None, as_json: bool) -> None:
    """Show the values that hold, each with where it comes from. Passwords are not shown."""
    loaded = load(config_path)
    if as_json:
        click.echo(json.dumps(_as_object(loaded), indent=2))
        return
    source = f"# {loaded.path}" if loaded.path else "# no configuration file: the defaults"
    click.echo(printable(source))
    click.echo(toml_text(loaded.config, lambda path: str(loaded.origin(path))), nl=False)


def summary(config: Config) -> str:
    """What a configuration amounts to, in a few aligned lines."""
    rows = [(entity.name, _entity_text(entity)) for entity in config.storage_aes()]
    if config.stats.enabled:
        host = f"[{config.stats.address}]" if ":" in config.stats.address else config.stats.address
        rows.append(("stats", f"http://{host or '*'}:{config.stats.port}"))
    rows.append(("data", f"{config.data_directory} (durability {config.durability})"))
    for name, listed in (
        ("remotes", config.remotes),
        ("rules", config.rules),
        ("prefetch rules", config.prefetch),
    ):
        if listed or name == "remotes":
            rows.append((name, ", ".join(each.name for each in listed) or "none"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in rows)


def _secured_text(config: Config) -> str:
    """What TLS amounts to, its stores opened and tried; empty: nothing is secured."""
    if not config.secured_scp.enabled and not any(remote.tls for remote in config.remotes):
        return ""
    from tools.commands.tls import tried_material  # what it imports takes longer than all the rest

    material = tried_material(config)
    for warning in material.warnings:
        click.echo(printable(f"warning: {warning}"), err=True)
    return f"profile {material.profile.name}, certificates until {material.not_after:%Y-%m-%d}"


def _missing_here(config: Config) -> Iterator[str]:
    """What a start would lack on this machine; the file may be meant for another."""
    for remote in config.remotes:
        if remote.outgoing_directory and not Path(remote.outgoing_directory).is_dir():
            yield f"{remote.outgoing_directory}, watched for {remote.name}, is no directory yet"
    processors = os.sched_getaffinity(0)
    wishes = {each.table: each.settings.core for each in config.storage_aes()}
    for table, core in (wishes | {"index": config.index.core}).items():
        if isinstance(core, int) and core not in processors:
            yield f"{table}.core = {core}: no processor we may use here ({as_ranges(processors)})"


def _with_stores(error: ConfigurationError) -> ConfigurationError:
    """What is wrong with the stores besides, if it is known what is wanted of them."""
    if any(_SECURING.match(problem.path) for problem in error.problems):
        return error
    try:
        _secured_text(error.config)
    except OperatorError as fault:
        problems = [*error.problems, Problem(fault.where, fault.text)]
        return ConfigurationError(problems, error.where, error.config)
    return error


def _entity_text(entity: StorageEntity) -> str:
    """One storage AE in one line."""
    settings = entity.settings
    limits = [
        f"{len(listed)} {what}"
        for listed, what in (
            (settings.called_ae_titles, "called titles"),
            (settings.calling_ae_titles, "calling titles"),
            (settings.allowed_hosts, "hosts or networks"),
        )
        if listed
    ]
    associations = "association" if settings.associations == 1 else "associations"
    return (
        f"{settings.address or 'all interfaces'}, {settings.associations} {associations}, "
        f"{len(settings.accepted())} SOP classes, "
        f"lets in {'only ' + ', '.join(limits) if limits else 'everyone'}"
    )


def _as_object(loaded: LoadedConfig) -> dict[str, Any]:
    """The JSON form: a list, so that the order of the reference is kept."""
    settings = []
    for setting in settings_of(loaded.config):
        origin = loaded.origin(setting.path)
        settings.append(
            {
                "setting": setting.path,
                "value": None if setting.secret else msgspec.to_builtins(setting.value),
                "hidden": setting.secret,
                "source": origin.source,
                "line": origin.line,
            }
        )
    return {"file": str(loaded.path) if loaded.path else None, "settings": settings}
