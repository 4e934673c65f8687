"""What has to come of one data set, whatever is odd about it.

As it is: byte by byte. In another transfer syntax, there and back, and decoded: equal, by pydicom's
reading; or refused with a reason that names tag and byte. Corrected: equal but for the correction.
Indexed: the values that pydicom reads. What is refused has to be refused by DCMTK too, or DCMTK and
pydicom read different things in it. Where pydicom reads other than what was written (it knows no VR
"??"), what was written may be delivered as well, or what DCMTK reads.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from engine.dictionary.attributes import BY_TAG, WANTED_TAGS, read_row
from engine.dictionary.elements import scan_row
from engine.errors import LocalError
from engine.limits import attribute_bytes_max
from engine.outgoing.outgoing import CannotSend
from tests.grammar import dcmtk
from tests.grammar.cases import EXPLICIT, IMPLICIT, JPEG_LOSSLESS, Case, file_of
from tests.grammar.reading import Node, Unread, difference, read, rewritten, without_character_set
from tests.rigs.outgoing_files import sent

_NAME: Final = 0x00100010
# A reason has both, in any order.
_TAG: Final = re.compile(r"\([0-9a-f]{4},[0-9a-f]{4}\)|amid a tag")
_BYTE: Final = re.compile(r"at byte [0-9]+")
_EQUAL: Final = "equal"
_BY_DCMTK_TOO: Final = "refused, by DCMTK too"
_PADDING: Final = b" \0"
_CORRECTED: Final = {_NAME: "Corrected^Name"}


class Reading(NamedTuple):
    """What pydicom has to say of a case: whether it reads it, and as it was written."""

    is_one: bool
    is_as_written: bool


class Passage(NamedTuple):
    """One way of a data set. `refusal`: the reason, "": it went; `fault`: what is wrong with that,
    "": nothing."""

    name: str
    made: bytes = b""
    refusal: str = ""
    verdict: str = _EQUAL
    fault: str = ""


@dataclass
class Trial:
    """Everything that was tried with one case."""

    case: Case
    reading: Reading
    passages: list[Passage] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """What was found, in words."""
        return [f"{each.name}: {each.fault}" for each in self.passages if each.fault]


class Shelf:
    """Where files are laid for sending, and what is known of one case by its readers."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "case.dcm"

    def send(self, content: bytes, target: str, corrected: bool = False) -> bytes:
        """What goes out for a stored file. LocalError, CannotSend."""
        self._path.write_bytes(content)
        return sent(self._path, target, _CORRECTED if corrected else {})


def try_case(case: Case, shelf: Shelf) -> Trial:
    """All passages of a case."""
    try:
        by_pydicom: Node | None = read(case.content)
    except Unread:
        by_pydicom = None
    written = rewritten(case.node, None)
    is_as_written = by_pydicom is not None and not difference(rewritten(by_pydicom, None), written)
    trial = Trial(case, Reading(by_pydicom is not None, is_as_written))
    trial.passages.append(_as_it_is(case, shelf))
    if case.syntax in (EXPLICIT, IMPLICIT, *JPEG_LOSSLESS):
        readings = [node for node in (by_pydicom, case.node) if node is not None]
        for target in (EXPLICIT, IMPLICIT):
            trial.passages += _elsewhere(case, shelf, target, readings, trial.reading)
        others = [each.verdict for each in trial.passages if each.name.startswith("to ")]
        is_read = trial.reading.is_one and _BY_DCMTK_TOO not in others
        trial.passages.append(_indexed(case, readings, is_read))
    return trial


def _as_it_is(case: Case, shelf: Shelf) -> Passage:
    try:
        made = shelf.send(case.content, case.syntax)
    except (LocalError, CannotSend) as error:
        return Passage("as it is", refusal=str(error), fault=f"refused: {error}")
    return Passage("as it is", made, fault="" if made == case.data else "other bytes")


def _indexed(case: Case, readings: list[Node], is_read: bool) -> Passage:
    """What the receiver cuts out for the index. What DCMTK refuses is in it as far as it goes."""
    found = dict(read_row(scan_row(case.data, case.syntax, WANTED_TAGS)))
    faults = [_unlike(found, node, case.earlier) for node in readings]
    if not all(faults):
        return Passage("indexed")
    if not is_read:
        return Passage("indexed", verdict="in part")
    return Passage("indexed", verdict="unequal", fault=faults[0])


def _unlike(found: dict[int, bytes], node: Node, earlier: Node) -> str:
    """The first attribute whose value is another than the data set's."""
    for tag in WANTED_TAGS:
        value = node.get(tag, b"")
        if isinstance(value, list) or (tag in earlier and found.get(tag) == earlier[tag]):
            continue
        if found.get(tag, b"").rstrip(_PADDING) != value[:attribute_bytes_max].rstrip(_PADDING):
            return f"{BY_TAG[tag].keyword} is {found.get(tag)!r}, and not {value!r}"
    return ""


def _elsewhere(
    case: Case, shelf: Shelf, target: str, readings: list[Node], reading: Reading
) -> Iterator[Passage]:
    """In another transfer syntax and back, and corrected."""
    short = "explicit" if target == EXPLICIT else "implicit"
    decodes = case.syntax in JPEG_LOSSLESS
    expected = [rewritten(node, case.decoded if decodes else None) for node in readings]
    if target != case.syntax:
        there = _passage(f"to {short}", case, shelf, target, expected, reading)
        yield there
        if there.verdict == _EQUAL and not decodes:
            yield _back(case, shelf, there.made, target, expected)
    yield _corrected(case, shelf, target, expected, reading)


def _passage(
    name: str, case: Case, shelf: Shelf, target: str, expected: list[Node], reading: Reading
) -> Passage:
    try:
        made = shelf.send(case.content, target)
    except (LocalError, CannotSend) as error:
        return _refused(name, case, target, str(error), expected, reading)
    try:
        fault = _unequal(made, case, target, expected)
    except Unread as error:
        fault = f"pydicom does not read it: {error}"
    if not fault:
        return Passage(name, made)
    if not reading.is_one:
        return Passage(name, made, "", "not read by pydicom")
    by_dcmtk = dcmtk.converted(case.content, case.syntax, target)
    if by_dcmtk is None and not reading.is_as_written:
        return Passage(name, made, "", "misread by pydicom, refused by DCMTK")
    if by_dcmtk is not None and not _unequal(made, case, target, [rewritten(by_dcmtk, None)]):
        return Passage(name, made, "", "as DCMTK reads it")
    return Passage(name, made, "", "unequal", fault)


def _unequal(made: bytes, case: Case, target: str, expected: list[Node]) -> str:
    """How it differs from the first reading, unless it is one of the others."""
    node = rewritten(read(file_of(made, target, case.uid)), None)
    found = [difference(each, node) for each in expected]
    return "" if not all(found) else found[0]


def _refused(
    name: str, case: Case, target: str, reason: str, expected: list[Node], reading: Reading
) -> Passage:
    """Whether it may be, and whether the reason says where."""
    if not (_TAG.search(reason) and _BYTE.search(reason)):
        return Passage(name, b"", reason, "refused", f"refused without a place: {reason}")
    if not reading.is_one:
        return Passage(name, b"", reason, "refused, not read by pydicom")
    by_dcmtk = dcmtk.converted(case.content, case.syntax, target)
    if by_dcmtk is None:
        return Passage(name, b"", reason, _BY_DCMTK_TOO)
    if difference(expected[0], rewritten(by_dcmtk, None)):
        return Passage(name, b"", reason, "refused, read otherwise by DCMTK")
    fault = f"DCMTK and pydicom read it alike; refused: {reason}"
    return Passage(name, b"", reason, "refused", fault)


def _back(case: Case, shelf: Shelf, made: bytes, came_as: str, expected: list[Node]) -> Passage:
    """What we made, stored and sent in the encoding it was in first."""
    name = "and back"
    try:
        again = shelf.send(file_of(made, came_as, case.uid), case.syntax)
        return Passage(name, again, fault=_unequal(again, case, case.syntax, expected))
    except (LocalError, CannotSend) as error:
        return Passage(name, fault=f"what we made is refused: {error}")
    except Unread as error:
        return Passage(name, fault=f"pydicom does not read it: {error}")


def _corrected(
    case: Case, shelf: Shelf, target: str, expected: list[Node], reading: Reading
) -> Passage:
    """The patient's name anew: nothing else changes. What keeps its encoding keeps what pydicom
    cannot read in it."""
    name = "corrected"
    try:
        made = shelf.send(case.content, target, corrected=True)
    except (LocalError, CannotSend) as error:
        return _refused(name, case, target, str(error), expected, reading)
    if not reading.is_as_written:
        return Passage(name, made, verdict="misread by pydicom")
    try:
        node = rewritten(read(file_of(made, target, case.uid)), None)
    except Unread as error:
        return Passage(name, made, fault=f"pydicom does not read it: {error}")
    told = [{**without_character_set(each), _NAME: b"Corrected^Name"} for each in expected]
    faults = [difference(each, without_character_set(node)) for each in told]
    return Passage(name, made, fault="" if not all(faults) else faults[0])
