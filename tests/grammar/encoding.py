"""Elements as bytes, in each of the encodings of PS3.5 7.1 and with every fault that is asked for.

Foreign to the engine's codecs: nothing here is taken from them.
"""

import struct
from typing import Final, NamedTuple

UNDEFINED: Final = 0xFFFFFFFF
ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD
PIXEL_DATA: Final = 0x7FE00010
CHARACTER_SET: Final = 0x00080005
LONG: Final = frozenset(
    ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]
)

# What a data set says, told apart from how it says it: bytes as they lie, or the items of a
# sequence. No value, no items and no bytes are one.
Value = bytes | list["Node"]
Node = dict[int, Value]


class Encoding(NamedTuple):
    """How elements are written."""

    explicit: bool
    big: bool = False

    @property
    def order(self) -> str:
        return ">" if self.big else "<"

    def element(self, tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
        """With the form that its VR has; `length` where it shall lie. What is too long for a short
        form is UN, as PS3.5 6.2.2 wants it."""
        size = len(value) if length is None else length
        if not self.explicit:
            return self.plain(tag, value, size)
        if vr not in LONG and size > 0xFFFF:
            vr = "UN"
        form = "HH2sHI" if vr in LONG else "HH2sH"
        fields = (0, size) if vr in LONG else (size,)
        name = vr.encode("latin-1")
        return struct.pack(self.order + form, tag >> 16, tag & 0xFFFF, name, *fields) + value

    def plain(self, tag: int, value: bytes = b"", length: int | None = None) -> bytes:
        """Implicit, and items and delimiters."""
        size = len(value) if length is None else length
        return struct.pack(self.order + "HHI", tag >> 16, tag & 0xFFFF, size) + value

    def odd(self, tag: int, vr: bytes, value: bytes, long: bool) -> bytes:
        """Any two bytes in the VR's place, with one of the two forms."""
        form, fields = ("HH2sHI", (0, len(value))) if long else ("HH2sH", (len(value),))
        return struct.pack(self.order + form, tag >> 16, tag & 0xFFFF, vr, *fields) + value

    def number(self, form: str, *values: float) -> bytes:
        """Binary values in this byte order."""
        return struct.pack(f"{self.order}{len(values)}{form}", *values)


class Made(NamedTuple):
    """Something that was made: its bytes, and what they say."""

    data: bytes
    value: Value
