"""An element as it is written: its header by tag, VR and length, and an item around some.

Group lengths and lengths that are not known yet are the callers'; here nothing is decided but the
form (PS3.5 7.1.2, 7.1.3, 7.5).
"""

from collections.abc import Iterable
from struct import Struct
from typing import Final

from engine.dictionary.vr import LONG_VRS
from engine.outgoing.reader import ITEM

Written = tuple[int, bytes, bytes]  # tag, VR, value

_PLAIN: Final = Struct("<HHI").pack
_SHORT: Final = Struct("<HH2sH").pack
_LONG: Final = Struct("<HH2sHI").pack
_SHORT_BYTES_MAX: Final = 0xFFFE


def header(tag: int, vr: bytes, length: int, explicit: bool) -> bytes:
    """An element's tag, VR and length. What is too long for its VR has to be UN (PS3.5 6.2.2)."""
    if not explicit:
        return _PLAIN(tag >> 16, tag & 0xFFFF, length)
    if vr in LONG_VRS:
        return _LONG(tag >> 16, tag & 0xFFFF, vr, 0, length)
    if length > _SHORT_BYTES_MAX:
        return _LONG(tag >> 16, tag & 0xFFFF, b"UN", 0, length)
    return _SHORT(tag >> 16, tag & 0xFFFF, vr, length)


def item(elements: Iterable[Written], explicit: bool) -> bytes:
    """An item of a sequence, with a length of its own."""
    body = b"".join(
        header(tag, vr, len(value), explicit) + value for tag, vr, value in sorted(elements)
    )
    return header(ITEM, b"", len(body), False) + body
