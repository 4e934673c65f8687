"""Cuts instances into the bytes that go over the wire, ready to be sent again and again.

Promises: PS3.8 and PS3.7 to the letter: PDUs no longer than asked for, even fragments, a command
set with its group length. What changes from one instance to the next lies in the image's head.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.instances import INSTANCE_DIGITS, SERIES_DIGITS, STUDY_DIGITS, Instance

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
VERIFICATION: Final = "1.2.840.10008.1.1"
IMPLICIT: Final = "1.2.840.10008.1.2"
IMPLEMENTATION_CLASS: Final = "2.25.4711.1"
_BODY_BYTES: Final = 1 << 20  # of pixels that are sent over and over

_FIELDS: Final = (INSTANCE_DIGITS, SERIES_DIGITS, STUDY_DIGITS)


@dataclass(frozen=True, slots=True)
class Image:
    """One instance on the wire: `head`, `body` repeated, `tail`."""

    context_id: int
    head: bytes
    body: bytes
    repeats: int
    tail: bytes
    payload_bytes: int
    message_id_offset: int
    patches: tuple[tuple[int, tuple[int, ...]], ...]

    @property
    def wire_bytes(self) -> int:
        return len(self.head) + len(self.body) * self.repeats + len(self.tail)


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def associate_request(
    called: str, calling: str, contexts: Sequence[tuple[int, str, str]], pdu_bytes: int
) -> bytes:
    """An A-ASSOCIATE-RQ proposing (identifier, abstract syntax, transfer syntax) each."""
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
    body += _item(0x10, APPLICATION_CONTEXT.encode())
    for identifier, abstract, transfer in contexts:
        syntaxes = _item(0x30, abstract.encode()) + _item(0x40, transfer.encode())
        body += _item(0x20, struct.pack(">Bxxx", identifier) + syntaxes)
    user = _item(0x51, struct.pack(">L", pdu_bytes)) + _item(0x52, IMPLEMENTATION_CLASS.encode())
    body += _item(0x50, user + _item(0x55, b"LOAD_1"))
    return struct.pack(">BxL", 1, len(body)) + body


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, number, len(value)) + value


def _uid(value: str) -> bytes:
    return value.encode() + b"\0" * (len(value) % 2)


def store_request(sop_class: str, sop_instance: str) -> bytes:
    """A C-STORE-RQ command set, medium priority, a data set follows."""
    elements = (
        _element(0x0002, _uid(sop_class))
        + _element(0x0100, struct.pack("<H", 0x0001))
        + _element(0x0110, struct.pack("<H", 1))
        + _element(0x0700, struct.pack("<H", 0))
        + _element(0x0800, struct.pack("<H", 0x0001))
        + _element(0x1000, _uid(sop_instance))
    )
    return _element(0x0000, struct.pack("<L", len(elements))) + elements


def _pdu(context_id: int, flags: int, fragment: bytes) -> bytes:
    length = len(fragment) + 2
    return struct.pack(">BxLLBB", 4, length + 4, length, context_id, flags) + fragment


def _cut(context_id: int, data: bytes, pdu_bytes: int, last: bool) -> list[bytes]:
    step = (pdu_bytes - 6) // 2 * 2
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    return [_pdu(context_id, 2 if last and piece is pieces[-1] else 0, piece) for piece in pieces]


def _pixels(size: int) -> bytes:
    return bytes(range(256)) * (size // 256 + 1)


def _offsets(pdus: Sequence[bytes], needle: bytes, header: int = 12) -> list[tuple[int, ...]]:
    """Where `needle` stands on the wire, byte for byte, though a PDU boundary may cut it."""
    positions: list[int] = []
    content = bytearray()
    at = 0
    for pdu in pdus:
        positions.extend(range(at + header, at + len(pdu)))
        content += pdu[header:]
        at += len(pdu)
    found = []
    start = content.find(needle)
    while start >= 0:
        found.append(tuple(positions[start : start + len(needle)]))
        start = content.find(needle, start + 1)
    return found


def image_of(instance: Instance, context_id: int, pdu_bytes: int) -> Image:
    """The instance as it goes over the wire on that presentation context."""
    command = _pdu(context_id, 3, store_request(instance.sop_class, instance.sop_instance))
    pdus = _cut(context_id, instance.data, pdu_bytes, last=instance.pixel_bytes == 0)
    body, repeats, tail = b"", 0, b""
    if instance.pixel_bytes:
        step = (pdu_bytes - 6) // 2 * 2
        per_body = max(1, _BODY_BYTES // step)
        # One byte at least is left for the tail: it carries the last fragment's flag.
        repeats = (instance.pixel_bytes - 1) // (per_body * step)
        rest = instance.pixel_bytes - repeats * per_body * step
        body = b"".join(_cut(context_id, _pixels(per_body * step)[: per_body * step], pdu_bytes,
                             last=False))  # fmt: skip
        tail = b"".join(_cut(context_id, _pixels(rest)[:rest], pdu_bytes, last=True))
    else:
        needed = _pdus_with_fields(pdus)
        tail = b"".join(pdus[needed:])
        pdus = pdus[:needed]
    patches = [
        (field, offsets)
        for field, digits in enumerate(_FIELDS)
        for offsets in _offsets([command, *pdus], digits.encode())
    ]
    message_id = command.index(struct.pack("<HHL", 0, 0x0110, 2)) + 8
    head = command + b"".join(pdus)
    return Image(
        context_id, head, body, repeats, tail, instance.payload_bytes, message_id, tuple(patches)
    )


def _pdus_with_fields(pdus: Sequence[bytes]) -> int:
    """How many of the first PDUs hold all numbered fields; pixel bytes alone hold none."""
    last = 0
    for digits in _FIELDS:
        for offsets in _offsets(pdus, digits.encode()):
            last = max(last, offsets[-1])
    end = 0
    for count, pdu in enumerate(pdus, 1):
        end += len(pdu)
        if last < end:
            return count
    raise ValueError("a numbered field lies outside the instance")
