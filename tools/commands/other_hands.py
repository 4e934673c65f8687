"""Whose hands are in a directory that a command trusts: what it writes there may be patients'."""

import os
from pathlib import Path

from engine.errors import OperatorError
from engine.files.trust import who_else, who_replaces


def refuse_other_hands(directory: Path) -> None:
    """OperatorError: somebody else may change what lies there, or put another in its place."""
    others = who_else(directory, (os.geteuid(), 0))
    if others:
        raise OperatorError(others, str(directory))
    above, words = who_replaces(directory)
    if words:
        raise OperatorError(words, above)
