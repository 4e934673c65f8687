"""What prefetch rules say of a file, for `scai rules test`: as text and as JSON.

Values are a patient's and came with the file: the text escapes what is not ASCII, so that a key is
seen as it is sent.
"""

from collections.abc import Iterator
from typing import Any

from engine.prefetch.question import Find, Key, finds_of, move_keys_of
from engine.prefetch.records import Ask
from engine.prefetch.rules import Explanation


def question_lines(explanation: Explanation, destination: str) -> Iterator[str]:
    """What a rule that matches would ask; `destination` is PrefetchAP's title."""
    if explanation.refusal:
        yield f"  nothing is asked: {explanation.refusal}"
    ask = explanation.ask
    if ask is None:
        return
    yield f"  {ask.archive} would be asked, each question in an association of its own:"
    first, *lower = finds_of(ask, explanation.spoken)
    yield from _find_lines(first)
    yield f"  then, for at most {ask.at_most} studies, the latest first:"
    for find in lower:
        yield from _find_lines(find)
    if ask.series_modalities:
        yield f"  only series of {', '.join(ask.series_modalities)}"
    named = ", ".join(move_keys_of(ask))
    yield f"  and what lacks here is moved to {destination} by C-MOVE on {ask.level} level: {named}"
    if ask.to:
        yield f"  what arrives, and what is here already, is sent to {', '.join(ask.to)}"
    else:
        yield "  it stays here"


def _find_lines(find: Find) -> Iterator[str]:
    yield f"  C-FIND on {find.level} level"
    yield from map(_key_line, find.keys)


def _key_line(key: Key) -> str:
    shown = ascii(key.value) if key.value else '""'
    behind = f"  ({key.matching})" if key.matching else ""
    return f"    {_tag_text(key.tag)} {key.keyword} = {shown}{behind}"


def _tag_text(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def fields_of(explanation: Explanation, destination: str) -> dict[str, Any]:
    """One rule as an object."""
    ask = explanation.ask
    return {
        "name": explanation.rule.name,
        "matches": explanation.matches,
        "conditions": [verdict._asdict() for verdict in explanation.verdicts],
        "refused": explanation.refusal,
        "would_ask": ask and _fields_of_ask(ask, destination, explanation.spoken),
    }


def _fields_of_ask(ask: Ask, destination: str, allowed: tuple[str, ...]) -> dict[str, Any]:
    return {
        "archive": ask.archive,
        "find": [
            {
                "level": find.level,
                "keys": [{**key._asdict(), "tag": _tag_text(key.tag)} for key in find.keys],
            }
            for find in finds_of(ask, allowed)
        ],
        "studies_at_most": ask.at_most,
        "series_modalities": list(ask.series_modalities),
        "move": {
            "level": ask.level.upper(),
            "keys": move_keys_of(ask),
            "destination": destination,
        },
        "to": list(ask.to),
    }
