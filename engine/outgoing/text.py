"""Corrected values as bytes: by VR, and in the character set that the data set has.

If a value cannot be said in that character set, another one is declared (`dictionary/saying.py`).
Where there is none, nothing is sent: a name with question marks would be another patient's.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from engine.dictionary.attributes import BY_TAG, SPECIFIC_CHARACTER_SET
from engine.dictionary.saying import Text, said
from engine.dictionary.vr import UNKNOWN, standard_vr
from engine.errors import LocalError

Element = tuple[bytes, bytes]  # VR, value

_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
_NEVER_CORRECTED: Final = frozenset({SPECIFIC_CHARACTER_SET, _SOP_CLASS_UID, _SOP_INSTANCE_UID})
CHARACTER_SET_VRS: Final = frozenset((b"LO", b"LT", b"PN", b"SH", b"ST", b"UC", b"UT"))
_PLAIN_VRS: Final = frozenset(
    (b"AE", b"AS", b"CS", b"DA", b"DS", b"DT", b"IS", b"TM", b"UI", b"UR")
)
_SHORT_BYTES_MAX: Final = 0xFFFE


def encode_corrections(
    corrections: Mapping[int, str], character_set: bytes, allowed: Iterable[str] = ()
) -> dict[int, Element]:
    """{tag: (VR, value)} of what replaces the elements of a data set with this (0008,0005), which
    is among them if it has to change; `allowed`: what the peer takes beyond the statement's. An
    empty value means: no content. LocalError when a value cannot be encoded; it names the tag,
    never the value."""
    fixed: dict[int, Element] = {}
    texts: dict[int, Text] = {}
    for tag, text in corrections.items():
        vr = _vr_of(tag)
        if vr in CHARACTER_SET_VRS:
            texts[tag] = (vr.decode("ascii"), text)
        elif text.isascii():
            fixed[tag] = (vr, _padded(text.encode("ascii"), vr, tag))
        else:
            raise LocalError(f"correction of {_shown(tag)}: {vr.decode()} is ASCII only")
    found = said(texts, character_set, allowed)
    if found is not None:
        declared, values = found
        if declared != character_set:
            padded = _padded(declared, b"CS", SPECIFIC_CHARACTER_SET)
            fixed[SPECIFIC_CHARACTER_SET] = (b"CS", padded)
        for tag, value in values.items():
            vr = texts[tag][0].encode("ascii")
            fixed[tag] = (vr, _padded(value, vr, tag))
        return fixed
    tags = ", ".join(_shown(tag) for tag, (_, text) in texts.items() if not text.isascii())
    raise LocalError(f"correction of {tags}: not possible in the character set of the data set")


def _vr_of(tag: int) -> bytes:
    known = BY_TAG.get(tag)
    vr = known.vr.encode("ascii") if known else UNKNOWN if tag >> 16 & 1 else standard_vr(tag)
    if tag in _NEVER_CORRECTED or vr not in CHARACTER_SET_VRS | _PLAIN_VRS:
        raise LocalError(f"{_shown(tag)} is not an element that can be corrected")
    return vr


def _padded(value: bytes, vr: bytes, tag: int) -> bytes:
    if len(value) & 1:
        value += b"\0" if vr == b"UI" else b" "
    if len(value) > _SHORT_BYTES_MAX:
        raise LocalError(f"correction of {_shown(tag)} is longer than {_SHORT_BYTES_MAX} bytes")
    return value


def _shown(tag: int) -> str:
    return f"({tag >> 16:04x},{tag & 0xFFFF:04x})"
