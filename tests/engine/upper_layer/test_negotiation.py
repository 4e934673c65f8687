"""Who is let in, with what, and in which words the others are refused."""

import ipaddress
from dataclasses import replace

import pytest

from engine import limits
from engine.dictionary import uids
from engine.dictionary.contexts import DEFAULT_CONTEXTS
from engine.errors import RejectedError
from engine.upper_layer.negotiation import (
    TRANSFER_SYNTAXES_NOT_SUPPORTED,
    USER_REJECTION,
    AcceptedAssociation,
    AcceptorPolicy,
    RefusedContext,
    negotiate,
    refused_words,
)
from engine.upper_layer.pdus import (
    AssociateAccept,
    AssociateRequest,
    ProposedContext,
    decode_associate_accept,
    encode_associate_accept,
    title_fields,
)
from engine.upper_layer.user_information import RoleSelection, UserInformation
from tests.material import wire
from tests.material.wire import (
    CT_IMAGE,
    ENHANCED_CT,
    EXPLICIT,
    IMPLICIT,
    JPEG_LOSSLESS,
    MR_IMAGE,
    SECONDARY_CAPTURE,
    VERIFICATION,
)

POLICY = AcceptorPolicy("SCP_AE", (), (), (), dict(DEFAULT_CONTEXTS))
BIG_ENDIAN = "1.2.840.10008.1.2.2"


def request(
    *proposals: tuple[str, ...],
    called: str = "SCP_AE",
    calling: str = "TESTER",
    user: UserInformation | None = None,
    application_context: str = uids.application_context,
) -> AssociateRequest:
    """A request with a context for each (abstract syntax, transfer syntax, ...)."""
    contexts = tuple(
        ProposedContext(2 * number + 1, abstract, tuple(transfers))
        for number, (abstract, *transfers) in enumerate(proposals or [(CT_IMAGE, IMPLICIT)])
    )
    user = user or UserInformation(4096, "1.2.3", "PEER")
    return AssociateRequest(title_fields(called, calling), contexts, user, application_context)


def decide(
    asked: AssociateRequest, policy: AcceptorPolicy = POLICY, host: str = "192.0.2.7"
) -> tuple[AssociateAccept, AcceptedAssociation]:
    """Negotiate, and check that the answer can be written and read."""
    accept, accepted = negotiate(asked, policy, host)
    assert decode_associate_accept(encode_associate_accept(accept)[6:]) == accept
    assert [one.context_id for one in accept.contexts] == [one.context_id for one in asked.contexts]
    return accept, accepted


def rejection(
    asked: AssociateRequest, policy: AcceptorPolicy = POLICY, host: str = "192.0.2.7"
) -> tuple[int, int, int]:
    """(result, source, reason)."""
    with pytest.raises(RejectedError) as caught:
        negotiate(asked, policy, host)
    answer = caught.value.rejection
    return answer.result, answer.source, answer.reason


def test_default_lets_anyone_in() -> None:
    accept, accepted = decide(request(calling="anybody"))
    assert accepted.calling_ae_title == "anybody"
    assert accepted.peer_maximum_length == 4096
    assert accepted.peer_implementation_class == "1.2.3"
    assert accepted.contexts[1].transfer_syntax == IMPLICIT
    assert accept.user == UserInformation(16378, "1.2.392.200036.9116.7.39", "AP-1.0")
    assert accept.titles == title_fields("SCP_AE", "anybody")


def test_the_table_of_contexts() -> None:
    """Tables 4.2-24 and 4.2-65: every pair of the table, and no other."""
    supported = {
        (abstract, transfer)
        for abstract in (CT_IMAGE, MR_IMAGE, ENHANCED_CT)
        for transfer in (IMPLICIT, EXPLICIT, JPEG_LOSSLESS)
    } | {(SECONDARY_CAPTURE, IMPLICIT), (VERIFICATION, IMPLICIT)}
    classes = (CT_IMAGE, MR_IMAGE, ENHANCED_CT, SECONDARY_CAPTURE, VERIFICATION)
    syntaxes = (IMPLICIT, EXPLICIT, JPEG_LOSSLESS, BIG_ENDIAN, "1.2.840.10008.1.2.4.50")
    pairs = [(abstract, transfer) for abstract in classes for transfer in syntaxes]
    accept, accepted = decide(request(*pairs))
    for number, pair in enumerate(pairs):
        result = accept.contexts[number].result
        assert result == (0 if pair in supported else 4), pair
        assert (2 * number + 1 in accepted.contexts) is (pair in supported)
    assert len(accepted.refused) == len(pairs) - len(supported)


def test_transfer_syntax_choice() -> None:
    accept, _ = decide(
        request(
            (CT_IMAGE, BIG_ENDIAN, JPEG_LOSSLESS, IMPLICIT, EXPLICIT),
            (CT_IMAGE, EXPLICIT, IMPLICIT),
            (CT_IMAGE, IMPLICIT, EXPLICIT),
            ("1.2.840.10008.5.1.4.1.1.6.1", IMPLICIT),
            (MR_IMAGE, BIG_ENDIAN),
            (CT_IMAGE, "", "1.2<3"),
        )
    )
    assert [(one.result, one.transfer_syntax) for one in accept.contexts[:3]] == [
        (0, JPEG_LOSSLESS),
        (0, EXPLICIT),
        (0, IMPLICIT),
    ]
    assert [one.result for one in accept.contexts[3:]] == [3, 4, 4]


def test_verification_prefers_explicit_where_it_is_supported() -> None:
    contexts = {VERIFICATION: (IMPLICIT, EXPLICIT)}
    policy = replace(POLICY, contexts=contexts)
    accept, _ = decide(
        request((VERIFICATION, IMPLICIT, EXPLICIT), (VERIFICATION, BIG_ENDIAN, IMPLICIT)), policy
    )
    assert [one.transfer_syntax for one in accept.contexts] == [EXPLICIT, IMPLICIT]
    accept, _ = decide(request((VERIFICATION, EXPLICIT, IMPLICIT)))
    assert accept.contexts[0].transfer_syntax == IMPLICIT


def test_another_called_title_may_only_verify() -> None:
    asked = request(
        (CT_IMAGE, IMPLICIT), (VERIFICATION, IMPLICIT), ("1.2.3", IMPLICIT), called="OTHER"
    )
    accept, accepted = decide(asked)
    assert [one.result for one in accept.contexts] == [1, 0, 1]
    assert set(accepted.contexts) == {3}
    accept, _ = decide(request((CT_IMAGE, IMPLICIT), called="scp_ae"))
    assert accept.contexts[0].result == 1, "case counts"
    accept, _ = decide(request((CT_IMAGE, IMPLICIT), called=" SCP_AE"))
    assert accept.contexts[0].result == 0, "leading spaces do not"


def test_called_titles_configured() -> None:
    policy = replace(POLICY, called_ae_titles=("SCP_AE", "SECOND"))
    assert rejection(request(called="OTHER"), policy) == (1, 1, 7)
    accept, _ = decide(request(called="SECOND"), policy)
    assert accept.contexts[0].result == 0
    assert rejection(request(), replace(POLICY, called_ae_titles=("SECOND",))) == (1, 1, 7)


def test_calling_titles_configured() -> None:
    policy = replace(POLICY, calling_ae_titles=("CT1",))
    decide(request(calling=" CT1 "), policy)
    for other in ("ct1", "CT2", "CT1 X"):
        assert rejection(request(calling=other), policy) == (1, 1, 3)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("192.0.2.7", True),
        ("::ffff:192.0.2.7", True),
        ("192.0.3.1", False),
        ("2001:db8::5", True),
        ("2001:db9::5", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_hosts_configured(host: str, allowed: bool) -> None:
    networks = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/32"))
    policy = replace(POLICY, allowed_hosts=networks)
    if allowed:
        decide(request(), policy, host)
    else:
        assert rejection(request(), policy, host) == (1, 1, 3)
    decide(request(), POLICY, host)


@pytest.mark.parametrize("name", ["", "1.2.840.10008.3.1.1.2"])
def test_application_context(name: str) -> None:
    assert rejection(request(application_context=name)) == (1, 1, 2)


@pytest.mark.parametrize("field", [b"", b"\0" * 16, b"A\\B", b"A\nB", b"\xc4\xd6", b"A\x1b[0m"])
def test_what_is_no_title_is_rejected(field: bytes) -> None:
    good = request()
    padded = field.ljust(16)
    calling = replace(good, titles=good.titles[:16] + padded + bytes(32))
    called = replace(good, titles=padded + good.titles[16:])
    assert rejection(calling) == (1, 1, 3)
    assert rejection(called) == (1, 1, 7)


@pytest.mark.parametrize("title", ["../../etc/passwd", "; rm -rf /", "<b>x</b>"])
def test_hostile_titles_are_titles(title: str) -> None:
    assert decide(request(calling=title))[1].calling_ae_title == title


def test_order_of_the_checks() -> None:
    policy = replace(
        POLICY,
        called_ae_titles=("SCP_AE",),
        calling_ae_titles=("CT1",),
        allowed_hosts=(ipaddress.ip_network("192.0.2.0/24"),),
    )
    bad = request(called="OTHER", calling="CT2", application_context="1")
    assert rejection(bad, policy, "198.51.100.1") == (1, 1, 2)
    assert rejection(request(called="OTHER", calling="CT2"), policy) == (1, 1, 3)
    assert rejection(request(called="OTHER", calling="CT1"), policy) == (1, 1, 7)


def test_window_roles_and_identity() -> None:
    roles = (
        RoleSelection(CT_IMAGE, True, True),
        RoleSelection(MR_IMAGE, False, True),
        RoleSelection(ENHANCED_CT, False, False),
        RoleSelection("1.2.3", True, True),
        RoleSelection(SECONDARY_CAPTURE, True, False),
    )
    user = UserInformation(0, "1.2", "", (0, 65535), roles, identity_type=2)
    accept, accepted = decide(
        request((CT_IMAGE, IMPLICIT), (MR_IMAGE, IMPLICIT), (ENHANCED_CT, IMPLICIT), user=user)
    )
    assert accept.user.asynchronous_window == (1, 1)
    assert accept.user.roles == (
        RoleSelection(CT_IMAGE, True, False),
        RoleSelection(MR_IMAGE, False, False),
        RoleSelection(ENHANCED_CT, False, False),
    )
    assert [one.result for one in accept.contexts] == [0, 1, 1]
    assert accepted.peer_maximum_length == 0
    assert set(wire.user_items(encode_associate_accept(accept)[6:])) == {
        0x51,
        0x52,
        0x53,
        0x54,
        0x55,
    }


def test_each_context_is_decided_alone() -> None:
    accept, accepted = decide(request(*[(CT_IMAGE, EXPLICIT)] * 3, (CT_IMAGE, BIG_ENDIAN)))
    assert [one.result for one in accept.contexts] == [0, 0, 0, 4]
    assert set(accepted.contexts) == {1, 3, 5}


def test_the_log_names_few_of_many_refused_contexts() -> None:
    many = tuple(f"1.2.{number}" for number in range(200))
    refused = [RefusedContext("9" * 64, many, TRANSFER_SYNTAXES_NOT_SUPPORTED)] * 128
    words = refused_words(refused)
    assert words.endswith("; and 108 more")
    assert words.count("196 more") == limits.refused_contexts_logged_max
    assert len(words) < 20 * 180
    assert "not for this title" in refused_words([RefusedContext("1.2", (), USER_REJECTION)])
