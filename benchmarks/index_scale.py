"""How the index grows: `python -m benchmarks.index_scale`.

Promises: instances go in as the indexer puts them in, in its batches, each batch committed; making
the synthetic records is not counted. At every power of ten: the rate since the one before, the rate
of the last batches, the time of finds by each kind of key, the size of the file.
"""

import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click
import numpy
import orjson

from benchmarks import synthetic_archive as archive
from benchmarks.plot import PlotError, plot_index
from engine.index.batch import Batch
from engine.index.environment import IndexReader
from engine.index.query import Query, QueryLevel, find
from engine.index.writer import IndexWriter
from engine.limits import index_batch_max

_FINDS: Final = 2000
_SLOW_FINDS_SECONDS: Final = 5.0  # a kind of find is measured for at most so long
_LAST_BATCHES: Final = 20


def _insert(writer: IndexWriter, first: int, count: int) -> list[float]:
    """Put `count` instances in; the seconds of each batch."""
    seconds = []
    records = archive.records(first, count)
    while batch := list(islice(records, index_batch_max)):

        def put(into: Batch, records: Sequence[Any] = batch) -> None:
            for record in records:
                into.put_instance(archive.entry_of(record))

        begun = time.perf_counter()
        writer.commit(put)
        seconds.append((time.perf_counter() - begun) / len(batch))
    return seconds


def _queries(instances: int) -> dict[str, Callable[[random.Random], Query]]:
    """Each kind of find, as a maker of queries for things that are there."""

    def study(dice: random.Random) -> int:
        return archive.study_of(dice.randrange(instances))[0]

    def query(level: QueryLevel, **keys: str) -> Query:
        return Query(level, keys)

    studies = QueryLevel.STUDY
    return {
        "study by UID": lambda dice: query(
            studies, StudyInstanceUID=archive.study_uid(study(dice))
        ),
        "studies of a patient": lambda dice: query(
            studies, PatientID=archive.patient_id(study(dice))
        ),
        "studies by name*": lambda dice: query(
            studies, PatientName=archive.family_name(study(dice)) + "*"
        ),
        "studies of a day": lambda dice: query(studies, StudyDate=archive.study_date(study(dice))),
        "series of a study": lambda dice: query(
            QueryLevel.SERIES, StudyInstanceUID=archive.study_uid(study(dice))
        ),
        "instance by UID": lambda dice: query(
            QueryLevel.IMAGE, SOPInstanceUID=archive.instance_uid(dice.randrange(instances))
        ),
        "miss by UID": lambda dice: query(
            studies, StudyInstanceUID=archive.study_uid(10**8 + study(dice))
        ),
    }


def _find_times(reader: IndexReader, instances: int) -> dict[str, float]:
    dice = random.Random(4711)
    figures: dict[str, float] = {}
    for name, make in _queries(instances).items():
        times: list[float] = []
        began = time.monotonic()
        while len(times) < _FINDS and time.monotonic() - began < _SLOW_FINDS_SECONDS:
            query = make(dice)
            begun = time.perf_counter()
            with reader.view() as view:
                found = sum(1 for _ in find(view, query))
            times.append((time.perf_counter() - begun) * 1000)
            if (found == 0) != name.startswith("miss"):
                raise RuntimeError(f"{name}: {found} found for {query}")
        for point in (50, 99):
            figures[f"find_{name}, p{point}"] = round(float(numpy.percentile(times, point)), 4)
    return figures


def measure(directory: Path, powers: Sequence[int]) -> list[dict[str, float]]:
    """The figures at 10 to each of these powers, in one growing index."""
    writer = IndexWriter(directory)
    points = []
    try:
        reader = writer.reader()
        stored = 0
        for power in powers:
            target = 10**power
            seconds = _insert(writer, stored, target - stored)
            writer.sync()
            last = seconds[-_LAST_BATCHES:]
            _, used = reader.used_bytes()
            size = os.stat(directory / "index" / "data.mdb").st_blocks * 512
            point = {
                "instances": float(target),
                "inserts_per_second": round(1 / (sum(seconds) / len(seconds)), 1),
                "inserts_per_second_at_the_end": round(len(last) / sum(last), 1),
                "insert_us_p99_of_batches": round(float(numpy.percentile(seconds, 99)) * 1e6, 2),
                "file_bytes": float(size),
                "bytes_per_instance": round(used / target, 1),
            }
            points.append(point | _find_times(reader, target))
            click.echo(orjson.dumps(points[-1]).decode())
            stored = target
    finally:
        writer.close()
    return points


@click.command(context_settings={"show_default": True})
@click.option("--least", default=4, type=click.IntRange(2, 7), help="10 to this power first")
@click.option("--most", default=6, type=click.IntRange(2, 8), help="10 to this power last")
@click.option("--directory", type=click.Path(path_type=Path, exists=True), help="on the disk meant")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--plot", "plot_file", type=click.Path(path_type=Path))
def main(
    least: int, most: int, directory: Path | None, json_file: Path | None, plot_file: Path | None
) -> None:
    """Fill an index with synthetic instances and measure it at every power of ten."""
    if least > most:
        raise click.UsageError("--least is above --most")
    root = Path(tempfile.mkdtemp(prefix="index-scale-", dir=directory))
    try:
        points = measure(root, range(least, most + 1))
    finally:
        shutil.rmtree(root)
    if json_file is not None:
        json_file.write_bytes(orjson.dumps(points, option=orjson.OPT_INDENT_2))
    if plot_file is not None:
        try:
            plot_index(points, plot_file, "The index as it grows")
        except PlotError as error:
            click.echo(f"no plot: {error}")


if __name__ == "__main__":
    main()
