"""Regular expressions that take time in proportion to the text, whatever the text is.

A rule's expression meets values that a peer chose. Python's own engine goes back and forth over
them: one value of forty characters can keep it busy for years, and the process that does not beat
is killed, replaced and given the same value again. So the expression is compiled into a machine
that reads each character once (Thompson's construction, sets of states made as they are needed).
The language is that part of Python's that such a machine can decide: no look-around and no back
references. It says whether a pattern occurs in a text, nothing more.
"""

import re
from typing import Final, NamedTuple

from engine.limits import pattern_characters_max, pattern_moves_max, pattern_states_max

_CLASSES: Final = {
    letter: re.compile(f"\\{letter}") for letter in "dDwWsS"
}  # as Python understands them, Unicode included
_CONTROLS: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_ASSERTIONS: Final = {"A": "begin", "Z": "end", "b": "boundary", "B": "inside"}


class _Set(NamedTuple):
    """What one character may be."""

    singles: frozenset[str]
    ranges: tuple[tuple[str, str], ...] = ()
    classes: tuple[str, ...] = ()
    negated: bool = False
    folded: bool = False

    def holds(self, character: str) -> bool:
        forms = {character, character.lower(), character.upper()} if self.folded else {character}
        return any(map(self._lists, forms)) != self.negated

    def _lists(self, form: str) -> bool:
        return (
            form in self.singles
            or any(first <= form <= last for first, last in self.ranges)
            or any(_CLASSES[letter].match(form) for letter in self.classes)
        )


# A parsed expression: ("set", _Set), ("assert", word), ("row", nodes), ("or", nodes),
# ("repeat", node, least, most or None).
_Node = tuple[object, ...]


class _Parser:
    """Recursive descent over what re.compile() has accepted already."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.folded = text.startswith("(?i)")
        if self.folded:
            self.at = 4

    def whole(self) -> _Node:
        node = self._alternatives()
        if self.at < len(self.text):
            raise ValueError(f"has an unexpected {self.text[self.at]!a}")
        return node

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _take(self) -> str:
        self.at += 1
        return self.text[self.at - 1 : self.at]

    def _alternatives(self) -> _Node:
        rows = [self._row()]
        while self._peek() == "|":
            self.at += 1
            rows.append(self._row())
        return rows[0] if len(rows) == 1 else ("or", rows)

    def _row(self) -> _Node:
        nodes: list[_Node] = []
        while self._peek() not in ("", "|", ")"):
            nodes.append(self._repeated(self._atom()))
        return ("row", nodes)

    def _repeated(self, node: _Node) -> _Node:
        mark = self._peek()
        if not mark or mark not in "*+?{":
            return node
        bounds = re.compile(r"\{(\d*)(,?)(\d*)\}").match(self.text, self.at)
        if mark != "{":
            self.at += 1
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[mark]
        elif bounds is None or bounds[0] in ("{}", "{,}"):
            raise ValueError("has a { that is no repetition; write \\{ for the character")
        else:
            self.at = bounds.end()
            least = int(bounds[1] or 0)
            most = least if not bounds[2] else int(bounds[3]) if bounds[3] else None
        if self._peek() == "?":
            self.at += 1  # whether as few or as many as possible makes no difference to a yes
        elif self._peek() == "+":
            raise ValueError("has a possessive repetition, which is not supported")
        return ("repeat", node, least, most)

    def _atom(self) -> _Node:
        character = self._take()
        if character == "(":
            return self._group()
        if character == "[":
            return ("set", self._listed())
        if character == ".":
            return ("set", _Set(frozenset("\n"), negated=True))
        if character in "^$":
            return ("assert", "begin" if character == "^" else "end")
        if character == "\\":
            if self._peek() in _ASSERTIONS:
                return ("assert", _ASSERTIONS[self._take()])
            single, letter = self._escaped()
            return ("set", self._set(frozenset(single), (), tuple(letter)))
        if character in "*+?{":
            raise ValueError(f"repeats nothing at {character!a}; write \\{character}")
        return ("set", self._set(frozenset(character)))

    def _group(self) -> _Node:
        if self._peek() == "?":
            if self.text[self.at : self.at + 2] != "?:":
                raise ValueError(
                    "has a group that begins with (?, which is not supported, but (?: and (?i) at "
                    "the start of the whole"
                )
            self.at += 2
        node = self._alternatives()
        self.at += 1  # re.compile() has found the parenthesis
        return node

    def _escaped(self) -> tuple[str, str]:
        """(character, "") or ("", letter of a class)."""
        letter = self._take()
        if letter in _CLASSES:
            return "", letter
        if letter in _CONTROLS:
            return _CONTROLS[letter], ""
        digits = {"x": 2, "u": 4, "U": 8}.get(letter, 0)
        if digits:
            self.at += digits
            return chr(int(self.text[self.at - digits : self.at], 16)), ""
        if letter.isalnum():
            raise ValueError(f"has \\{letter}, which is not supported")
        return letter, ""

    def _listed(self) -> _Set:
        negated = self._peek() == "^"
        self.at += negated
        singles: set[str] = set()
        ranges: list[tuple[str, str]] = []
        classes: list[str] = []
        begun = self.at
        while self._peek() != "]" or self.at == begun:
            single, letter = self._listed_one()
            if letter:
                classes.append(letter)
            elif self._peek() == "-" and self.text[self.at + 1 : self.at + 2] != "]":
                self.at += 1
                ranges.append((single, self._listed_one()[0]))
            else:
                singles.add(single)
        self.at += 1
        return self._set(frozenset(singles), tuple(ranges), tuple(classes), negated)

    def _listed_one(self) -> tuple[str, str]:
        character = self._take()
        if character == "\\":
            return ("\b", "") if self._peek() == "b" and self._take() else self._escaped()
        return character, ""

    def _set(
        self,
        singles: frozenset[str],
        ranges: tuple[tuple[str, str], ...] = (),
        classes: tuple[str, ...] = (),
        negated: bool = False,
    ) -> _Set:
        return _Set(singles, ranges, classes, negated, self.folded)


class _Sets:
    """States that a text may have led to: what they make of each character, as far as seen."""

    __slots__ = ("after_word", "at_begin", "ends", "members", "moves")

    def __init__(self, members: frozenset[int], at_begin: bool, after_word: bool) -> None:
        self.members = members
        self.at_begin = at_begin
        self.after_word = after_word
        self.moves: dict[str, _Sets | None] = {}  # None: the pattern has occurred
        self.ends: bool | None = None  # whether it occurs if the text ends here


class Pattern:
    """One compiled expression. Raises ValueError, in words for the operator."""

    def __init__(self, text: str) -> None:
        if len(text) > pattern_characters_max:
            raise ValueError(f"has more than {pattern_characters_max} characters")
        try:
            re.compile(text)
        except re.error as error:
            raise ValueError(f"does not compile: {error}") from error
        self.text = text
        # (set, following state), (assertion, following state) or a list of states that follow.
        self._states: list[tuple[_Set | str, int] | list[int]] = []
        self._matched = self._add([])
        self._start = self._build(_Parser(text).whole(), self._matched)
        self._known: dict[tuple[frozenset[int], bool, bool], _Sets] = {}
        self._moves = 0

    def occurs_in(self, text: str) -> bool:
        """Whether the expression matches anywhere in the text, as re.search() would find."""
        if self._moves > pattern_moves_max:
            self._known.clear()
            self._moves = 0
        sets: _Sets | None = self._sets(frozenset(), True, False)
        for character in text:
            assert sets is not None
            sets = sets.moves[character] if character in sets.moves else self._move(sets, character)
            if sets is None:
                return True
        assert sets is not None
        if sets.ends is None:
            sets.ends = self._matched in self._reached(sets, "")
        return sets.ends

    def _add(self, state: tuple[_Set | str, int] | list[int]) -> int:
        if len(self._states) >= pattern_states_max:
            raise ValueError("is too large; a repetition counts as if it were written out")
        self._states.append(state)
        return len(self._states) - 1

    def _build(self, node: _Node, following: int) -> int:
        """The first state of a node after which `following` comes."""
        kind, content = node[0], node[1]
        if kind in ("set", "assert"):
            assert isinstance(content, _Set | str)
            return self._add((content, following))
        if kind == "repeat":
            return self._build_repeat(node, following)
        assert isinstance(content, list)
        if not content:
            return self._add([following])  # a state of its own: whatever is repeated counts
        if kind == "or":
            return self._add([self._build(each, following) for each in content])
        for each in reversed(content):
            following = self._build(each, following)
        return following

    def _build_repeat(self, node: _Node, following: int) -> int:
        _, content, least, most = node
        assert isinstance(content, tuple)
        assert isinstance(least, int)
        if most is None:
            again: list[int] = [following]
            start = self._add(again)
            again.append(self._build(content, start))
        else:
            assert isinstance(most, int)
            start = following
            for _ in range(most - least):
                start = self._add([self._build(content, start), following])
        for _ in range(least):
            start = self._build(content, start)
        return start

    def _sets(self, members: frozenset[int], at_begin: bool, after_word: bool) -> _Sets:
        key = (members, at_begin, after_word)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = _Sets(members, at_begin, after_word)
        return found

    def _move(self, sets: _Sets, character: str) -> _Sets | None:
        self._moves += 1
        reached = self._reached(sets, character)
        if self._matched in reached:
            sets.moves[character] = None
            return None
        following = set()
        for number in reached:
            state = self._states[number]
            if isinstance(state, list) or isinstance(state[0], str):
                continue
            if state[0].holds(character):
                following.add(state[1])
        moved = self._sets(frozenset(following), False, _is_word(character))
        sets.moves[character] = moved
        return moved

    def _reached(self, sets: _Sets, character: str) -> set[int]:
        """All states that stand between what was read and `character`, "" being the end."""
        boundary = sets.after_word != _is_word(character)
        holds = {
            "begin": sets.at_begin,
            "end": not character,
            "boundary": boundary,
            "inside": not boundary,
        }
        reached: set[int] = set()
        ahead = [self._start, *sets.members]
        while ahead:
            number = ahead.pop()
            if number in reached:
                continue
            reached.add(number)
            state = self._states[number]
            if isinstance(state, list):
                ahead += state
            elif isinstance(state[0], str) and holds[state[0]]:
                ahead.append(state[1])
        return reached


def _is_word(character: str) -> bool:
    return character != "" and _CLASSES["w"].match(character) is not None
