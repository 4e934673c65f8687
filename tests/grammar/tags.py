"""The tags that data sets are made of: the standard's by VR, and those of private creators."""

from functools import cache
from random import Random
from typing import Final, NamedTuple

from pydicom.datadict import DicomDictionary, RepeatersDictionary, private_dictionaries

# Set by themselves: what others are read by, what indexes are made of, and what is no element.
_OWN: Final = frozenset(
    {
        *(0x00080005, 0x00080001, 0x00080016, 0x00080018, 0x00080060, 0x00100010, 0x00100020),
        *(0x00100021, 0x0020000D, 0x0020000E, 0x00280002, 0x00280004, 0x00280006, 0x00280008),
        *(0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x54001004),
        *(0x00283002, 0x00880200),
    }
)
_GROUPS: Final = frozenset({0x0000, 0x0002, 0x0004, 0x0006, 0x7FE0, 0xFFFA, 0xFFFC, 0xFFFE})
ICON_SEQUENCE: Final = 0x00880200
PADDING: Final = 0xFFFCFFFC
_UNKNOWN_CREATORS: Final = ("ACME 1.0", "acme 2", "Ümlaut", "X" * 64)


class Known(NamedTuple):
    """A tag and the VR that a dictionary has for it."""

    tag: int
    vr: str


@cache
def standard() -> tuple[Known, ...]:
    """All that have a value of their own; where the VR is open, each that it may be."""
    found = [
        Known(tag, vr)
        for tag, (vrs, *_) in sorted(DicomDictionary.items())
        if tag not in _OWN and tag >> 16 not in _GROUPS and tag & 0xFFFF and vrs != "SQ"
        for vr in vrs.split(" or ")
        if len(vr) == 2
    ]
    found += [
        Known(int(mask.replace("x", "0"), 16) | repeat << 16, vrs.split(" or ")[0])
        for mask, (vrs, *_) in sorted(RepeatersDictionary.items())
        if mask.startswith(("50xx", "60xx")) and vrs != "SQ"
        for repeat in (0, 4)
    ]
    return tuple(found)


@cache
def sequences() -> tuple[int, ...]:
    """The tags of sequences."""
    return tuple(
        tag
        for tag, (vr, *_) in sorted(DicomDictionary.items())
        if vr == "SQ" and tag not in _OWN and tag >> 16 not in _GROUPS
    )


@cache
def _private() -> tuple[tuple[str, tuple[Known, ...]], ...]:
    """By creator: elements, as group and the last byte of the element."""
    creators = []
    for creator, entries in sorted(private_dictionaries.items()):
        elements = tuple(
            Known(int(mask[:4] + "00" + mask[6:], 16), vrs)
            for mask, (vrs, *_) in sorted(entries.items())
            if mask[4:6] == "xx" and len(vrs) == 2 and "x" not in mask[:4] + mask[6:]
        )
        if elements and creator.isascii():
            creators.append((creator, elements))
    return tuple(creators)


def private_block(chance: Random) -> tuple[str, int, int, list[Known]]:
    """(creator, group, block, elements) of a creator that pydicom knows, or of one it does not."""
    block = chance.choice((0x10, 0x10, 0x11, 0xFF))
    if chance.random() < 0.5:
        creator, elements = chance.choice(_private())
        group = chance.choice(elements).tag >> 16
        own = [each for each in elements if each.tag >> 16 == group]
        chosen = chance.sample(own, min(len(own), chance.randint(1, 4)))
    else:
        creator, group = chance.choice(_UNKNOWN_CREATORS), chance.choice((0x0009, 0x0019, 0x7FDF))
        numbers = chance.sample(range(256), chance.randint(1, 3))
        vrs = ("LO", "UN", "OB", "SQ", "US", "DS", "FD", "UT")
        chosen = [Known(group << 16 | number, chance.choice(vrs)) for number in numbers]
    return creator, group, block, chosen
