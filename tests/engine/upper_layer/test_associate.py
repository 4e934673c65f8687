"""Association PDUs: against pynetdicom's codec both ways, and against every kind of damage."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom import pdu, pdu_primitives
from pynetdicom.presentation import PresentationContext

from engine import limits
from engine.dictionary import uids
from engine.errors import AbortReason, PeerError, Rejection
from engine.upper_layer import pdus as associate
from engine.upper_layer.pdus import (
    AnsweredContext,
    AssociateAccept,
    AssociateRequest,
    ProposedContext,
    decode_abort,
    decode_associate_accept,
    decode_associate_reject,
    decode_associate_request,
    encode_associate_accept,
    encode_associate_request,
    title_fields,
)
from engine.upper_layer.user_information import RoleSelection, UserInformation
from tests.material import wire

ONE = [wire.presentation_context(1, wire.CT_IMAGE, [wire.IMPLICIT])]


def body(contexts: list[bytes] | None = None, **options: object) -> bytes:
    """A request's body."""
    return wire.associate_request(ONE if contexts is None else contexts, **options)[6:]


def refused(data: bytes, match: str, reason: int = AbortReason.INVALID_PARAMETER_VALUE) -> None:
    """It is a PeerError of that kind."""
    with pytest.raises(PeerError, match=match) as caught:
        decode_associate_request(data)
    assert caught.value.reason == reason


def foreign_request() -> bytes:
    """An A-ASSOCIATE-RQ with everything in it, by pynetdicom."""
    primitive = pdu_primitives.A_ASSOCIATE()
    primitive.application_context_name = uids.application_context
    primitive.calling_ae_title = "CALLER"
    primitive.called_ae_title = "SCP_AE"
    contexts = []
    for number, (abstract, transfers) in enumerate(
        [(wire.CT_IMAGE, [wire.IMPLICIT, wire.EXPLICIT]), (wire.VERIFICATION, [wire.IMPLICIT])]
    ):
        context = PresentationContext()
        context.context_id = 2 * number + 1
        context.abstract_syntax = abstract
        context.transfer_syntax = transfers
        contexts.append(context)
    primitive.presentation_context_definition_list = contexts
    length = pdu_primitives.MaximumLengthNotification()
    length.maximum_length_received = 32768
    identity = pdu_primitives.ImplementationClassUIDNotification()
    identity.implementation_class_uid = "1.2.3.4"
    version = pdu_primitives.ImplementationVersionNameNotification()
    version.implementation_version_name = "FOREIGN"
    window = pdu_primitives.AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = 8
    window.maximum_number_operations_performed = 3
    role = pdu_primitives.SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid = wire.CT_IMAGE
    role.scu_role = True
    role.scp_role = True
    extended = pdu_primitives.SOPClassExtendedNegotiation()
    extended.sop_class_uid = wire.CT_IMAGE
    extended.service_class_application_information = b"\1\2\3"
    user = pdu_primitives.UserIdentityNegotiation()
    user.user_identity_type = 2
    user.primary_field = b"somebody"
    user.secondary_field = b"secret"
    user.positive_response_requested = True
    primitive.user_information = [length, identity, version, window, role, extended, user]
    made = pdu.A_ASSOCIATE_RQ()
    made.from_primitive(primitive)
    return made.encode()


def test_request_of_pynetdicom() -> None:
    request = decode_associate_request(foreign_request()[6:])
    assert request.protocol_version == 1
    assert (request.calling_ae_title, request.called_ae_title) == ("CALLER", "SCP_AE")
    assert request.application_context == uids.application_context
    assert request.contexts == (
        ProposedContext(1, wire.CT_IMAGE, (wire.IMPLICIT, wire.EXPLICIT)),
        ProposedContext(3, wire.VERIFICATION, (wire.IMPLICIT,)),
    )
    assert request.user == UserInformation(
        maximum_length=32768,
        implementation_class="1.2.3.4",
        implementation_version="FOREIGN",
        asynchronous_window=(8, 3),
        roles=(RoleSelection(wire.CT_IMAGE, True, True),),
        identity_type=2,
    )
    assert "secret" not in repr(request)


def test_request_read_by_pynetdicom() -> None:
    ours = AssociateRequest(
        title_fields("PEER", "SCP_AE"),
        (ProposedContext(1, wire.MR_IMAGE, (wire.EXPLICIT, wire.IMPLICIT)),),
        UserInformation(roles=(RoleSelection(wire.MR_IMAGE, True, False),)),
    )
    encoded = encode_associate_request(ours)
    foreign = pdu.A_ASSOCIATE_RQ()
    foreign.decode(encoded)
    primitive = foreign.to_primitive()
    assert primitive.called_ae_title == "PEER"
    assert primitive.calling_ae_title == "SCP_AE"
    assert primitive.maximum_length_received == 16378
    assert primitive.implementation_class_uid == "1.2.392.200036.9116.7.39"
    assert foreign.user_information.implementation_version_name == "AP-1.0"
    (context,) = primitive.presentation_context_definition_list
    assert context.transfer_syntax == [wire.EXPLICIT, wire.IMPLICIT]
    assert foreign.encode() == encoded
    assert decode_associate_request(encoded[6:]) == ours


def test_accept_both_ways() -> None:
    ours = AssociateAccept(
        title_fields("SCP_AE", "CALLER"),
        (AnsweredContext(1, 0, wire.EXPLICIT), AnsweredContext(3, 4, wire.IMPLICIT)),
        UserInformation(
            asynchronous_window=(1, 1), roles=(RoleSelection(wire.CT_IMAGE, True, False),)
        ),
    )
    encoded = encode_associate_accept(ours)
    foreign = pdu.A_ASSOCIATE_AC()
    foreign.decode(encoded)
    results = [
        (item.presentation_context_id, item.result, item.transfer_syntax)
        for item in foreign.presentation_context
    ]
    assert results[0] == (1, 0, wire.EXPLICIT)
    assert results[1][:2] == (3, 4)
    assert foreign.user_information.async_ops_window.max_operations_invoked == 1
    assert foreign.encode() == encoded
    assert decode_associate_accept(encoded[6:]) == ours


def test_short_pdus_both_ways() -> None:
    foreign = pdu.A_ASSOCIATE_RJ()
    foreign.decode(associate.encode_associate_reject(Rejection(2, 3, 2)))
    assert (foreign.result, foreign.source, foreign.reason_diagnostic) == (2, 3, 2)
    assert decode_associate_reject(foreign.encode()[6:]) == Rejection(2, 3, 2)
    abort = pdu.A_ABORT_RQ()
    abort.decode(associate.encode_abort(2, 6))
    assert (abort.source, abort.reason_diagnostic) == (2, 6)
    assert decode_abort(abort.encode()[6:]) == (2, 6)
    assert pdu.A_RELEASE_RQ().encode() == associate.RELEASE_REQUEST
    assert pdu.A_RELEASE_RP().encode() == associate.RELEASE_RESPONSE
    for wrong in (b"", bytes(3), bytes(5)):
        with pytest.raises(PeerError):
            decode_abort(wrong)


def test_bounds_of_a_request() -> None:
    many = [
        wire.presentation_context(2 * number + 1, wire.CT_IMAGE, [wire.IMPLICIT])
        for number in range(128)
    ]
    assert len(decode_associate_request(body(many)).contexts) == 128
    refused(body([*many, many[0]]), "128")
    refused(body([*many] * 8), "128")
    refused(body([]), "no presentation context")
    refused(body([wire.presentation_context(2, wire.CT_IMAGE, [wire.IMPLICIT])]), "even")
    refused(body([wire.presentation_context(0, wire.CT_IMAGE, [wire.IMPLICIT])]), "even")
    refused(body([many[0], many[0]]), "repeated")
    bound = limits.transfer_syntaxes_per_context_max
    full = wire.presentation_context(1, wire.CT_IMAGE, [wire.IMPLICIT] * bound)
    assert len(decode_associate_request(body([full])).contexts[0].transfer_syntaxes) == bound
    over = wire.presentation_context(1, wire.CT_IMAGE, ["1.2"] * 8000)
    refused(body([over]), "too many")


def test_parts_that_must_or_may_be_there() -> None:
    refused(body([wire.item(0x20, b"\1\0\0\0")]), "no abstract syntax")
    refused(body([wire.item(0x20, b"\1\0")]), "too short")
    refused(body([wire.presentation_context(1, wire.CT_IMAGE, [])]), "no transfer syntax")
    twice = wire.item(0x20, b"\1\0\0\0" + 2 * wire.item(0x30, b"1.2"))
    refused(body([twice]), "repeated", AbortReason.UNEXPECTED_PARAMETER)
    refused(body(user=b""), "no user information")
    tail = wire.user_information()
    refused(body(tail=tail), "repeated", AbortReason.UNEXPECTED_PARAMETER)
    context = wire.item(0x10, uids.application_context.encode())
    refused(body(tail=context), "repeated", AbortReason.UNEXPECTED_PARAMETER)
    assert decode_associate_request(body(application_context=b"")).application_context == ""
    assert decode_associate_request(body(tail=wire.item(0x77, b"any"))) == (
        decode_associate_request(body())
    )


def test_user_information() -> None:
    def user(*parts: bytes, maximum: int | None = 16384) -> bytes:
        return body(user=wire.user_information(maximum, *parts))

    for maximum in (0, 8, 16378, 0xFFFFFFFF):
        assert decode_associate_request(user(maximum=maximum)).user.maximum_length == maximum
    assert decode_associate_request(user(maximum=None)).user.maximum_length == 0
    for maximum in (1, 7):
        refused(user(maximum=maximum), "no room")
    refused(user(wire.item(0x51, bytes(4))), "repeated", AbortReason.UNEXPECTED_PARAMETER)
    refused(user(wire.item(0x51, bytes(3)), maximum=None), "4 bytes")
    refused(user(wire.item(0x53, bytes(3))), "4 bytes")
    for role in (b"", b"\0\3", b"\0\3" + b"1.2", b"\0\3" + b"1.2\1\0\0", b"\xff\xff1.2\1\0"):
        refused(user(wire.item(0x54, role)), "wrong length")
    refused(user(wire.item(0x54, b"\0\0031.2\2\0")), "neither")
    same = wire.item(0x54, b"\0\0031.2\1\0")
    refused(user(same, same), "repeated", AbortReason.UNEXPECTED_PARAMETER)
    for identity in (b"", b"\1\0\0\5ab\0\0", b"\1\0\xff\xff", b"\1\0\0\1a\0\1"):
        refused(user(wire.item(0x58, identity)), "wrong length")
    large = b"\1\1" + struct.pack(">H", 60000) + bytes(60000) + b"\0\0"
    assert decode_associate_request(user(wire.item(0x58, large))).user.identity_type == 1
    refused(user(wire.item(0x52, b"1" * 65)), "repeated", AbortReason.UNEXPECTED_PARAMETER)
    unknown = wire.item(0x99, b"?") + wire.item(0x56, b"") + wire.item(0x57, b"x")
    assert decode_associate_request(user(unknown)) == decode_associate_request(user())


def test_text_is_kept_within_its_length() -> None:
    refused(body([wire.presentation_context(1, "1" * 65, [wire.IMPLICIT])]), "65 characters")
    refused(body([wire.presentation_context(1, wire.CT_IMAGE, ["1" * 65])]), "65 characters")
    odd = wire.presentation_context(1, b"\xff\0<script>", ["", wire.IMPLICIT + "\0"])
    (context,) = decode_associate_request(body([odd])).contexts
    assert context.abstract_syntax == "\xff\0<script>"
    assert context.transfer_syntaxes == ("", wire.IMPLICIT)
    request = decode_associate_request(body(called=b"  A B  ", calling=b"DEVICE\0\0"))
    assert (request.called_ae_title, request.calling_ae_title) == ("A B", "DEVICE")
    assert request.titles[16:32] == b"DEVICE\0\0        "


def test_every_truncation_is_refused() -> None:
    whole = foreign_request()[6:]
    for end in range(len(whole)):
        with pytest.raises(PeerError):
            decode_associate_request(whole[:end])


@pytest.mark.parametrize("length", [0, 1, 3, 0x7FFF, 0xFFFF])
def test_every_item_length_may_lie(length: int) -> None:
    whole = foreign_request()[6:]
    at = 68
    while at < len(whole):
        size = struct.unpack_from(">H", whole, at + 2)[0]
        if size != length:
            lie = whole[: at + 2] + struct.pack(">H", length) + whole[at + 4 :]
            if whole[at] == 0x50 and length == 0:
                # Its sub-items then stand beside it, as whole items of unknown type.
                assert decode_associate_request(lie).user.maximum_length == 0
            else:
                with pytest.raises(PeerError):
                    decode_associate_request(lie)
        at += 4 + size


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_read_or_refused(data: st.DataObject) -> None:
    """Nothing but PeerError leaves the decoder, and what is read can be written again."""
    damaged = bytearray(foreign_request()[6:])
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    for decode in (decode_associate_request, decode_associate_accept):
        try:
            decoded = decode(bytes(damaged))
        except PeerError:
            continue
        assert len(decoded.titles) == 64
        assert len(decoded.contexts) <= 128
