"""Codec for the upper layer's own PDUs: A-ASSOCIATE-RQ, -AC, -RJ, A-RELEASE-RQ, -RP, A-ABORT.

Decoders take a PDU's body (behind the six bytes of type and length), encoders give whole PDUs.
Whatever does not fit leaves as PeerError: a length that overruns, a missing or repeated part, a
value outside its range. Items and sub-items of unknown type are skipped (PS3.8 9.3.1), extended
negotiation and the secrets of a user identity among them. Text is not judged here: a UID or title
of strange characters matches nothing that is configured, and is refused there.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from engine import limits
from engine.dictionary import uids
from engine.errors import Rejection, invalid
from engine.upper_layer.table import Event
from engine.upper_layer.user_information import (
    UserInformation,
    cut_items,
    decode_user_information,
    encode_user_information,
    item,
    padded_text,
    repeated,
    uid_text,
)

_HEAD: Final = struct.Struct(">HH64s")  # PS3.8 table 9-11: version, reserved, titles, reserved
_PDU: Final = struct.Struct(">BxI")


class PduType(IntEnum):
    """PS3.8 section 9.3."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


# The row of PS3.8 table 9-10 that each of them is when it comes.
PDU_EVENTS: Final = {
    int(PduType.ASSOCIATE_RQ): Event.Evt6,
    int(PduType.ASSOCIATE_AC): Event.Evt3,
    int(PduType.ASSOCIATE_RJ): Event.Evt4,
    int(PduType.P_DATA): Event.Evt10,
    int(PduType.RELEASE_RQ): Event.Evt12,
    int(PduType.RELEASE_RP): Event.Evt13,
    int(PduType.ABORT): Event.Evt16,
}


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """PS3.8 table 9-13."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnsweredContext:
    """PS3.8 table 9-18. The transfer syntax counts only when `result` is 0."""

    context_id: int
    result: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """A-ASSOCIATE-RQ. `titles` are the 64 bytes an accept has to return unchanged."""

    titles: bytes
    contexts: tuple[ProposedContext, ...]
    user: UserInformation
    application_context: str = uids.application_context
    protocol_version: int = 1

    @property
    def called_ae_title(self) -> str:
        """As it came, but for leading and trailing spaces."""
        return padded_text(self.titles[:16])

    @property
    def calling_ae_title(self) -> str:
        """As it came, but for leading and trailing spaces."""
        return padded_text(self.titles[16:32])


@dataclass(frozen=True, slots=True)
class AssociateAccept:
    """A-ASSOCIATE-AC."""

    titles: bytes
    contexts: tuple[AnsweredContext, ...]
    user: UserInformation
    application_context: str = uids.application_context
    protocol_version: int = 1


def title_fields(called: str, calling: str) -> bytes:
    """The 64 bytes of titles and reserved bytes of a request."""
    return called.encode("ascii").ljust(16) + calling.encode("ascii").ljust(16) + bytes(32)


# --- decoding ------------------------------------------------------------------------------------


def decode_associate_request(body: bytes) -> AssociateRequest:
    """The body of an A-ASSOCIATE-RQ, or PeerError."""
    version, titles, application_context, values, user = _decode(body, "A-ASSOCIATE-RQ", 0x20)
    contexts = tuple(_proposed(value) for value in values)
    _check_identifiers([context.context_id for context in contexts])
    return AssociateRequest(titles, contexts, user, application_context, version)


def decode_associate_accept(body: bytes) -> AssociateAccept:
    """The body of an A-ASSOCIATE-AC, or PeerError."""
    version, titles, application_context, values, user = _decode(body, "A-ASSOCIATE-AC", 0x21)
    contexts = tuple(_answered(value) for value in values)
    _check_identifiers([context.context_id for context in contexts])
    return AssociateAccept(titles, contexts, user, application_context, version)


def _decode(
    body: bytes, name: str, context_kind: int
) -> tuple[int, bytes, str, list[bytes], UserInformation]:
    if len(body) < _HEAD.size:
        raise invalid(f"{name} of {len(body)} bytes")
    version, _, titles = _HEAD.unpack_from(body)
    application_context: str | None = None
    user: UserInformation | None = None
    contexts: list[bytes] = []
    for kind, value in cut_items(body, _HEAD.size, name):
        if kind == context_kind:
            contexts.append(value)
            if len(contexts) > limits.presentation_contexts_max:
                raise invalid("more than 128 presentation contexts")
        elif kind == 0x10:
            if application_context is not None:
                raise repeated("application context")
            application_context = uid_text(value, "application context name")
        elif kind == 0x50:
            if user is not None:
                raise repeated("user information")
            user = decode_user_information(value)
    if not contexts:
        raise invalid("no presentation context")
    if user is None:
        raise invalid("no user information")
    # A missing application context is like one that is not supported: it is rejected, in words.
    return version, titles, application_context or "", contexts, user


def _check_identifiers(identifiers: list[int]) -> None:
    if len(set(identifiers)) != len(identifiers):
        raise invalid("presentation context identifier is repeated")
    for identifier in identifiers:
        if identifier % 2 == 0:
            raise invalid(f"presentation context identifier {identifier} is even")


def _proposed(value: bytes) -> ProposedContext:
    if len(value) < 4:
        raise invalid("presentation context is too short")
    abstract: str | None = None
    transfers: list[str] = []
    for kind, inner in cut_items(value, 4, "presentation context"):
        if kind == 0x30:
            if abstract is not None:
                raise repeated("abstract syntax")
            abstract = uid_text(inner, "abstract syntax")
        elif kind == 0x40:
            transfers.append(uid_text(inner, "transfer syntax"))
            if len(transfers) > limits.transfer_syntaxes_per_context_max:
                raise invalid("too many transfer syntaxes in a presentation context")
    if abstract is None:
        raise invalid(f"presentation context {value[0]} has no abstract syntax")
    if not transfers:
        raise invalid(f"presentation context {value[0]} has no transfer syntax")
    return ProposedContext(value[0], abstract, tuple(transfers))


def _answered(value: bytes) -> AnsweredContext:
    if len(value) < 4:
        raise invalid("presentation context is too short")
    transfer = ""
    for kind, inner in cut_items(value, 4, "presentation context"):
        if kind == 0x40:
            if transfer:
                raise repeated("transfer syntax")
            transfer = uid_text(inner, "transfer syntax")
    if value[2] == 0 and not transfer:
        raise invalid(f"presentation context {value[0]} is accepted without a transfer syntax")
    return AnsweredContext(value[0], value[2], transfer)


def decode_associate_reject(body: bytes) -> Rejection:
    """The body of an A-ASSOCIATE-RJ, or PeerError."""
    check_short(body)
    return Rejection(body[1], body[2], body[3])


def decode_abort(body: bytes) -> tuple[int, int]:
    """(source, reason) of an A-ABORT's body, or PeerError."""
    check_short(body)
    return body[2], body[3]


def check_short(body: bytes) -> None:
    """A-RELEASE-RQ, -RP and the two above have a body of four bytes."""
    if len(body) != 4:
        raise invalid(f"PDU of {len(body)} bytes instead of 4")


# --- encoding ------------------------------------------------------------------------------------


def _pdu(kind: PduType, body: bytes) -> bytes:
    return _PDU.pack(kind, len(body)) + body


def encode_associate_request(request: AssociateRequest) -> bytes:
    """An A-ASSOCIATE-RQ. A user identity is never sent."""
    parts = [_HEAD.pack(request.protocol_version, 0, request.titles)]
    parts.append(item(0x10, request.application_context.encode("ascii")))
    for context in request.contexts:
        inner = item(0x30, context.abstract_syntax.encode("ascii")) + b"".join(
            item(0x40, syntax.encode("ascii")) for syntax in context.transfer_syntaxes
        )
        parts.append(item(0x20, bytes((context.context_id, 0, 0, 0)) + inner))
    parts.append(encode_user_information(request.user))
    return _pdu(PduType.ASSOCIATE_RQ, b"".join(parts))


def encode_associate_accept(accept: AssociateAccept) -> bytes:
    """An A-ASSOCIATE-AC."""
    parts = [_HEAD.pack(accept.protocol_version, 0, accept.titles)]
    parts.append(item(0x10, accept.application_context.encode("ascii")))
    for context in accept.contexts:
        inner = item(0x40, context.transfer_syntax.encode("ascii"))
        parts.append(item(0x21, bytes((context.context_id, 0, context.result, 0)) + inner))
    parts.append(encode_user_information(accept.user))
    return _pdu(PduType.ASSOCIATE_AC, b"".join(parts))


def encode_associate_reject(rejection: Rejection) -> bytes:
    """An A-ASSOCIATE-RJ."""
    body = bytes((0, rejection.result, rejection.source, rejection.reason))
    return _pdu(PduType.ASSOCIATE_RJ, body)


def encode_abort(source: int, reason: int) -> bytes:
    """An A-ABORT."""
    return _pdu(PduType.ABORT, bytes((0, 0, source, reason)))


RELEASE_REQUEST: Final = _pdu(PduType.RELEASE_RQ, bytes(4))
RELEASE_RESPONSE: Final = _pdu(PduType.RELEASE_RP, bytes(4))
