"""One case: a number, which always makes the same data set, and what that says."""

import zlib
from dataclasses import dataclass
from random import Random
from typing import Final

from engine.files.part10 import part10_head
from tests.grammar import pictures
from tests.grammar.encoding import CHARACTER_SET, ITEM_END, Encoding, Node
from tests.grammar.productions import DataSets, Element
from tests.grammar.tags import ICON_SEQUENCE, PADDING
from tests.grammar.values import REPERTOIRES, Repertoire, value_of
from tests.material import wire

IMPLICIT: Final = wire.IMPLICIT
EXPLICIT: Final = wire.EXPLICIT
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
JPEG_SV1: Final = "1.2.840.10008.1.2.4.70"
JPEG_14: Final = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS: Final = frozenset({JPEG_SV1, JPEG_14})
_OPAQUE: Final = ("1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90")
_SYNTAXES: Final = (
    (EXPLICIT,) * 8
    + (IMPLICIT,) * 6
    + (JPEG_SV1, JPEG_SV1, JPEG_SV1, JPEG_14)
    + (
        BIG_ENDIAN,
        DEFLATED,
        *_OPAQUE,
    )
)
_ODD: Final = (0.0, 0.0, 0.05, 0.1, 0.3)


@dataclass(frozen=True)
class Case:
    """One data set. `node` is what it says, as far as its lengths and VRs can be believed."""

    number: int
    uid: str
    syntax: str
    data: bytes
    node: Node
    earlier: Node  # what is said twice, in other words
    decoded: bytes | None  # its pixel data, where they are JPEG Lossless
    oddities: tuple[str, ...]

    @property
    def content(self) -> bytes:
        """The file."""
        return file_of(self.data, self.syntax, self.uid)


def file_of(data: bytes, syntax: str, uid: str) -> bytes:
    """A data set as the receiver lays it into the tree."""
    return part10_head(wire.CT_IMAGE, uid, syntax, "MODALITY") + data


def _even(uid: str) -> bytes:
    return uid.encode("ascii") + b"\0" * (len(uid) & 1)


def case(seed: int, number: int) -> Case:
    """The case of this number."""
    chance = Random(f"{seed}/{number}")
    syntax = chance.choice(_SYNTAXES)
    uid = f"1.2.826.0.1.3680043.10.99.{seed}.{number}"
    encoding = Encoding(syntax != IMPLICIT, syntax == BIG_ENDIAN)
    sets = DataSets(chance, encoding, chance.choice(_ODD))
    if syntax in (EXPLICIT, IMPLICIT) and sets.happens("another encoding than it is said", 0.1):
        sets.encoding = Encoding(not encoding.explicit)
    repertoire = chance.choice(REPERTOIRES)
    elements = _identity(sets, uid, repertoire)
    elements += sets.elements(0, repertoire, chance.choice((2, 5, 12)))
    image = _image(sets, syntax)
    elements += image.elements
    if chance.random() < 0.15:
        elements.append(_icon(sets))
    if chance.random() < 0.2:
        elements.append(sets.of(PADDING, "OB", bytes(2 * chance.randrange(30))))
    data, nodes = sets.joined(elements)
    assert isinstance(nodes, list)
    data = _surrounded(sets, data)
    if syntax == DEFLATED:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = deflate.compress(data) + deflate.flush()
        data += bytes(len(data) & 1)
    oddities = tuple(sorted(sets.oddities))
    return Case(number, uid, syntax, data, nodes[0], sets.earlier, image.decoded, oddities)


def _image(sets: DataSets, syntax: str) -> pictures.Picture:
    if syntax in JPEG_LOSSLESS:
        return pictures.encapsulated(sets, syntax == JPEG_SV1)
    if syntax in _OPAQUE:
        return pictures.opaque(sets)
    if sets.chance.random() < 0.6:
        return pictures.native(sets)
    return pictures.Picture([], None)


def _identity(sets: DataSets, uid: str, repertoire: Repertoire) -> list[Element]:
    chance, encoding = sets.chance, sets.encoding
    found = [
        sets.of(0x00080016, "UI", _even(wire.CT_IMAGE)),
        sets.of(0x00080018, "UI", _even(uid)),
        sets.of(0x00080060, "CS", b"CT"),
        sets.of(0x00100010, "PN", value_of("PN", chance, encoding, repertoire)),
        sets.of(0x00100020, "LO", value_of("LO", chance, encoding, repertoire)),
        sets.of(0x0020000D, "UI", _even(f"{uid}.1")),
        sets.of(0x0020000E, "UI", _even(f"{uid}.1.{chance.randrange(9)}")),
    ]
    if repertoire.declared:
        found.append(sets.of(CHARACTER_SET, "CS", repertoire.declared))
    if sets.happens("an attribute of the index is missing"):
        found.pop(chance.randrange(len(found)))
    return found


def _icon(sets: DataSets) -> Element:
    """The sequence of an icon; what is in its pixel data is not compared."""
    encoding = sets.encoding
    item = encoding.plain(0xFFFEE000, pictures.icon(sets))
    return ICON_SEQUENCE, encoding.element(ICON_SEQUENCE, "SQ", item), [{}]


def _surrounded(sets: DataSets, data: bytes) -> bytes:
    """With what may stand ahead of a data set, and behind it."""
    encoding, chance = sets.encoding, sets.chance
    if sets.happens("group 0002 in the data set", 0.3):
        data = encoding.element(0x00020016, "AE", b"HB") + data
    if sets.happens("data behind the end", 0.2):
        data += encoding.plain(ITEM_END, b"", chance.choice((0, 0, 8)))
        data += sets.of(0x00100010, "PN", b"Behind^The End")[1]
    if sets.happens("a delimiter that ends nothing", 0.1):
        data += encoding.plain(0xFFFEE0DD)
    if sets.happens("zeros behind the end", 0.1):
        data += bytes(chance.choice((1, 2, 7, 8, 16, 64)))
    if sets.happens("cut off", 0.1):
        data = data[: chance.randrange(1, len(data))]
    return data
