"""The sender's side of the outbox: leases, and what became of them, in as few commits as can be.

Everything here may wait for the disk and runs in one thread beside the event loop. What lanes
report is kept until a commit has it, however often the disk refuses.
"""

import random
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from engine.errors import LocalError
from engine.files.tree import StoreTree
from engine.index import corrections
from engine.index.occasions import occasions
from engine.index.stored_head import leaves_with
from engine.limits import outbox_portion_max
from engine.outbox.outbox import Outbox
from engine.outbox.records import Away, Delivery, State, due_after_failure, is_due
from engine.outbox.spool import remove_finished, spooled_path, sweep
from engine.outbox.writer import OutboxWriter
from engine.sending.verdict import Ending
from workers.sender.attempt import Errand
from workers.sender.lanes import EndedAttempt
from workers.sender.patience import GivenUp, Patience
from workers.sender.turned_away import TurnedAway

_day_ns: Final = 86_400_000_000_000


class Policy(NamedTuple):
    """What the configuration says of attempts."""

    retry_count: int
    retry_pause_s: int
    delivered_days: int
    give_up_after_hours: int = 0


class Booked(NamedTuple):
    """A report that is in the outbox. `due_ns` None: it waits, was delivered or failed for good."""

    report: EndedAttempt
    state: State
    due_ns: int | None


class Ledger:
    """The outbox as the sender needs it. LMDB's errors and the disk's leave as they are."""

    def __init__(self, data_directory: Path, in_hand: Collection[int] = ()) -> None:
        """`in_hand`: the deliveries that a predecessor had in hand when it died."""
        self._data_directory = data_directory
        self._writer = OutboxWriter(data_directory)
        self._tree = StoreTree(data_directory)
        self._seen = -1
        self._due_ns: dict[str, int] = {}  # of a destination's first delivery that retries
        self._reports: list[EndedAttempt] = []
        self._returned: list[Errand] = []
        self._files_ended: set[str] = set()
        self._patience = Patience()
        self._turned_away = TurnedAway()
        self._asked: dict[str, int] = {}  # when the user last wanted a destination to be asked
        self._to_ask: set[str] = set()
        self.away: dict[str, Away] = {}
        self.counts: dict[tuple[str, State], int] = {}
        self.paused: frozenset[str] = frozenset()
        self.blamed_at_start, self.returned_at_start = self._writer.commit(
            lambda outbox: (outbox.died_with(in_hand, time.time_ns()), outbox.return_leases())
        )
        self.look()
        self._to_ask.clear()

    def keep(self, reports: Sequence[EndedAttempt], returned: Sequence[Errand]) -> None:
        """For the next keep_books()."""
        self._reports += reports
        self._returned += returned

    def look(self) -> bool:
        """Whether there is anything that was not known before; `counts`, `paused` and `away` are as
        now."""
        change = self._writer.last_change()
        now_ns = time.time_ns()
        retries = any(is_due(due_ns, now_ns) for due_ns in self._due_ns.values())
        if change == self._seen and not retries:
            return False
        with self._writer.view() as outbox:
            self._read(outbox)
        self._seen = change
        return True

    def _read(self, outbox: Outbox) -> None:
        self.counts = outbox.counts()
        self.paused = frozenset(outbox.paused())
        self.away = outbox.away()
        asked = outbox.asked()
        self._to_ask |= {name for name, when in asked.items() if self._asked.get(name) != when}
        self._asked = asked
        names = {name for name, state in self.counts if state is State.RETRYING}
        now_ns = time.time_ns()
        due = {name: outbox.next_due_ns(name, now_ns) for name in names}
        self._due_ns = {name: due_ns for name, due_ns in due.items() if due_ns is not None}

    def to_ask(self) -> set[str]:
        """The destinations that the user wants to be asked at once; each is told once."""
        wanted, self._to_ask = self._to_ask, set()
        return wanted

    def resumed(self) -> dict[str, tuple[int, float]]:
        """Of destinations that are away, as a predecessor left them: how often each was asked, and
        after how many seconds it is to be asked again."""
        now_ns = time.time_ns()
        return {
            name: (
                away.asked,
                0.0
                if self._asked.get(name, 0) > away.asked_ns
                else (away.due_ns - now_ns) / 1_000_000_000,
            )
            for name, away in self.away.items()
        }

    def has_work(self, destination: str) -> bool:
        """Whether leasing for it would give something."""
        if self.counts.get((destination, State.WAITING), 0):
            return True
        due_ns = self._due_ns.get(destination)
        return due_ns is not None and is_due(due_ns, time.time_ns())

    # --- one commit ----------------------------------------------------------------------------
    def keep_books(
        self, wanted: Mapping[str, int], policy: Policy
    ) -> tuple[dict[str, list[Errand]], list[Booked]]:
        """Write down all that was kept, and lease: (what was leased, what is written down)."""
        wanted = {name: count for name, count in wanted.items() if self.has_work(name)}
        if not self._reports and not self._returned and not wanted:
            return {}, []
        now_ns = time.time_ns()

        def work(outbox: Outbox) -> tuple[dict[str, list[Errand]], list[Booked]]:
            booked = [self._write_down(outbox, one, policy, now_ns) for one in self._reports]
            outbox.return_leases([errand.delivery.number for errand in self._returned])
            leased = {
                name: [
                    self._errand(outbox, delivery)
                    for delivery in self._lease(outbox, name, count, now_ns)
                ]
                for name, count in wanted.items()
            }
            self._read(outbox)
            return leased, booked

        leased, booked = self._writer.commit(work)
        self._reports, self._returned = [], []
        self._files_ended |= {
            one.report.errand.delivery.file for one in booked if one.state is State.DELIVERED
        }
        return leased, booked

    def _lease(self, outbox: Outbox, name: str, count: int, now_ns: int) -> list[Delivery]:
        """The first ones; of a destination that is away, one of a kind that was not turned away."""
        kinds = self._turned_away.kinds(name)
        if kinds and outbox.away_of(name) is not None:
            others = outbox.lease_other(name, kinds, now_ns)
            if others:
                return others
            self._turned_away.forget_kinds(name)
        return outbox.lease(name, count, now_ns)

    def _write_down(
        self, outbox: Outbox, report: EndedAttempt, policy: Policy, now_ns: int
    ) -> Booked:
        delivery, verdict = report.errand.delivery, report.verdict
        if verdict.ending is Ending.RETURNED:
            if not report.goes_on:
                outbox.return_leases([delivery.number])
            return Booked(report, State.WAITING, None)
        if verdict.ending is Ending.AWAY and not self._turned_away.is_its_own_doing(
            delivery, verdict
        ):
            outbox.note_away(delivery.destination, now_ns, report.pause_s, verdict.reason)
            outbox.return_leases([delivery.number])
            return Booked(report, State.WAITING, None)
        if verdict.is_reached:
            self._turned_away.note_let_in(delivery)
            outbox.forget_away(delivery.destination)
        if verdict.is_delivered:
            outbox.delivered(delivery.number, now_ns, verdict.status, verdict.reason)
            return Booked(report, State.DELIVERED, None)
        due_ns = None
        if not verdict.is_permanent:
            due_ns = due_after_failure(
                delivery, policy.retry_count, now_ns, random.random(), policy.retry_pause_s
            )
        outbox.attempt_failed(delivery.number, now_ns, verdict.reason, verdict.status, due_ns)
        return Booked(report, State.FAILED if due_ns is None else State.RETRYING, due_ns)

    def _errand(self, outbox: Outbox, delivery: Delivery) -> Errand:
        """Where it lies, and what it is sent with, as it is now."""
        if delivery.file:
            try:
                path = spooled_path(self._data_directory, delivery.file)
            except LocalError as error:
                return Errand(delivery, "", {}, error.comment)
            return self._errand_of_file(outbox, delivery, str(path))
        found = outbox.instance_of(delivery.sop_instance_uid, delivery.patient)
        if found is None:
            return Errand(delivery, "", {}, "the instance is not stored here any more")
        number, instance = found
        stored = self._tree.absolute(outbox.path_of(number, instance))
        changes = leaves_with(outbox, number, stored)
        if not changes:
            return Errand(delivery, stored, {})
        study, series = outbox.study_of_series(number), outbox.series(number)
        made = occasions(outbox, study, series, instance.received_ns)
        return Errand(delivery, stored, changes, occasions=made)

    def _errand_of_file(self, outbox: Outbox, delivery: Delivery, path: str) -> Errand:
        """A local application made its result from what was received: it is corrected as well."""
        studies = [
            (number, study)
            for number, _ in outbox.studies_of_uid(delivery.study_uid)
            if (study := outbox.study(number)) is not None
            and delivery.patient in ("", study.patient_mark)
        ]
        if len(studies) != 1:
            return Errand(delivery, path, {})  # nobody's here, or nobody knows whose
        ((number, study),) = studies
        of_series = (
            outbox.series(one) for one in outbox.series_numbers_by_uid(delivery.series_uid)
        )
        series = next((one for one in of_series if one and one.study == number), None)
        changes = corrections.to_be_sent(study, series) if series else dict(study.corrections)
        if not changes:
            return Errand(delivery, path, {})
        made = occasions(outbox, study, series, delivery.queued_ns)
        return Errand(delivery, path, changes, occasions=made)

    # --- now and then --------------------------------------------------------------------------
    def tidy(self, policy: Policy, asked: Collection[str]) -> list[GivenUp]:
        """Forget old history and finished copies; what waited for too long for a destination that
        is away, and is given up. `asked`: the destinations that are sent to."""
        files, self._files_ended = self._files_ended, set()
        remove_finished(self._writer, self._data_directory, files)
        now_ns = time.time_ns()
        before_ns = now_ns - policy.delivered_days * _day_ns
        self._writer.commit(lambda outbox: outbox.prune_delivered(before_ns, outbox_portion_max))
        return self._patience.look(self._writer, asked, policy.give_up_after_hours, now_ns)

    def sweep(self) -> list[str]:
        """Remove copies that no delivery names; their names."""
        return sweep(self._writer, self._data_directory, time.time_ns())

    @property
    def writer(self) -> OutboxWriter:
        """For whoever queues in this process: the index may be opened only once in one."""
        return self._writer

    def reopen(self) -> None:
        """LMDB may be in any state after an error: only opening it anew tells."""
        self._writer.close()
        self._writer = OutboxWriter(self._data_directory)
        self._seen = -1

    def close(self) -> None:
        self._writer.close()
