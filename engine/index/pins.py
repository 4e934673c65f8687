"""Studies that somebody wants kept: no rule removes them, and a person only by force.

    table  key                                          value
    pins   StudyInstanceUID, NUL, mark of the patient   Pin

A pin is about a study that is here; it goes with the study.
"""

from pathlib import Path
from typing import Final

import lmdb
import msgspec

from engine.index.batch import Batch
from engine.index.changes import RecordCache
from engine.index.environment import Environment, IndexReader, View
from engine.index.records import Study
from engine.index.tombstones import tombstone_key

PINS: Final = "pins"


class Pin(msgspec.Struct, frozen=True, array_like=True):
    """Who wants a study kept, since when, and why."""

    who: str
    when_ns: int
    why: str


encode: Final = msgspec.msgpack.Encoder().encode
decode_pin: Final = msgspec.msgpack.Decoder(Pin).decode


def pin_of(view: View, study: Study) -> Pin | None:
    """Who wants it kept; None: nobody."""
    stored = view.stored(PINS, tombstone_key(study))
    return None if stored is None else decode_pin(stored)


def put_pin(batch: Batch, study: Study, pin: Pin) -> None:
    """Keep it."""
    batch.put_row(PINS, tombstone_key(study), encode(pin))


def drop_pin(batch: Batch, study: Study) -> None:
    """It may go."""
    batch.drop_row(PINS, tombstone_key(study))


class PinStore:
    """For the commands that pin; the service may run or not."""

    def __init__(self, data_directory: Path) -> None:
        self._environment = Environment(data_directory, writable=True)

    def reader(self) -> IndexReader:
        """For this process: LMDB may not be opened twice in one. Closed with the store."""
        return IndexReader(self._environment)

    def pin(self, study: Study, pin: Pin | None) -> bool:
        """Keep a study, or (None) let it go again; False: it was so already, or is gone. Durable
        when this returns."""

        def work(transaction: lmdb.Transaction) -> bool:
            batch = Batch(transaction, self._environment.tables, RecordCache())
            here = any(
                found is not None and found.patient_mark == study.patient_mark
                for number, _ in batch.studies_of_uid(study.uid, study.alone)
                if (found := batch.study(number)) is not None
            )
            if not here or (pin_of(batch, study) is None) == (pin is None):
                return False
            if pin is None:
                drop_pin(batch, study)
            else:
                put_pin(batch, study, pin)
            return True

        changed = self._environment.change(work)
        self._environment.sync()
        return changed

    def close(self) -> None:
        """Give the index back."""
        self._environment.close()
