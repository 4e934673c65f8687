"""What a receiver knows of the hosts that called it: who stored, and who held a slot for nothing.

Pure and bounded; it lasts as long as the process. A host is taken for its address, since a title
is whatever a peer says; without TLS, an address can still be forged nearby. A remote AE counts as
configured only by title and address together, and only if the configuration has an address: a name
would have to be resolved by a process that may open no sockets.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from engine import limits
from engine.upper_layer.slots import Standing, host_of

_USEFUL_SHARE: Final = 4  # a quarter of the time: scanners pause, and are waited for

_JUDGED_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Tenure:
    """An association in a slot that stores, when it is over."""

    stored: int  # instances
    held_s: float
    useful_s: float  # from its acceptance to its last progress
    gave_way: bool

    @property
    def wasted(self) -> bool:
        """The slot was held for nothing, or for little until somebody else needed it. Who was shown
        out at once had no time to be of use."""
        if self.gave_way and self.held_s < _JUDGED_S:
            return False
        return not self.stored or (self.gave_way and self.useful_s * _USEFUL_SHARE < self.held_s)


class Hosts:
    """The standing of each host."""

    def __init__(self, configured: Iterable[tuple[str, str]]) -> None:
        """`configured`: AE title and address of each remote AE."""
        self._stored: dict[str, None] = {}  # by when it was last confirmed, as the next
        self._barren: dict[str, _Debt] = {}
        self.configure(configured)

    def configure(self, configured: Iterable[tuple[str, str]]) -> None:
        """What is known is kept."""
        self._configured = {(title, host_of(address)) for title, address in configured}

    def standing(self, host: str, calling_ae_title: str, now: float) -> Standing:
        """Of a peer with this title. `host`: what `host_of()` makes of its address."""
        if (calling_ae_title, host) in self._configured:
            return Standing.CONFIGURED
        if self._owes(host, now):
            return Standing.BARREN
        return Standing.STORED if host in self._stored else Standing.UNKNOWN

    def note_stored(self, host: str, now: float) -> None:
        """It stored an instance, in an association that goes on. Who is in debt pays at its end."""
        if not self._owes(host, now):
            _enter(self._stored, host, None)

    def note_ended(self, host: str, tenure: Tenure, now: float) -> None:
        """One instance makes a stranger known; a host that held a slot in vain has to be useful for
        a while, or one instance would buy it the next five seconds of a slot again and again."""
        if not tenure.stored and not tenure.wasted:
            return
        if tenure.wasted:
            if tenure.gave_way:
                self._stored.pop(host, None)
            if host not in self._stored:
                _enter(self._barren, host, _Debt(now + limits.barren_s, limits.redeemed_s))
        elif self._owes(host, now):
            debt = self._barren[host]
            if tenure.useful_s < debt.useful_s:
                self._barren[host] = _Debt(debt.ends, debt.useful_s - tenure.useful_s)
            else:
                self._barren.pop(host)
                _enter(self._stored, host, None)
        else:
            _enter(self._stored, host, None)

    def _owes(self, host: str, now: float) -> bool:
        debt = self._barren.get(host)
        return debt is not None and debt.ends > now


@dataclass(frozen=True, slots=True)
class _Debt:
    ends: float
    useful_s: float  # of slots, until it is paid


_Value = TypeVar("_Value")


def _enter(table: dict[str, _Value], host: str, value: _Value) -> None:
    table.pop(host, None)
    table[host] = value
    if len(table) > limits.hosts_known_max:
        del table[next(iter(table))]
