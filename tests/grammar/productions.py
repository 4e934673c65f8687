"""Data sets and items: their elements, sequences, private blocks, and what real writers do wrong.

`DataSets` makes them by chance. With what probability something is odd is said for each data set,
so that some are as the standard wants them and others have many faults at once. What was odd is
noted by its name.
"""

from collections.abc import Callable
from random import Random
from typing import Final

from tests.grammar.encoding import (
    CHARACTER_SET,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    Encoding,
    Made,
    Node,
    Value,
)
from tests.grammar.tags import private_block, sequences, standard
from tests.grammar.values import REPERTOIRES, VRS, Repertoire, value_of

DEPTH_MAX: Final = 4
# Written in a VR's place, with a length of 16 bits, where the VR is not known.
_SHORT_NONSENSE: Final = (b"??", b"  ", b"\0\0", b"lo", b"ZZ", b"U?", b"XS", b"-A")
_FUTURE: Final = (b"ZZ", b"OX", b"UX")

# One element: tag, bytes, what it says. None: nothing that a rewritten data set keeps.
Element = tuple[int, bytes, Value | None]


class DataSets:
    """Makes them in one encoding. `odd`: how likely each place has a fault."""

    def __init__(self, chance: Random, encoding: Encoding, odd: float) -> None:
        self.chance = chance
        self.encoding = encoding
        self.odd = odd
        self.oddities: set[str] = set()
        self.earlier: Node = {}  # what is said twice: the first value

    def happens(self, oddity: str, part: float = 1.0) -> bool:
        """Whether something odd shall be; it is noted then."""
        if self.chance.random() >= self.odd * part:
            return False
        self.oddities.add(oddity)
        return True

    # --- a data set, or what is in an item --------------------------------------------------------
    def elements(self, depth: int, repertoire: Repertoire, count: int) -> list[Element]:
        """So many elements and what else comes with them, in no order yet."""
        made: list[Element] = []
        chance = self.chance
        for tag, vr in chance.sample(standard(), count):
            made.append(self._element(tag, vr, repertoire))
        if depth < DEPTH_MAX:
            for tag in chance.sample(sequences(), chance.choice((0, 0, 1, 1, 2))):
                made.append(self._sequence_element(tag, depth, repertoire))
        if chance.random() < 0.4:
            made += self._private(depth, repertoire)
        return made

    def item(self, depth: int, repertoire: Repertoire) -> Made:
        """What is in an item."""
        own, declared = repertoire, []
        if self.chance.random() < 0.15:
            own = self.chance.choice(REPERTOIRES)
            declared = [self.of(CHARACTER_SET, "CS", own.declared)]
        elements = self.elements(depth, own, self.chance.choice((0, 1, 2, 3)))
        return self.joined(declared + elements)

    def of(self, tag: int, vr: str, value: bytes) -> Element:
        """An element as it should be."""
        return tag, self.encoding.element(tag, vr, value), value

    def joined(self, elements: list[Element]) -> Made:
        """In the order of tags, or not; with group lengths, which may lie."""
        chance = self.chance
        unique = {element[0]: element for element in elements}
        ordered = [unique[tag] for tag in sorted(unique)]
        if len(ordered) > 1 and self.happens("out of order", 0.3):
            at = chance.randrange(len(ordered) - 1)
            ordered[at : at + 2] = reversed(ordered[at : at + 2])
        if ordered and self.happens("twice", 0.2):
            tag, _, value = chance.choice(ordered)
            if isinstance(value, bytes) and tag != CHARACTER_SET:
                ordered.append(self.of(tag, "UN", value + b"2 "))
        node: Node = {}
        out = bytearray()
        group = -1
        counts = chance.random() < 0.15
        for tag, data, value in ordered:
            if counts and tag >> 16 != group:
                group = tag >> 16
                of_group = sum(len(each[1]) for each in ordered if each[0] >> 16 == group)
                wrong = 2 if self.happens("group length lies") else 0
                length = self.encoding.number("I", of_group + wrong)
                out += self.encoding.element(group << 16, "UL", length)
            out += data
            if value is not None:
                if isinstance(node.get(tag), bytes):
                    self.earlier[tag] = node[tag]
                node[tag] = value  # the last one is it for pydicom, the first for DCMTK
        return Made(bytes(out), [node])

    # --- single elements --------------------------------------------------------------------------
    def _element(self, tag: int, vr: str, repertoire: Repertoire) -> Element:
        chance, encoding = self.chance, self.encoding
        value = value_of(vr, chance, encoding, repertoire)
        if value and self.happens("odd length", 0.5):
            value = value[:-1]
        if not encoding.explicit:
            return tag, encoding.element(tag, vr, value), value
        forms: tuple[tuple[str, Callable[[], bytes]], ...] = (
            (
                "unknown VR, 16 bits",
                lambda: encoding.odd(tag, chance.choice(_SHORT_NONSENSE), value, False),
            ),
            (
                "unknown VR, 32 bits",
                lambda: encoding.odd(tag, chance.choice(_FUTURE), value, True),
            ),
            ("no VR", lambda: encoding.plain(tag, value)),
            ("another VR", lambda: encoding.element(tag, chance.choice(VRS), value)),
            ("UN for a known tag", lambda: encoding.element(tag, "UN", value)),
        )
        if len(value) <= 0xFFFF:
            for name, form in forms:
                if self.happens(name, 0.5):
                    return tag, form(), value
        return tag, encoding.element(tag, vr, value), value

    def _private(self, depth: int, repertoire: Repertoire) -> list[Element]:
        creator, group, block, known = private_block(self.chance)
        name = creator.encode("latin-1")
        name += b" " * (len(name) & 1)
        made = [self.of(group << 16 | block, "LO", name)]
        if self.happens("no private creator"):
            made = []
        for each in known:
            tag = each.tag | block << 8
            if each.vr != "SQ":
                made.append(self._element(tag, each.vr, repertoire))
            elif depth < DEPTH_MAX:
                made.append(self._sequence_element(tag, depth, repertoire))
        return made

    # --- sequences --------------------------------------------------------------------------------
    def _sequence_element(self, tag: int, depth: int, repertoire: Repertoire) -> Element:
        if self.happens("text for a sequence", 0.3):
            return tag, self.encoding.element(tag, "SQ", b"HELLO "), b"HELLO "
        within, vr = self.encoding, "SQ"
        if within.explicit and self.happens("a sequence of VR UN"):
            vr, self.encoding = "UN", Encoding(explicit=False, big=within.big)
        try:
            data, nodes, length = self._sequence(depth, repertoire)
        finally:
            self.encoding = within
        return tag, within.element(tag, vr, data, length), nodes

    def _sequence(self, depth: int, repertoire: Repertoire) -> tuple[bytes, list[Node], int]:
        """The items, what they say, and the length that is declared."""
        chance, encoding = self.chance, self.encoding
        data = bytearray()
        nodes: list[Node] = []
        for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
            inner, said = self.item(depth + 1, repertoire)
            assert isinstance(said, list)
            nodes += said
            ends = encoding.plain(ITEM_END, b"", self._delimiter_length())
            if chance.random() < 0.5:
                data += encoding.plain(ITEM, inner + ends, UNDEFINED)
            elif self.happens("a delimiter without need", 0.3):
                data += encoding.plain(ITEM, inner + ends)
            elif inner and self.happens("item length lies", 0.1):
                data += encoding.plain(ITEM, inner, len(inner) + chance.choice((-8, -2, 2, 8, 64)))
            else:
                data += encoding.plain(ITEM, inner)
        if chance.random() < 0.5:
            data += encoding.plain(SEQUENCE_END, b"", self._delimiter_length())
            return bytes(data), nodes, UNDEFINED
        length = len(data)
        if data and self.happens("sequence length lies", 0.1):
            length = max(0, length + chance.choice((-length + 8, -8, -4, -2, 2, 8, 64)))
        return bytes(data), nodes, length

    def _delimiter_length(self) -> int:
        if self.happens("a delimiter with a length", 0.5):
            return self.chance.choice((1, 2, 4, 8, 0x7FFFFFFF, UNDEFINED))
        return 0
