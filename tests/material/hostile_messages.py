"""Hostile and odd messages: command sets, data-set fragments and data sets, one row each.

Rows end with whole messages on context 3 (CT, explicit VR) or 21 (Verification) of an association
made with wire.storage_contexts().
"""

import struct

from tests.material import wire
from tests.material.hostile_corpus import (
    CT_EXPLICIT,
    UNEXPECTED,
    UNEXPECTED_PARAMETER,
    UNRECOGNIZED,
    USER,
    VERIFICATION,
    Abort,
    Answer,
    Row,
    Status,
    associated,
)
from tests.material.odd_commands import ODD

# What a command set says is the service user's affair (PS3.7), how fragments follow each other the
# provider's (PS3.8).
BROKEN = Abort((USER,), (0,))
UID = "1.2.826.0.1.3680043.10.1.77"
DATA_SET = wire.small_data_set(UID)


def _store(elements: dict[int, bytes], data_set: bytes = DATA_SET) -> bytes:
    return _message(wire.joined(elements), data_set)


def _message(command: bytes, data_set: bytes = DATA_SET) -> bytes:
    return wire.p_data(CT_EXPLICIT, command, True) + wire.p_data(CT_EXPLICIT, data_set, False)


def _with(tag: int, value: bytes) -> dict[int, bytes]:
    return {**wire.store_elements(wire.CT_IMAGE, UID), tag: value}


def _without(tag: int) -> dict[int, bytes]:
    elements = wire.store_elements(wire.CT_IMAGE, UID)
    del elements[tag]
    return elements


def _command_only(data: bytes) -> bytes:
    return wire.p_data(CT_EXPLICIT, data, True)


def command_sets() -> list[Row]:
    """Command sets that lie or lack something."""
    whole = wire.store_elements(wire.CT_IMAGE, UID)
    plain = b"".join(wire.element(tag, whole[tag]) for tag in sorted(whole))
    doubled = plain + wire.element(0x1000, whole[0x1000])
    backwards = b"".join(wire.element(tag, whole[tag]) for tag in sorted(whole, reverse=True))
    without_last = b"".join(wire.element(tag, whole[tag]) for tag in sorted(whole)[:-1])
    four_gigabytes = wire.element(0x1000, whole[0x1000], 0xFFFFFFFF)
    foreign = b"\x08\0\x16\0\0\0\0\0"
    faults = {
        "no command field": _command_only(wire.joined(_without(0x0100))),
        "no message id": _command_only(wire.joined(_without(0x0110))),
        "element beyond the end": _command_only(wire.command_set(without_last + four_gigabytes)),
        "element cut": _command_only(wire.command_set(plain[:-1])),
        "duplicate element": _command_only(wire.command_set(doubled)),
        "descending elements": _command_only(wire.command_set(backwards)),
        "empty": _command_only(b""),
        "seven bytes": _command_only(b"\0" * 7),
        "message id of 4 bytes": _command_only(wire.joined(_with(0x0110, bytes(4)))),
        "command field empty": _command_only(wire.joined(_with(0x0100, b""))),
        "group 0008": _command_only(wire.command_set(plain + foreign)),
        "c-store response to us": _command_only(wire.joined(_with(0x0100, wire.us(0x8001)))),
        "c-echo response to us": wire.p_data(
            VERIFICATION, wire.joined({0x0100: wire.us(0x8030), 0x0120: wire.us(1),
                                       0x0800: wire.us(0x0101), 0x0900: wire.us(0)}), True
        ),
    }  # fmt: skip
    return [associated(f"command: {name}", data, BROKEN) for name, data in faults.items()]


def odd_command_sets() -> list[Row]:
    """What real peers write: read as it is meant."""
    whole = wire.store_elements(wire.CT_IMAGE, UID)
    return [
        associated(f"command with {name}", _message(encode(whole)), Status(0))
        for name, (encode, _) in ODD.items()
    ]


def answered_with_failure() -> list[Row]:
    """What cannot be stored, but can be answered: its data set is read, the association lives."""
    uids = (
        "..",
        ".",
        "/etc/x",
        "a/../../b",
        "1.2\\3",
        "1.2 3",
        "9" * 65,
        "." * 64,
        "",
        "1.2\n3",
    )
    refused = Status(0x0110)
    rows = [
        associated(f"instance uid {uid[:20]!r}", _store(_with(0x1000, wire.uid(uid))), refused)
        for uid in uids
    ]
    other = wire.uid(wire.MR_IMAGE)
    no_data_set = _command_only(wire.joined(_with(0x0800, wire.us(0x0101))))
    rows += [
        associated("c-store without data set", no_data_set, refused),
        associated("class of another context", _store(_with(0x0002, other)), refused),
        associated("nul inside the uid", _store(_with(0x1000, b"1.2\0.3")), refused),
        associated(
            "c-find on a storage context", _store(_with(0x0100, wire.us(0x0020))), Status(0x0211)
        ),
        associated("unknown operation", _store(_with(0x0100, wire.us(0x0FF0))), Status(0x0211)),
    ]
    return rows


def order_of_fragments() -> list[Row]:
    """Data-set fragments where they do not belong, and where they oddly may."""
    command = wire.store_command(wire.CT_IMAGE, UID)
    head = wire.p_data(CT_EXPLICIT, command, True)
    half = len(DATA_SET) // 4 * 2

    def pdu(*values: bytes) -> bytes:
        return wire.pdu(wire.P_DATA, b"".join(values))

    def fragment(data: bytes, flags: int, context: int = CT_EXPLICIT) -> bytes:
        return wire.pdv(context, data, flags)

    first, second = DATA_SET[:half], DATA_SET[half:]
    one_by_one = [fragment(DATA_SET[at : at + 1], 0) for at in range(len(DATA_SET) - 1)]
    started = head + pdu(fragment(first, 0))
    cut_command = pdu(fragment(command[:5], 1)) + pdu(fragment(command[5:], 3))
    whole = pdu(fragment(DATA_SET, 2))
    odd = pdu(fragment(DATA_SET[:7], 0), fragment(DATA_SET[7:], 2))
    bad = {
        "command amid data set": (started + pdu(fragment(command, 3)), UNEXPECTED_PARAMETER),
        "other context amid data set": (
            started + pdu(fragment(second, 2, 1)),
            UNEXPECTED_PARAMETER,
        ),
        "release amid data set": (started + wire.pdu(wire.RELEASE_RQ, bytes(4)), BROKEN),
        "associate amid data set": (started + wire.pdu(wire.ASSOCIATE_RQ, bytes(70)), UNEXPECTED),
        "unknown pdu amid data set": (started + wire.pdu(0x2A, bytes(4)), UNRECOGNIZED),
        "second command, no data set": (head + head, UNEXPECTED_PARAMETER),
    }
    good = {
        "two fragments in a pdu": head + pdu(fragment(first, 0), fragment(second, 2)),
        "command and data in a pdu": pdu(fragment(command, 3), fragment(DATA_SET, 2)),
        "empty fragment first": head + pdu(fragment(b"", 0), fragment(DATA_SET, 2)),
        "empty fragment last": head + pdu(fragment(DATA_SET, 0)) + pdu(fragment(b"", 2)),
        "fragments of one byte": head + pdu(*one_by_one, fragment(DATA_SET[-1:], 2)),
        "odd fragments": head + odd,
        "command in two fragments": cut_command + whole,
    }
    table: list[tuple[str, bytes, Answer]] = [
        *((name, data, answer) for name, (data, answer) in bad.items()),
        *((name, data, Status(0)) for name, data in good.items()),
    ]
    return [associated(name, data, answer) for name, data, answer in table]


def _nested(depth: int) -> bytes:
    """Sequences of undefined length inside each other, never closed."""
    sequence = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    start = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return (sequence + start) * depth


def data_sets() -> dict[str, bytes]:
    """Data sets of every oddity; each is stored byte for byte, under a UID of its own."""
    explicit = wire.explicit_element
    head = DATA_SET[: DATA_SET.index(struct.pack("<HH", 0x0020, 0x000D))]
    hostile = "<script>alert(1)</script>,\"=cmd|'/c calc'!A1\"\r\n\x1b[31m^X"
    return {
        "one byte": b"\x08",
        "random": bytes(range(256)) * 40,
        "zeros": bytes(5000),
        "sequences 100 deep": _nested(100) + DATA_SET,
        "sequences 10000 deep": _nested(10_000),
        "undefined length without end": head
        + struct.pack("<HH2sHI", 0x0009, 0x1001, b"UN", 0, 0xFFFFFFFF),
        "length beyond the end": head + struct.pack("<HH2sH", 0x0010, 0x0020, b"LO", 60_000) + b"x",
        "value representation ??": head + struct.pack("<HH2sH", 0x0010, 0x0020, b"??", 2) + b"xx",
        "implicit inside explicit": wire.implicit_element(0x00080016, wire.CT_IMAGE.encode()) * 9,
        "rows as UL": DATA_SET + explicit(0x00280010, "UL", b"\x01\0\0\0"),
        "descending tags": explicit(0x00100020, "LO", b"late") + DATA_SET,
        "ISO IR 192 misspelt": explicit(0x00080005, "CS", b"ISO IR 192") + DATA_SET,
        "escape without character set": DATA_SET
        + explicit(0x00104000, "LT", b"\x1b$B\x1b\x1b\x1b(J\x1b"),
        "hostile name": wire.small_data_set("1.2.3", patient=hostile, study="1.2.9"),
        "hostile study uid": wire.small_data_set("1.2.3", study="../../../tmp/x", series="/etc"),
        "study uid of 300 characters": wire.small_data_set("1.2.3", study="1" * 300),
        "study uid with nul": wire.small_data_set("1.2.3", study="1.2\0../x"),
        "other uid than the command": wire.small_data_set("1.2.3.99"),
        "name of 60000 bytes": wire.small_data_set("1.2.3", patient="A" * 60_000),
    }


def every_row() -> list[Row]:
    """All rows that are answered the same whatever came before them."""
    return [
        *command_sets(),
        *odd_command_sets(),
        *answered_with_failure(),
        *order_of_fragments(),
    ]
