"""Hostile and odd protocol inputs, one row each: what is sent, in which situation, what must come.

A row's bytes are sent by a raw peer whole and a byte at a time; the answer must be the same. The
expected answers are PS3.8 section 9.2's and the conformance statement's.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from tests.material import wire

PROVIDER = 2
USER = 0

# The contexts of wire.storage_contexts() as the service accepts them: odd numbers in that order.
CT_EXPLICIT = 3
VERIFICATION = 21


@dataclass(frozen=True)
class Abort:
    """An A-ABORT from one of the sources, for one of the reasons."""

    sources: tuple[int, ...]
    reasons: tuple[int, ...]


@dataclass(frozen=True)
class Reject:
    """An A-ASSOCIATE-RJ."""

    result: int
    source: int
    reason: int


@dataclass(frozen=True)
class Status:
    """A response with this status; the association lives on."""

    code: int


@dataclass(frozen=True)
class Accept:
    """An A-ASSOCIATE-AC that `check` agrees with; the association then works."""

    check: Callable[[bytes], bool] = lambda body: True


@dataclass(frozen=True)
class Close:
    """The transport is closed, with or without an A-ABORT before it."""


Answer = Abort | Reject | Status | Accept | Close


@dataclass(frozen=True)
class Row:
    """One input. `situation`: "connected" (nothing said yet) or "associated"."""

    name: str
    situation: str
    data: bytes
    answer: Answer


def connected(name: str, data: bytes, answer: Answer) -> Row:
    return Row(name, "connected", data, answer)


def associated(name: str, data: bytes, answer: Answer) -> Row:
    return Row(name, "associated", data, answer)


# PS3.8 table 9-10: faults in Sta2 are answered by AA-1, whose source is the service user (which
# gives no reason); in Sta6 by AA-8, whose source is the provider.
REFUSED = Abort((USER,), (0,))
UNRECOGNIZED = Abort((PROVIDER,), (1,))
UNEXPECTED = Abort((PROVIDER,), (2,))
UNEXPECTED_PARAMETER = Abort((PROVIDER,), (5,))
INVALID = Abort((PROVIDER,), (6,))
CONTEXTS = wire.storage_contexts()
REQUEST = wire.associate_request(CONTEXTS)
LONE_DATA = wire.p_data(CT_EXPLICIT, b"x" * 50, False)


def before_association() -> list[Row]:
    """The first bytes of a connection."""
    request_body = REQUEST[6:]
    rows = [
        connected(f"pdu type {kind:#04x}", wire.pdu(kind, bytes(4)), REFUSED)
        for kind in (0x00, 0x08, 0x30, 0xFF)
    ]
    rows += [
        connected("http request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Close()),
        connected(
            "tls client hello", bytes.fromhex("1603010200010001fc0303") + bytes(512), Close()
        ),
        connected("ssh banner", b"SSH-2.0-OpenSSH_9.2\r\n", Close()),
        connected("p-data first", wire.p_data(1, wire.echo_command(), True), REFUSED),
        connected("release first", wire.pdu(wire.RELEASE_RQ, bytes(4)), REFUSED),
        connected("release reply first", wire.pdu(wire.RELEASE_RP, bytes(4)), REFUSED),
        connected("accept first", wire.pdu(wire.ASSOCIATE_AC, request_body), REFUSED),
        connected("reject first", wire.pdu(wire.ASSOCIATE_RJ, b"\0\1\1\1"), REFUSED),
        connected("abort first", wire.pdu(wire.ABORT, bytes(4)), Close()),
    ]
    for length in (0, 1, 3, 67):
        body = request_body[:length]
        rows.append(connected(f"request of {length} bytes", wire.pdu(1, body), REFUSED))
    for length in (256 * 1024 + 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        data = wire.pdu(1, request_body[:64], length)
        rows.append(connected(f"request length {length:#x}", data, REFUSED))
    return rows


def request_items() -> list[Row]:
    """Items and sub-items of an A-ASSOCIATE-RQ."""
    head = REQUEST[6:74]
    application = wire.item(0x10, wire.APPLICATION_CONTEXT.encode())
    user = wire.user_information()

    def body(*parts: bytes) -> bytes:
        return wire.pdu(1, head + b"".join(parts))

    echo = wire.presentation_context(1, wire.VERIFICATION, [wire.IMPLICIT])
    lie = wire.item(0x40, wire.IMPLICIT.encode(), 400)
    inner = struct.pack(">BBBB", 1, 0, 0, 0) + wire.item(0x30, wire.VERIFICATION.encode()) + lie
    many = [wire.presentation_context(1, wire.VERIFICATION, ["1.2.3.4"] * 5_000)]
    broken = {
        "item longer than pdu": body(application, wire.item(0x20, echo[4:], 60_000), user),
        "sub-item longer than item": body(application, wire.item(0x20, inner), user),
        "item header cut": body(application, echo, user, b"\x20\x00\x00"),
        "context without syntaxes": body(
            application, wire.item(0x20, struct.pack(">BBBB", 1, 0, 0, 0)), user
        ),
        "context of two bytes": body(application, wire.item(0x20, b"\1\0"), user),
        "even context id": wire.associate_request(
            [wire.presentation_context(2, wire.VERIFICATION, [wire.IMPLICIT])]
        ),
        "context id 0": wire.associate_request(
            [wire.presentation_context(0, wire.VERIFICATION, [wire.IMPLICIT])]
        ),
        "duplicate context id": wire.associate_request([echo, echo]),
        "no contexts": wire.associate_request([]),
        "1000 contexts": wire.associate_request([echo] * 1000),
        "5000 transfer syntaxes": wire.associate_request(many),
        "maximum length of 3 bytes": wire.associate_request(
            CONTEXTS, user=wire.user_information(None, wire.item(0x51, b"\0\0\1"))
        ),
        "maximum length twice": _with_user(wire.item(0x51, b"\0\0\1\0")),
        "role selection short": _with_user(wire.item(0x54, b"\0\x40")),
        "role selection uid length lie": _with_user(wire.item(0x54, b"\xff\xff1.2\1\1")),
        "asynchronous window short": _with_user(wire.item(0x53, b"\0")),
        "user sub-item beyond item": _with_user(wire.item(0x55, b"abc", 30_000)),
        "two application contexts": body(application, application, echo, user),
        "two user informations": body(application, echo, user, user),
        "no user information": body(application, echo),
    }
    return [connected(name, data, REFUSED) for name, data in broken.items()]


def _with_user(*more: bytes) -> bytes:
    return wire.associate_request(CONTEXTS, user=wire.user_information(16384, *more))


def rejections() -> list[Row]:
    """Well-formed requests that are turned down."""
    wrong = wire.item(0x10, b"1.2.840.10008.3.1.1.2")
    return [
        connected(
            "application context unknown",
            wire.associate_request(CONTEXTS, application_context=wrong),
            Reject(1, 1, 2),
        ),
        connected(
            "protocol version without bit 0",
            wire.associate_request(CONTEXTS, version=2),
            Reject(1, 2, 2),
        ),
        # No AE title may hold a backslash (PS3.5 6.2); this one names nobody.
        connected(
            "calling title with a backslash",
            wire.associate_request(CONTEXTS, calling="a\\b"),
            Reject(1, 1, 3),
        ),
    ]


def acceptances() -> list[Row]:
    """Odd but legal, or harmless: the association is accepted and works."""
    explicit, implicit = [wire.EXPLICIT], [wire.IMPLICIT]
    odd = [
        wire.presentation_context(1, wire.VERIFICATION, implicit),
        wire.presentation_context(3, "1.2.840.10008.5.1.4.1.1.77", explicit),
        wire.presentation_context(5, wire.SECONDARY_CAPTURE, explicit),
        wire.presentation_context(7, wire.CT_IMAGE, [wire.EXPLICIT, wire.IMPLICIT]),
        wire.presentation_context(9, wire.CT_IMAGE, [wire.IMPLICIT, wire.EXPLICIT]),
        wire.presentation_context(11, wire.CT_IMAGE.encode() + b"\0", explicit),
        wire.presentation_context(13, "9" * 64, explicit),
    ]
    full = [
        wire.presentation_context(2 * number + 1, wire.VERIFICATION, implicit)
        for number in range(128)
    ]

    def results(body: bytes) -> dict[int, int]:
        return {key: value[0] for key, value in wire.accepted_contexts(body).items()}

    def window(body: bytes) -> bool:
        return wire.user_items(body).get(0x53) == bytes.fromhex("00010001")

    expected = {1: 0, 3: 3, 5: 4, 7: 0, 9: 0, 11: 0, 13: 3}
    rows = [
        connected(
            "contexts good and bad",
            wire.associate_request(odd),
            Accept(lambda body: results(body) == expected),
        ),
        connected(
            "syntax in the order proposed",
            wire.associate_request(odd),
            Accept(
                lambda body: (
                    wire.accepted_contexts(body)[7][1] == wire.EXPLICIT
                    and wire.accepted_contexts(body)[9][1] == wire.IMPLICIT
                )
            ),
        ),
        connected(
            "128 contexts",
            wire.associate_request(full),
            Accept(lambda body: list(results(body).values()) == [0] * 128),
        ),
        connected("unknown item", _with_tail(wire.item(0x77, b"x")), Accept()),
        connected("unknown user sub-item", _with_user(wire.item(0x7F, b"whatever")), Accept()),
        connected("user identity of 60000 bytes", _with_user(_identity(60_000)), Accept()),
        connected("user of no maximum", _without_maximum(), Accept()),
        connected("protocol version 3", wire.associate_request(CONTEXTS, version=3), Accept()),
    ]
    rows += [
        connected(f"window {name}", _with_user(wire.asynchronous_window(*pair)), Accept(window))
        for name, pair in {"0/0": (0, 0), "65535": (65535, 65535), "1/1": (1, 1)}.items()
    ]
    rows += [
        connected(
            f"maximum length {maximum}",
            wire.associate_request(CONTEXTS, user=wire.user_information(maximum)),
            Accept(),
        )
        for maximum in (0, 0xFFFFFFFF, 128)
    ]
    titles = ("SCP_AE  ", "  SCP_AE", "../../etc", "; rm -rf ~", "<script>", "%s%n")
    rows += [
        connected(f"calling {text!r}", wire.associate_request(CONTEXTS, calling=text), Accept())
        for text in titles
    ]
    return rows


def _with_tail(tail: bytes) -> bytes:
    return wire.associate_request(CONTEXTS, tail=tail)


def _identity(size: int) -> bytes:
    return wire.item(0x58, b"\1\0" + struct.pack(">H", size) + b"u" * size + b"\0\0")


def _without_maximum() -> bytes:
    return wire.associate_request(CONTEXTS, user=wire.user_information(None))


def in_association() -> list[Row]:
    """PDUs and PDVs on an association that works."""
    echo = wire.echo_command()
    abort = wire.pdu(wire.ABORT, bytes(4))
    rows = [
        associated("second request", REQUEST, UNEXPECTED),
        associated("pdu type 0x09", wire.pdu(9, bytes(4)), UNRECOGNIZED),
        associated("accept", wire.pdu(wire.ASSOCIATE_AC, REQUEST[6:]), UNEXPECTED),
        associated("release reply", wire.pdu(wire.RELEASE_RP, bytes(4)), UNEXPECTED),
        associated("abort", abort, Close()),
        associated("abort of no body", wire.pdu(wire.ABORT), Close()),
        associated("release of no body", wire.pdu(wire.RELEASE_RQ), INVALID),
    ]
    for length in (0, 1, 3):
        rows.append(associated(f"p-data of {length} bytes", wire.pdu(4, bytes(length)), INVALID))
    for length in (131072 + 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        data = wire.pdu(4, b"", length)
        rows.append(associated(f"p-data length {length:#x}", data, INVALID))

    def value(length: int, context: int = VERIFICATION, flags: int = 3) -> bytes:
        return wire.pdu(4, wire.pdv(context, echo, flags, length))

    for length in (0, 1, len(echo) + 3, 0x7FFFFFFF, 0xFFFFFFFC, 0xFFFFFFFF):
        rows.append(associated(f"pdv length {length:#x}", value(length), INVALID))
    rows += [
        associated("context never proposed", wire.p_data(99, echo, True), INVALID),
        associated("context id even", wire.p_data(2, echo, True), INVALID),
        associated("data set before command", LONE_DATA, UNEXPECTED_PARAMETER),
        associated("reserved flags", wire.pdu(4, wire.pdv(VERIFICATION, echo, 0xFF)), Status(0)),
        associated(
            "command in two contexts",
            wire.pdu(4, wire.pdv(VERIFICATION, echo[:20], 1))
            + wire.pdu(4, wire.pdv(CT_EXPLICIT, echo[20:], 3)),
            UNEXPECTED_PARAMETER,
        ),
        associated(
            "command of 20000 bytes",
            wire.p_data(VERIFICATION, wire.command_set(wire.element(0x1000, bytes(20_000))), True),
            INVALID,
        ),
        associated(
            "command never ending",
            wire.pdu(4, wire.pdv(VERIFICATION, bytes(8_000), 1)) * 6,
            INVALID,
        ),
    ]
    return rows


def every_row() -> list[Row]:
    """The protocol corpus but for what follows a C-STORE-RQ."""
    return [
        *before_association(),
        *request_items(),
        *rejections(),
        *acceptances(),
        *in_association(),
    ]
