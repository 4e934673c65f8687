"""What `scai status` says of destinations that cannot be reached, read from the outbox."""

from contextlib import closing
from pathlib import Path

import msgspec

from engine.index.environment import INDEX_FAULTS, open_index_reader
from engine.outbox.records import State
from engine.outbox.view import OutboxView
from tools.face.terminal import counted, moment


class Absence(msgspec.Struct, frozen=True, kw_only=True):
    """A destination that is away. Times are as everywhere, in UTC."""

    destination: str
    since: str
    asked: int
    next: str
    reason: str
    waiting: int  # deliveries, with those that are tried again

    @property
    def line(self) -> str:
        """For people."""
        return (
            f"{self.destination} is away since {self.since}, "
            f"{counted(self.waiting, 'delivery waits', 'deliveries wait')} for it: "
            f"{self.reason}; asked {counted(self.asked, 'time', 'times')}, next {self.next}"
        )


def absences(data_directory: Path) -> list[Absence]:
    """Those there are; none where the index cannot be read, which is told elsewhere."""
    try:
        with closing(open_index_reader(data_directory)) as reader, reader.view() as view:
            outbox = OutboxView.within(view)
            away, counts = outbox.away(), outbox.counts()
    except INDEX_FAULTS:
        return []
    return [
        Absence(
            destination=name,
            since=moment(one.since_ns, "seconds"),
            asked=one.asked,
            next=moment(one.due_ns, "seconds"),
            reason=one.reason,
            waiting=sum(
                counts.get((name, state), 0)
                for state in (State.WAITING, State.RETRYING, State.SENDING)
            ),
        )
        for name, one in sorted(away.items())
    ]
