"""Patterns say what re.search() says, and never take longer than the text is long."""

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine import limits
from engine.rules.patterns import Pattern

_LITERALS = st.sampled_from(
    [
        "a",
        "b",
        "C",
        "x1",
        ".",
        r"\d",
        r"\w",
        r"\S",
        r"\.",
        "[a-c]",
        "[^a]",
        r"[\d_-]",
        "[]x]",
        "é",
        r"\x41",
    ]
)
_ASSERTIONS = st.sampled_from(["^", "$", r"\b", r"\B", r"\A", r"\Z"])
_QUANTIFIERS = st.sampled_from(
    ["*", "+", "?", "{2}", "{1,3}", "{,2}", "{2,}", "*?", "+?", "{1,2}?"]
)


def _combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda both: f"(?:{both[0]}|{both[1]})"),
        st.tuples(inner, _QUANTIFIERS).map(lambda both: f"({both[0]}){both[1]}"),
        st.tuples(_ASSERTIONS, inner).map("".join),
        st.tuples(inner, _ASSERTIONS).map("".join),
    )


_EXPRESSIONS = st.recursive(_LITERALS, _combined, max_leaves=8)
# Python's "$" also matches ahead of a last line feed; ours knows one end of the text only.
_TEXTS = st.text("aAbBcCx1_-. é", min_size=1, max_size=20)


@given(_EXPRESSIONS, _TEXTS, st.booleans())
@example("(a|ab)(c|bcd)$", "abcd", False)
@example("(a*)*b", "aaaa", False)
@example("(?:)|x", "y", True)
def test_patterns_find_what_python_finds(expression: str, text: str, folded: bool) -> None:
    expression = f"(?i){expression}" if folded else expression
    try:
        pattern = Pattern(expression)
    except ValueError as problem:
        if "is too large" not in str(problem):
            raise
        return
    found = re.search(expression, text) is not None
    assert pattern.occurs_in(text) == found
    assert pattern.occurs_in(text) == found, "what is remembered changes nothing"


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("(a+)+$", "a" * 1000 + "b"),
        ("(a|a)*c", "a" * 1024),
        ("(a|aa)+$", "a" * 1023 + "b"),
        ("(.*a){12}c", "a" * 1024),
        ("a?" * 60 + "a" * 60, "a" * 59),
    ],
)
def test_no_value_makes_a_pattern_run_away(expression: str, text: str) -> None:
    """Each of these keeps Python's own engine busy for longer than anybody would wait."""
    pattern = Pattern(expression)
    began = time.process_time()
    assert not pattern.occurs_in(text)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("(a", "does not compile"),
        ("a" * (limits.pattern_characters_max + 1), "more than"),
        ("(a{200}){200}", "is too large"),
        ("(){1000000000}", "is too large"),
        (r"(a)\1", "not supported"),
        ("(?=a)b", "not supported"),
        ("(?P<name>a)", "not supported"),
        ("a*+", "possessive"),
        ("a{x}", "write \\{"),
    ],
)
def test_what_no_such_machine_can_decide_is_refused(expression: str, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        Pattern(expression)


def test_what_is_remembered_is_bounded() -> None:
    pattern = Pattern("[0-9]x")
    for first in range(0x4E00, 0x4E00 + 3 * limits.pattern_moves_max // 2, 500):
        assert not pattern.occurs_in("".join(map(chr, range(first, first + 500))))
    assert len(pattern._known) <= limits.pattern_moves_max + 500
    assert pattern.occurs_in("山7x")
