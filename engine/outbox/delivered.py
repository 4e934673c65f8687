"""Where an instance that is here was delivered, for as long as it is here.

    table                key                                            value
    delivered_instances  SOPInstanceUID, NUL, mark of the patient       {remote AE: ns since 1970}

The queue's history forgets what was delivered after some days; whoever removes instances has to
know it after years. So what the history forgets is written here, in short, and goes with its
instance. A delivery before an instance came again is none of what is here now.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from engine.index.environment import View
from engine.index.keys import lmdb_key
from engine.index.records import Instance
from engine.outbox import records
from engine.outbox.records import NUMBER, Delivery, State
from engine.outbox.view import OutboxView

DELIVERED_INSTANCES: Final = "delivered_instances"
Times = dict[str, int]  # remote AE: when, in ns since 1970

_decode: Final = msgspec.msgpack.Decoder(Times).decode


def row_key(sop_instance_uid: str, patient: str) -> bytes:
    """In `delivered_instances`; the patient as in a delivery."""
    return lmdb_key(b"i", f"{sop_instance_uid}\0{patient}")


def row_of(view: View, delivery: Delivery) -> tuple[bytes, bytes] | None:
    """(key, value) of what is to be remembered of a delivery that the history forgets; None: the
    instance is not here."""
    if not view.instance_keys(delivery.sop_instance_uid):
        return None
    key = row_key(delivery.sop_instance_uid, delivery.patient)
    stored = view.stored(DELIVERED_INSTANCES, key)
    times = {} if stored is None else _decode(stored)
    times[delivery.destination] = max(times.get(delivery.destination, 0), delivery.changed_ns)
    return key, records.encode(times)


def row_keys(sop_instance_uid: str, patient: str) -> tuple[bytes, ...]:
    """Of the rows that go with an instance. What 0.2.0 queued names no patient."""
    return row_key(sop_instance_uid, patient), row_key(sop_instance_uid, "")


class DeliveredOf:
    """Where the instances of one study were delivered, by its history and by what is remembered."""

    def __init__(self, view: View, study_uid: str) -> None:
        self._history: dict[tuple[str, str], Times] = {}
        outbox = OutboxView.within(view)
        prefix = records.study_prefix(study_uid)
        for key, _ in outbox.keys_with_prefix("delivery_studies", prefix):
            if len(key) != len(prefix) + NUMBER.size:
                continue
            delivery = outbox.delivery(NUMBER.unpack_from(key, len(prefix))[0])
            if delivery is not None and delivery.state is State.DELIVERED:
                whose = delivery.sop_instance_uid, delivery.patient
                times = self._history.setdefault(whose, {})
                before = times.get(delivery.destination, 0)
                times[delivery.destination] = max(before, delivery.changed_ns)

    def of(self, view: View, instance: Instance, patient: str) -> Times:
        """Remote AEs that have an instance as it is here now, and since when."""
        found: Times = {}
        for times in self._all(view, instance.sop_instance_uid, patient):
            for destination, when_ns in times.items():
                if when_ns >= instance.received_ns:
                    found[destination] = max(found.get(destination, 0), when_ns)
        return found

    def _all(self, view: View, uid: str, patient: str) -> Iterator[Times]:
        for whose in ((uid, patient), (uid, "")):
            if whose in self._history:
                yield self._history[whose]
        for key in row_keys(uid, patient):
            stored = view.stored(DELIVERED_INSTANCES, key)
            if stored is not None:
                yield _decode(stored)
