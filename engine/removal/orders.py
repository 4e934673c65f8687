"""What may be asked for, and what came of it; and which instances are meant."""

from collections.abc import Iterator
from enum import Enum
from typing import Literal, NamedTuple

import msgspec

from engine.index.environment import View
from engine.index.records import Instance, Study
from engine.index.tombstones import Delivered

Level = Literal["study", "series", "instance", "patient"]


class Order(msgspec.Struct, frozen=True):
    """One removal. `patient`: the mark of whose it is. `name`: no other order has it, and they sort
    by time. `forced`: also what waits to be sent, was never sent, or is pinned. `undelivered`: only
    that it was never sent does not stand against it. Of the level "patient", `uid` is his
    identifier and `issuer` its issuer; it is about what is known of him besides what is stored.
    If something came after `up_to_ns`, it is refused; 0: whatever came."""

    name: str
    level: Level
    uid: str
    patient: str
    who: str
    why: str
    forced: bool = False
    undelivered: bool = False
    issuer: str = ""
    up_to_ns: int = 0


class Progress(Enum):
    """Where an order stands."""

    GOES_ON = "goes on"
    WAITS = "waits until a replay of the journals could not bring it back"
    REFUSED = "refused"
    DONE = "done"


class Outcome(msgspec.Struct, frozen=True):
    """What came of an order so far. `texts`: what stands against the rest of it."""

    progress: Progress
    instances: int = 0
    file_bytes: int = 0
    discarded: int = 0
    delivered: Delivered = {}
    texts: tuple[str, ...] = ()
    erased: dict[str, int] = {}  # of a patient, by kind


class Meant(NamedTuple):
    """One instance that an order means."""

    study_number: int
    series: int
    instance: Instance


def meant(view: View, order: Order) -> Iterator[Meant]:
    """The instances of an order that are here. Of an empty UID nobody means any."""
    if not order.uid:
        return
    if order.level == "study":
        for number, _ in view.studies_of_uid(order.uid):
            if is_of(view.study(number), order):
                for series, _ in view.series_of(number):
                    yield from (Meant(number, series, one) for one in view.instances_of(series))
    elif order.level == "series":
        for series in view.series_numbers_by_uid(order.uid):
            record = view.series(series)
            if record is not None and is_of(view.study(record.study), order):
                for one in view.instances_of(series):
                    yield Meant(record.study, series, one)
    else:
        for series, one in view.instances_of_uid(order.uid):
            record = view.series(series)
            if record is not None and is_of(view.study(record.study), order):
                yield Meant(record.study, series, one)


def is_of(study: Study | None, order: Order) -> bool:
    """Whether it is the patient's whom the order means."""
    return study is not None and study.patient_mark == order.patient


def patients_of(view: View, level: Level, uid: str) -> list[Study]:
    """A study of each patient who has something of this UID: whose is meant must be said where
    there are several."""
    if level == "study":
        studies = [view.study(number) for number, _ in view.studies_of_uid(uid)]
    elif level == "series":
        studies = [view.study_of_series(number) for number in view.series_numbers_by_uid(uid)]
    else:
        studies = [view.study_of_series(number) for number, _ in view.instances_of_uid(uid)]
    return list({study.patient_mark: study for study in studies if study is not None}.values())
