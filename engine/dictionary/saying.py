"""In which character set a corrected value can be said, for a data set that has one already.

Its own, if that can; else one that the conformance statement names (ISO_IR 100, ISO 2022 IR 87), by
itself or as a code extension behind its own (PS3.5 6.1.2.5); else one that those allow who receive
it. Every other value of the data set keeps its meaning in them, but for those that stand alone
(ISO_IR 192, GB18030, GBK): in these the others have to be written anew. Where there is none,
nothing is said: a name with question marks would be another patient's.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from engine.dictionary.character_sets import decode, encode
from engine.dictionary.code_sets import ALONE_TERMS, EXTENSION_TERMS, Declared, declared_by

# Section 6 of the conformance statement, besides the default.
_STATED: Final = ("ISO 2022 IR 100", "ISO 2022 IR 87")
Text = tuple[str, str]  # VR, value


def said(
    texts: Mapping[int, Text], character_set: bytes, allowed: Iterable[str] = ()
) -> tuple[bytes, dict[int, bytes]] | None:
    """(the character set, {tag: value}); None where there is none that can say all of them.

    `allowed`: what may be declared beyond the statement's.
    """
    for candidate in _character_sets(character_set, tuple(allowed)):
        declared = declared_by(candidate)
        try:
            values = {tag: encode(text, declared, vr) for tag, (vr, text) in texts.items()}
        except UnicodeError:
            continue
        # The reader's own way back is the judge.
        if all(
            text.isascii() or decode(values[tag], declared, vr) == (text, False)
            for tag, (vr, text) in texts.items()
        ):
            return candidate, values
    return None


def _character_sets(own: bytes, allowed: tuple[str, ...]) -> Iterator[bytes]:
    """The declared one, then what may be declared instead."""
    yield own
    declared = declared_by(own)
    if declared.unknown:
        return
    if not declared.alone:
        yield from _extended(own, declared, allowed)
    elif declared.alone == "gbk" and "GB18030" in allowed:  # its superset
        yield b"GB18030"
    yield from (term.encode("ascii") for term in ALONE_TERMS if term in allowed)


def _extended(own: bytes, declared: Declared, allowed: tuple[str, ...]) -> Iterator[bytes]:
    """A superset of the declared one, or that with code extensions."""
    if declared.is_default:
        yield b"ISO_IR 100"
    terms = [term.strip(b" \0").decode("latin-1").upper() for term in own.split(b"\\")]
    first = "" if declared.first == 6 else f"ISO 2022 IR {declared.first}"
    have = {one.number for one in declared.sets}
    extensions = [
        term
        for term in dict.fromkeys((*_STATED, *allowed))
        if term in EXTENSION_TERMS and EXTENSION_TERMS[term] not in have
    ]
    for added in (*((term,) for term in extensions), tuple(extensions)):
        yield "\\".join([first, *terms[1:], *added]).encode("latin-1")
