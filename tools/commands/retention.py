"""`scai retention`: what would be removed to make room, in which order and why; or do it now.

The service does it by itself ([retention] in the configuration); this is to see it beforehand, and
to do it at a time of one's own choice.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import click

from engine.config.loading import Config
from engine.index.environment import IndexReader, open_index_reader
from engine.index.freshness import catch_up
from engine.limits import eviction_slice_max
from engine.removal.eviction import Eviction, Judged
from engine.removal.orders import Progress
from engine.removal.rounds import lacking_bytes
from engine.retention.choice import Kept, Reason
from tools.commands.removing import holding
from tools.face.operator import operator, who_option
from tools.face.operators_log import note_order
from tools.face.options import config_option, json_option, load
from tools.face.telling import tell
from tools.face.terminal import Exit, confirmed, moment, one_line

MIB: Final = 1 << 20


@click.group(name="retention")
def command() -> None:
    """What goes when the disk fills, and why."""


all_option = click.option(
    "--all", "every", is_flag=True, help="All that may go, not only what room is needed for."
)


@command.command()
@config_option
@all_option
@json_option
def plan(config_path: Path | None, every: bool, as_json: bool) -> int:
    """Say what would go, in which order and why, and what keeps the others. Changes nothing.

    Exit code 1: nothing would go.
    """
    config = load(config_path).config
    kept: Counter[Kept] = Counter()
    count = file_bytes = 0
    with closing(open_index_reader(config.data_path)) as reader:
        catch_up(config.data_path)
        lacking = lacking_bytes(config.data_path, config.retention)
        for judged in chosen(config, reader, lacking, every, kept):
            study = judged.study
            count, file_bytes = count + 1, file_bytes + study.file_bytes
            last, reason = moment(study.last_received_ns, "seconds"), str(judged.verdict.value)
            size = f"{study.instances} instances, {study.file_bytes / MIB:.1f} MiB"
            text = one_line(f"{count}. study {study.uid or study.alone}: {size}, {last}; {reason}")
            fields = {"study": study.uid, "instances": study.instances, "bytes": study.file_bytes}
            tell(as_json, text, **fields, last_received=last, reason=reason)
    if not as_json:
        click.echo(f"{lacking / MIB:.1f} MiB are to be freed, {file_bytes / MIB:.1f} MiB would be")
        for why, studies in kept.most_common():
            click.echo(f"{studies} looked at would stay: {why.value}")
    return Exit.OK if count else Exit.NEGATIVE


@command.command()
@config_option
@all_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@who_option
@json_option
def run(config_path: Path | None, every: bool, yes: bool, who: str | None, as_json: bool) -> int:
    """Remove what `plan` names, now. Exit code 1: nothing was removed, or not all."""
    config = load(config_path).config
    name = operator(who)
    kept: Counter[Kept] = Counter()
    count = file_bytes = left = 0
    with holding(config) as holder, closing(holder.reader()) as reader:
        catch_up(config.data_path)
        lacking = lacking_bytes(config.data_path, config.retention)
        if not yes and not confirmed("Remove what scai retention plan names?"):
            click.echo("nothing was removed", err=True)
            return Exit.NEGATIVE
        for judged in chosen(config, reader, lacking, every, kept):
            outcome = holder.remove(reader, judged.order)
            file_bytes += outcome.file_bytes
            count += outcome.progress is Progress.DONE
            left += outcome.progress is not Progress.DONE
            for text in outcome.texts:
                click.echo(one_line(f"study {judged.study.uid}: {text}"), err=True)
    if count:
        note_order(config.data_path, name, "retention", studies=count, bytes=file_bytes)
    text = f"removed {count} studies, {file_bytes / MIB:.1f} MiB"
    tell(as_json, text, studies=count, bytes=file_bytes, left=left)
    return Exit.OK if count and not left else Exit.NEGATIVE


def chosen(
    config: Config, reader: IndexReader, lacking: int, every: bool, kept: Counter[Kept]
) -> Iterator[Judged]:
    """What goes, in its order, as the service's rounds have it; `kept` counts what stays of that
    which was looked at."""
    eviction = Eviction(reader, config.retention.policy)
    while not eviction.is_complete:
        eviction.look(eviction_slice_max)
    while (judged := eviction.next(time.time_ns(), every or lacking > 0)) is not None:
        if isinstance(judged.verdict, Reason):
            yield judged
            lacking -= judged.study.file_bytes
        else:
            kept[judged.verdict] += 1
