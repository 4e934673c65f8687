"""Stored files made of elements that a test names."""

import struct
from pathlib import Path

from engine.files.part10 import part10_head
from tests.material import wire


def stored(directory: Path, data_set: bytes, syntax: str) -> Path:
    path = directory / "stored.dcm"
    path.write_bytes(part10_head(wire.CT_IMAGE, "1.2.3", syntax, "A") + data_set)
    return path


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """Explicit; `length` where it shall lie."""
    length = len(value) if length is None else length
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        head = struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, length)
    else:
        head = struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, length)
    return head + value


def plain(tag: int, value: bytes, length: int | None = None) -> bytes:
    """Implicit, and items."""
    length = len(value) if length is None else length
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length) + value


UNDEFINED = 0xFFFFFFFF
