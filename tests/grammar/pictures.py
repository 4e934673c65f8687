"""Pixel data (PS3.5 A.4): native ones, and fragments with every kind of Basic Offset Table."""

from functools import cache
from typing import Final, NamedTuple

from tests.grammar.encoding import ITEM, PIXEL_DATA, SEQUENCE_END, UNDEFINED
from tests.grammar.productions import DataSets, Element
from tests.material.jpeg_encoder import Form, encode, picture

_TABLES: Final = ("empty", "right", "right", "zeros", "too short", "too long", "chance", "ragged")
_COUNTS_OF_ONE: Final = (b"", b"0 ", b"x ", b"1.0 ", b" 1", b"+1", b"1\0")


class Shape(NamedTuple):
    """Of each frame."""

    rows: int
    columns: int
    samples: int
    bits: int  # allocated
    stored: int


_SHAPES: Final = (
    *(Shape(4, 6, 1, 16, 12), Shape(4, 6, 1, 16, 16), Shape(3, 5, 1, 8, 8), Shape(4, 6, 3, 8, 8)),
    Shape(5, 3, 3, 8, 8),
)


@cache
def frame(shape: Shape, predictor: int, seed: int) -> tuple[bytes, bytes]:
    """(compressed, samples) of one frame, in JPEG Lossless."""
    image = picture(shape.rows, shape.columns, shape.samples, shape.stored, seed)
    samples = image.astype("<u1" if shape.bits == 8 else "<u2").tobytes()
    return encode(image, Form(shape.stored, predictor)), samples


class Picture(NamedTuple):
    """The elements of an image, and what its pixel data are decoded; None: they are not."""

    elements: list[Element]
    decoded: bytes | None


def _attributes(sets: DataSets, shape: Shape, frames: bytes | None, planar: int) -> list[Element]:
    number = sets.encoding.number
    colour = b"RGB " if shape.samples == 3 else b"MONOCHROME2 "
    found = [
        sets.of(0x00280002, "US", number("H", shape.samples)),
        sets.of(0x00280004, "CS", colour),
        sets.of(0x00280010, "US", number("H", shape.rows)),
        sets.of(0x00280011, "US", number("H", shape.columns)),
        sets.of(0x00280100, "US", number("H", shape.bits)),
        sets.of(0x00280101, "US", number("H", shape.stored)),
        sets.of(0x00280102, "US", number("H", shape.stored - 1)),
        sets.of(0x00280103, "US", number("H", 0)),
    ]
    if shape.samples > 1:
        found.append(sets.of(0x00280006, "US", number("H", planar)))
    if frames is not None:
        found.append(sets.of(0x00280008, "IS", frames))
    return found


def native(sets: DataSets) -> Picture:
    """An image that is not compressed; its length may be another than its shape says."""
    chance = sets.chance
    shape = chance.choice(_SHAPES)
    size = shape.rows * shape.columns * shape.samples * shape.bits // 8
    value = chance.randbytes(size + (size & 1))
    if sets.happens("pixel data too short or too long"):
        value = value[: chance.randrange(len(value))] + bytes(chance.randrange(40))
    vr = "OW" if shape.bits > 8 or not sets.encoding.explicit else chance.choice(("OB", "OW"))
    return Picture([*_attributes(sets, shape, None, 0), sets.of(PIXEL_DATA, vr, value)], None)


def encapsulated(sets: DataSets, first_order: bool) -> Picture:
    """An image in JPEG Lossless; `first_order`: with selection value 1 alone."""
    chance = sets.chance
    shape = chance.choice(_SHAPES)
    count = chance.choice((1, 1, 2, 3))
    predictor = 1 if first_order else chance.randint(1, 7)
    frames = [frame(shape, predictor, chance.randrange(3)) for _ in range(count)]
    planar = chance.randrange(2)
    decoded = b"".join(_by_plane(raw, shape, planar) for _, raw in frames)
    said: bytes | None = b"%d" % count
    if count == 1 and chance.random() < 0.5:
        said = None
    elif count == 1 and sets.happens("number of frames", 2):
        said = chance.choice(_COUNTS_OF_ONE)
    elif sets.happens("number of frames lies", 0.2):
        said = b"%d" % (count + 1)
    if said is not None:
        said += b" " * (len(said) & 1)
    fragments, starts = _fragments(sets, [each for each, _ in frames])
    value = _table(sets, starts, fragments) + fragments
    data = sets.encoding.element(PIXEL_DATA, "OB", value + _end(sets), UNDEFINED)
    elements = _attributes(sets, shape, said, planar)
    if chance.random() < 0.1 and count == len(starts):
        offsets = sets.encoding.number("Q", *starts)
        elements.append(sets.of(0x7FE00001, "OV", offsets))
    return Picture([*elements, (PIXEL_DATA, data, value)], decoded + bytes(len(decoded) & 1))


def opaque(sets: DataSets) -> Picture:
    """Fragments of some other compression, which goes as it is or not at all."""
    plain = sets.encoding.plain
    value = plain(ITEM) + plain(ITEM, sets.chance.randbytes(20))
    data = sets.encoding.element(PIXEL_DATA, "OB", value + plain(SEQUENCE_END), UNDEFINED)
    return Picture([*_attributes(sets, _SHAPES[0], None, 0), (PIXEL_DATA, data, value)], None)


def icon(sets: DataSets) -> bytes:
    """What is in the item of an icon: an image of its own, compressed or not."""
    compressed = sets.encoding.explicit and sets.chance.random() < 0.5
    image = encapsulated(sets, True) if compressed else native(sets)
    return b"".join(data for _, data, _ in sorted(image.elements, key=lambda each: each[0]))


def _by_plane(samples: bytes, shape: Shape, planar: int) -> bytes:
    if shape.samples == 1 or not planar:
        return samples
    return b"".join(samples[plane :: shape.samples] for plane in range(shape.samples))


def _fragments(sets: DataSets, frames: list[bytes]) -> tuple[bytes, list[int]]:
    """The items of the frames, and where each frame begins."""
    chance, plain = sets.chance, sets.encoding.plain
    data, starts = bytearray(), []
    for compressed in frames:
        starts.append(len(data))
        padded = compressed + _padding(sets, len(compressed))
        cuts = sorted(
            2 * chance.randrange(len(padded) // 2) for _ in range(chance.choice((0, 0, 1, 2)))
        )
        for begin, end in zip([0, *cuts], [*cuts, len(padded)], strict=True):
            if begin < end:
                data += plain(ITEM, padded[begin:end])
    if sets.happens("an empty fragment behind the frames"):
        data += plain(ITEM)
    return bytes(data), starts


def _padding(sets: DataSets, length: int) -> bytes:
    if sets.happens("padding behind EOI", 0.7):
        return sets.chance.choice((b"\xff", b" ", b"\0\0\0", b"\xff\xff\xff", b"   "))[
            : 1 if length & 1 else 3
        ] + b"\0" * (1 - (length & 1))
    return b"\0" * (length & 1)


def _table(sets: DataSets, starts: list[int], fragments: bytes) -> bytes:
    encoding, chance = sets.encoding, sets.chance
    kind = chance.choice(("empty", "right"))
    if sets.happens("offset table"):
        kind = chance.choice(_TABLES)
    offsets = {
        "empty": [],
        "right": starts,
        "zeros": [0] * len(starts),
        "too short": starts[:-1],
        "too long": [*starts, len(fragments)],
        "chance": [chance.randrange(1 << 32) for _ in starts],
        "ragged": starts,
    }[kind]
    table = encoding.number("I", *offsets)
    return encoding.plain(ITEM, table[:-1] if kind == "ragged" else table)


def _end(sets: DataSets) -> bytes:
    if sets.happens("no end of the fragments", 0.1):
        return b""
    length = 4 if sets.happens("a delimiter with a length", 0.5) else 0
    return sets.encoding.plain(SEQUENCE_END, b"", length)
