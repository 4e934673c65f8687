"""What a data set says, as pydicom reads it, and when two say the same.

Equal means: the same elements with the same bytes as values, and the same items in sequences.
Lengths, their kind and VRs do not count, nor do group lengths, which are retired, and Length to
End. A value that is empty, absent or a sequence of no items is one. Where a sequence may also be
read as bytes, for want of a dictionary that has its private tag, its items count.
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import pydicom
from pydicom import config
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.filereader import read_sequence

from tests.grammar.encoding import CHARACTER_SET, PIXEL_DATA, Node, Value

_LENGTH_TO_END: Final = 0x00080001
# Of frames, where they are fragments; not asked for when they are decoded.
_OFFSET_TABLES: Final = (0x7FE00001, 0x7FE00002)
ICON: Final = 0x00880200


class Unread(Exception):  # noqa: N818 - an answer, no fault
    """pydicom does not read it."""


@contextmanager
def quiet() -> Iterator[None]:
    """pydicom reads, and says nothing of what is odd."""
    before = config.settings.reading_validation_mode
    logging.getLogger("pydicom").disabled = True
    config.settings.reading_validation_mode = config.IGNORE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            config.settings.reading_validation_mode = before
            logging.getLogger("pydicom").disabled = False


def read(content: bytes) -> Node:
    """A file, element by element down to the last item."""
    with quiet():
        try:
            return _node(pydicom.dcmread(io.BytesIO(content)))
        except Exception as error:
            raise Unread(f"{type(error).__name__}: {error}") from error


def _node(data_set: Dataset) -> Node:
    found: Node = {}
    # As they lie: pydicom converts a private creator where it needs it.
    for tag, element in list(data_set._dict.items()):
        if tag.element and tag.group != 2:
            found[int(tag)] = _value(element, data_set)
    return found


def _value(element: Any, data_set: Dataset) -> Value:
    if not isinstance(element, RawDataElement):
        if element.VR == "SQ":
            return [_node(item) for item in element.value or ()]
        return "\\".join(
            [element.value] if isinstance(element.value, str) else element.value
        ).encode()
    raw: bytes = element.value or b""
    if element.VR in (None, "UN", "SQ") and raw:
        try:
            read = convert_raw_data_element(element, ds=data_set)
            if read.VR == "SQ":
                return [_node(item) for item in read.value]
        except Exception:  # noqa: BLE001 (whatever pydicom cannot convert stays as it lies)
            if element.VR == "SQ":
                return raw
    return raw


def rewritten(node: Node, decoded: bytes | None) -> Node:
    """What has to come of it in another transfer syntax; `decoded`: its pixel data then."""
    found = {tag: value for tag, value in node.items() if tag != _LENGTH_TO_END}
    if decoded is not None:
        found[PIXEL_DATA] = decoded
        for tag in _OFFSET_TABLES:
            found.pop(tag, None)
    return found


def difference(one: Node, other: Node, where: str = "") -> str:
    """The first element that differs, in words; "": none does. Icons are compared by their being
    there: their fragments are decoded as well."""
    for tag in sorted(one.keys() | other.keys()):
        here = f"{where}({tag >> 16:04x},{tag & 0xFFFF:04x})"
        if tag not in one or tag not in other:
            return f"{here} is {'made up' if tag not in one else 'lost'}"
        if tag == ICON:
            continue
        found = _of_values(one[tag], other[tag], here, tag == CHARACTER_SET)
        if found:
            return found
    return ""


def _of_values(a: Value, b: Value, here: str, is_set: bool) -> str:
    if not a and not b:
        return ""
    if isinstance(a, bytes) and isinstance(b, bytes):
        if a == b or (is_set and a.rstrip(b" \0") == b.rstrip(b" \0")):
            return ""
        return f"{here}: {a[:24]!r} ({len(a)}) and {b[:24]!r} ({len(b)})"
    if isinstance(a, bytes) or isinstance(b, bytes):
        raw, items = (a, b) if isinstance(a, bytes) else (b, a)
        assert isinstance(raw, bytes)
        assert isinstance(items, list)
        alike = any(not _of_items(each, items, here) for each in _as_items(raw))
        return "" if alike else f"{here}: bytes and {len(items)} items"
    return _of_items(a, b, here)


def _of_items(a: list[Node], b: list[Node], here: str) -> str:
    if len(a) != len(b):
        return f"{here}: {len(a)} and {len(b)} items"
    for index, (x, y) in enumerate(zip(a, b, strict=True)):
        found = difference(x, y, f"{here}[{index}]")
        if found:
            return found
    return ""


def _as_items(raw: bytes) -> Iterator[list[Node]]:
    for implicit in (True, False):
        with quiet(), suppress(Exception):
            sequence = read_sequence(io.BytesIO(raw), implicit, True, len(raw), ["iso8859"])
            yield [_node(item) for item in sequence]


def without_character_set(node: Node) -> Node:
    """For what a correction may change."""
    return {tag: value for tag, value in node.items() if tag != CHARACTER_SET}
