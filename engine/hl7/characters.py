"""MSH-18, the character set of a message: bytes become text before anything is cut at a delimiter.

The two-byte characters of JIS X 0208 are made of bytes that are delimiters in ASCII (0x21 to 0x7E),
so the whole message is decoded first. A byte that the set does not explain refuses the message: a
name guessed wrong would be another patient's.
"""

from collections.abc import Sequence
from typing import Final

from engine.hl7.refusal import ErrorCode, RefusedError

_PLACE: Final = "MSH-18"
# HL7 table 0211, and the spellings that are met.
_CODECS: Final = {
    "ASCII": "ascii",
    "ISO IR6": "ascii",
    "ISO IR 6": "ascii",
    "8859/1": "iso8859-1",
    "8859/2": "iso8859-2",
    "8859/3": "iso8859-3",
    "8859/4": "iso8859-4",
    "8859/5": "iso8859-5",
    "8859/6": "iso8859-6",
    "8859/7": "iso8859-7",
    "8859/8": "iso8859-8",
    "8859/9": "iso8859-9",
    "8859/15": "iso8859-15",
    "UNICODE UTF-8": "utf-8",
    "UNICODE": "utf-8",
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
    "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr",
    "BIG-5": "big5",
}
# JIS by escape sequences (ISO 2022), which the base set is left by and come back to.
_JIS: Final = frozenset(
    {"ISO IR87", "ISO IR 87", "ISO IR159", "ISO IR 159", "ISO IR14", "ISO IR 14"}
)
_JIS_CODEC: Final = "iso2022_jp_ext"
CHARACTER_SETS: Final = ("ASCII", "8859/1", "8859/15", "UNICODE UTF-8", "ISO IR87")


def codec_of(character_sets: Sequence[str], when_none: str) -> str:
    """Python's codec for the repetitions of MSH-18. `when_none`: the set of messages that name
    none."""
    names = [name.strip().upper() for name in character_sets]
    if not any(names):
        names = [when_none]
    if any(name in _JIS for name in names):
        others = {name for name in names if name} - _JIS
        if others <= {"ASCII", "ISO IR6", "ISO IR 6"}:
            return _JIS_CODEC
        raise RefusedError(
            "JIS by escape sequences is read over ASCII only", ErrorCode.TABLE_VALUE, _PLACE
        )
    codecs = {_CODECS.get(name, "") for name in names if name}
    if len(codecs) != 1 or codecs == {""}:
        raise RefusedError(
            "this character set is not read; what is: " + ", ".join(CHARACTER_SETS),
            ErrorCode.TABLE_VALUE,
            _PLACE,
        )
    (codec,) = codecs
    return codec


def decoded(content: bytes, codec: str, named: bool) -> str:
    """The message's text. `named`: MSH-18 says what it is in."""
    try:
        text = content.decode(codec)
    except UnicodeDecodeError as error:
        hint = "" if named else "; MSH-18 names no set, `hl7.character_set` says which it is then"
        raise RefusedError(
            f"byte {error.start + 1} of the message is none of its character set{hint}",
            ErrorCode.DATA_TYPE,
            _PLACE,
        ) from error
    return text.removeprefix("\ufeff")
