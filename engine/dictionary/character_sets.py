"""Text under (0008,0005), read and written: PS3.5 6.1.2.4 and 6.1.2.5, with code extensions.

A value is decoded as a whole and split afterwards, since the second bytes of kanji, GBK and GB18030
may be carets, backslashes and equals signs. An escape sequence holds up to the next delimiter or
control character (6.1.2.5.3), where the first value of (0008,0005) holds again. No escape sequence
ever gets into the text, whether it was announced or not.
"""

import re
from typing import Final

from engine.dictionary.code_sets import ASCII, BY_ESCAPE, ROMAJI, CodeSet, Declared

_ESC: Final = 0x1B
_ESCAPE: Final = re.compile(rb"\x1b[\x20-\x2f]*[\x30-\x7e]")
# What the code extensions end at, besides control characters (PS3.5 6.1.2.5.3).
_DELIMITERS: Final = {
    "PN": frozenset(b"\\^="),
    **dict.fromkeys(("LO", "SH", "UC"), frozenset(b"\\")),
}
_NO_DELIMITERS: Final[frozenset[int]] = frozenset()
_UNREADABLE: Final = "\ufffd"
_STRETCH: Final = {
    "PN": re.compile(r"([\\^=\0-\x1f])"),
    **dict.fromkeys(("LO", "SH", "UC"), re.compile(r"([\\\0-\x1f])")),
}
_LINES: Final = re.compile(r"([\0-\x1f])")


# --- reading ------------------------------------------------------------------------------------
def decode(raw: bytes, declared: Declared, vr: str) -> tuple[str, bool]:
    """(text, damaged): `damaged` when the character set did not explain all of the bytes."""
    if declared.alone:
        kept = _ESCAPE.sub(b"", raw).replace(b"\x1b", b"")
        try:
            return kept.decode(declared.alone), declared.unknown or len(kept) < len(raw)
        except UnicodeDecodeError:
            return kept.decode(declared.alone, "replace"), True
    return _Decoder(raw, declared, _DELIMITERS.get(vr, _NO_DELIMITERS)).decoded()


class _Decoder:
    """One value with code extensions, byte by byte: values are short, and what is regular is
    decoded elsewhere."""

    def __init__(self, raw: bytes, declared: Declared, delimiters: frozenset[int]) -> None:
        self._raw = raw
        self._declared = declared
        self._delimiters = delimiters
        self._damaged = declared.unknown
        self._left, self._right = declared.left, declared.right
        # Latin-1 without a word about it is common. Where extensions are used it is an error.
        self._is_plain = declared.sets == (ASCII,) and _ESC not in raw

    def decoded(self) -> tuple[str, bool]:
        raw, at = self._raw, 0
        text: list[str] = []
        while at < len(raw):
            byte = raw[at]
            if byte == _ESC:
                at += self._designate(at)
                continue
            if byte < 0x20:
                self._reset()
                part, used = chr(byte), 1
            elif byte < 0x80:
                part, used = self._left_hand(at)
            else:
                part, used = self._right_hand(at)
            text.append(part)
            at += used
        return "".join(text), self._damaged

    def _reset(self) -> None:
        self._left, self._right = self._declared.left, self._declared.right

    def _designate(self, at: int) -> int:
        """How many bytes the escape sequence has."""
        found = _ESCAPE.match(self._raw, at)
        if found is None:
            self._damaged = True
            return 1
        designated = BY_ESCAPE.get(found[0])
        if designated is None:
            self._damaged = True
            return len(found[0])
        # One that was not announced says nevertheless what follows it.
        self._damaged |= designated not in self._declared.sets
        if designated.right:
            self._right = designated
        else:
            self._left = designated
        return len(found[0])

    def _left_hand(self, at: int) -> tuple[str, int]:
        byte = self._raw[at]
        if self._left.width == 2 and 0x20 < byte < 0x7F:
            pair = self._raw[at : at + 2]
            if len(pair) == 2 and 0x20 < pair[1] < 0x7F:
                return self._character(self._left, bytes((byte | 0x80, pair[1] | 0x80)), 2)
            # Half a character: the end of the stretch was left out.
            self._damaged = True
        if byte in self._delimiters:
            self._reset()
        return chr(byte), 1

    def _right_hand(self, at: int) -> tuple[str, int]:
        raw, designated = self._raw, self._right
        if designated is None:
            self._damaged |= not self._is_plain
            return chr(raw[at]), 1
        pair = raw[at : at + designated.width]
        if len(pair) == designated.width and pair[-1] >= 0x80:
            return self._character(designated, pair, len(pair))
        self._damaged = True
        return _UNREADABLE, 1

    def _character(self, designated: CodeSet, code: bytes, used: int) -> tuple[str, int]:
        try:
            return (designated.lead + code).decode(designated.codec), used
        except UnicodeDecodeError:
            self._damaged = True
            return _UNREADABLE, used


# --- writing ------------------------------------------------------------------------------------
def encode(text: str, declared: Declared, vr: str) -> bytes:
    """`text` in that character set; UnicodeError when a character is in none of its sets.

    Each stretch between delimiters begins and ends with the sets of the first value.
    """
    if "\x1b" in text:
        raise UnicodeError("an escape character is no text")
    if declared.alone:
        return text.encode(declared.alone)
    if text.isascii():
        return text.encode("ascii")
    stretches = _STRETCH.get(vr, _LINES).split(text)
    return b"".join(_encode_stretch(stretch, declared) for stretch in stretches)


def _encode_stretch(text: str, declared: Declared) -> bytes:
    encoded = bytearray()
    right = declared.right
    for run in re.findall(r"[\0-\x7f]+|[^\0-\x7f]+", text):
        if run.isascii():
            encoded += run.encode("ascii")
            continue
        at = 0
        while at < len(run):
            chosen, raw, used = _longest(run[at:], right, declared)
            at += used
            if not chosen.right:
                encoded += chosen.escape + raw + declared.left.escape
                continue
            if chosen != right:
                encoded += chosen.escape
                right = chosen
            encoded += raw
    return bytes(encoded)


def _longest(run: str, current: CodeSet | None, declared: Declared) -> tuple[CodeSet, bytes, int]:
    """The set that takes most of the beginning, its bytes of it, and of how many characters."""
    best: tuple[CodeSet, bytes, int] = (ASCII, b"", 0)
    for one in dict.fromkeys((current, *declared.sets)):
        if one is None or one in (ASCII, ROMAJI):
            continue
        raw, used = bytearray(), 0
        for character in run:
            code = _code(character, one)
            if not code:
                break
            raw += code
            used += 1
        if used > best[2]:
            best = (one, bytes(raw), used)
    if not best[2]:
        raise UnicodeError("a character that is in none of the sets")
    return best


def _code(character: str, one: CodeSet) -> bytes:
    """The bytes of a character in a set; b"": it is not in it."""
    try:
        raw = character.encode(one.codec)
    except UnicodeEncodeError:
        return b""
    if not raw.startswith(one.lead):
        return b""
    raw = raw.removeprefix(one.lead)
    # Two bytes of EUC may be half-width katakana (8E), a single one a control character.
    if len(raw) != one.width or min(raw) < 0xA0:
        return b""
    return raw if one.right else bytes(byte & 0x7F for byte in raw)
