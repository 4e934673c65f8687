"""The short way of a regular C-STORE-RQ says and stores exactly what the long way does."""

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.association.store_lane import permit_stores
from engine.dictionary import uids
from engine.dimse.commands import Request, encode_pdus, encode_response
from engine.files.arrival import decode_arrival, encode_number
from engine.files.part10 import part10_head
from engine.upper_layer.negotiation import AcceptedAssociation, AcceptedContext
from native import _core
from tests.material import wire
from tests.rigs.spools import SpoolBox, new_cutter, pdv

CONTEXT = 3
CT = wire.CT_IMAGE


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpoolBox]:
    made = SpoolBox(tmp_path_factory.mktemp("spool"), durable=False)
    made.spool.admit(True)
    yield made
    made.close()


def accepted(syntax: str = wire.EXPLICIT, maximum: int = 16378) -> AcceptedAssociation:
    return AcceptedAssociation(
        calling_ae_title="CALLER",
        called_ae_title="SCP_AE",
        contexts={
            1: AcceptedContext(uids.verification, wire.IMPLICIT),
            CONTEXT: AcceptedContext(CT, syntax),
        },
        refused=(),
        verification_only=False,
        peer_maximum_length=maximum,
        peer_implementation_class="",
        peer_implementation_version="",
    )


def cutter_of(box: SpoolBox, agreed: AcceptedAssociation, extra_tags: int = 0) -> _core.PduCutter:
    cutter = new_cutter()
    cutter.attach(box.spool, 0)
    permit_stores(cutter, agreed, "192.0.2.7", extra_tags)
    return cutter


def element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, number, len(value)) + value


def number(element_number: int, value: int) -> bytes:
    return element(element_number, struct.pack("<H", value))


def padded(uid: str, pad: bytes = b"\0") -> bytes:
    return uid.encode() + pad * (len(uid) % 2)


def command_of(*elements: bytes) -> bytes:
    body = b"".join(elements)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def regular(uid: str, message_id: int = 7, pad: bytes = b"\0") -> list[bytes]:
    return [
        element(0x0002, padded(CT, pad)),
        number(0x0100, 0x0001),
        number(0x0110, message_id),
        number(0x0700, 2),
        number(0x0800, 0x0000),
        element(0x1000, padded(uid, pad)),
    ]


def stream_of(command_set: bytes, data_set: bytes) -> bytes:
    return wire.pdu(wire.P_DATA, pdv(CONTEXT, 3, command_set)) + wire.pdu(
        wire.P_DATA, pdv(CONTEXT, 2, data_set)
    )


UIDS = ["1.2", "1.23", "1." + "2" * 61, "1." + "2" * 62, "1.2.840.10008.5.1.4.1.1.2.1.17"]


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("syntax", [wire.IMPLICIT, wire.EXPLICIT, wire.JPEG_LOSSLESS])
def test_both_ways_agree(box: SpoolBox, tmp_path: Path, uid: str, syntax: str) -> None:
    cutter = cutter_of(box, accepted(syntax))
    command_set = command_of(*regular(uid, message_id=0xABCD))
    data_set = random.Random(uid).randbytes(5000)
    assert cutter.feed(stream_of(command_set, data_set)) == _core.RECEIVED_AGAIN
    assert cutter.next_event() is None
    assert box.spool.unflushed
    box.spool.flush()
    kind, _slot, error, _size, sequence = box.wait()
    assert (kind, error) == (_core.COMPLETION_STORED, 0)
    finished = cutter.finish_store()
    assert finished is not None
    response, sop_instance, began, ended = finished
    answer = encode_response(Request(command_set), 0)
    assert response == encode_pdus(CONTEXT, answer, 16378)
    assert sop_instance == uid
    assert began <= ended
    head = part10_head(CT, uid, syntax, "CALLER")
    assert box.stored_bytes(sequence, tmp_path / "one.dcm") == head + data_set
    arrival = decode_arrival(box.reader(sequence).read(sequence, 1)[0][1])
    assert arrival.sop_class_uid == CT
    assert arrival.sop_instance_uid == uid
    assert arrival.transfer_syntax_uid == syntax
    assert (arrival.calling_ae_title, arrival.called_ae_title) == ("CALLER", "SCP_AE")
    assert (arrival.peer, arrival.head_bytes) == ("192.0.2.7", len(head))
    assert arrival.received_ns > 1_700_000_000_000_000_000
    assert cutter.finish_store() is None


@pytest.mark.parametrize("extra_tags", [0, 127, 128, 0xCAFE, 0xFFFFFFFF])
def test_arrivals_are_whole_whatever_they_say_of_attributes(box: SpoolBox, extra_tags: int) -> None:
    cutter = cutter_of(box, accepted(), extra_tags)
    assert cutter.feed(stream_of(command_of(*regular("1.2.3")), b"x" * 100)) == _core.RECEIVED_AGAIN
    box.spool.flush()
    sequence = box.wait()[4]
    assert cutter.finish_store() is not None
    prologue = box.reader(sequence).read(sequence, 1)[0][1]
    arrival = decode_arrival(prologue)
    assert (arrival.sop_instance_uid, arrival.extra_tags) == ("1.2.3", extra_tags)
    assert prologue.endswith(encode_number(extra_tags))


def without(uid: str, number_left_out: int) -> bytes:
    kept = [part for part in regular(uid) if part[2:4] != struct.pack("<H", number_left_out)]
    return command_of(*kept)


IRREGULAR = {
    "echo": command_of(number(0x0100, 0x0030), number(0x0110, 1), number(0x0800, 0x0101)),
    "no data set": command_of(*regular("1.2")[:4], number(0x0800, 0x0101), regular("1.2")[5]),
    "other SOP class": command_of(element(0x0002, padded(wire.MR_IMAGE)), *regular("1.2")[1:]),
    "uid with a letter": command_of(*regular("1.2a")),
    "uid with a slash": command_of(*regular("../1")),
    "uid too long": command_of(*regular("1." + "2" * 63)),
    "uid empty": command_of(*regular("")),
    "unknown element": command_of(*regular("1.2"), element(0x1040, b"xx")),
    "element twice": command_of(*regular("1.2"), regular("1.2")[5]),
    "out of order": command_of(*reversed(regular("1.2"))),
    "odd length": command_of(*regular("1.2")[:5], element(0x1000, b"1.2")),
    "long number": command_of(element(0x0002, padded(CT)), element(0x0100, b"\1\0\0\0")),
    "class padded with blanks": command_of(
        element(0x0002, CT.encode() + b" "), *regular("1.2")[1:]
    ),
    "uid padded with blanks": command_of(*regular("1.23")[:5], element(0x1000, b"1.23  ")),
    "no group length": b"".join(regular("1.2")),
    "group length lies": b"\0\0\0\0\4\0\0\0\1\0\0\0" + b"".join(regular("1.2")),
    "nothing": b"",
    **{f"without {left:04X}": without("1.2", left) for left in (2, 0x100, 0x110, 0x800, 0x1000)},
}


@pytest.mark.parametrize("name", IRREGULAR)
def test_what_is_not_regular_goes_the_long_way(box: SpoolBox, name: str) -> None:
    cutter = cutter_of(box, accepted())
    stream = wire.pdu(wire.P_DATA, pdv(CONTEXT, 3, IRREGULAR[name]))
    for end in range(0, len(IRREGULAR[name]), 9):  # truncations are not regular either
        cut = cutter_of(box, accepted())
        cut.feed(wire.pdu(wire.P_DATA, pdv(CONTEXT, 3, IRREGULAR[name][:end])))
        assert cut.next_event() == (_core.EVENT_COMMAND, CONTEXT, IRREGULAR[name][:end])
    assert cutter.feed(stream) == _core.RECEIVED_EVENT
    assert cutter.next_event() == (_core.EVENT_COMMAND, CONTEXT, IRREGULAR[name])
    assert cutter.reveal_store() is None


def test_other_contexts_and_small_peers_go_the_long_way(box: SpoolBox) -> None:
    command_set = command_of(*regular("1.2.3"))
    told = (_core.EVENT_COMMAND, 1, command_set)
    cutter = cutter_of(box, accepted())
    cutter.feed(wire.pdu(wire.P_DATA, pdv(1, 3, command_set)))
    assert cutter.next_event() == told
    cutter = cutter_of(box, accepted(maximum=256))
    cutter.feed(wire.pdu(wire.P_DATA, pdv(CONTEXT, 3, command_set)))
    assert cutter.next_event() == (_core.EVENT_COMMAND, CONTEXT, command_set)


def test_nothing_begins_unasked_while_nothing_is_admitted(box: SpoolBox) -> None:
    box.spool.admit(False)
    try:
        cutter = cutter_of(box, accepted())
        command_set = command_of(*regular("1.2.3"))
        cutter.feed(wire.pdu(wire.P_DATA, pdv(CONTEXT, 3, command_set)))
        assert cutter.next_event() == (_core.EVENT_COMMAND, CONTEXT, command_set)
    finally:
        box.spool.admit(True)


def test_a_store_under_way_is_revealed_with_its_end(box: SpoolBox) -> None:
    cutter = cutter_of(box, accepted())
    command_set = command_of(*regular("1.2.3"))
    stream = stream_of(command_set, bytes(3000))
    cutter.feed(stream[:1000])
    assert cutter.next_event() is None
    assert cutter.reveal_store() == (CONTEXT, command_set, 0, False)
    assert cutter.reveal_store() is None
    # Once revealed, its end is told like that of any other.
    assert cutter.feed(stream[1000:]) == _core.RECEIVED_EVENT
    assert cutter.next_event() == (_core.EVENT_DATASET, CONTEXT, 3000)
    box.spool.flush()
    box.wait()
    assert cutter.finish_store() is None


def test_a_second_command_before_the_answer_is_told(box: SpoolBox) -> None:
    cutter = cutter_of(box, accepted())
    command_set = command_of(*regular("1.2.3"))
    stream = stream_of(command_set, bytes(100))
    assert cutter.feed(stream + stream) == _core.RECEIVED_EVENT
    assert cutter.next_event() == (_core.EVENT_COMMAND, CONTEXT, command_set)
    assert cutter.reveal_store() == (CONTEXT, command_set, 100, True)
    box.spool.flush()
    box.wait()
