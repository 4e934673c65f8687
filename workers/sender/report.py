"""What the sender tells the world: counters, gauges and log lines.

UIDs and names of remote AEs, never patient data: not the names of files in watched folders, and not
what a peer wrote into its responses.
"""

import os
import time
from collections.abc import Iterable, Mapping
from typing import Final

from engine.errors import OperatorError
from engine.index.environment import fault_code
from engine.outbox.records import Away, Delivery, State
from engine.outgoing.oddities import Oddity
from engine.sending.verdict import NO_STATUS, Ending
from engine.telemetry.metrics import Counter, Gauge, Histogram
from workers.frame.child import Child
from workers.frame.odd_commands import tell_odd_commands
from workers.frame.spec import SenderSpec
from workers.sender.folders import Folder, Turn
from workers.sender.ledger import Booked, Ledger
from workers.sender.patience import GivenUp

_OUTCOMES: Final = {
    Ending.DELIVERED: Counter.SENT_SUCCESS,
    Ending.WARNING: Counter.SENT_WARNING,
    Ending.REFUSED: Counter.SENT_REFUSED,
    Ending.BROKEN: Counter.SENT_BROKEN,
    Ending.AWAY: Counter.SENT_AWAY,
    Ending.IMPOSSIBLE: Counter.SENT_IMPOSSIBLE,
    Ending.RETURNED: Counter.SENT_RETURNED,
}
_STATES: Final = {
    State.WAITING: Gauge.OUTBOX_WAITING,
    State.SENDING: Gauge.OUTBOX_SENDING,
    State.RETRYING: Gauge.OUTBOX_RETRYING,
    State.FAILED: Gauge.OUTBOX_FAILED,
    State.HELD: Gauge.OUTBOX_HELD,
    State.DELIVERED: Gauge.OUTBOX_DELIVERED,
}
_ODDITIES: Final = {kind: Counter[f"SENT_ODD_{kind.name}"] for kind in Oddity}


class SenderReport:
    """One sender's."""

    def __init__(self, child: Child[SenderSpec]) -> None:
        self._child = child
        self._unknown: set[str] = set()
        self._away: Mapping[str, Away] = {}
        self._folder_faults: dict[str, str] = {}
        child.counters.set(Gauge.ASSOCIATIONS_LIMIT, child.spec.associations)

    def note(self, booked: Booked) -> None:
        """Count and log an attempt. A peer's own words stay in the queue: what they hold is its
        secret."""
        report, counters, log = booked.report, self._child.counters, self._child.log
        delivery, verdict = report.errand.delivery, report.verdict
        counters.add(_OUTCOMES[verdict.ending])
        counters.add(Counter.SENT_BYTES, report.sent_bytes)
        counters.add(Counter.SENT_ASSOCIATIONS, report.associations)
        tell_odd_commands(self._child, report.odd_answers, delivery.destination)
        fields: dict[str, object] = {
            "destination": delivery.destination,
            "sop_instance_uid": delivery.sop_instance_uid,
            "study_uid": delivery.study_uid,
            "delivery": delivery.number,
            "seconds": round(report.seconds, 6),
        }
        if report.oddities.kinds and booked.state is not State.RETRYING:
            for kind in report.oddities.kinds:
                counters.add(_ODDITIES[kind])
            log.info("instance_odd", text=report.oddities.words(), **fields)
        if verdict.status != NO_STATUS:
            fields["status"] = f"{verdict.status:04X}"
        if verdict.is_delivered:
            counters.observe(Histogram.SENT_DURATION, report.seconds)
            if self._child.spec.log_instances:
                log.info("instance_sent", bytes=report.sent_bytes, **fields)
            return
        fields |= {"outcome": verdict.ending.value, "text": verdict.words}
        if booked.state is State.FAILED:
            counters.add(Counter.SENT_GIVEN_UP)
            log.error("delivery_failed", attempts=delivery.attempts + 1, **fields)
        elif booked.state is State.RETRYING:
            log.warning("attempt_failed", attempts=delivery.attempts + 1, **fields)

    def blamed(self, deliveries: Iterable[Delivery]) -> None:
        """What a predecessor had in hand when it died."""
        for delivery in deliveries:
            fields = {
                "destination": delivery.destination,
                "sop_instance_uid": delivery.sop_instance_uid,
                "study_uid": delivery.study_uid,
                "delivery": delivery.number,
                "deaths": delivery.deaths,
                "text": delivery.reason,
            }
            if delivery.state is State.FAILED:
                self._child.counters.add(Counter.SENT_GIVEN_UP)
                self._child.log.error("delivery_failed", **fields)
            else:
                self._child.log.warning("delivery_suspect", **fields)

    def publish(self, ledger: Ledger, active: int) -> None:
        """The gauges, as of the last look at the outbox."""
        counters = self._child.counters
        totals = dict.fromkeys(State, 0)
        for (_, state), count in ledger.counts.items():
            totals[state] += count
        for state, gauge in _STATES.items():
            counters.set(gauge, totals[state])
        counters.set(Gauge.ASSOCIATIONS_ACTIVE, active)
        known = {remote.name for remote in self._child.spec.remotes}
        unknown = {
            name
            for (name, state) in ledger.counts
            if name not in known and state is not State.DELIVERED
        }
        for name in sorted(unknown - self._unknown):
            self._child.log.warning(
                "destination_unknown",
                destination=name,
                text="deliveries wait for a remote AE that is not configured any more",
            )
        self._unknown = unknown
        self._tell_away(ledger.away)

    def _tell_away(self, away: Mapping[str, Away]) -> None:
        """Once when a destination cannot be reached, and once when it can be again."""
        log, now_ns = self._child.log, time.time_ns()
        for name in sorted(away.keys() - self._away.keys()):
            seconds = (now_ns - away[name].since_ns) / 1e9
            log.warning(
                "destination_away", destination=name, seconds=seconds, text=away[name].reason
            )
        for name in sorted(self._away.keys() - away.keys()):
            seconds = (now_ns - self._away[name].since_ns) / 1e9
            log.info("destination_back", destination=name, seconds=seconds)
        self._away = away

    def given_up(self, given_up: GivenUp) -> None:
        """What waited for a destination for too long."""
        self._child.counters.add(Counter.SENT_GIVEN_UP, given_up.deliveries)
        self._child.log.error(
            "deliveries_given_up",
            destination=given_up.destination,
            deliveries=given_up.deliveries,
            text="the destination was away for longer than give_up_after_hours",
        )

    def folder(self, folder: Folder, turn: Turn) -> None:
        """A look at a watched folder."""
        log, counters = self._child.log, self._child.counters
        if turn.fault is not None:
            self.folder_fault(folder, turn.fault)
        elif self._folder_faults.pop(folder.destination, ""):
            log.info("folder_recovered", destination=folder.destination)
        counters.add(Counter.OUTBOX_COLLECTED, turn.collected)
        counters.add(Counter.OUTBOX_REJECTED, len(turn.rejected))
        if turn.collected:
            log.info("folder_collected", destination=folder.destination, files=turn.collected)
        for reason in turn.rejected:
            log.warning("folder_rejected", destination=folder.destination, text=reason)

    def folder_fault(self, folder: Folder, error: Exception) -> None:
        """It cannot be looked at, or what lies in it cannot be taken; said once."""
        code = fault_code(error)
        # The error's own words may have the path of a file in it, which may be a patient's name;
        # those for operators are ours.
        words = f"{folder.path}, or something in it: {os.strerror(code)}"
        text = str(error) if isinstance(error, OperatorError) else words
        if self._folder_faults.get(folder.destination) == text:
            return
        self._folder_faults[folder.destination] = text
        self._child.log.error("folder_fault", destination=folder.destination, errno=code, text=text)
