"""The answer that is like the last one: known by every bit of it, and by nothing less."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from engine.dimse.commands import encode_pdus
from engine.dimse.requests import encode_store_request
from engine.dimse.response_template import ResponseTemplate
from engine.settings.timeouts import Timeouts
from engine.upper_layer.pdus import ProposedContext
from tests.peers.scripted_peer import Link, ScriptedPeer
from workers.scu.association import Peer, ScuAssociation

UID = "1.2.3.4"
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, number, len(value)) + value


def answer(message_id: int, uid: str = UID, status: int = 0, comment: bytes = b"") -> bytes:
    """A C-STORE-RSP as most peers write it, as one PDU."""
    rest = element(0x0002, CT.encode()) + element(0x0100, b"\x01\x80")
    rest += element(0x0120, struct.pack("<H", message_id)) + element(0x0800, b"\x01\x01")
    rest += element(0x0900, struct.pack("<H", status))
    if comment:
        rest += element(0x0902, comment)
    if uid:
        rest += element(0x1000, uid.encode())
    return encode_pdus(1, element(0, struct.pack("<I", len(rest))) + rest, 16378, command=True)


def learned(uid: str = UID) -> ResponseTemplate:
    template = ResponseTemplate()
    template.learn(answer(7, uid), 7, UID)
    return template


# Nothing is learned from an answer in which the ID looks like the tag of the instance's UID.
_clear: st.SearchStrategy[int] = st.integers(1, 65535).filter(lambda number: number & 0xFF != 0x10)


@given(_clear, st.integers(1, 65535), st.sampled_from(["1.2.3.4", "9.8.7.66"]))
def test_the_next_one_is_known(first: int, second: int, uid: str) -> None:
    template = ResponseTemplate()
    assert not template.is_answer(answer(first), first, UID), "nothing was learned"
    template.learn(answer(first), first, UID)
    assert template.is_answer(answer(second, uid), second, uid) is (len(uid) in (7, 8))
    assert not template.is_answer(answer(second, "1.2.3.5.6.7"), second, "1.2.3.5.6.7")


def test_one_that_names_no_instance_is_known() -> None:
    assert learned("").is_answer(answer(8, ""), 8, "1.2.3.4.5.6")
    assert not learned("").is_answer(answer(8), 8, UID)


@given(st.data())
def test_whatever_differs_is_not(data: st.DataObject) -> None:
    template = learned()
    good = answer(9)
    assert template.is_answer(good, 9, UID)
    at = data.draw(st.integers(0, len(good) - 1))
    bit = data.draw(st.integers(0, 7))
    changed = good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :]
    assert not template.is_answer(changed, 9, UID)
    assert not template.is_answer(good[:at], 9, UID)
    assert not template.is_answer(good + good[:at] + b"\0", 9, UID)
    assert not template.is_answer(good, 10, UID)
    assert not template.is_answer(good, 9, "1.2.3.5")


def test_what_is_ambiguous_is_not_learned() -> None:
    template = ResponseTemplate()
    template.learn(answer(0x10), 0x10, UID)
    assert not template.is_answer(answer(8), 8, UID)
    twice = element(0x0120, struct.pack("<H", 7)) * 2
    for strange in (b"", b"x", twice, answer(7) + answer(7), answer(7, "1.2.9.9")):
        template.learn(strange, 7, UID)
        assert not template.is_answer(strange, 7, UID)


def test_answers_whole_in_pieces_and_of_another_kind() -> None:
    """The short way is taken only for what is like an answer that was read, and read whole."""
    statuses = [0, 0, 0xA700, 0, 0xB000, 0, 0]
    steps = [0, 40, 0, 0, 0, 90, 0]  # bytes a packet; 0: all at once

    def serve(link: Link) -> None:
        link.associate()
        for number, (status, step) in enumerate(zip(statuses, steps, strict=True), 1):
            request = link.message()
            assert request is not None
            assert request.message == number
            comment = b"no" if status else b""
            link.send(answer(number, request.text(0x1000), status, comment), step, 0.05)
        assert link.message() is None
        link.release()

    found = []
    with ScriptedPeer(serve) as peer:
        remote = Peer("peer", "PEER", "127.0.0.1", peer.port, None)
        with ScuAssociation.open(
            remote, "US", [ProposedContext(1, CT, (EXPLICIT,))], Timeouts.each(5)
        ) as us:
            for number in range(len(statuses)):
                message_id = us.next_message_id()
                uid = f"1.2.3.{number}"
                us.send_message(1, encode_store_request(message_id, CT, uid), b"\0" * 8)
                found.append(us.receive_stored(message_id, uid))
            us.release()
    assert found == [(status, "no" if status else "") for status in statuses]
