"""What a peer gave to associations of an instance's own, so that one that is reused gives no less.

An association that was opened for one instance may carry the next one in a syntax that costs it
something, decoding or another encoding, although the peer takes it as it is: that syntax was not
proposed, or the peer takes one context for each SOP class and this was not the first. So an
instance goes over it as it is, or in what an association opened for its like was given.
"""

from collections.abc import Collection, Sequence

from engine import limits

_Offered = Sequence[tuple[str, ...]]


class GivenSyntaxes:
    """Of one destination, while associations with it follow each other."""

    def __init__(self) -> None:
        self._given: dict[tuple[str, tuple[tuple[str, ...], ...]], str | None] = {}

    def learn(self, sop_class_uid: str, offered: _Offered, accepted: Collection[str]) -> None:
        """An association was opened for an instance with these proposals, first of all."""
        if len(self._given) >= limits.proposals_cached_max:
            self._given.clear()
        self._given[sop_class_uid, tuple(offered)] = _first(offered, accepted)

    def is_as_fresh(self, sop_class_uid: str, offered: _Offered, accepted: Collection[str]) -> bool:
        """Whether an open association, with these syntaxes for the SOP class, gives such an
        instance what one of its own would."""
        syntax = _first(offered, accepted)
        if syntax is None:
            return False
        return syntax == offered[0][0] or syntax == self._given.get((sop_class_uid, tuple(offered)))

    def forget(self) -> None:
        """The next association is with somebody else, or after a while."""
        self._given.clear()


def _first(offered: _Offered, accepted: Collection[str]) -> str | None:
    """What an instance goes out in: proposals are in the order of what they cost."""
    return next((syntax for syntaxes in offered for syntax in syntaxes if syntax in accepted), None)
