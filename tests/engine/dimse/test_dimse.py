"""Command sets: against pynetdicom's codec both ways, and what each defect costs."""

import struct
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom import dimse_messages, dimse_primitives
from pynetdicom.dsutils import decode

from engine.dimse.command_set import decode_command_set
from engine.dimse.commands import (
    CommandField,
    Request,
    encode_elements,
    encode_pdus,
    encode_response,
    store_refusal,
)
from engine.errors import AbortSource, PeerError
from tests.material import wire
from tests.material.odd_commands import ODD

INSTANCE = "1.2.826.0.1.3680043.8.498.123"


def store(**changes: bytes | None) -> dict[int, bytes]:
    """A good C-STORE-RQ's elements, with those named by hex number changed or removed."""
    elements = wire.store_elements(wire.CT_IMAGE, INSTANCE, 7)
    for name, value in changes.items():
        number = int(name.removeprefix("e"), 16)
        if value is None:
            del elements[number]
        else:
            elements[number] = value
    return elements


def broken(command_set: bytes, match: str) -> None:
    """It aborts, as service user."""
    with pytest.raises(PeerError, match=match) as caught:
        Request(command_set)
    assert caught.value.source == AbortSource.SERVICE_USER


def foreign_command(primitive: object, message: object) -> bytes:
    """A primitive's command set, by pynetdicom."""
    message.primitive_to_message(primitive)  # type: ignore[attr-defined]
    pieces = [
        piece.presentation_data_value_list[0][1]
        for piece in message.encode_msg(1, 16382)  # type: ignore[attr-defined]
    ]
    return b"".join(piece[1:] for piece in pieces if piece[0] & 1)


def test_store_request_of_pynetdicom() -> None:
    primitive = dimse_primitives.C_STORE()
    primitive.MessageID = 65535
    primitive.AffectedSOPClassUID = wire.CT_IMAGE
    primitive.AffectedSOPInstanceUID = INSTANCE
    primitive.Priority = 2
    primitive.MoveOriginatorApplicationEntityTitle = "MOVER"
    primitive.MoveOriginatorMessageID = 3

    primitive.DataSet = BytesIO(b"data")
    request = Request(foreign_command(primitive, dimse_messages.C_STORE_RQ()))
    assert request.command_field == CommandField.C_STORE
    assert request.message_id == 65535
    assert request.sop_class == wire.CT_IMAGE
    assert request.sop_instance == INSTANCE
    assert request.has_data_set
    assert store_refusal(request, wire.CT_IMAGE) == ""


def test_echo_request_of_pynetdicom() -> None:
    primitive = dimse_primitives.C_ECHO()
    primitive.MessageID = 1
    primitive.AffectedSOPClassUID = wire.VERIFICATION
    request = Request(foreign_command(primitive, dimse_messages.C_ECHO_RQ()))
    assert request.command_field == CommandField.C_ECHO
    assert request.sop_class == wire.VERIFICATION
    assert not request.has_data_set


def read_by_pynetdicom(command_set: bytes, message: object) -> object:
    """The primitive pynetdicom makes of a command set."""

    message.command_set = decode(BytesIO(command_set), True, True)  # type: ignore[attr-defined]
    message.data_set = BytesIO()  # type: ignore[attr-defined]
    return message.message_to_primitive()  # type: ignore[attr-defined]


@pytest.mark.parametrize("comment", ["", "disk is full", "odd"])
def test_store_response_read_by_pynetdicom(comment: str) -> None:
    request = Request(wire.store_command(wire.CT_IMAGE, INSTANCE, 9))
    encoded = encode_response(request, 0x0110 if comment else 0, comment)
    answer = read_by_pynetdicom(encoded, dimse_messages.C_STORE_RSP())
    assert answer.MessageIDBeingRespondedTo == 9
    assert answer.Status == (0x0110 if comment else 0)
    assert answer.AffectedSOPClassUID == UID(wire.CT_IMAGE)
    assert answer.AffectedSOPInstanceUID == UID(INSTANCE)
    assert (answer.ErrorComment or "") == comment
    elements = wire.parse_command(encoded)
    assert list(elements) == sorted(elements)
    assert struct.unpack("<I", elements[0])[0] == len(encoded) - 12
    assert all(len(value) % 2 == 0 for value in elements.values())


def test_echo_response_read_by_pynetdicom() -> None:
    encoded = encode_response(Request(wire.echo_command(5)), 0)
    answer = read_by_pynetdicom(encoded, dimse_messages.C_ECHO_RSP())
    assert (answer.MessageIDBeingRespondedTo, answer.Status) == (5, 0)
    assert answer.AffectedSOPClassUID == UID(wire.VERIFICATION)
    assert 0x1000 not in wire.parse_command(encoded)


def test_elements_both_ways() -> None:
    elements = store()
    assert decode_command_set(encode_elements(elements)) == (elements, frozenset())
    assert encode_elements(elements) == wire.joined(elements)


def test_framing_defects_abort() -> None:
    good = wire.joined(store())
    broken(b"", "0 bytes")
    ends, at = set(), 0
    for tag, value in sorted(wire.parse_command(good).items()):
        at += len(wire.element(tag, value))
        ends.add(at)
    for end in set(range(1, len(good))) - ends:
        broken(good[:end], "stray|length|out of place")
    broken(good + b"\0", "stray")
    broken(wire.command_set(good[12:] + b"\0\0\0\0"), "stray")


@pytest.mark.parametrize("name", ODD)
def test_what_real_peers_write_is_read_and_told(name: str) -> None:
    encode, kind = ODD[name]
    regular = Request(wire.joined(store()))
    request = Request(encode(store()))
    assert (regular.oddities, request.oddities) == (frozenset(), {kind})
    for field in ("command_field", "has_data_set", "message_id", "sop_class", "sop_instance"):
        assert getattr(request, field) == getattr(regular, field)
    assert encode_response(request, 0) == encode_response(regular, 0)


def test_element_defects_abort() -> None:
    parts = [wire.element(tag, value) for tag, value in sorted(store().items())]
    broken(wire.command_set(b"".join(parts[1:] + parts[:1])), "out of place")
    for part in parts:
        broken(wire.command_set(b"".join([*parts, part])), "out of place")
        broken(b"".join([*parts, part]), "out of place")
    broken(wire.command_set(wire.element(0, bytes(4)) + b"".join(parts)), "out of place")
    other_group = struct.pack("<HHI", 8, 0x0018, 0)
    broken(wire.command_set(b"".join(parts) + other_group), "out of place")
    for length in (0xFFFFFFFF, 0x80000000, 4):
        broken(wire.command_set(b"".join(parts) + wire.element(0x2000, b"ab", length)), "length")


@pytest.mark.parametrize("element", ["e0100", "e0110", "e0800"])
def test_what_is_needed_to_answer(element: str) -> None:
    broken(wire.joined(store(**{element: None})), "missing")
    for wrong in (b"", b"\0\0\0\0"):
        broken(wire.joined(store(**{element: wrong})), "bytes")


def test_responses_and_contradictions_abort() -> None:
    for field in (0x8001, 0x8030, 0x8FFF, 0xFFFF):
        broken(wire.joined(store(e0100=wire.us(field))), "to no request")
    for field in (wire.C_ECHO_RQ, wire.C_CANCEL_RQ):
        broken(wire.joined(store(e0100=wire.us(field))), "announces a data set")


def test_cancel_needs_no_message_id() -> None:
    elements = {0x0100: wire.us(0x0FFF), 0x0120: wire.us(4), 0x0800: wire.us(wire.NO_DATA_SET)}
    assert Request(wire.joined(elements)).command_field == CommandField.C_CANCEL


@pytest.mark.parametrize(
    "value",
    [
        None, b"", b"\0\0", b"  ", b"..", b"../../x\0", b"1.2/3\0", b"1.2\0" + b"3.4\0",
        b"1" * 66, b"1" * 300, b"a.b.c\0", b"1.2 3\0", "１.２".encode(), b"-1.2", b".1.2",
    ],
)  # fmt: skip
def test_bad_instance_uid_is_answered(value: bytes | None) -> None:
    if value is not None and len(value) % 2:
        value += b"\0"
    request = Request(wire.joined(store(e1000=value)))
    assert request.sop_instance == ""
    assert "SOP instance" in store_refusal(request, wire.CT_IMAGE)
    answer = wire.parse_command(encode_response(request, 0x0110, "no"))
    assert 0x1000 not in answer
    assert answer[0x0002] == wire.uid(wire.CT_IMAGE)


@pytest.mark.parametrize("value", [b"1." + b"2" * 62, b"1.2.3\0", b"1.2.3.4 ", b"1.23\0\0"])
def test_uid_that_is_good_enough(value: bytes) -> None:
    request = Request(wire.joined(store(e1000=value)))
    assert request.sop_instance == value.rstrip(b"\0 ").decode()
    assert store_refusal(request, wire.CT_IMAGE) == ""


def test_store_refusals() -> None:
    for sop_class in (None, b"", wire.uid(wire.MR_IMAGE), b"1" * 66):
        request = Request(wire.joined(store(e0002=sop_class)))
        assert "SOP class" in store_refusal(request, wire.CT_IMAGE)
    without = Request(wire.joined(store(e0800=wire.us(wire.NO_DATA_SET))))
    assert "without a data set" in store_refusal(without, wire.CT_IMAGE)


def test_error_comment_is_clean_and_short() -> None:
    request = Request(wire.joined(store()))
    for comment in ("x" * 300, "a\\b\nc\x1b[1m", "ä" * 70, "y" * 63):
        value = wire.parse_command(encode_response(request, 0x0110, comment))[0x0902]
        assert len(value) <= 64
        assert len(value) % 2 == 0
        assert value.decode("ascii").isprintable()
        assert b"\\" not in value
    assert 0x0902 not in wire.parse_command(encode_response(request, 0x0110, "  "))


@pytest.mark.parametrize("maximum", [0, 8, 9, 32, 33, 145, 16378, 0xFFFFFFFF])
def test_response_pdus_fit_the_peer(maximum: int) -> None:
    command_set = encode_response(Request(wire.joined(store())), 0)
    data = encode_pdus(5, command_set, maximum)
    payload, flags = b"", []
    while data:
        kind, length, item, context, flag = struct.unpack_from(">BxIIBB", data)
        assert (kind, context) == (wire.P_DATA, 5)
        assert length == item + 4
        assert length <= (maximum or 16378)
        assert item % 2 == 0
        payload += data[12 : 6 + length]
        flags.append(flag)
        data = data[6 + length :]
    assert payload == command_set
    assert flags == [1] * (len(flags) - 1) + [3]


def test_a_long_command_set_never_exceeds_our_own_maximum() -> None:
    data = encode_pdus(1, bytes(40000), 0)
    assert struct.unpack_from(">BxI", data) == (4, 16378)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_read_or_refused(data: st.DataObject) -> None:
    """Nothing but PeerError leaves the decoder; what is read can be answered."""
    damaged = bytearray(wire.joined(store()))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        request = Request(bytes(damaged))
    except PeerError:
        return
    wire.parse_command(encode_response(request, 0x0211, store_refusal(request, wire.CT_IMAGE)))
