"""What rules would make of a file, without anything being received or sent.

Looks at a file exactly as the receivers and the indexer look at what arrives: the same scanner, the
same bounds, the same decoding. For `scai rules test`.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from engine.dictionary.attributes import WANTED_TAGS, decode_head, decode_instance, split_row
from engine.dictionary.contexts import TRANSFER_SYNTAX_NAMES, TRANSFER_SYNTAXES_REFUSED
from engine.dictionary.elements import extra_tags, scan_row, texts_of
from engine.errors import LocalError, OperatorError
from engine.files.part10 import Part10Head, read_part10_head
from engine.limits import rule_head_bytes_max
from engine.rules.conditions import Subject


class Arriving(NamedTuple):
    """How the file is taken to have come."""

    calling_ae_title: str  # "": the one that the file itself names as its source
    called_ae_title: str
    receiving_table: str
    received: datetime


class Trial(NamedTuple):
    """A file as rules see it."""

    head: Part10Head
    subject: Subject
    character_set: str


def subject_in_file(path: Path, elements: Mapping[int, str], arriving: Arriving) -> Trial:
    """`elements` are {tag: VR} of what the rules look at. OperatorError: it is no such file."""
    try:
        with path.open("rb") as file:
            start = file.read(rule_head_bytes_max)
        head = read_part10_head(start)
    except OSError as error:
        raise OperatorError(f"cannot be read: {error.strerror}", str(path)) from error
    except LocalError as error:
        raise OperatorError(error.comment, str(path)) from error
    if head.transfer_syntax not in TRANSFER_SYNTAX_NAMES:
        why = TRANSFER_SYNTAXES_REFUSED.get(head.transfer_syntax, "this is none we know")
        raise OperatorError(f"its transfer syntax is never accepted: {why}", str(path))
    wanted = {*WANTED_TAGS, *extra_tags(elements)}
    row = scan_row(start[head.data_set_offset :], head.transfer_syntax, wanted)
    upper, instance, extra = split_row(row)
    decoded = decode_head(upper)
    values = {
        **decoded.patient,
        **decoded.study,
        **decoded.series,
        **decode_instance(instance),
        **texts_of(extra, elements, decoded.character_set),
    }
    subject = Subject(
        values,
        head.sop_class,
        arriving.calling_ae_title or head.source_ae_title,
        arriving.called_ae_title,
        arriving.receiving_table,
        arriving.received,
    )
    return Trial(head, subject, decoded.character_set.decode("latin-1").strip(" \0"))
