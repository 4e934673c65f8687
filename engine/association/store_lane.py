"""Templates of each context for the short way of regular C-STORE-RQs.

The way itself is native/src/reception/store_lane.hpp. Templates are made by the same codecs that
serve the long way, by cutting their output at the one instance UID they were given: the two ways
cannot come to disagree about a byte. `permit_stores` is called once an association; whatever is not
regular never takes this way.
"""

from typing import Final

from engine import limits
from engine.dictionary import uids
from engine.dimse.commands import response_sop_class
from engine.files.arrival import Arrival, encode_arrival, encode_number
from engine.files.part10 import part10_head
from engine.upper_layer.negotiation import AcceptedAssociation, AcceptedContext
from native import _core

# An instance UID that occurs nowhere else in what is encoded around it.
MARK: Final = "2.999.999999999999999999"
# The response of a store is shorter than this; a peer with less room gets it in fragments, by the
# long way.
_response_bytes_max: Final = 512


def permit_stores(
    lane: _core.PduCutter, accepted: AcceptedAssociation, peer: str, extra_tags: int = 0
) -> None:
    """Hand in the templates of every storage context of an association. `extra_tags` is what its
    arrivals shall say of the attributes that are cut out of the data sets."""
    if 0 < accepted.peer_maximum_length < _response_bytes_max:
        return
    for context_id, context in accepted.contexts.items():
        if context.abstract_syntax != uids.verification:
            _permit(lane, context_id, context, accepted, (peer, extra_tags))


def _permit(
    lane: _core.PduCutter,
    context_id: int,
    context: AcceptedContext,
    accepted: AcceptedAssociation,
    origin: tuple[str, int],
) -> None:
    mark = MARK.encode()
    head = part10_head(
        context.abstract_syntax, MARK, context.transfer_syntax, accepted.calling_ae_title
    )
    before, after = head.split(mark)
    length_at = _group_length_at
    arrival_before, arrival_middle, arrival_after = _arrival_pieces(context, accepted, *origin)
    lane.permit_store(
        context_id,
        context.abstract_syntax.encode(),
        uids.is_explicit_vr(context.transfer_syntax),
        before[:length_at],
        int.from_bytes(before[length_at : length_at + 4], "little") - len(mark),
        before[length_at + 4 : -2],
        after,
        arrival_before,
        arrival_middle,
        arrival_after,
        response_sop_class(context.abstract_syntax),
    )


# Preamble and prefix, then tag, VR and length of (0002,0000).
_group_length_at: Final = 128 + 4 + 8


def _arrival_pieces(
    context: AcceptedContext, accepted: AcceptedAssociation, peer: str, extra_tags: int
) -> tuple[bytes, bytes, bytes]:
    """What stands before the instance UID, between it and the time of arrival, and at the end."""
    encoded = encode_arrival(
        Arrival(
            context.abstract_syntax,
            MARK,
            context.transfer_syntax,
            accepted.calling_ae_title,
            accepted.called_ae_title,
            peer,
            0,
            0,
            extra_tags,
        )
    )
    before, behind = encoded.split(MARK.encode())
    after = encode_number(extra_tags)
    assert behind.endswith(b"\0\0" + after)
    # A string of up to 31 bytes has one byte of length ahead of it; both zeros have one byte.
    assert len(MARK) < 32
    return before[:-1], behind[: -2 - len(after)], after


assert limits.uid_characters_max < 256, "the lane writes the UID's length into one byte"
assert len(MARK) % 2 == 0, "no padding stands between the mark and what follows"
