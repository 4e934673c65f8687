"""What becomes of an instance that was received, besides being kept: rules queue its deliveries,
and have its patient's earlier studies fetched; what was fetched goes where the prefetch rule says.

Called by engine/intake/intake.py inside the transaction that takes the instance into the index,
once for each record of a journal: so whatever is acknowledged is queued, neither lost nor doubled
by a crash. An instance that is received again is sent again, since its sender may have changed it.

Rules may ask for attributes that the index does not keep. The receivers cut these out as well and
say so in the record. A record that was written before the rules changed lacks them. Then they are
read from the head of the file, which has its place already.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from engine.dictionary import matching
from engine.dictionary.attributes import PATIENT_ID, read_row
from engine.dictionary.elements import identity_of, scan_row, texts_of
from engine.errors import LocalError
from engine.files.part10 import read_part10_head
from engine.files.tree import StoreTree
from engine.index.batch import Batch, Entry
from engine.intake.prefetched import Arrivals
from engine.limits import rule_head_bytes_max
from engine.outbox.outbox import Outbox
from engine.outbox.records import NewDelivery
from engine.prefetch.jobs import PrefetchJobs
from engine.prefetch.rules import PrefetchRules
from engine.rules.conditions import Subject
from engine.rules.routing import PREFETCH, Rules

_ns: Final = 1e9
NO_PREFETCH: Final = PrefetchRules(())


class Dispatcher:
    """The rules of one configuration, at work on what arrives."""

    def __init__(
        self,
        tree: StoreTree,
        rules: Rules,
        extra_tags: tuple[int, ...],
        prefetch: PrefetchRules,
    ) -> None:
        self._tree = tree
        self._rules = rules
        self._prefetch = prefetch
        self._extra_tags = extra_tags
        self._identity = identity_of(extra_tags)
        elements = rules.elements | prefetch.elements
        self._elements = {tag: elements[tag] for tag in extra_tags if tag in elements}

    @classmethod
    def of(
        cls,
        tree: StoreTree,
        rules: Rules,
        extra_tags: tuple[int, ...],
        prefetch: PrefetchRules = NO_PREFETCH,
    ) -> "Dispatcher | None":
        """None without rules: nobody pays for what he does not use."""
        return cls(tree, rules, extra_tags, prefetch) if rules or prefetch else None

    def arrived(self, batch: Batch, entry: Entry, now_ns: int) -> None:
        """Queue what the rules say of an instance that was just put into the index."""
        subject = self.subject_of(entry)
        destinations = dict(self._rules.destinations(subject))
        if self._prefetch and entry.journal == PREFETCH:
            arrivals = Arrivals.within(batch)
            arrivals.note(entry.arrival.sop_instance_uid, entry.sequence)
            patient_id = matching.pid(entry.head.patient.get(PATIENT_ID, ""))
            also = arrivals.also_for(entry.study_uid, patient_id, now_ns)
            destinations = dict(also) | destinations
        self._enqueue(batch, entry, destinations, now_ns)
        if self._prefetch:
            character_set = entry.head.character_set.decode("latin-1")
            uid = entry.arrival.sop_instance_uid
            for trigger in self._prefetch.triggered(subject, uid, character_set):
                PrefetchJobs.within(batch).trigger(trigger, now_ns)

    def _enqueue(
        self, batch: Batch, entry: Entry, destinations: Mapping[str, str], now_ns: int
    ) -> None:
        """Destinations are {remote AE: who asked for it}."""
        if not destinations:
            return
        outbox = Outbox.within(batch)
        arrival = entry.arrival
        for destination, origin in destinations.items():
            delivery = NewDelivery(
                destination,
                arrival.sop_instance_uid,
                arrival.sop_class_uid,
                entry.study_uid,
                entry.series_uid,
                arrival.transfer_syntax_uid,
                entry.file_bytes,
                origin,
                patient=entry.patient_mark,
            )
            outbox.enqueue(delivery, now_ns)

    def subject_of(self, entry: Entry) -> Subject:
        """What conditions look at. The journal has the name of the AE's table."""
        head, arrival = entry.head, entry.arrival
        values = {**head.patient, **head.study, **head.series, **entry.attributes}
        if self._elements:
            values |= self._extra_values(entry)
        return Subject(
            values,
            arrival.sop_class_uid,
            arrival.calling_ae_title,
            arrival.called_ae_title,
            entry.journal,
            datetime.fromtimestamp(arrival.received_ns / _ns),
        )

    def _extra_values(self, entry: Entry) -> dict[int, str]:
        elements: Iterable[tuple[int, bytes]] = entry.extra
        if entry.arrival.extra_tags != self._identity:
            elements = self._read_elements(entry)
        return texts_of(elements, self._elements, entry.head.character_set)

    def _read_elements(self, entry: Entry) -> Iterable[tuple[int, bytes]]:
        try:
            with open(self._tree.absolute(entry.path), "rb") as file:
                start = file.read(rule_head_bytes_max)
            head = read_part10_head(start)
        except (FileNotFoundError, LocalError):
            # Removed or damaged since it was placed, which `scai verify` tells. There is nothing to
            # send, and the instances behind it must not wait.
            return entry.extra
        return read_row(
            scan_row(start[head.data_set_offset :], head.transfer_syntax, self._extra_tags)
        )
