"""Stored instances that a command line names by UID: found, and always one patient's at a time.

A UID that more than one patient has is nobody's until it is said whose: what is sent, exported or
removed is never another patient's by mistake.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from engine.dictionary.patient_mark import patient_mark
from engine.errors import OperatorError
from engine.index.environment import View
from engine.index.records import Instance


class Selection(NamedTuple):
    """UIDs by level; `patient`, with `issuer`: whose, by the Patient ID received."""

    studies: Sequence[str] = ()
    series: Sequence[str] = ()
    instances: Sequence[str] = ()
    patient: str | None = None
    issuer: str = ""

    @property
    def uids(self) -> dict[str, list[str]]:
        """What is named, for what is kept of an order: nothing of a patient."""
        named = {
            "study_uids": self.studies,
            "series_uids": self.series,
            "sop_instance_uids": self.instances,
        }
        return {name: list(uids) for name, uids in named.items() if uids}

    @property
    def may_overlap(self) -> bool:
        """Whether an instance may be asked for twice."""
        return len(self.studies) + len(self.series) + len(self.instances) > 1


def stored(view: View, selection: Selection) -> Iterator[tuple[int, Instance]]:
    """(number of its series, instance) of all that is asked for, level by level. OperatorError: a
    UID that nothing is stored under, or that more than one patient has and nobody is named."""
    for uid in selection.studies:
        numbers = [number for number, _ in view.studies_of_uid(uid)]
        of_study = [number for study in numbers for number, _ in view.series_of(study)]
        for series in _of_one_patient(view, selection, "study", uid, of_study):
            yield from ((series, instance) for instance in view.instances_of(series))
    for uid in selection.series:
        numbers = view.series_numbers_by_uid(uid)
        for series in _of_one_patient(view, selection, "series", uid, numbers):
            yield from ((series, instance) for instance in view.instances_of(series))
    for uid in selection.instances:
        found = dict(view.instances_of_uid(uid))
        for series in _of_one_patient(view, selection, "instance", uid, list(found)):
            yield series, found[series]


def _of_one_patient(
    view: View, selection: Selection, what: str, uid: str, series: Sequence[int]
) -> Sequence[int]:
    """What was found by a UID, all of one patient: of who is named, where more than one has it."""
    if not series:
        raise OperatorError(f"no {what} of this UID is stored here", uid)
    if selection.patient is not None:
        named = patient_mark(selection.patient, selection.issuer)
        series = [number for number in series if view.whose(number) == named]
        if not series:
            raise OperatorError(f"no {what} of this UID is that patient's", uid)
    patients = {view.whose(number) for number in series}
    if len(patients) > 1:
        raise OperatorError(
            f"{len(patients)} patients have a {what} of this UID: say whose with --patient, and "
            "--issuer where the identifiers have one",
            uid,
        )
    return series
