"""Data sets that peers should not send and do: input of the scanner's tests and of its fuzzing.

Each is what a product was once broken by, or what PS3.5 forbids. All are made, none hold a person.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

UNDEFINED: Final = 0xFFFFFFFF
LONG_FORM: Final = frozenset(
    ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]
)


@dataclass(frozen=True, slots=True)
class Hostile:
    """A data set, and what of it the scanner is to find: tag -> value."""

    name: str
    explicit: bool
    data: bytes
    found: dict[int, bytes]
    outcome: str  # "done", "malformed" or "more"


def explicit(tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    """An element in Explicit VR Little Endian; `length` may lie."""
    length = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode("latin-1"))
    if vr in LONG_FORM:
        return head + struct.pack("<HI", 0, length) + value
    return head + struct.pack("<H", length) + value


def implicit(tag: int, value: bytes, length: int | None = None) -> bytes:
    """An element in Implicit VR Little Endian; also items and delimiters."""
    length = len(value) if length is None else length
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length) + value


ITEM: Final = implicit(0xFFFEE000, b"", UNDEFINED)
ITEM_END: Final = implicit(0xFFFEE00D, b"")
SEQUENCE_END: Final = implicit(0xFFFEE0DD, b"")
MODALITY: Final = explicit(0x00080060, "CS", b"CT")
PATIENT: Final = explicit(0x00100020, "LO", b"P-1 ")
SERIES: Final = explicit(0x0020000E, "UI", b"1.2.3\0")
PIXELS: Final = explicit(0x7FE00010, "OW", b"\0\1" * 8)
KEPT: Final = {0x00080060: b"CT", 0x00100020: b"P-1 "}
ALL: Final = KEPT | {0x0020000E: b"1.2.3\0"}


def nested(depth: int, end: bool = True) -> bytes:
    """Sequences of undefined length in each other."""
    opening = explicit(0x00081140, "SQ", b"", UNDEFINED) + ITEM
    return opening * depth + (ITEM_END + SEQUENCE_END) * (depth if end else 0)


def _around(middle: bytes) -> bytes:
    return MODALITY + middle + PATIENT + SERIES + PIXELS


def _lengths() -> Iterator[Hostile]:
    yield Hostile("nothing", True, b"", {}, "more")
    yield Hostile("only-pixels", True, PIXELS, {}, "done")
    yield Hostile("ends-in-header", True, MODALITY + PATIENT[:5], {0x00080060: b"CT"}, "more")
    yield Hostile("ends-in-value", True, MODALITY + PATIENT[:-1], {0x00080060: b"CT"}, "more")
    for length in (0x7FFFFFFF, 0x80000000, 0xFFFFFFFE):
        data = MODALITY + explicit(0x00091010, "UN", b"", length) + PATIENT + SERIES
        yield Hostile(f"length-{length:08x}", True, data, {0x00080060: b"CT"}, "more")
    forbidden = explicit(0x00090010, "UT", b"", UNDEFINED)
    yield Hostile("undefined-text", True, _around(forbidden), {0x00080060: b"CT"}, "malformed")
    wanted = explicit(0x00100010, "UT", b"", UNDEFINED)
    yield Hostile("undefined-wanted", True, MODALITY + wanted, {0x00080060: b"CT"}, "malformed")
    odd = explicit(0x00080060, "CS", b"CTX") + PATIENT + PIXELS
    yield Hostile("odd-length", True, odd, {0x00080060: b"CTX", 0x00100020: b"P-1 "}, "done")
    long = explicit(0x00100010, "UC", b"N" * 70_000) + PIXELS
    yield Hostile("long-value", True, long, {0x00100010: b"N" * 1024}, "done")
    empty = explicit(0x00100010, "PN", b"") + PATIENT + PIXELS
    yield Hostile("empty-value", True, empty, {0x00100010: b"", 0x00100020: b"P-1 "}, "done")


def _sequences() -> Iterator[Hostile]:
    yield Hostile("depth-1024", True, _around(nested(1024)), ALL, "done")
    yield Hostile("depth-1025", True, _around(nested(1025)), {0x00080060: b"CT"}, "malformed")
    deep = MODALITY + nested(100_000, end=False)
    yield Hostile("depth-100000", True, deep, {0x00080060: b"CT"}, "malformed")
    open_end = _around(explicit(0x00081140, "SQ", b"", UNDEFINED) + ITEM)
    yield Hostile("no-delimiter", True, open_end, {0x00080060: b"CT"}, "more")
    no_item = _around(explicit(0x00081140, "SQ", b"", UNDEFINED) + explicit(0x00080005, "CS", b""))
    yield Hostile("element-for-item", True, no_item, {0x00080060: b"CT"}, "malformed")
    for name, stray in (("item", ITEM), ("item-end", ITEM_END), ("sequence-end", SEQUENCE_END)):
        yield Hostile(f"stray-{name}", True, _around(stray), {0x00080060: b"CT"}, "malformed")
    crossed = explicit(0x00081140, "SQ", b"", UNDEFINED) + ITEM + SEQUENCE_END + ITEM_END
    yield Hostile("crossed-delimiters", True, _around(crossed), {0x00080060: b"CT"}, "malformed")
    inner = implicit(0x00091001, b"x" * 6) + implicit(0x00100020, b"HIDDEN")
    unknown = explicit(0x00091010, "UN", b"", UNDEFINED) + ITEM + inner + ITEM_END + SEQUENCE_END
    yield Hostile("unknown-holds-implicit", True, _around(unknown), ALL, "done")
    switched = explicit(0x00081140, "SQ", b"", UNDEFINED) + ITEM + inner + ITEM_END + SEQUENCE_END
    yield Hostile("sequence-turns-implicit", True, _around(switched), ALL, "done")
    fragments = implicit(0xFFFEE000, b"") + implicit(0xFFFEE000, b"\xff\xd8" * 9) + SEQUENCE_END
    icon = explicit(0x7FE00010, "OB", b"", UNDEFINED) + fragments
    icon = explicit(0x00880200, "SQ", b"", UNDEFINED) + ITEM + icon + ITEM_END + SEQUENCE_END
    yield Hostile("icon-of-fragments", True, MODALITY + icon, {0x00080060: b"CT"}, "more")
    early = explicit(0x00091010, "SQ", b"", UNDEFINED) + icon[12:]
    yield Hostile("early-fragments", True, _around(early), ALL, "done")
    whole = explicit(0x00081140, "SQ", implicit(0xFFFEE000, b"\xff" * 64))
    yield Hostile("defined-holds-rubbish", True, _around(whole), ALL, "done")


def _representations() -> Iterator[Hostile]:
    bare = implicit(0x00080060, b"CT") + implicit(0x00100020, b"P-1 ")
    yield Hostile("implicit-for-explicit", True, bare + PIXELS, KEPT, "done")
    yield Hostile("explicit-for-implicit", False, _around(b""), ALL, "done")
    marks = explicit(0x00090010, "??", b"abcd")
    yield Hostile("vr-question-marks", True, _around(marks), ALL, "done")
    future = explicit(0x00090010, "ZZ", struct.pack("<I", 4) + b"abcd", 0)
    yield Hostile("vr-of-the-future", True, _around(future), ALL, "done")
    zeros = explicit(0x00090010, "\0\0", b"abcd")
    yield Hostile("vr-zeros", True, _around(zeros), ALL, "done")
    empty = explicit(0x00080061, "ZZ", b"")
    yield Hostile("vr-invented-and-empty", True, _around(empty), ALL, "done")
    invented = explicit(0x00090010, "ZZ", b"abcd")
    yield Hostile("vr-invented", True, _around(invented), ALL, "done")
    slipped = implicit(0x00090010, b"abcd")
    yield Hostile("one-implicit-element", True, _around(slipped), ALL, "done")
    rows = explicit(0x00080005, "UL", struct.pack("<I", 512)) + PATIENT + PIXELS
    found = {0x00080005: struct.pack("<I", 512), 0x00100020: b"P-1 "}
    yield Hostile("number-for-text", True, rows, found, "done")
    wanted_sequence = explicit(0x00080060, "SQ", implicit(0xFFFEE000, b"")) + PATIENT + PIXELS
    yield Hostile("sequence-for-text", True, wanted_sequence, {0x00100020: b"P-1 "}, "done")
    yield Hostile("noise", True, b"\0" + bytes(range(256)) * 8, {}, "more")
    for name, value in TEXTS.items():
        data = explicit(0x00080060, "CS", b"CT") + explicit(0x00100020, "LO", value) + PIXELS
        yield Hostile(f"text-{name}", True, data, KEPT | {0x00100020: value}, "done")


def _disorder() -> Iterator[Hostile]:
    swapped = PATIENT + MODALITY + SERIES + PIXELS
    yield Hostile("descending", True, swapped, ALL, "done")
    twice = MODALITY + explicit(0x00100020, "LO", b"OTHER-1 ") + PATIENT + SERIES + PIXELS
    yield Hostile("twice", True, twice, ALL, "done")
    behind = explicit(0x00400244, "DA", b"20240101")
    yield Hostile("a-little-late", True, MODALITY + PATIENT + behind + SERIES + PIXELS, ALL, "done")
    yield Hostile("late", True, MODALITY + PATIENT + behind * 64 + SERIES + PIXELS, KEPT, "done")
    broken = explicit(0x00400275, "SQ", b"", UNDEFINED) + PIXELS
    yield Hostile("broken-behind", True, MODALITY + PATIENT + SERIES + broken, ALL, "done")
    many = SERIES + MODALITY * 64 + PATIENT[:0] + PIXELS
    found = {0x00080060: b"CT", 0x0020000E: b"1.2.3\0"}
    yield Hostile("disorder-64", True, many, found, "done")
    yield Hostile("disorder-65", True, SERIES + MODALITY * 65 + PIXELS, found, "malformed")


TEXTS: Final = {
    "gb18030-backslash": "張\\".encode("gb18030") + b"\x5c",
    "ir87": b"\x1b$B;3ED\x1b(B^\x1b$B\x5c\x3d\x1b(B ",
    "markup": b"<script>alert(1)</script> ",
    "newline": b'x"\r\n{"level":"info"}',
    "shell": b"$(rm -rf /);`id`",
    "dots": b"../../../etc/passwd ",
    "nuls": b"\0" * 16,
}


def cases() -> list[Hostile]:
    """All of them; names are unique."""
    return [*_lengths(), *_sequences(), *_representations(), *_disorder()]
