"""`scai rebuild`: a new index from the files alone, where the index was lost or is damaged.

The service stands still meanwhile. The new index is made beside its place and gets it when it is
whole; the one that was there is kept. Files are read by as many processes as there are processors.
"""

import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import click

from engine.backup.bringing import take_back
from engine.errors import OperatorError
from engine.files.tree import SET_ASIDE_DIRECTORY, StoreTree, sync_directory
from engine.index.environment import INDEX_DIRECTORY, NoIndexError
from engine.index.records import Position
from engine.index.writer import IndexWriter
from engine.outbox.spool import OUTBOX_DIRECTORY
from engine.verify.rebuild import (
    Read,
    Taken,
    chunks,
    positions_of,
    read_chunk,
    set_positions,
    take,
)
from tools.commands.taking_in import take_in_journals
from tools.face.operator import operator, who_option
from tools.face.operators_log import note_order
from tools.face.options import config_option, json_option, load
from tools.face.terminal import Exit, confirmed
from workers.supervision.data import lock_data

_STAGE: Final = "rebuilding"
_positions_wait_s: Final = 30.0
_chunks_under_way: Final = 4  # for each process: 200 rows of some hundred bytes in each


@click.command(name="rebuild")
@config_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@who_option
@json_option
def command(config_path: Path | None, yes: bool, who: str | None, as_json: bool) -> int:
    """Make the index anew from the stored files. The service has to be stopped.

    What stands nowhere but in an index is not in the new one: corrections, the queue, prefetch
    jobs, and who sent what. `scai restore --index-only` brings them back from a backup.
    Exit code 1: files were left that are no instance, or are not where they belong.
    """
    config = load(config_path).config
    by = operator(who)
    data_directory = config.data_path
    if not StoreTree(data_directory).root.is_dir():
        raise OperatorError("nothing was stored yet", str(data_directory))
    with _standing_still(data_directory):
        if not yes and not confirmed(_question(data_directory)):
            click.echo("nothing was changed", err=True)
            return Exit.NEGATIVE
        stage = data_directory / _STAGE
        _clear(stage)
        taken = _build(data_directory, stage, _positions(data_directory))
        kept = _exchange(data_directory, stage)
        with closing(IndexWriter(data_directory)) as writer:
            take_in_journals(config, writer).close()
        note_order(data_directory, by, "rebuild", instances=taken.instances, left=taken.left)
    if as_json:
        fields = {"instances": taken.instances, "left": taken.left, "kept": kept}
        click.echo(json.dumps(fields))
    else:
        _report(taken, kept)
    return Exit.NEGATIVE if taken.left else Exit.OK


@contextmanager
def _standing_still(data_directory: Path) -> Iterator[None]:
    """OperatorError: a service runs on it."""
    run = data_directory / "run"
    run.mkdir(mode=0o700, exist_ok=True)
    held = lock_data(run)
    try:
        yield
    finally:
        os.close(held)


def _question(data_directory: Path) -> str:
    if (data_directory / INDEX_DIRECTORY).exists():
        return "There is an index. Put a new one, made of the files alone, in its place?"
    return "Make a new index of the files?"


def _clear(stage: Path) -> None:
    """What a rebuild left that was cut short: an index that nobody has used."""
    if stage.is_dir():
        take_back(stage)
    stage.mkdir(mode=0o700)


def _positions(data_directory: Path) -> dict[str, Position]:
    """As the old index has them, if it can be read: a damaged one may end whoever reads it, or keep
    him for ever."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_tell_positions, args=(theirs, data_directory))
    process.start()
    theirs.close()
    found: dict[str, Position] | None = None
    with ours, suppress(EOFError):
        if ours.poll(_positions_wait_s):
            found = ours.recv()
    process.kill()
    process.join()
    if found is None:
        click.echo(
            "the old index cannot be read: what the journals still have is taken in as new, also "
            "what was removed lately",
            err=True,
        )
    return found or {}


def _tell_positions(theirs: Connection, data_directory: Path) -> None:
    try:
        theirs.send(positions_of(data_directory))
    except NoIndexError:
        theirs.send({})
    except OperatorError:
        theirs.send(None)


def _build(data_directory: Path, stage: Path, positions: dict[str, Position]) -> Taken:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    total = sum(len(portion) for portion in chunks(data_directory))
    instances = left = 0
    columns = ("rebuilding", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        closing(IndexWriter(stage)) as writer,
    ):
        bar = progress.add_task("rebuilding", total=total)
        for portion in _read_all(data_directory):
            taken = take(writer, portion)
            instances += taken.instances
            left += taken.left
            progress.advance(bar, len(portion))
        set_positions(writer, positions)
        writer.sync()
    return Taken(instances, left)


def _read_all(data_directory: Path) -> Iterator[list[Read]]:
    """All portions, in their order; a bounded number of them is read ahead."""
    processes = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    waiting = chunks(data_directory)
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        under_way: list[Future[list[Read]]] = []
        while True:
            room = processes * _chunks_under_way - len(under_way)
            under_way += [
                pool.submit(read_chunk, data_directory, paths) for paths in islice(waiting, room)
            ]
            if not under_way:
                return
            yield under_way.pop(0).result()


def _exchange(data_directory: Path, stage: Path) -> list[str]:
    """The new index for the old; what is kept beside it, in words. Copies in the outbox belong to
    deliveries that the new index does not know, and nothing may remove them."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    kept = []
    copies = data_directory / OUTBOX_DIRECTORY
    if copies.is_dir() and any(copies.iterdir()):
        aside = data_directory / SET_ASIDE_DIRECTORY / f"outbox-{moment}"
        aside.parent.mkdir(mode=0o700, exist_ok=True)
        copies.rename(aside)
        sync_directory(aside.parent)
        kept.append(f"files that were given to be sent are in {aside}: scai send sends them again")
    old = data_directory / INDEX_DIRECTORY
    if old.exists():
        replaced = data_directory / f"{INDEX_DIRECTORY}.replaced-{moment}"
        old.rename(replaced)
        kept.append(f"the index that was there is {replaced}")
    (stage / INDEX_DIRECTORY).rename(old)
    sync_directory(data_directory)
    stage.rmdir()
    return kept


def _report(taken: Taken, kept: list[str]) -> None:
    click.echo(f"{taken.instances} instances are in the new index")
    for line in kept:
        click.echo(line)
    if taken.left:
        click.echo(f"{taken.left} files were left: scai verify names them, --repair mends it")
