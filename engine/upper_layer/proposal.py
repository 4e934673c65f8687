"""What is proposed in an A-ASSOCIATE-RQ of ours, and what of it a peer's A-ASSOCIATE-AC leaves.

With an association for each instance the same is asked and answered over and over: requests are
encoded once, equal answers decoded once. No asynchronous window, no roles, no extended negotiation
are proposed.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from engine import limits
from engine.upper_layer.failure import context_words
from engine.upper_layer.pdus import (
    AnsweredContext,
    AssociateAccept,
    AssociateRequest,
    ProposedContext,
    decode_associate_accept,
    encode_associate_request,
    title_fields,
)
from engine.upper_layer.user_information import UserInformation


@dataclass(frozen=True, slots=True)
class Proposal:
    """An A-ASSOCIATE-RQ as it is sent, and what it proposes by context identifier."""

    pdu: bytes
    contexts: dict[int, ProposedContext]

    def compare(self, accept: AssociateAccept) -> tuple[dict[int, AnsweredContext], dict[int, str]]:
        """What may be used of what was proposed, and why the rest may not, in words.

        Answers come in any order. One to what was not proposed means nothing.
        """
        answered = {context.context_id: context for context in accept.contexts}
        accepted: dict[int, AnsweredContext] = {}
        refused: dict[int, str] = {}
        for identifier, proposed in self.contexts.items():
            answer = answered.get(identifier)
            if answer is None:
                refused[identifier] = "not answered"
            elif answer.result != 0:
                refused[identifier] = context_words(answer.result)
            elif answer.transfer_syntax not in proposed.transfer_syntaxes:
                # The peer may believe in it; nothing is ever sent in it.
                words = f"accepted with {answer.transfer_syntax}, which was not proposed"
                refused[identifier] = words
            else:
                accepted[identifier] = answer
        return accepted, refused


@lru_cache(maxsize=limits.proposals_cached_max)
def propose(called: str, calling: str, contexts: tuple[ProposedContext, ...]) -> Proposal:
    """The request for these titles (which have to be AE titles) and contexts."""
    by_identifier = {context.context_id: context for context in contexts}
    assert 0 < len(contexts) <= limits.presentation_contexts_max, "1 to 128 contexts"
    assert len(by_identifier) == len(contexts), "identifiers are unique"
    assert all(identifier & 1 for identifier in by_identifier), "identifiers are odd"
    titles = title_fields(called, calling)
    pdu = encode_associate_request(AssociateRequest(titles, contexts, UserInformation()))
    return Proposal(pdu, by_identifier)


# Equal requests get equal accepts; what a peer makes up anew each time is merely decoded anew.
_decode_known: Final = lru_cache(maxsize=limits.proposals_cached_max)(decode_associate_accept)


def decode_accept(body: bytes) -> AssociateAccept:
    """The body of an A-ASSOCIATE-AC, or PeerError."""
    if len(body) > limits.accept_bytes_cached_max:
        return decode_associate_accept(body)
    return _decode_known(body)
