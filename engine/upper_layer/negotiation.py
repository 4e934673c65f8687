"""Who is let in, and with which presentation contexts: the conformance statement's rules, pure.

`negotiate()` takes a decoded A-ASSOCIATE-RQ and a policy and gives what to answer and what was
agreed, or raises RejectedError. The order of the checks is: application context (without it
nothing else has a meaning), host and calling title (a stranger does not learn which titles
exist), called title. Whether there is room is asked after them, by the caller: one who may never
come in is told so, and not to try again.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from engine import limits
from engine.dictionary import uids
from engine.dictionary.contexts import uid_with_name
from engine.errors import RejectedError, Rejection
from engine.upper_layer.pdus import (
    AnsweredContext,
    AssociateAccept,
    AssociateRequest,
    ProposedContext,
)
from engine.upper_layer.user_information import RoleSelection, UserInformation

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# PS3.8 table 9-21: (result, source, reason).
VERSION_NOT_SUPPORTED: Final = Rejection(1, 2, 2)
APPLICATION_CONTEXT_NOT_SUPPORTED: Final = Rejection(1, 1, 2)
CALLING_TITLE_NOT_RECOGNIZED: Final = Rejection(1, 1, 3)
CALLED_TITLE_NOT_RECOGNIZED: Final = Rejection(1, 1, 7)
LOCAL_LIMIT_EXCEEDED: Final = Rejection(2, 3, 2)

# PS3.8 table 9-18: results of a presentation context.
ACCEPTANCE: Final = 0
USER_REJECTION: Final = 1
ABSTRACT_SYNTAX_NOT_SUPPORTED: Final = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED: Final = 4


@dataclass(frozen=True, slots=True)
class AcceptorPolicy:
    """What an acceptor lets in. An empty tuple of titles or hosts lets in any.

    `contexts` maps an abstract syntax to the transfer syntaxes supported for it.
    """

    own_ae_title: str
    called_ae_titles: tuple[str, ...]
    calling_ae_titles: tuple[str, ...]
    allowed_hosts: tuple[Network, ...]
    contexts: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """A presentation context in force."""

    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class RefusedContext:
    """A presentation context that was proposed and is not in force. `result`: PS3.8 table 9-18."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]  # that were proposed
    result: int


@dataclass(frozen=True, slots=True)
class AcceptedAssociation:
    """What was agreed, and what was refused. `peer_maximum_length` 0: no limit."""

    calling_ae_title: str
    called_ae_title: str
    contexts: Mapping[int, AcceptedContext]
    refused: tuple[RefusedContext, ...]
    verification_only: bool  # for the called title
    peer_maximum_length: int
    peer_implementation_class: str
    peer_implementation_version: str


def negotiate(
    request: AssociateRequest, policy: AcceptorPolicy, peer_host: str
) -> tuple[AssociateAccept, AcceptedAssociation]:
    """Decide about a request: (what to answer, what is agreed). RejectedError: it is refused."""
    if request.application_context != uids.application_context:
        raise RejectedError(
            f"application context {request.application_context!r} is not supported",
            APPLICATION_CONTEXT_NOT_SUPPORTED,
        )
    calling = request.calling_ae_title
    called = request.called_ae_title
    _check_peer(policy, peer_host, calling)
    storage = _check_called(policy, called)

    refused_roles = {role.sop_class for role in request.user.roles if not role.scu}
    answers: list[AnsweredContext] = []
    contexts: dict[int, AcceptedContext] = {}
    refused: list[RefusedContext] = []
    for proposed in request.contexts:
        result, transfer_syntax = _decide(proposed, policy, storage, refused_roles)
        answers.append(AnsweredContext(proposed.context_id, result, transfer_syntax))
        if result == ACCEPTANCE:
            contexts[proposed.context_id] = AcceptedContext(
                proposed.abstract_syntax, transfer_syntax
            )
        else:
            refused.append(
                RefusedContext(proposed.abstract_syntax, proposed.transfer_syntaxes, result)
            )
    accept = AssociateAccept(request.titles, tuple(answers), _user(request, policy))
    accepted = AcceptedAssociation(
        calling_ae_title=calling,
        called_ae_title=called,
        contexts=contexts,
        refused=tuple(refused),
        verification_only=not storage,
        peer_maximum_length=request.user.maximum_length,
        peer_implementation_class=request.user.implementation_class,
        peer_implementation_version=request.user.implementation_version,
    )
    return accept, accepted


def refused_words(refused: Sequence[RefusedContext]) -> str:
    """Refused contexts for the log: by names, few of many, since a peer chose them all."""
    shown = refused[: limits.refused_contexts_logged_max]
    words = [_refused_context(context) for context in shown]
    if len(refused) > len(shown):
        words.append(f"and {len(refused) - len(shown)} more")
    return "; ".join(words)


def _refused_context(context: RefusedContext) -> str:
    abstract = _named(context.abstract_syntax)
    syntaxes = context.transfer_syntaxes[: limits.refused_syntaxes_logged_max]
    names = [_named(syntax) for syntax in syntaxes]
    more = len(context.transfer_syntaxes) - len(syntaxes)
    names += [f"{more} more"] if more else []
    proposed = f"{abstract} in {', '.join(names)}"
    if context.result == USER_REJECTION:
        return f"{proposed}: not for this title or role"
    if context.result == ABSTRACT_SYNTAX_NOT_SUPPORTED:
        return f"{proposed}: the class is not among `contexts`"
    return f"{proposed}: the class is taken, but in none of these"


def _named(uid: str) -> str:
    """It may be any text of a peer."""
    return uid_with_name(uid[: limits.uid_characters_max])


# Not let in where any title is: nobody could tell its sender from another (docs/conformance.md).
_NO_TITLE: Final = "is blank, or has characters other than printable ASCII"


def _is_title(text: str) -> bool:
    """PS3.5 6.2, VR AE: not empty, printable ASCII, no backslash."""
    return bool(text) and text.isascii() and text.isprintable() and "\\" not in text


def _check_peer(policy: AcceptorPolicy, peer_host: str, calling: str) -> None:
    if policy.allowed_hosts and not _is_allowed(policy.allowed_hosts, peer_host):
        raise RejectedError("host is not allowed", CALLING_TITLE_NOT_RECOGNIZED)
    if not _is_title(calling):
        raise RejectedError(f"calling AE title {_NO_TITLE}", CALLING_TITLE_NOT_RECOGNIZED)
    if policy.calling_ae_titles and calling not in policy.calling_ae_titles:
        raise RejectedError("calling AE title is not allowed", CALLING_TITLE_NOT_RECOGNIZED)


def _check_called(policy: AcceptorPolicy, called: str) -> bool:
    """Whether more than Verification is offered under this title.

    A title the operator listed is one this AE answers to, as much as to its own.
    """
    if not _is_title(called):
        raise RejectedError(f"called AE title {_NO_TITLE}", CALLED_TITLE_NOT_RECOGNIZED)
    if not policy.called_ae_titles:
        return called == policy.own_ae_title
    if called not in policy.called_ae_titles:
        raise RejectedError("called AE title is not ours", CALLED_TITLE_NOT_RECOGNIZED)
    return True


def _is_allowed(networks: tuple[Network, ...], peer_host: str) -> bool:
    try:
        address = ipaddress.ip_address(peer_host)
    except ValueError:
        return False  # not an IP address: nothing the operator could have allowed
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # a dual-stack socket's way of writing 192.0.2.1
    return any(address in network for network in networks)


def _decide(
    proposed: ProposedContext, policy: AcceptorPolicy, storage: bool, refused_roles: set[str]
) -> tuple[int, str]:
    """(result, transfer syntax); the latter is not significant in a refusal (PS3.8 9.3.3.2)."""
    abstract = proposed.abstract_syntax
    if not storage and abstract != uids.verification:
        return USER_REJECTION, uids.implicit_vr_little_endian
    supported = policy.contexts.get(abstract)
    if supported is None:
        return ABSTRACT_SYNTAX_NOT_SUPPORTED, uids.implicit_vr_little_endian
    if abstract in refused_roles:
        return USER_REJECTION, uids.implicit_vr_little_endian
    common = [syntax for syntax in proposed.transfer_syntaxes if syntax in supported]
    if not common:
        return TRANSFER_SYNTAXES_NOT_SUPPORTED, uids.implicit_vr_little_endian
    if abstract == uids.verification:
        for syntax in common:
            if uids.is_explicit_vr(syntax):
                return ACCEPTANCE, syntax
    return ACCEPTANCE, common[0]


def _user(request: AssociateRequest, policy: AcceptorPolicy) -> UserInformation:
    """Our user information: what was proposed is answered, nothing is added.

    We are SCP and nothing else, so the peer may be SCU where it proposed to be, and never SCP
    (PS3.7 D.3.3.4). A user identity gets no response: none means that the identity was not
    looked at, and whether that is enough is the peer's decision (PS3.7 D.3.3.7). Extended
    negotiation gets none either, which means that it is not supported (PS3.7 D.3.3.5).
    """
    window = None
    if request.user.asynchronous_window is not None:
        window = (limits.operations_outstanding_max, limits.operations_outstanding_max)
    proposed = {context.abstract_syntax for context in request.contexts}
    roles = tuple(
        RoleSelection(role.sop_class, role.scu, scp=False)
        for role in request.user.roles
        if role.sop_class in policy.contexts and role.sop_class in proposed
    )
    return UserInformation(asynchronous_window=window, roles=roles)
