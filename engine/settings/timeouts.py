"""How long each step of an association of ours may take.

The steps are apart because they tell of different things. Connecting and being let in is a matter
of the network and of the peer's association limit: seconds. A response is a matter of what the peer
does with the instance before it answers, and a peer that is given up on has most likely taken it:
to offer it again helps nobody.
"""

from typing import NamedTuple, Self


class Timeouts(NamedTuple):
    """Seconds for each step."""

    connect_s: float  # each of name, connection and TLS
    association_s: float  # the answer to the association request (table 4.4-2)
    response_s: float  # a response, once all of what it answers was sent; and each pause meanwhile
    release_s: float  # the answer to the release request

    @classmethod
    def each(cls, seconds: float) -> Self:
        """The same for every step."""
        return cls(seconds, seconds, seconds, seconds)
