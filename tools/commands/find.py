"""`scai find`: what the gateway holds, as a table for people or as JSON lines for programs.

Reads the index and nothing else, so it works while the service runs and when it does not. Values
come from peers: in a table what could steer a terminal is escaped, in JSON the encoder does it.
"""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, Final

import click

from engine.dictionary.query_level import QueryLevel
from engine.errors import OperatorError
from engine.index.environment import IndexReader, NoIndexError, open_index_reader
from engine.index.freshness import catch_up
from engine.index.query import Match, Query, find
from tools.commands.find_removed import (
    is_here,
    mention_removed,
    removed,
    stone_fields,
    stone_text,
)
from tools.face.options import config_option, json_option, load
from tools.face.tables import Column, Row, print_table
from tools.face.terminal import Exit, moment

_table_rows_default: Final = 100
_lines_in_memory_max: Final = 64 << 20
_WORD_START: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

# (heading, value) of a table's columns by level; the values are the fields of fields_of().
_COLUMNS: Final[dict[QueryLevel, tuple[tuple[str, str], ...]]] = {
    QueryLevel.STUDY: (
        ("Patient ID", "patient_id"),
        ("Name", "patient_name"),
        ("Date", "study_date"),
        ("Modalities", "modalities_in_study"),
        ("Description", "study_description"),
        ("Accession", "accession_number"),
        ("Series", "series"),
        ("Instances", "instances"),
        ("Study Instance UID", "study_instance_uid"),
    ),
    QueryLevel.SERIES: (
        ("Patient ID", "patient_id"),
        ("Name", "patient_name"),
        ("Date", "study_date"),
        ("Modality", "modality"),
        ("No.", "series_number"),
        ("Description", "series_description"),
        ("Instances", "instances"),
        ("Series Instance UID", "series_instance_uid"),
    ),
    QueryLevel.IMAGE: (
        ("Patient ID", "patient_id"),
        ("Date", "study_date"),
        ("Modality", "modality"),
        ("Series", "series_number"),
        ("No.", "instance_number"),
        ("Bytes", "file_bytes"),
        ("SOP Instance UID", "sop_instance_uid"),
    ),
}

_LEVELS: Final = {level.name.lower(): level for level in QueryLevel}


@click.command(name="find")
@config_option
@click.option("--level", type=click.Choice(list(_LEVELS)), default="study", show_default=True)
@click.option("--patient", "--patient-id", "patient_id", metavar="ID", help="Case counts.")
@click.option("--patient-name", metavar="NAME", help="Any of its three forms; case is ignored.")
@click.option("--study-date", metavar="DATE", help="20240131, or a range: 20240101-20240131.")
@click.option("--modality", metavar="CS", help="CT, or several: CT\\MR.")
@click.option("--accession", metavar="NUMBER")
@click.option("--description", metavar="TEXT", help="Of the study; on other levels the series.")
@click.option("--study", "--study-uid", "study_uid", metavar="UID")
@click.option("--series", "--series-uid", "series_uid", metavar="UID")
@click.option("--instance", "--sop-uid", "sop_uid", metavar="UID")
@click.option(
    "--key", "keys", multiple=True, metavar="KEYWORD=VALUE", help="Any indexed attribute."
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many; a table: 100.")
@json_option
@click.option("--removed", "was_removed", is_flag=True, help="Studies that were here and are not.")
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def command(
    config_path: Path | None,
    level: str,
    keys: tuple[str, ...],
    limit: int | None,
    was_removed: bool,
    form: str,
    as_json: bool,
    **options: str | None,
) -> int:
    """Find studies, series or images. In values * stands for any characters, ? for one.

    Exit code 1 when nothing is found.
    """
    form = "json" if as_json else form
    data_directory = load(config_path).config.data_path
    query_level = _LEVELS[level]
    if limit is None and form == "table":
        limit = _table_rows_default
    query = Query(query_level, _query_keys(query_level, keys, options), limit)
    try:
        reader = open_index_reader(data_directory)
    except NoIndexError:
        click.echo("nothing was stored yet", err=True)
        return Exit.NEGATIVE
    with closing(reader):
        if not catch_up(data_directory):
            click.echo("the index is behind: what was received last may be missing", err=True)
        if was_removed:
            found = _print_removed(reader, query, form)
        elif form == "json":
            found = _print_json(reader, query, data_directory)
        else:
            with reader.view() as view:
                matches = list(find(view, query))
                if not matches:
                    mention_removed(view, query)
            found = len(matches)
            _print_table(matches, query)
    if found == 0 and form == "table":
        click.echo("nothing found", err=True)
    return Exit.OK if found else Exit.NEGATIVE


def _query_keys(
    level: QueryLevel, keys: Iterable[str], options: dict[str, str | None]
) -> dict[str, str]:
    of_study = level is QueryLevel.STUDY
    keywords = {
        "patient_id": "PatientID",
        "patient_name": "PatientName",
        "study_date": "StudyDate",
        "modality": "ModalitiesInStudy" if of_study else "Modality",
        "accession": "AccessionNumber",
        "description": "StudyDescription" if of_study else "SeriesDescription",
        "study_uid": "StudyInstanceUID",
        "series_uid": "SeriesInstanceUID",
        "sop_uid": "SOPInstanceUID",
    }
    given = {keywords[name]: value for name, value in options.items() if value is not None}
    for key in keys:
        keyword, equals, value = key.partition("=")
        if not equals:
            raise OperatorError(f"{key!r} should be KEYWORD=VALUE, as in StudyDescription=HEAD*")
        given[keyword] = value
    return given


def fields_of(match: Match) -> dict[str, Any]:
    """One JSON line: attributes under their keywords in lower case, and what we know besides."""
    fields: dict[str, Any] = {
        _WORD_START.sub("_", keyword).lower(): text for keyword, text in match.values().items()
    }
    if match.patients > 1:
        fields["patients_of_study_uid"] = match.patients
    if match.instance is not None:
        instance = match.instance
        fields |= {
            "transfer_syntax_uid": instance.transfer_syntax_uid,
            "path": match.path,
            "file_bytes": instance.file_bytes,
            "crc32c": f"{instance.file_crc32c:08x}",
            "received": moment(instance.received_ns),
            "calling_ae_title": instance.calling_ae_title,
            "called_ae_title": instance.called_ae_title,
            "peer": instance.peer,
        }
        return fields
    record = match.study if match.series is None else match.series
    if match.series is None:
        fields["series"] = match.study.series
    fields |= {
        "instances": record.instances,
        "file_bytes": record.file_bytes,
        "received_first": moment(record.first_received_ns),
        "received_last": moment(record.last_received_ns),
    }
    return fields


def _print_json(reader: IndexReader, query: Query, data_directory: Path) -> int:
    """The lines are laid aside first: a reader of ours that takes its time (a pager) must not hold
    the state of the index, which would keep its pages from being used again."""
    found = 0
    with SpooledTemporaryFile(_lines_in_memory_max, dir=str(data_directory)) as lines:
        with reader.view() as view:
            for match in find(view, query):
                found += 1
                # ASCII only: control characters and text directions arrive escaped.
                lines.write(json.dumps(fields_of(match)).encode("ascii") + b"\n")
        lines.seek(0)
        for line in lines:
            sys.stdout.write(line.decode("ascii"))
    return found


def _print_removed(reader: IndexReader, query: Query, form: str) -> int:
    with reader.view() as view:
        stones = [(stone, is_here(view, stone)) for stone in removed(view, query)]
    for stone, here in stones:
        fields = {**fields_of(Match(stone.study)), **stone_fields(stone, here)}
        click.echo(json.dumps(fields) if form == "json" else stone_text(stone, here))
    return len(stones)


def _print_table(matches: Sequence[Match], query: Query) -> None:
    if not matches:
        return
    columns = _COLUMNS[query.level]
    if any(match.patients > 1 for match in matches):
        columns = (*columns, ("Patients of this Study UID", "patients_of_study_uid"))
    found = map(fields_of, matches)
    print_table(
        (Column(heading) for heading, _ in columns),
        (Row([fields.get(name) for _, name in columns]) for fields in found),
    )
    if len(matches) == query.limit:
        click.echo(f"the first {len(matches)}; more with --limit", err=True)
