"""What somebody most likely meant by a word that is unknown."""

import difflib
from collections.abc import Iterable


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` when one of the known words is near, otherwise nothing."""
    words = {other.lower(): other for other in known}
    near = difflib.get_close_matches(word.lower(), words, n=1)
    return f"; did you mean {words[near[0]]}?" if near else ""
