"""Studies that somebody wants kept: no rule removes them, and a person only by force.

    table  key                                          value
    pins   StudyInstanceUID, NUL, mark of the patient   Pin

A pin is about a study that is here; it goes with the study.
"""

from typing import Final

import msgspec

from engine.index.batch import Batch
from engine.index.beside import BesideIndexer
from engine.index.environment import View
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


def set_pin(beside: BesideIndexer, study: Study, pin: Pin | None) -> bool:
    """Keep a study, or (None) let it go again; False: it was so already, or is gone. Durable when
    this returns."""

    def work(batch: Batch) -> bool:
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

    changed = beside.change(work)
    beside.sync()
    return changed
