"""What a stored file says of itself: the attributes of the index, read from its head.

For what the index cannot tell: files that it does not know, and whose a file is where the index may
be wrong (engine/index/migration.py); so also which corrections an instance leaves with.
"""

from typing import BinaryIO, Final, NamedTuple

from engine.dictionary import attributes
from engine.dictionary.attributes import WANTED_TAGS
from engine.dictionary.patient_mark import mark_of
from engine.dictionary.uids import implicit_vr_little_endian
from engine.errors import LocalError
from engine.files.part10 import Part10Head, read_part10_head
from engine.index.corrections import to_be_sent
from engine.index.environment import View
from engine.limits import attribute_bytes_max, attributes_bytes_max, sequence_depth_max
from native import _core

_HEAD_BYTES_MAX: Final = 1 << 20  # file meta and all wanted attributes lie far within


class StoredHead(NamedTuple):
    """The file's head, and the row of its attributes as a receiver would have cut it out."""

    head: Part10Head
    row: bytes


def read_stored_head(file: BinaryIO) -> StoredHead:
    """From the start of a file. LocalError: it is no instance."""
    start = file.read(_HEAD_BYTES_MAX)
    head = read_part10_head(start)
    row, outcome = _core.scan_tags(
        start[head.data_set_offset :],
        head.transfer_syntax != implicit_vr_little_endian,
        WANTED_TAGS,
        attribute_bytes_max,
        attributes_bytes_max,
        sequence_depth_max,
    )
    del outcome  # a malformed data set is kept as it is; what came before is indexed
    return StoredHead(head, row)


def whose_file(path: str) -> str | None:
    """The mark of the patient whose instance a file is; None: it cannot be read, or is none."""
    try:
        with open(path, "rb") as file:
            row = read_stored_head(file).row
    except (OSError, LocalError):
        return None
    return mark_of(attributes.decode_head(attributes.split_row(row).upper).patient)


def leaves_with(view: View, series: int, stored: str) -> dict[int, str]:
    """{tag: text} of the corrections that an instance of a series, its file at `stored`, is sent
    and exported with."""
    of_series = view.series(series)
    assert of_series is not None, "an instance's series is in the index"
    study = view.study(of_series.study)
    assert study is not None, "a series' study is in the index"
    changes = to_be_sent(study, of_series)
    if changes and view.may_be_joined(of_series.study) and whose_file(stored) != study.patient_mark:
        return {}  # corrections of somebody else, under whose name it stood
    return changes
