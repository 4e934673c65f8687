"""How the header of an explicit element is laid out, when its VR is none that we know.

PS3.5 7.1.2 has two forms. Writers make others: VRs of the future, "??" and blanks for an unknown
VR, single elements in implicit VR among explicit ones. Here is the one answer that the readers of
stored data sets give; native/src/spool/tag_scanner.cpp gives the same for the index.
"""

from enum import IntEnum
from struct import Struct
from typing import Final

from engine.dictionary.vr import LONG_VRS

# PS3.5 7.1.2: all other VRs have a length of 32 bits.
SHORT_VRS: Final = frozenset(
    {
        *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO"),
        *(b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
    }
)


class Form(IntEnum):
    """What stands between the tag and the value."""

    SHORT = 0  # VR and 16 bits of length
    LONG = 1  # VR, two bytes that are reserved, 32 bits of length
    IMPLICIT = 2  # 32 bits of length


NO_VR: Final = b"\0\0"
_TAG: Final = Struct("<HH").unpack_from


def may_follow(tag: int, header: bytes) -> bool:
    """Whether these 6 bytes begin an explicit element behind the one of this tag, or end an item.

    It tells what NO_VR and 16 bits are: a VR of zeros and a length, as DCMTK reads them, or a
    length in implicit VR that is a multiple of 64 KiB. And what 16 bits of zeros are behind two
    letters that are no VR: the length of an empty value, or reserved ones ahead of 32 bits.
    """
    group, element = _TAG(header)
    if group == 0xFFFE:
        return element in (0xE00D, 0xE0DD)
    return group << 16 | element > tag and header[4:6] in SHORT_VRS | LONG_VRS


def form_of(vr: bytes, behind: int) -> Form:
    """By the two bytes in the VR's place and the 16 bits behind them."""
    if vr in SHORT_VRS:
        return Form.SHORT
    if vr in LONG_VRS:
        return Form.LONG
    first, second = vr
    if 0x41 <= first <= 0x5A and 0x41 <= second <= 0x5A:
        # A VR of the future has the long form (PS3.5 6.2, note), as DCMTK reads it; one that a
        # writer made up mostly the short one. The reserved bytes tell them apart.
        return Form.SHORT if behind else Form.LONG
    if 0x20 <= first <= 0x7E and 0x20 <= second <= 0x7E:
        # "??", blanks, small letters: DCMTK reads the short form. As a length in implicit VR they
        # would be 8 KiB and more.
        return Form.SHORT
    return Form.IMPLICIT
