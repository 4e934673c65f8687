"""Responses as real peers send them: what they say is read, and whether a data set follows."""

import pytest

from engine import limits
from engine.dimse.message_reader import MessageReader
from engine.dimse.requests import Message, Response
from engine.errors import PeerError
from tests.material import wire
from tests.material.odd_commands import ODD_ENDING, ODD_RESPONSE, Elements

STORE, FIND, MOVE, ECHO = 0x8001, 0x8020, 0x8021, 0x8030
CONTEXT, OTHER_CONTEXT = 1, 3
UID = "1.2.3"


def response(field: int, status: int, data_set: bool) -> Elements:
    return {
        0x0002: wire.uid(wire.CT_IMAGE),
        0x0100: wire.us(field),
        0x0120: wire.us(7),
        0x0800: wire.us(1 if data_set else wire.NO_DATA_SET),
        0x0900: wire.us(status),
        0x1000: wire.uid(UID),
    }


def command(data: bytes, context: int = CONTEXT) -> bytes:
    return wire.pdv(context, data, 3)


def data_set(data: bytes, context: int = CONTEXT, flags: int = 2) -> bytes:
    return wire.pdv(context, data, flags)


def fed(*pdvs: bytes) -> tuple[list[Message], set[str]]:
    reader = MessageReader()
    messages = [message for pdv in pdvs for message in reader.feed(pdv, (CONTEXT, OTHER_CONTEXT))]
    return messages, {str(oddity) for oddity in reader.oddities}


@pytest.mark.parametrize("name", ODD_ENDING)
@pytest.mark.parametrize("field", [STORE, ECHO])
@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xA700])
def test_the_status_counts(field: int, status: int, name: str) -> None:
    encode, kind = ODD_ENDING[name]
    (message,), oddities = fed(command(encode(response(field, status, False))))
    read = Response(message)
    assert (read.command_field | 0x8000, read.message_id, read.status) == (field, 7, status)
    assert message.data is None
    assert oddities == {kind}


@pytest.mark.parametrize("name", ODD_RESPONSE)
def test_a_match_has_its_identifier(name: str) -> None:
    encode, kind = ODD_RESPONSE[name]
    pending = command(encode(response(FIND, 0xFF00, True)))
    final = command(encode(response(FIND, 0, False)))
    messages, oddities = fed(pending, data_set(b"ab"), pending, data_set(b"cd"), final)
    assert [(Response(it).status, it.data) for it in messages] == [
        (0xFF00, b"ab"), (0xFF00, b"cd"), (0, None)
    ]  # fmt: skip
    assert oddities == {kind}


@pytest.mark.parametrize("name", ODD_RESPONSE)
@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xC000])
def test_a_retrieval_is_followed_to_its_end(name: str, status: int) -> None:
    encode, kind = ODD_RESPONSE[name]
    pending = command(encode(response(MOVE, 0xFF00, False)))
    final = command(encode(response(MOVE, status, False)))
    messages, oddities = fed(pending, pending, final)
    assert [Response(it).status for it in messages] == [0xFF00, 0xFF00, status]
    assert oddities == {kind}


@pytest.mark.parametrize(
    ("field", "status", "declared"),
    [
        (MOVE, 0xB000, None),
        (MOVE, 0xFF00, None),
        (MOVE, 0xFF00, b"\0\0"),
        (FIND, 0, b"\0\0"),
        (STORE, 0, b"\0\0"),
    ],
)
def test_a_data_set_that_nobody_announced_well_is_dropped(
    field: int, status: int, declared: bytes | None
) -> None:
    elements = response(field, status, False)
    del elements[0x0800]
    if declared is not None:
        elements[0x0800] = declared
    one = command(wire.joined(elements))
    messages, oddities = fed(one, data_set(b"ab", flags=0), data_set(b"cd"), one, one)
    assert [Response(it).status for it in messages] == [status] * 3
    assert oddities == {"data_set_type"}


def test_what_is_dropped_is_bounded_and_of_that_context() -> None:
    unsure = response(STORE, 0, False)
    del unsure[0x0800]
    with pytest.raises(PeerError, match="a data set came where a command was due"):
        fed(command(wire.joined(unsure)), data_set(b"ab", OTHER_CONTEXT))
    with pytest.raises(PeerError, match="a data set came where a command was due"):
        fed(command(wire.joined(unsure)), data_set(b"ab"), data_set(b"ab"))
    piece = data_set(bytes(limits.identifier_bytes_max // 2), flags=0)
    fed(command(wire.joined(unsure)), piece, piece)
    with pytest.raises(PeerError, match="data set of more than"):
        fed(command(wire.joined(unsure)), piece, piece, data_set(b"ab"))


def test_regular_responses_are_not_odd() -> None:
    regular = [
        command(wire.joined(response(STORE, 0, False))),
        command(wire.joined(response(FIND, 0xFF00, True))),
        data_set(b"ab"),
        command(wire.joined(response(MOVE, 0xB000, True))),
        data_set(b"cd"),
    ]
    messages, oddities = fed(*regular)
    assert [it.data for it in messages] == [None, b"ab", b"cd"]
    assert oddities == set()
