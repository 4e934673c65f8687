"""MLLP: however the bytes are cut, the same messages come out; what is none is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import PeerError
from engine.hl7.framing import Block, Framer, framed
from engine.limits import hl7_message_bytes_max, hl7_stray_bytes_max

_content = st.binary(max_size=60).map(lambda raw: raw.translate(None, b"\x0b\x1c"))


@given(st.lists(_content, max_size=5), st.lists(st.integers(1, 9), min_size=1))
def test_however_the_bytes_are_cut(contents: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(map(framed, contents))
    framer, found, at, turn = Framer(), list[Block](), 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        found += framer.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert found == [Block(content) for content in contents]
    assert not framer.is_open


def test_line_ends_between_blocks_and_a_missing_cr_are_taken() -> None:
    assert Framer().feed(b"\r\n\x0bA\x1c\n\x0bB\x1c\x0bC\x1c\r") == [
        Block(b"A"),
        Block(b"B"),
        Block(b"C"),
    ]


def test_a_message_that_was_begun_anew_is_told() -> None:
    framer = Framer()
    assert framer.feed(b"\x0bMSH|half") == []
    assert framer.is_open
    assert framer.feed(b"\x0bwhole\x1c\r") == [Block(b"MSH|half", cut=True), Block(b"whole")]


@pytest.mark.parametrize("what", [b"GET / HTTP/1.1\r\n" * 40, b"\xff" * (hl7_stray_bytes_max + 1)])
def test_what_is_no_mllp_is_refused(what: bytes) -> None:
    with pytest.raises(PeerError, match="no MLLP"):
        Framer().feed(what)
    with pytest.raises(PeerError, match="no MLLP"):
        Framer().feed(what + b"\x0bA\x1c\r")


def test_a_message_without_end_is_refused_at_the_bound() -> None:
    framer = Framer()
    framer.feed(b"\x0b" + b"A" * hl7_message_bytes_max)
    with pytest.raises(PeerError, match="longer than"):
        framer.feed(b"A")
