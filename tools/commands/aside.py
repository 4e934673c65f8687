"""`scai aside`: what was set aside, and what becomes of it.

An instance is set aside when it may not replace another (`replace`), when the indexer died of it,
or when a repair did not want it in the tree. Nothing else looks at it.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from engine.config.loading import Config
from engine.errors import OperatorError
from engine.files.tree import SET_ASIDE_DIRECTORY
from engine.verify.aside import Aside, discard, set_aside
from engine.verify.repair import Action
from tools.commands.repairs import Repairs
from tools.face.operator import operator, who_option
from tools.face.operators_log import note_order
from tools.face.options import config_option, json_option, load
from tools.face.telling import tell
from tools.face.terminal import Exit, confirmed, moment, one_line

_PREFIX = f"{SET_ASIDE_DIRECTORY}/"
_shown_max = 20  # before a question

paths_argument = click.argument("paths", nargs=-1)
all_option = click.option("--all", "every", is_flag=True, help="All there are, not some by PATHS.")


@click.group(name="aside", invoke_without_command=True)
@config_option
@json_option
@click.pass_context
def command(context: click.Context, /, config_path: Path | None, as_json: bool) -> int | None:
    """List what was set aside, or change what becomes of it.

    Exit code 1 when there is nothing.
    """
    context.obj = config_path
    if context.invoked_subcommand is not None:
        if as_json:
            raise click.UsageError(f"options of {context.invoked_subcommand} stand behind it")
        return None
    found = list(set_aside(load(config_path).config.data_path))
    for one in found:
        click.echo(json.dumps(_fields_of(one)) if as_json else _line(one))
    if not found:
        click.echo("nothing was set aside", err=True)
    return Exit.OK if found else Exit.NEGATIVE


@command.command(name="take-back")
@paths_argument
@config_option
@all_option
@click.option("--replace", is_flag=True, help="Also in the place of what is stored of its UID.")
@who_option
@json_option
@click.pass_context
def take_back(
    context: click.Context,
    paths: tuple[str, ...],
    config_path: Path | None,
    every: bool,
    replace: bool,
    who: str | None,
    as_json: bool,
) -> int:
    """Store and index what was set aside, and send it where the rules say, as if it came now.

    What it died of may end the indexer again: it stays set aside then. Exit code 1: not all was
    taken back.
    """
    config = _config(context, config_path)
    chosen = _chosen(config, paths, every)
    titles = {entity.table: entity.settings.ae_title for entity in config.storage_aes()}
    name, failed = operator(who), False
    with Repairs(config, True) as repairs:
        for one in chosen:  # each by itself: one may be the end of whoever takes it back
            title = titles.get(one.path.partition("/")[0], "")
            action = Action("take_back", one.path, called_ae_title=title, replace=replace)
            [outcome] = repairs.apply([action])
            if outcome.done:
                note_order(config.data_path, name, "take-back", **_fields_of(one), replace=replace)
            failed |= not outcome.done
            said = "is taken back" if outcome.done else f"stays: {outcome.text}"
            text = f"{_PREFIX}{one.path} {said}"
            tell(as_json, text, **_fields_of(one), order="take-back", done=outcome.done)
    return Exit.NEGATIVE if failed or not chosen else Exit.OK


@command.command(name="discard")
@paths_argument
@config_option
@all_option
@who_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def throw_away(
    context: click.Context,
    paths: tuple[str, ...],
    config_path: Path | None,
    every: bool,
    who: str | None,
    yes: bool,
    as_json: bool,
) -> int:
    """Remove what was set aside, for good. It is stored nowhere else."""
    config = _config(context, config_path)
    chosen = _chosen(config, paths, every)
    if not chosen:
        click.echo("nothing was set aside", err=True)
        return Exit.NEGATIVE
    name = operator(who)
    if not yes and not _confirmed(chosen):
        click.echo("nothing was removed", err=True)
        return Exit.NEGATIVE
    for one in chosen:
        note_order(config.data_path, name, "discard-aside", **_fields_of(one))
        discard(config.data_path, one.path)
        tell(as_json, f"{_PREFIX}{one.path} is discarded", **_fields_of(one), order="discard")
    return Exit.OK


def _confirmed(chosen: Sequence[Aside]) -> bool:
    for one in chosen[:_shown_max]:
        click.echo(_line(one), err=True)
    if len(chosen) > _shown_max:
        click.echo(f"... and {len(chosen) - _shown_max} more", err=True)
    size = sum(one.file_bytes for one in chosen)
    what = "1 file" if len(chosen) == 1 else f"{len(chosen)} files"
    return confirmed(f"Discard {what}, {size} bytes, for good?")


def _config(context: click.Context, config_path: Path | None) -> Config:
    assert context.parent is not None, "these are commands of a group"
    return load(config_path or context.parent.obj).config


def _chosen(config: Config, paths: Sequence[str], every: bool) -> list[Aside]:
    """Those that are named, as they are listed or without `set_aside/`, or all."""
    if bool(paths) == every:
        raise click.UsageError("either PATHS or --all")
    found = {one.path: one for one in set_aside(config.data_path)}
    if every:
        return list(found.values())
    names = dict.fromkeys(path.removeprefix(_PREFIX) for path in paths)
    for name in names:
        if name not in found:
            raise OperatorError("nothing of this name was set aside", name)
    return [found[name] for name in names]


def _fields_of(one: Aside) -> dict[str, object]:
    return {
        "path": f"{_PREFIX}{one.path}",
        "sop_instance_uid": one.sop_instance_uid,
        "bytes": one.file_bytes,
        "since": moment(one.since_ns, "seconds"),
    }


def _line(one: Aside) -> str:
    what = one.sop_instance_uid or "no instance"
    since = moment(one.since_ns, "seconds")
    return one_line(f"{since}  {one.file_bytes:>10}  {what}  {_PREFIX}{one.path}")
