"""Corrected values as bytes: by VR, and in the character set that the data set has.

If a value cannot be said in that character set, another one is declared in which every other value
keeps its meaning: a superset, or the same set with a code extension behind it (PS3.5 6.1.2.5).
Where there is none, nothing is sent: a name with question marks would be another patient's.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from engine.dictionary.attributes import BY_TAG, SPECIFIC_CHARACTER_SET, codecs_of, decode_text
from engine.dictionary.vr import UNKNOWN, standard_vr
from engine.errors import LocalError

Element = tuple[bytes, bytes]  # VR, value

_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
_NEVER_CORRECTED: Final = frozenset({SPECIFIC_CHARACTER_SET, _SOP_CLASS_UID, _SOP_INSTANCE_UID})
_CHARACTER_SET_VRS: Final = frozenset((b"LO", b"LT", b"PN", b"SH", b"ST", b"UC", b"UT"))
_PLAIN_VRS: Final = frozenset(
    (b"AE", b"AS", b"CS", b"DA", b"DS", b"DT", b"IS", b"TM", b"UI", b"UR")
)
_SHORT_BYTES_MAX: Final = 0xFFFE
# What ends a stretch in which an escape sequence holds (PS3.5 6.1.2.5.3).
_DELIMITERS: Final = {b"PN": r"([\\^=])", b"LO": r"(\\)", b"SH": r"(\\)", b"UC": r"(\\)"}
_LINE_DELIMITERS: Final = r"([\t\n\f\r])"

# Behind a first value of ISO 2022; Japanese first, it is what the conformance statement names.
_EXTENSIONS: Final = (
    *("ISO 2022 IR 100", "ISO 2022 IR 87", "ISO 2022 IR 159", "ISO 2022 IR 149"),
    *("ISO 2022 IR 58", "ISO 2022 IR 144", "ISO 2022 IR 101", "ISO 2022 IR 148"),
    *("ISO 2022 IR 126", "ISO 2022 IR 127", "ISO 2022 IR 138", "ISO 2022 IR 166"),
    *("ISO 2022 IR 109", "ISO 2022 IR 110"),
)
_DEFAULT_CODEC: Final = "iso8859"  # pydicom's for ISO_IR 6, of which only ASCII counts
_UNICODE: Final = "ISO_IR 192"
# Their sets are designated as G0, in place of ASCII, and have to be left again.
_G0_CODECS: Final = frozenset({"iso2022_jp", "iso2022_jp_2"})
_ESCAPE: Final = re.compile(rb"\x1b(?:\$[B@]|\$\([A-D]|\([BIJ])")


def encode_corrections(corrections: Mapping[int, str], character_set: bytes) -> dict[int, Element]:
    """{tag: (VR, value)} of what replaces the elements of a data set with this (0008,0005), which
    is among them if it has to change. An empty value means: no content. LocalError when a value
    cannot be encoded; it names the tag, never the value."""
    fixed: dict[int, Element] = {}
    texts: dict[int, tuple[bytes, str]] = {}
    for tag, text in corrections.items():
        vr = _vr_of(tag)
        if vr in _CHARACTER_SET_VRS:
            texts[tag] = (vr, text)
        elif text.isascii():
            fixed[tag] = (vr, _padded(text.encode("ascii"), vr, tag))
        else:
            raise LocalError(f"correction of {_shown(tag)}: {vr.decode()} is ASCII only")
    for candidate in _character_sets(character_set):
        encoded = _encode_all(texts, candidate)
        if encoded is None:
            continue
        if candidate != character_set:
            padded = _padded(candidate, b"CS", SPECIFIC_CHARACTER_SET)
            fixed[SPECIFIC_CHARACTER_SET] = (b"CS", padded)
        return fixed | encoded
    tags = ", ".join(_shown(tag) for tag, (_, text) in texts.items() if not text.isascii())
    raise LocalError(f"correction of {tags}: not possible in the character set of the data set")


def _vr_of(tag: int) -> bytes:
    known = BY_TAG.get(tag)
    vr = known.vr.encode("ascii") if known else UNKNOWN if tag >> 16 & 1 else standard_vr(tag)
    if tag in _NEVER_CORRECTED or vr not in _CHARACTER_SET_VRS | _PLAIN_VRS:
        raise LocalError(f"{_shown(tag)} is not an element that can be corrected")
    return vr


def _character_sets(declared: bytes) -> Iterator[bytes]:
    """The declared one, then what may be declared instead."""
    yield declared
    codecs, unknown = codecs_of(declared)
    terms = [term.strip(b" \0").decode("latin-1").upper() for term in declared.split(b"\\")]
    if unknown or codecs[0] == "UTF8" or codecs[0] == "GB18030":
        return
    if codecs[0] == "GBK":
        yield b"GB18030"
        return
    if codecs == (_DEFAULT_CODEC,):
        yield b"ISO_IR 100"
    number = re.search(r"(\d+)$", terms[0])
    first = f"ISO 2022 IR {number[1]}" if number and codecs[0] != _DEFAULT_CODEC else ""
    if codecs_of(first.encode("latin-1"))[0] == codecs[:1]:
        for extension in _EXTENSIONS:
            if extension not in (first, *terms):
                yield "\\".join([first, *terms[1:], extension]).encode("latin-1")
    if codecs == (_DEFAULT_CODEC,):
        yield _UNICODE.encode("ascii")


def _encode_all(
    texts: Mapping[int, tuple[bytes, str]], character_set: bytes
) -> dict[int, Element] | None:
    """None when one of them cannot be said in this character set."""
    encoded: dict[int, Element] = {}
    codecs = codecs_of(character_set)[0]
    for tag, (vr, text) in texts.items():
        try:
            value = _encode(text, vr, codecs)
        except UnicodeError:
            return None
        # The reader's own way back is the judge; damaged or different: not this character set.
        if not text.isascii() and decode_text(value, character_set) != (text.rstrip(" \0"), False):
            return None
        encoded[tag] = (vr, _padded(value, vr, tag))
    return encoded


def _encode(text: str, vr: bytes, codecs: tuple[str, ...]) -> bytes:
    if text.isascii():
        return text.encode("ascii")
    stretches = re.split(_DELIMITERS.get(vr, _LINE_DELIMITERS), text)
    return b"".join(_encode_stretch(stretch, codecs) for stretch in stretches)


def _encode_stretch(text: str, codecs: tuple[str, ...]) -> bytes:
    """Begins and ends with the first codec's sets; UnicodeError when a character is in none."""
    from pydicom.charset import ENCODINGS_TO_CODES

    encoded = bytearray()
    current = codecs[0]
    for run in re.findall(r"[\0-\x7f]+|[^\0-\x7f]+", text):
        if run.isascii():
            encoded += run.encode("ascii")
            continue
        while run:
            codec, part = _longest(run, codecs)
            run = run[len(part) :]
            raw = _ESCAPE.sub(b"", _raw(part, codec))
            if codec in _G0_CODECS:
                back = b"\x1b(J" if codecs[0] == "shift_jis" else b"\x1b(B"
                encoded += ENCODINGS_TO_CODES[codec] + raw + back
                continue
            if codec != current:
                encoded += ENCODINGS_TO_CODES[codec]
                current = codec
            encoded += raw
    return bytes(encoded)


def _longest(run: str, codecs: tuple[str, ...]) -> tuple[str, str]:
    """The codec that takes most of the beginning, and how much."""
    best = ("", "")
    for codec in codecs:
        if codec == _DEFAULT_CODEC:
            continue
        part = run
        try:
            _raw(part, codec)
        except UnicodeEncodeError as error:
            part = run[: error.start]
        if len(part) > len(best[1]):
            best = (codec, part)
    if not best[1]:
        raise UnicodeError("a character that is in none of the sets")
    return best


def _raw(text: str, codec: str) -> bytes:
    from pydicom.charset import custom_encoders

    if codec in custom_encoders:
        encoded: bytes = custom_encoders[codec](text, errors="strict")
        return encoded
    return text.encode(codec)


def _padded(value: bytes, vr: bytes, tag: int) -> bytes:
    if len(value) & 1:
        value += b"\0" if vr == b"UI" else b" "
    if len(value) > _SHORT_BYTES_MAX:
        raise LocalError(f"correction of {_shown(tag)} is longer than {_SHORT_BYTES_MAX} bytes")
    return value


def _shown(tag: int) -> str:
    return f"({tag >> 16:04x},{tag & 0xFFFF:04x})"
