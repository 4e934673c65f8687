"""How long what waits for a destination that is away goes on waiting.

`[send] give_up_after_hours` counts for each delivery from when it might have gone out, at the
earliest from when its destination was found to be away. What has waited for longer stays in the
queue as failed, for somebody to decide. A clock that was set forward is no waiting: the destination
must have been asked in vain for a good part of that time. One that is not asked, paused or
configured no more, is not away: nobody knows.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

from engine.limits import away_asked_in_hour_min, outbox_portion_max
from engine.outbox.outbox import Outbox
from engine.outbox.records import Away
from engine.outbox.writer import OutboxWriter

_hour_ns: Final = 3_600_000_000_000


class GivenUp(NamedTuple):
    """What waited for a destination in vain."""

    destination: str
    deliveries: int


class Patience:
    """One sender's. One thread's own."""

    def __init__(self) -> None:
        self._due_ns: dict[str, int] = {}  # before which nothing of a destination is overdue

    def look(
        self, writer: OutboxWriter, asked: Collection[str], hours: int, now_ns: int
    ) -> list[GivenUp]:
        """Give up what is overdue. `asked`: the destinations that are sent to. `hours` 0: never."""
        with writer.view() as outbox:
            away = outbox.away()
        unasked = [name for name in away if name not in asked]
        if unasked:
            writer.commit(lambda outbox: outbox.forget_away(*unasked))
        self._due_ns = {name: due for name, due in self._due_ns.items() if name in away}
        given_up = []
        for name in sorted(away.keys() - {*unasked}):
            patience_ns = hours * _hour_ns
            due_ns = max(self._due_ns.get(name, 0), away[name].since_ns + patience_ns)
            was_asked = away[name].asked >= hours * away_asked_in_hour_min
            if hours and now_ns >= due_ns and was_asked:
                count = self._give_up(writer, name, away[name], patience_ns, now_ns)
                given_up += [GivenUp(name, count)] if count else []
        return given_up

    def _give_up(
        self, writer: OutboxWriter, name: str, away: Away, patience_ns: int, now_ns: int
    ) -> int:
        """In portions, so that whoever else writes has his turns."""
        reason = f"given up after {patience_ns // _hour_ns} h, {name} being away: {away.reason}"
        count = 0
        while True:
            with writer.view() as outbox:
                found, since_ns = outbox.overdue(name, now_ns - patience_ns, outbox_portion_max)

            def work(outbox: Outbox, found: list[int] = found) -> int:
                if outbox.away_of(name) is None:
                    return 0  # it came back meanwhile
                return outbox.give_up(found, now_ns, reason)

            ended = writer.commit(work) if found else 0
            count += ended
            if len(found) < outbox_portion_max or not ended:
                # Nothing that comes later can be overdue before what is here now.
                first_ns = now_ns if since_ns is None else since_ns
                self._due_ns[name] = first_ns + patience_ns
                return count
