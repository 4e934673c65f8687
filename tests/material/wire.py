"""DICOM upper-layer bytes, made and read by hand: the tests' own codec, foreign to the engine's.

Nothing here is checked on the way out: a test may build any PDU, legal or not, and the parts
(sub-items, PDVs, command elements) can be put together in every wrong way.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

VERIFICATION = "1.2.840.10008.1.1"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)

C_STORE_RQ, C_STORE_RSP, C_ECHO_RQ, C_ECHO_RSP = 0x0001, 0x8001, 0x0030, 0x8030
C_FIND_RQ, C_CANCEL_RQ = 0x0020, 0x0FFF
NO_DATA_SET = 0x0101


@dataclass(frozen=True)
class Pdu:
    """One PDU as it came."""

    kind: int
    body: bytes

    @property
    def abort(self) -> tuple[int, int]:
        """(source, reason) of an A-ABORT."""
        assert self.kind == ABORT, f"not an A-ABORT: {self.kind}"
        return self.body[2], self.body[3]

    @property
    def rejection(self) -> tuple[int, int, int]:
        """(result, source, reason) of an A-ASSOCIATE-RJ."""
        assert self.kind == ASSOCIATE_RJ, f"not an A-ASSOCIATE-RJ: {self.kind}"
        return self.body[1], self.body[2], self.body[3]


def pdu(kind: int, body: bytes = b"", length: int | None = None) -> bytes:
    """A PDU; `length` may lie."""
    return struct.pack(">BBI", kind, 0, len(body) if length is None else length) + body


def item(kind: int, body: bytes, length: int | None = None) -> bytes:
    """A (sub-)item of an association PDU; `length` may lie."""
    return struct.pack(">BBH", kind, 0, len(body) if length is None else length) + body


def presentation_context(identifier: int, abstract: bytes | str, syntaxes: Iterable[str]) -> bytes:
    """A proposed presentation context."""
    name = abstract.encode() if isinstance(abstract, str) else abstract
    inner = item(0x30, name) + b"".join(item(0x40, syntax.encode()) for syntax in syntaxes)
    return item(0x20, struct.pack(">BBBB", identifier, 0, 0, 0) + inner)


def user_information(maximum: int | None = 16384, *more: bytes) -> bytes:
    """The user-information item: maximum length, an implementation class, and what is given."""
    parts = [] if maximum is None else [item(0x51, struct.pack(">I", maximum))]
    parts.append(item(0x52, b"1.2.826.0.1.3680043.10.1.1"))
    return item(0x50, b"".join([*parts, *more]))


def asynchronous_window(invoked: int, performed: int) -> bytes:
    """The asynchronous-operations-window sub-item."""
    return item(0x53, struct.pack(">HH", invoked, performed))


def title(text: str | bytes) -> bytes:
    """An AE title field of 16 bytes, padded with spaces."""
    raw = text.encode() if isinstance(text, str) else text
    return raw.ljust(16)[:16]


def associate_request(
    contexts: Sequence[bytes],
    called: str | bytes = "SCP_AE",
    calling: str | bytes = "TESTER",
    version: int = 1,
    application_context: bytes | None = None,
    user: bytes | None = None,
    tail: bytes = b"",
) -> bytes:
    """A whole A-ASSOCIATE-RQ."""
    head = struct.pack(">HH", version, 0) + title(called) + title(calling) + bytes(32)
    context = item(0x10, APPLICATION_CONTEXT.encode())
    if application_context is not None:
        context = application_context
    information = user_information() if user is None else user
    return pdu(ASSOCIATE_RQ, head + context + b"".join(contexts) + information + tail)


def storage_contexts() -> list[bytes]:
    """Every class and transfer syntax of the tables, one context for each pair."""
    pairs = [
        (sop_class, syntax)
        for sop_class in (CT_IMAGE, MR_IMAGE, ENHANCED_CT)
        for syntax in (IMPLICIT, EXPLICIT, JPEG_LOSSLESS)
    ]
    pairs += [(SECONDARY_CAPTURE, IMPLICIT), (VERIFICATION, IMPLICIT)]
    return [
        presentation_context(2 * number + 1, sop_class, [syntax])
        for number, (sop_class, syntax) in enumerate(pairs)
    ]


def accepted_contexts(body: bytes) -> dict[int, tuple[int, str]]:
    """Of an A-ASSOCIATE-AC: context identifier -> (result, transfer syntax)."""
    found: dict[int, tuple[int, str]] = {}
    for kind, value in items(body[68:]):
        if kind == 0x21:
            syntax = dict(items(value[4:])).get(0x40, b"").rstrip(b"\0").decode()
            found[value[0]] = (value[2], syntax)
    return found


def user_items(body: bytes) -> dict[int, bytes]:
    """Of an A-ASSOCIATE-AC or -RQ: the user-information sub-items by type."""
    for kind, value in items(body[68:]):
        if kind == 0x50:
            return dict(items(value))
    return {}


def items(data: bytes) -> list[tuple[int, bytes]]:
    """Cut a run of items."""
    found = []
    while data:
        kind, _, length = struct.unpack_from(">BBH", data)
        found.append((kind, data[4 : 4 + length]))
        data = data[4 + length :]
    return found


def pdv(context: int, payload: bytes, flags: int, length: int | None = None) -> bytes:
    """One presentation-data value; flags: 1 command, 2 last. `length` may lie."""
    return struct.pack(">IBB", len(payload) + 2 if length is None else length, context, flags) + (
        payload
    )


def p_data(context: int, payload: bytes, command: bool, maximum: int = 16378) -> bytes:
    """A message's command or data set as P-DATA-TF PDUs of one PDV each."""
    size = maximum - 6
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
    return b"".join(
        pdu(P_DATA, pdv(context, piece, int(command) | (2 if number == len(pieces) else 0)))
        for number, piece in enumerate(pieces, 1)
    )


def element(tag: int, value: bytes, length: int | None = None) -> bytes:
    """A command element (group 0000, implicit little endian)."""
    return struct.pack("<HHI", 0, tag, len(value) if length is None else length) + value


def uid(text: str) -> bytes:
    """A UID's bytes, padded to even length."""
    raw = text.encode()
    return raw + b"\0" * (len(raw) % 2)


def us(number: int) -> bytes:
    """An unsigned short."""
    return struct.pack("<H", number)


def command_set(elements: bytes, group_length: int | None = None) -> bytes:
    """Elements with the group length in front; it may lie."""
    length = len(elements) if group_length is None else group_length
    return element(0, struct.pack("<I", length)) + elements


def store_elements(
    sop_class: str, sop_instance: str, message: int = 1, data_set_type: int = 0
) -> dict[int, bytes]:
    """A C-STORE-RQ's elements by tag, for tests to change."""
    return {
        0x0002: uid(sop_class),
        0x0100: us(C_STORE_RQ),
        0x0110: us(message),
        0x0700: us(0),
        0x0800: us(data_set_type),
        0x1000: uid(sop_instance),
    }


def joined(elements: dict[int, bytes]) -> bytes:
    """A command set of the elements given, in tag order."""
    return command_set(b"".join(element(tag, elements[tag]) for tag in sorted(elements)))


def store_command(sop_class: str, sop_instance: str, message: int = 1) -> bytes:
    """A C-STORE-RQ command set."""
    return joined(store_elements(sop_class, sop_instance, message))


def echo_command(message: int = 1) -> bytes:
    """A C-ECHO-RQ command set."""
    return joined(
        {
            0x0002: uid(VERIFICATION),
            0x0100: us(C_ECHO_RQ),
            0x0110: us(message),
            0x0800: us(NO_DATA_SET),
        }
    )


def parse_command(data: bytes) -> dict[int, bytes]:
    """A command set's elements by tag (group 0000)."""
    found = {}
    while data:
        group, tag, length = struct.unpack_from("<HHI", data)
        assert group == 0, f"group {group:04x} in a command set"
        found[tag] = data[8 : 8 + length]
        data = data[8 + length :]
    return found


def explicit_element(tag: int, vr: str, value: bytes) -> bytes:
    """A data element, explicit VR little endian, value padded to even length."""
    pad = b"\0" if vr in ("UI", "OB", "OW", "UN") else b" "
    value += pad * (len(value) % 2)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if vr in ("OB", "OW", "UN", "SQ", "UT"):
        return head + struct.pack("<HI", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def implicit_element(tag: int, value: bytes) -> bytes:
    """A data element, implicit VR little endian."""
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


def small_data_set(
    sop_instance: str,
    study: str = "1.2.3.4",
    series: str = "1.2.3.4.5",
    pixels: bytes = b"",
    sop_class: str = CT_IMAGE,
    patient: str = "TEST^WIRE",
) -> bytes:
    """An explicit-VR data set with what the index wants and the pixels given."""
    return b"".join(
        [
            explicit_element(0x00080016, "UI", sop_class.encode()),
            explicit_element(0x00080018, "UI", sop_instance.encode()),
            explicit_element(0x00080020, "DA", b"20260102"),
            explicit_element(0x00080060, "CS", b"CT"),
            explicit_element(0x00100010, "PN", patient.encode()),
            explicit_element(0x00100020, "LO", b"WIRE-1"),
            explicit_element(0x0020000D, "UI", study.encode()),
            explicit_element(0x0020000E, "UI", series.encode()),
            explicit_element(0x00200013, "IS", b"1"),
            explicit_element(0x7FE00010, "OW", pixels),
        ]
    )
