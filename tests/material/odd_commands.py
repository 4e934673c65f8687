"""Command sets as real peers write them, otherwise than PS3.7 6.3 has it: an encoder for each way,
and how our counters call what is odd about it."""

from collections.abc import Callable
from typing import Final

from tests.material import wire

Elements = dict[int, bytes]
_UIDS: Final = (0x0002, 0x1000)


def _lying(elements: Elements, length: int) -> bytes:
    return wire.command_set(wire.joined(elements)[12:], length)


def _without_group_length(elements: Elements) -> bytes:
    return wire.joined(elements)[12:]


def _padded(elements: Elements, pad: bytes) -> bytes:
    """UIDs of odd length end with `pad`; those of even length are made odd first."""
    changed = {}
    for tag, value in elements.items():
        text = value.rstrip(b"\0")
        changed[tag] = text + pad * (len(text) % 2) if tag in _UIDS else value
    return wire.joined(changed)


def _of_type(elements: Elements, value: bytes | None) -> bytes:
    kept = {tag: old for tag, old in elements.items() if tag != 0x0800}
    return wire.joined(kept if value is None else {**kept, 0x0800: value})


# How it is written -> (encoder, what is odd).
ODD: Final[dict[str, tuple[Callable[[Elements], bytes], str]]] = {
    "no group length": (_without_group_length, "group_length"),
    "group length 0": (lambda it: _lying(it, 0), "group_length"),
    "group length of all": (lambda it: _lying(it, len(wire.joined(it))), "group_length"),
    "group length of 4 GiB": (lambda it: _lying(it, 0xFFFFFFFF), "group_length"),
    "UIDs of odd length": (lambda it: _padded(it, b""), "odd_length"),
    "UIDs padded with blanks": (lambda it: _padded(it, b" "), "blank_padding"),
}
# Of responses alone: a request that does not say whether a data set follows cannot be read.
ODD_RESPONSE: Final = {
    **ODD,
    "no data set type": (lambda it: _of_type(it, None), "data_set_type"),
    "an empty data set type": (lambda it: _of_type(it, b""), "data_set_type"),
}
# Of responses that never have a data set.
ODD_ENDING: Final = {
    **ODD_RESPONSE,
    "the request's data set type": (lambda it: _of_type(it, b"\0\0"), "data_set_type"),
}
