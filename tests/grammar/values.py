"""Values of every VR (PS3.5 6.2), texts in every kind of character set (PS3.3 C.12.1.1.2)."""

from random import Random
from typing import Final, NamedTuple

from tests.grammar.encoding import Encoding


class Repertoire(NamedTuple):
    """A Specific Character Set, and a text as it lies in it."""

    declared: bytes
    texts: tuple[bytes, ...]


REPERTOIRES: Final = (
    Repertoire(b"", (b"Buc^Jerome", b"HELLO")),
    Repertoire(b"ISO_IR 100", ("Äneas^Rüdiger".encode("latin-1"), b"Plain")),
    Repertoire(b"ISO_IR 144", ("Люкceмбypг".encode("iso8859-5"),)),
    Repertoire(b"ISO_IR 13 ", ("ﾔﾏﾀﾞ^ﾀﾛｳ".encode("shift_jis"),)),
    Repertoire(b"ISO_IR 192", ("Wang^XiaoDong=王^小东".encode(), "Đặng".encode())),
    Repertoire(b"GB18030 ", ("王^小东".encode("gb18030"),)),
    Repertoire(b"\\ISO 2022 IR 87 ", (b"Yamada=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",)),
    Repertoire(b"\\ISO 2022 IR 149", (b"Hong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",)),
    Repertoire(b"ISO 2022 IR 6\\ISO 2022 IR 100", (b"A^\x1b-AB\xfcc",)),
    Repertoire(b"ISO_IR 999", (b"A\xfcB",)),
    Repertoire(b"ISO_IR 192", (b"broken \xff\xfe",)),
)
_TEXTS: Final = frozenset(["LO", "LT", "PN", "SH", "ST", "UC", "UT"])
_PLAIN: Final = {
    "AE": (b"STORE_SCP", b"A"),
    "AS": (b"042Y",),
    "CS": (b"DERIVED\\PRIMARY", b"O", b""),
    "DA": (b"20261128", b"1999.01.01"),
    "DS": (b"1.5\\-2e3", b" 0.25 ", b""),
    "DT": (b"20261128101500.5", b""),
    "IS": (b"12", b"-7\\8", b"+1"),
    "TM": (b"101500", b"10"),
    "UI": (b"1.2.840.10008.5.1.4.1.1.2", b"1.2.3.4", b""),
    "UR": (b"http://example.org/a%20b",),
}
_NUMBERS: Final = {
    "US": ("H", 0, 0xFFFF),
    "SS": ("h", -0x8000, 0x7FFF),
    "UL": ("I", 0, 0xFFFFFFFF),
    "SL": ("i", -0x80000000, 0x7FFFFFFF),
    "UV": ("Q", 0, 1 << 63),
    "SV": ("q", -(1 << 62), 1 << 62),
    "AT": ("H", 0, 0xFFFF),
    "OW": ("H", 0, 0xFFFF),
    "OL": ("I", 0, 0xFFFFFFFF),
    "OV": ("Q", 0, 1 << 63),
    "FL": ("f", -1000, 1000),
    "FD": ("d", -1000, 1000),
    "OF": ("f", -1000, 1000),
    "OD": ("d", -1000, 1000),
}
VRS: Final = (*sorted(_TEXTS), *_PLAIN, *_NUMBERS, "OB", "UN")
_LARGE: Final = (16 * 1024, 16 * 1024 + 2, 70_000)


def value_of(vr: str, chance: Random, encoding: Encoding, repertoire: Repertoire) -> bytes:
    """A value of even length."""
    if vr in _TEXTS:
        value = chance.choice(repertoire.texts)
        if vr in ("LO", "SH") and chance.random() < 0.2:
            value += b"\\" + chance.choice(repertoire.texts)
    elif vr in _PLAIN:
        value = chance.choice(_PLAIN[vr])
    elif vr in _NUMBERS:
        form, least, most = _NUMBERS[vr]
        count = chance.choice((1, 1, 1, 2, 3, 0)) * (2 if vr == "AT" else 1)
        value = encoding.number(form, *(chance.randint(least, most) for _ in range(count)))
    else:
        size = chance.choice(_LARGE) if chance.random() < 0.02 else 2 * chance.randrange(12)
        value = chance.randbytes(size)
    return value + (b"\0" if vr in ("UI", "OB", "UN") else b" ") * (len(value) & 1)
