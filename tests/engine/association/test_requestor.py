"""The requestor's side of an association without a socket: table 9-10, deadlines, hostile bytes."""

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import limits
from engine.association.requestor import Requestor
from engine.dimse.commands import CommandField
from engine.dimse.requests import (
    Message,
    Response,
    StatusClass,
    encode_cancel_request,
    encode_echo_request,
    encode_find_request,
    encode_message,
    encode_move_request,
    encode_store_request,
    outcome_of,
    status_words,
)
from engine.errors import PeerError, Rejection
from engine.settings.timeouts import Timeouts
from engine.upper_layer.failure import (
    FailureKind,
    ScuFailure,
    abort_words,
    rejected,
    rejection_words,
)
from engine.upper_layer.pdus import ProposedContext
from engine.upper_layer.proposal import propose
from engine.upper_layer.table import ProtocolState
from tests.material import wire
from tests.peers.scripted_peer import (
    Request,
    answered_context,
    associate_accept,
    proposed_contexts,
    response,
)

CONTEXTS = (
    ProposedContext(1, wire.VERIFICATION, (wire.IMPLICIT,)),
    ProposedContext(3, wire.CT_IMAGE, (wire.EXPLICIT, wire.IMPLICIT)),
)
ACCEPT = associate_accept(
    [answered_context(3, 0, wire.IMPLICIT), answered_context(1, 0, wire.IMPLICIT)]
)
REJECT = wire.pdu(wire.ASSOCIATE_RJ, bytes((0, 1, 1, 7)))
RELEASE_RQ = wire.pdu(wire.RELEASE_RQ, bytes(4))
RELEASE_RP = wire.pdu(wire.RELEASE_RP, bytes(4))
ABORT = wire.pdu(wire.ABORT, bytes((0, 0, 2, 5)))
ECHO_RQ = Request(1, wire.parse_command(wire.echo_command(7)), None)
ECHO_RSP = response(ECHO_RQ, 0)
FIND_RQ = ECHO_RQ._replace(command={**ECHO_RQ.command, 0x0100: wire.us(wire.C_FIND_RQ)})
FIND_RSP = response(FIND_RQ, 0xFF00, bytes(300))
USER_ABORT = wire.pdu(wire.ABORT, bytes(4))
PROVIDER_ABORT = wire.pdu(wire.ABORT, bytes((0, 0, 2, 2)))  # unexpected PDU
COMMAND = {tag: value for tag, value in ECHO_RQ.command.items() if tag}


def started(timeout: float = 5.0) -> Requestor:
    """The request has been sent, at 100."""
    requestor = Requestor(propose("PACS", "GATEWAY", CONTEXTS), Timeouts.each(timeout), 100.0)
    requestor.connected(100.0)
    return requestor


def established() -> Requestor:
    requestor = started()
    assert requestor.receive(ACCEPT, 100.0) == b""
    assert requestor.state is ProtocolState.Sta6
    return requestor


def releasing() -> Requestor:
    requestor = established()
    assert requestor.release(100.0) == RELEASE_RQ
    return requestor


def kind_of(requestor: Requestor) -> FailureKind | None:
    return None if requestor.failure is None else requestor.failure.kind


# --- the request ---------------------------------------------------------------------------------


def test_the_request() -> None:
    requestor = Requestor(propose("PACS", "GATEWAY", CONTEXTS), Timeouts.each(5.0), 100.0)
    assert requestor.state is ProtocolState.Sta4
    pdu = requestor.connected(100.0)
    assert requestor.state is ProtocolState.Sta5
    body = pdu[6:]
    assert body[:4] == b"\0\1\0\0"
    assert body[4:36] == b"PACS".ljust(16) + b"GATEWAY".ljust(16)
    assert proposed_contexts(body) == [
        (1, wire.VERIFICATION, [wire.IMPLICIT]),
        (3, wire.CT_IMAGE, [wire.EXPLICIT, wire.IMPLICIT]),
    ]
    assert set(wire.user_items(body)) == {0x51, 0x52, 0x55}, "no window, no roles, no extensions"


def test_equal_requests_are_encoded_once() -> None:
    assert propose("PACS", "GATEWAY", CONTEXTS) is propose("PACS", "GATEWAY", tuple(CONTEXTS))


@pytest.mark.parametrize(
    "contexts",
    [
        (),
        (CONTEXTS[0], CONTEXTS[0]),
        (ProposedContext(2, wire.VERIFICATION, (wire.IMPLICIT,)),),
    ],
)
def test_wrong_proposals_are_our_own_fault(contexts: tuple[ProposedContext, ...]) -> None:
    with pytest.raises(AssertionError):
        propose("PACS", "GATEWAY", contexts)


def test_an_accept_in_any_order() -> None:
    requestor = established()
    assert {i: answer.transfer_syntax for i, answer in requestor.accepted.items()} == {
        1: wire.IMPLICIT,
        3: wire.IMPLICIT,
    }
    assert requestor.refused == {}


def test_an_accept_that_leaves_less() -> None:
    requestor = started()
    answers = [answered_context(1, 0, wire.JPEG_LOSSLESS), answered_context(9, 0, wire.IMPLICIT)]
    requestor.receive(associate_accept(answers), 100.0)
    assert requestor.state is ProtocolState.Sta6
    assert requestor.accepted == {}
    assert requestor.refused[1] == f"accepted with {wire.JPEG_LOSSLESS}, which was not proposed"
    assert requestor.refused[3] == "not answered"


@pytest.mark.parametrize(
    ("accept", "words"),
    [
        (associate_accept([]), "no presentation context"),
        (associate_accept([answered_context(2, 0, wire.IMPLICIT)]), "is even"),
        (associate_accept([answered_context(1, 0, wire.IMPLICIT)] * 2), "repeated"),
        (associate_accept([answered_context(1, 0, "")]), "without a transfer syntax"),
        (associate_accept([answered_context(1, 0, wire.IMPLICIT)], user=b""), "no user"),
        (wire.pdu(wire.ASSOCIATE_AC, bytes(10)), "A-ASSOCIATE-AC of 10 bytes"),
    ],
)
def test_an_accept_that_makes_no_sense(accept: bytes, words: str) -> None:
    requestor = started()
    answer = requestor.receive(accept, 100.0)
    assert (answer[0], answer[8]) == (wire.ABORT, 2), "the service-provider's"
    assert kind_of(requestor) is FailureKind.PROTOCOL
    assert requestor.failure is not None
    assert words in requestor.failure.text
    assert requestor.state is ProtocolState.Sta13


# --- table 9-10 ----------------------------------------------------------------------------------

ROWS = [
    # state before, PDU, state after, kind of failure, what is sent
    (started, ACCEPT, ProtocolState.Sta6, None, b""),
    (started, REJECT, ProtocolState.Sta1, FailureKind.REJECTED, b""),
    (started, ABORT, ProtocolState.Sta1, FailureKind.ABORTED, b""),
    (started, ECHO_RSP, ProtocolState.Sta13, FailureKind.PROTOCOL, PROVIDER_ABORT),
    (started, RELEASE_RQ, ProtocolState.Sta13, FailureKind.PROTOCOL, PROVIDER_ABORT),
    (started, RELEASE_RP, ProtocolState.Sta13, FailureKind.PROTOCOL, PROVIDER_ABORT),
    (established, ECHO_RSP, ProtocolState.Sta6, None, b""),
    (established, ACCEPT, ProtocolState.Sta13, FailureKind.PROTOCOL, PROVIDER_ABORT),
    (established, REJECT, ProtocolState.Sta13, FailureKind.PROTOCOL, PROVIDER_ABORT),
    (established, RELEASE_RP, ProtocolState.Sta13, FailureKind.PROTOCOL, PROVIDER_ABORT),
    (established, RELEASE_RQ, ProtocolState.Sta13, FailureKind.ABORTED, RELEASE_RP),
    (established, ABORT, ProtocolState.Sta1, FailureKind.ABORTED, b""),
    (releasing, RELEASE_RP, ProtocolState.Sta1, None, b""),
    (releasing, ECHO_RSP, ProtocolState.Sta7, None, b""),
    (releasing, RELEASE_RQ, ProtocolState.Sta11, None, RELEASE_RP),
    (releasing, RELEASE_RQ + RELEASE_RP, ProtocolState.Sta1, None, RELEASE_RP),
    (
        releasing,
        RELEASE_RQ * 2,
        ProtocolState.Sta13,
        FailureKind.PROTOCOL,
        RELEASE_RP + PROVIDER_ABORT,
    ),
    (releasing, ACCEPT, ProtocolState.Sta13, FailureKind.PROTOCOL, PROVIDER_ABORT),
    (releasing, ABORT, ProtocolState.Sta1, FailureKind.ABORTED, b""),
    (
        established,
        wire.associate_request([]),
        ProtocolState.Sta13,
        FailureKind.PROTOCOL,
        PROVIDER_ABORT,
    ),
]


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0].__name__}-{row[1][0]}")
def test_each_cell_that_a_peer_can_reach(row: tuple[object, ...], step: int | None) -> None:
    before, pdu, after, kind, sent = row
    requestor = before()  # type: ignore[operator]
    assert isinstance(pdu, bytes)
    answer = b""
    for at in range(0, len(pdu), step or len(pdu)):
        answer += requestor.receive(pdu[at : at + (step or len(pdu))], 100.0)
    assert requestor.state is after
    assert kind_of(requestor) is kind
    assert isinstance(sent, bytes)
    assert answer == sent


def test_what_comes_behind_the_end_is_not_heard() -> None:
    requestor = established()
    requestor.receive(ECHO_RSP + ABORT + ECHO_RSP, 100.0)
    assert (len(requestor.messages), requestor.state) == (1, ProtocolState.Sta1)
    assert requestor.receive(b"\xff" * 100, 100.0) == b""
    assert requestor.refuse(PeerError("too late")) == b""


# --- time ----------------------------------------------------------------------------------------


def test_each_step_has_its_deadline() -> None:
    requestor = started(5.0)
    assert requestor.deadline == 105.0
    requestor.receive(ACCEPT[:20], 104.0)
    assert requestor.deadline == 105.0, "a trickle moves nothing"
    requestor.receive(ACCEPT[20:], 104.5)
    requestor.expect(110.0, 30.0)
    assert requestor.deadline == 140.0
    requestor.receive(ECHO_RSP[:20], 139.0)
    assert requestor.expired(140.0) == USER_ABORT
    assert requestor.failure is not None
    assert requestor.failure.text == "no response within 30 s; only a part of it came"
    assert requestor.state is ProtocolState.Sta13


def test_the_transports_end_in_each_state() -> None:
    for before, words in (
        (started, "answer to the association request"),
        (established, "response"),
        (releasing, "answer to the release request"),
    ):
        requestor = before()
        requestor.lost()
        assert requestor.over
        assert requestor.failure is not None
        assert requestor.failure.text == f"the peer closed the connection where the {words} was due"


# --- messages ------------------------------------------------------------------------------------


def pieces(message: bytes, context: int, command: bool, size: int) -> bytes:
    return wire.p_data(context, message, command, maximum=size + 6)


@pytest.mark.parametrize("size", [2, 10, 16372])
def test_messages_in_pieces(size: int) -> None:
    pending = {0x0100: wire.us(0x8020), 0x0800: wire.us(0), 0x0900: wire.us(0xFF00)}
    command = wire.joined({**COMMAND, **pending})
    requestor = established()
    requestor.receive(pieces(command, 1, True, size) + pieces(b"ab" * 99, 1, False, size), 100.0)
    (message,) = requestor.messages
    assert message.context_id == 1
    assert message.data == b"ab" * 99
    assert message.elements[0x0100] == wire.us(0x8020)


def test_several_messages_in_one_pdu() -> None:
    requestor = established()
    requestor.receive(
        wire.pdu(wire.P_DATA, ECHO_RSP[6:] + FIND_RSP[6:-312] + FIND_RSP[-306:]), 100.0
    )
    assert [message.data for message in requestor.messages] == [None, bytes(300)]


FIND_COMMAND = wire.joined({**COMMAND, 0x0800: wire.us(0)})


@pytest.mark.parametrize(
    ("pdus", "words"),
    [
        (wire.pdu(wire.P_DATA, b""), "no fragment"),
        (wire.pdu(wire.P_DATA, bytes(3)), "no fragment"),
        (wire.pdu(wire.P_DATA, wire.pdv(1, b"", 3, length=1)), "fragment of 1 bytes"),
        (wire.pdu(wire.P_DATA, wire.pdv(1, b"", 3, length=2**32 - 4)), "fragment of 4294967292"),
        (wire.p_data(5, FIND_COMMAND, True), "presentation context 5, which is not in use"),
        (wire.p_data(1, b"ab", False), "a data set came where a command was due"),
        (wire.p_data(1, FIND_COMMAND, True) * 2, "a command came where a data set was due"),
        (
            wire.p_data(1, FIND_COMMAND, True) + wire.p_data(3, b"ab", False),
            "two messages are mixed",
        ),
        (wire.p_data(1, bytes(limits.command_bytes_max + 2), True), "command set of more than"),
        (
            wire.p_data(1, FIND_COMMAND, True)
            + wire.p_data(1, bytes(limits.identifier_bytes_max + 2), False),
            "data set of more than",
        ),
        (wire.p_data(1, b"nonsense" * 4, True), "out of place"),
        (wire.p_data(1, wire.joined({0x0100: wire.us(0x8010)}), True), "(0000,0800)"),
        (wire.pdu(wire.P_DATA, length=limits.pdu_bytes_tolerated + 1), "P_DATA PDU of 131073"),
    ],
)
def test_messages_that_break_the_rules(pdus: bytes, words: str) -> None:
    requestor = established()
    answer = requestor.receive(pdus, 100.0)
    assert answer[0] == wire.ABORT
    assert requestor.failure is not None
    assert requestor.failure.kind is FailureKind.PROTOCOL
    assert words in requestor.failure.text


# --- hostile bytes -------------------------------------------------------------------------------

SEEDS = [
    ACCEPT + ECHO_RSP + FIND_RSP + RELEASE_RP,
    ACCEPT + FIND_RSP * 3 + RELEASE_RQ,
    REJECT,
    ACCEPT + ABORT,
]


def feed(stream: bytes, chunks: random.Random, release: bool) -> Requestor:
    """Whatever the stream, in chunks of any size; the requestor must come to a good end."""
    requestor = started()
    at = 0
    while at < len(stream) and not requestor.over:
        size = chunks.choice((1, 2, 7, 64, 4096))
        before = len(requestor.messages)
        answer = requestor.receive(stream[at : at + size], 101.0)
        at += size
        assert len(requestor.messages) - before <= size
        assert (
            not answer or requestor.failure is not None or requestor.state is not ProtocolState.Sta6
        )
        if release and requestor.state is ProtocolState.Sta6:
            requestor.release(101.0)
    if not requestor.over:
        requestor.expired(200.0) if chunks.random() < 0.5 else requestor.lost()
        assert requestor.failure is not None
    assert requestor.over
    return requestor


@settings(max_examples=400, deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 800),
    chunks=st.randoms(use_true_random=False),
    release=st.booleans(),
)
def test_mutated_pdus(
    seed: bytes,
    edits: list[tuple[int, int]],
    cut: int,
    chunks: random.Random,
    release: bool,
) -> None:
    stream = bytearray(seed[:cut] if cut < 400 else seed)
    for at, value in edits:
        if at < len(stream):
            stream[at] = value
    requestor = feed(bytes(stream), chunks, release)
    for message in requestor.messages:
        with contextlib.suppress(PeerError):  # nothing else may leave it
            Response(message).check_answers(CommandField.C_ECHO, 7)


@settings(max_examples=200, deadline=None)
@given(stream=st.binary(max_size=300), chunks=st.randoms(use_true_random=False))
def test_any_bytes_at_all(stream: bytes, chunks: random.Random) -> None:
    assert feed(stream, chunks, release=False).failure is not None


@settings(max_examples=100, deadline=None)
@given(chunks=st.randoms(use_true_random=False))
def test_chunks_make_no_difference(chunks: random.Random) -> None:
    whole = feed(SEEDS[1], random.Random(1), release=False)
    assert list(feed(SEEDS[1], chunks, release=False).messages) == list(whole.messages)
    assert len(whole.messages) == 3


# --- DIMSE ---------------------------------------------------------------------------------------


def test_requests_as_a_foreign_codec_reads_them() -> None:
    store = wire.parse_command(encode_store_request(513, wire.CT_IMAGE, "1.2.3"))
    assert store[0x0000] == len(wire.joined({t: v for t, v in store.items() if t})[12:]).to_bytes(
        4, "little"
    )
    assert {tag: value for tag, value in store.items() if tag} == wire.store_elements(
        wire.CT_IMAGE, "1.2.3", 513, 1
    )
    assert encode_echo_request(7) == wire.echo_command(7)
    find = wire.parse_command(encode_find_request(2, "1.2"))
    assert (find[0x0100], find[0x0110], find[0x0002]) == (b"\x20\0", b"\2\0", b"1.2\0")
    assert find[0x0800] != wire.us(wire.NO_DATA_SET)
    move = wire.parse_command(encode_move_request(3, "1.2", "ODD"))
    assert (move[0x0100], move[0x0600]) == (b"\x21\0", b"ODD ")
    cancel = wire.parse_command(encode_cancel_request(3))
    assert (cancel[0x0100], cancel[0x0120], 0x0110 in cancel) == (b"\xff\x0f", b"\3\0", False)
    assert cancel[0x0800] == wire.us(wire.NO_DATA_SET)


@pytest.mark.parametrize("maximum", [8, 100, 16378])
def test_a_message_in_pdus(maximum: int) -> None:
    pdus = encode_message(5, encode_find_request(2, "1.2"), b"xy" * 150, maximum)
    found: dict[int, bytes] = {1: b"", 0: b""}
    flags = []
    while pdus:
        length = int.from_bytes(pdus[2:6], "big")
        assert length <= maximum
        body, pdus = pdus[6 : 6 + length], pdus[6 + length :]
        assert body[4] == 5
        found[body[5] & 1] += body[6:]
        flags.append(body[5])
    assert found == {1: encode_find_request(2, "1.2"), 0: b"xy" * 150}
    assert [flag for flag in flags if flag & 2] == [3, 2]


@pytest.mark.parametrize(
    ("status", "outcome", "words"),
    [
        (0x0000, StatusClass.SUCCESS, "0000 success"),
        (0xB000, StatusClass.WARNING, "B000 coercion"),
        (0xB006, StatusClass.WARNING, "B006 elements discarded"),
        (0xB007, StatusClass.WARNING, "B007 data set does not match"),
        (0x0107, StatusClass.WARNING, "0107 attribute list"),
        (0xFF00, StatusClass.PENDING, "FF00 pending"),
        (0xFF01, StatusClass.PENDING, "FF01 pending"),
        (0xFE00, StatusClass.CANCEL, "FE00 cancelled"),
        (0xA700, StatusClass.FAILURE, "A700 out of resources"),
        (0xA702, StatusClass.FAILURE, "A702 out of resources: unable to perform"),
        (0xA801, StatusClass.FAILURE, "A801 move destination unknown"),
        (0xA900, StatusClass.FAILURE, "A900 data set does not match SOP class"),
        (0xC000, StatusClass.FAILURE, "C000 unable to process"),
        (0xCAFE, StatusClass.FAILURE, "CAFE unable to process"),
        (0x1234, StatusClass.FAILURE, "1234 failure"),
    ],
)
def test_statuses(status: int, outcome: StatusClass, words: str) -> None:
    assert outcome_of(status) is outcome
    assert status_words(status).startswith(words)


def test_a_response_and_what_it_may_lack() -> None:
    elements = {0x0100: wire.us(0x8021), 0x0120: wire.us(9), 0x0900: wire.us(0xFF00)}
    more = {0x1020: wire.us(300), 0x1022: b"\1", 0x0902: b"d\xfcnn "}
    one = Response(Message(1, elements | more, b"x"))
    assert (one.command_field, one.message_id, one.status) == (0x21, 9, 0xFF00)
    assert (one.remaining, one.completed, one.failed, one.warnings) == (300, None, None, None)
    assert (one.comment, one.data) == ("dünn", b"x")
    one.check_answers(CommandField.C_MOVE, 9)
    with pytest.raises(PeerError, match="message 9"):
        one.check_answers(CommandField.C_MOVE, 8)
    for missing in elements:
        with pytest.raises(PeerError):
            Response(Message(1, {k: v for k, v in elements.items() if k != missing}, None))
    with pytest.raises(PeerError, match="where a response was due"):
        Response(Message(1, elements | {0x0100: wire.us(0x21)}, None))


# --- words ---------------------------------------------------------------------------------------


def test_every_rejection_and_abort_of_the_standard_has_words() -> None:
    reasons = {(1, 1), (1, 2), (1, 3), (1, 7), (2, 1), (2, 2), (3, 1), (3, 2)}
    for source, reason in reasons:
        for result in (1, 2):
            words = rejection_words(Rejection(result, source, reason))
            assert "unknown" not in words
            assert words.endswith(f"({result}, {source}, {reason})")
    for reason in (0, 1, 2, 4, 5, 6):
        assert "unknown" not in abort_words(2, reason)
    assert "unknown" not in abort_words(0, 200)


def test_only_what_no_retry_mends_is_permanent() -> None:
    assert rejected(Rejection(1, 1, 7)).permanent
    assert not rejected(Rejection(2, 1, 7)).permanent
    assert not ScuFailure(FailureKind.TIMEOUT, "").permanent
