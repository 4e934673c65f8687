"""What VRs are like, and the VR of an element that comes without one.

It is looked up in pydicom's dictionaries, which are loaded when they are needed. What no dictionary
knows is UN, which is how the standard wants an unknown element to be written (PS3.5 6.2.2). A VR
that depends on other elements comes as the dictionary has it: "US or SS".
"""

from functools import lru_cache
from typing import Final

UNKNOWN: Final = b"UN"
# PS3.5 7.1.2: these VRs have two reserved bytes and a length of 32 bits.
LONG_VRS: Final = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
# Bytes of one value, where it is fixed: a private dictionary that says otherwise is mistaken.
VALUE_BYTES: Final = {
    b"US": 2,
    b"SS": 2,
    b"OW": 2,
    b"UL": 4,
    b"SL": 4,
    b"FL": 4,
    b"AT": 4,
    b"OF": 4,
    b"OL": 4,
    b"FD": 8,
    b"OD": 8,
    b"UV": 8,
    b"SV": 8,
    b"OV": 8,
}


@lru_cache(maxsize=16384)
def standard_vr(tag: int) -> bytes:
    """Of an element with an even group number."""
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag).encode("ascii")
    except KeyError:
        return UNKNOWN


@lru_cache(maxsize=16384)
def private_vr(tag: int, creator: str) -> bytes:
    """Of a private element in a block that `creator` reserved."""
    from pydicom.datadict import private_dictionary_VR

    try:
        vr = private_dictionary_VR(tag, creator).encode("ascii")
    except KeyError:
        return UNKNOWN
    return vr if len(vr) == 2 else UNKNOWN
