"""What the receiver knows of an instance besides its bytes: the prologue of its journal record.

Written by the receiver when the C-STORE-RQ is accepted, read by the indexer, perhaps by the next
release's: fields are only ever added at the end, with a default.
"""

from typing import Final

import msgspec


class Arrival(msgspec.Struct, frozen=True, array_like=True):
    """One accepted C-STORE-RQ. Titles without padding; `peer` is an address, never a name."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str
    called_ae_title: str
    peer: str
    received_ns: int  # Unix time in nanoseconds
    head_bytes: int = 0  # of preamble and file meta, ahead of the data set in the file
    extra_tags: int = (
        0  # which attributes beyond the index's stand in its row (engine/dictionary/elements.py)
    )


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Arrival)


def encode_arrival(arrival: Arrival) -> bytes:
    return _encoder.encode(arrival)


def encode_number(number: int) -> bytes:
    """A field of an arrival by itself, as it stands among the others."""
    return _encoder.encode(number)


def decode_arrival(prologue: bytes) -> Arrival:
    """The journal's checksum has vouched for the bytes; a prologue that is none is our fault."""
    return _decoder.decode(prologue)
