"""Stored files that somebody broke on purpose, for the re-encoder and the decompressing sender.

Whatever a file says, the outcome is a data set or a reason (LocalError, CannotSend): no other
exception, no more memory or time than is allowed, and where both ways give a data set it is the
same. A case is a number: the same number makes the same file.
"""

import random
import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Final, cast

from pydicom.encaps import encapsulate

from engine import limits
from engine.errors import LocalError
from engine.files.part10 import part10_head, read_part10_head
from engine.outgoing.outgoing import CannotSend, FileRange, open_outgoing, parts
from engine.settings.timeouts import Timeouts
from tests.material import samples, wire
from tests.material.jpeg_encoder import Form, encode, picture
from tests.rigs.encapsulated_files import file_of, stream
from tests.rigs.listeners import Listener, fragments, loopback
from tests.rigs.outgoing_files import pieces
from workers.scu.association import ScuAssociation
from workers.sender.writer import DataSetWriter

TARGETS: Final = (wire.IMPLICIT, wire.EXPLICIT)
# Of one case: a file of some kilobytes. A loop that does not end is found by this, a busy machine
# is not.
CASE_S: Final = 10.0
GROWTH_KIB: Final = 256 * 1024
COMMAND: Final = bytes(150)
_LENGTHS: Final = (0, 1, 2, 7, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
_HEADERS: Final = (
    bytes.fromhex("feff00e0ffffffff"),  # an item, a sequence's end, an item's end, of any length
    bytes.fromhex("feff00e000000000"),
    bytes.fromhex("feffdde000000000"),
    bytes.fromhex("feff0de000000000"),
    bytes.fromhex("0800401153510000ffffffff"),
    bytes.fromhex("09100010554e0000ffffffff"),
    bytes.fromhex("e07f10004f420000ffffffff"),
    bytes.fromhex("e07f10004f570000fcffffff"),
    bytes.fromhex("28000800495302003939"),  # 99 frames, 65535 rows, 64 bits
    bytes.fromhex("2800100055530200ffff"),
    bytes.fromhex("28000001555302004000"),
    bytes.fromhex("ffc30011"),
    bytes.fromhex("ffda"),
    bytes.fromhex("ffd9"),
)


@dataclass(frozen=True)
class Case:
    """One broken file, and what it was made of."""

    number: int
    content: bytes
    offset: int  # of its data set
    steps: tuple[str, ...]


def seeds() -> list[bytes]:
    """Good files, small ones: native and encapsulated, flat and nested."""
    nested = wire.small_data_set("1.2.3", pixels=bytes(64))
    deep = b"".join([_HEADERS[4] + _HEADERS[0]] * 40) + (_HEADERS[3] + _HEADERS[2]) * 40
    found = [
        part10_head(wire.CT_IMAGE, "1.2.3", wire.EXPLICIT, "A") + deep + nested,
        part10_head(wire.CT_IMAGE, "1.2.3", wire.IMPLICIT, "A")
        + wire.implicit_element(0x00100010, b"A^B")
        + wire.implicit_element(0x7FE00010, bytes(64)),
        file_of(encapsulate([stream(seed) for seed in range(3)]), 3),
        file_of(encapsulate([stream(1)]), 1),
        file_of(encapsulate([encode(picture(9, 14, 1, 12), Form(12, 4))]), 1),
    ]
    if samples.available():
        found += [samples.original(name).read_bytes() for name in ("CT_small.dcm",)]
    return found


def case(number: int, originals: list[bytes]) -> Case:
    """The file of this number."""
    chance = random.Random(number)
    content = bytearray(chance.choice(originals))
    offset = read_part10_head(bytes(content)).data_set_offset
    steps = []
    for _ in range(chance.randint(1, 6)):
        change = chance.choice(_CHANGES)
        change(content, offset, chance)
        steps.append(change.__name__.strip("_"))
    return Case(number, bytes(content), offset, tuple(steps))


# --- what is done to a file ------------------------------------------------------------------
def _flip(content: bytearray, offset: int, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 8)):
        content[_at(content, offset, chance)] ^= 1 << chance.randrange(8)


def _length(content: bytearray, offset: int, chance: random.Random) -> None:
    value = chance.choice(_LENGTHS)
    form = chance.choice(("<I", "<H"))
    at = _at(content, offset, chance)
    raw = struct.pack(form, value & (0xFFFF if form == "<H" else 0xFFFFFFFF))
    content[at : at + len(raw)] = raw


def _cut(content: bytearray, offset: int, chance: random.Random) -> None:
    del content[_at(content, offset, chance) :]


def _leave_out(content: bytearray, offset: int, chance: random.Random) -> None:
    at = _at(content, offset, chance)
    del content[at : at + chance.randint(1, 64)]


def _repeat(content: bytearray, offset: int, chance: random.Random) -> None:
    at = _at(content, offset, chance)
    piece = content[at : at + chance.randint(1, 256)]
    content[at:at] = piece * chance.randint(1, 20)


def _insert(content: bytearray, offset: int, chance: random.Random) -> None:
    at = _at(content, offset, chance)
    content[at:at] = chance.choice(_HEADERS) * chance.choice((1, 1, 2, 3000))


def _move(content: bytearray, offset: int, chance: random.Random) -> None:
    at, to = _at(content, offset, chance), _at(content, offset, chance)
    size = chance.randint(1, 64)
    piece = content[at : at + size]
    content[to : to + len(piece)] = piece


_CHANGES: Final[tuple[Callable[[bytearray, int, random.Random], None], ...]] = (
    _flip,
    _flip,
    _length,
    _length,
    _cut,
    _leave_out,
    _repeat,
    _insert,
    _move,
)


def _at(content: bytearray, offset: int, chance: random.Random) -> int:
    # At least one byte of a data set: what has none is told apart when a file is opened.
    if len(content) <= offset + 1:
        content += bytes(8)
    return chance.randrange(offset, len(content))


# --- what has to come of it ------------------------------------------------------------------
def try_case(one: Case, path: Path) -> str:
    """Send it in every way; what was wrong with that, empty: nothing."""
    path.write_bytes(one.content)
    began = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for target in TARGETS:
        for corrections in ({}, {0x00100010: "C^D"}):
            try:
                made = _made(path, target, corrections)
                went = made if corrections else _went(path, target)
            except (MemoryError, RecursionError, AssertionError) as error:
                return f"{target}: {type(error).__name__}"
            except Exception as error:  # noqa: BLE001 (whatever it is, it is the finding)
                return f"{target}: {type(error).__name__}: {error}"
            if made is not None and went is not None and made != went:
                return f"{target}: {len(made)} bytes by parts, {len(went)} were written"
    seconds = time.monotonic() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if seconds > CASE_S:
        return f"it took {seconds:.0f} s"
    return f"it took {grown // 1024} MiB" if grown > GROWTH_KIB else ""


def _made(path: Path, target: str, corrections: dict[int, str]) -> bytes | None:
    """What the re-encoder makes; None: it gives a reason instead."""
    out = bytearray()
    with suppress(LocalError, CannotSend), open_outgoing(path) as outgoing:
        for piece in pieces(outgoing, target, corrections):
            if isinstance(piece, FileRange):
                with path.open("rb") as file:
                    file.seek(piece.offset)
                    part = file.read(piece.length)
                if len(part) != piece.length:
                    raise AssertionError("a range that leads out of the file")
                out += part
            else:
                out += piece
        return bytes(out)
    return None


def _went(path: Path, target: str) -> bytes | None:
    """What the sender puts on the wire, frames decoded natively."""
    with loopback() as (ours, theirs):
        listener = Listener(theirs)
        association = SimpleNamespace(
            socket=ours,
            pdu_bytes_max=limits.pdu_bytes_advertised,
            timeouts=Timeouts.each(CASE_S),
        )
        complete = False
        try:
            with suppress(LocalError, CannotSend), open_outgoing(path) as outgoing:
                complete = DataSetWriter().write(
                    cast(ScuAssociation, association),
                    5,
                    COMMAND,
                    parts(outgoing, target, {}),
                    outgoing.descriptor,
                )
        finally:
            ours.shutdown(socket.SHUT_WR)
            listener.join(CASE_S)
        if not complete:
            return None
        return b"".join(data for _, kind, data in fragments(bytes(listener.stream)) if not kind & 1)


def run(seconds: float, first: int, directory: Path) -> Iterator[tuple[Case, str]]:
    """Case after case until the time is over; each with what was found, mostly nothing."""
    originals = seeds()
    end = time.monotonic() + seconds
    number = first
    while time.monotonic() < end:
        one = case(number, originals)
        yield one, try_case(one, directory / "case.dcm")
        number += 1
