"""Editing the index beside the indexer: corrections, made durable with their history."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from engine.dictionary.attributes import (
    BY_KEYWORD,
    BY_TAG,
    PATIENT_ID,
    PATIENT_NAME,
    Attribute,
)
from engine.dictionary.patient_mark import patient_mark
from engine.errors import OperatorError
from engine.index import corrections, expected
from engine.index.batch import Batch
from engine.index.beside import BesideIndexer
from engine.index.corrections import IDENTITY, Edit, Target, Whose
from engine.index.environment import INDEX_DIRECTORY, Environment, View
from engine.index.records import Study
from engine.index.sayable import check_sayable


class Edited(NamedTuple):
    """What an edit did: its lines of history, and how many studies or series it touched."""

    edits: list[Edit]
    touched: int


class Preview(NamedTuple):
    """What an edit would touch. `patients`: (Patient ID, name) as shown, of each patient;
    `before`: keyword -> what is shown now, each text once."""

    patients: list[tuple[str, str]]
    studies: int
    instances: int
    before: dict[str, list[str]]


class IndexEditor(BesideIndexer):
    """For the processes that correct: `scai edit`, the console. The service may run or not."""

    def edit(
        self,
        target: Target,
        changes: Mapping[Attribute, str | None],
        who: str,
        now_ns: int,
        character_sets: tuple[str, ...] = (),
    ) -> Edited:
        """Correct attributes (None: back to what was received) and remember it, all or nothing.

        Raises OperatorError when the target is not in the index, or a value is not acceptable or
        could not be sent; `character_sets`: what every remote AE takes beyond the statement's.
        """
        checked = {
            attribute: None if text is None else corrections.check_value(attribute, text)
            for attribute, text in changes.items()
        }

        def work(batch: Batch) -> Edited:
            edited = _edit(batch, target, checked, who, now_ns)
            batch.flush()
            if any(text and not text.isascii() for text in checked.values()):
                whose = resolved(batch, target)
                check_sayable(batch, _studies(batch, whose), _series(batch, whose), character_sets)
            batch.advance_generation()
            return edited

        edited = self.change(work)
        self.sync()
        return edited


def open_index_editor(data_directory: Path) -> IndexEditor:
    """Raises OperatorError when nothing was stored yet, or it may not be written."""
    if not (data_directory / INDEX_DIRECTORY).is_dir():
        raise OperatorError("nothing was stored yet", str(data_directory))
    return IndexEditor(Environment(data_directory, writable=True))


def _edit(
    batch: Batch,
    target: Target,
    changes: Mapping[Attribute, str | None],
    who: str,
    now_ns: int,
) -> Edited:
    target = resolved(batch, target)
    shown = _shown(batch, target)
    values = corrections.values_at(batch.correction, target)
    edits: list[Edit] = []
    for attribute, text in changes.items():
        if text is None and attribute.tag not in values:
            raise OperatorError(
                f"is as received, there is nothing to withdraw for this {target.whose}",
                attribute.keyword,
            )
        before = shown[0].get(attribute.tag, "")
        if text is None:
            del values[attribute.tag]
        elif values.get(attribute.tag) == text:
            continue
        else:
            values[attribute.tag] = text
        edits.append(Edit.of(target, attribute.tag, before, text, who, now_ns))
    batch.put_correction(corrections.key_of(target), values, edits)
    # A message that tells of something earlier does not undo what the user has said.
    batch.note_times(target, {BY_KEYWORD[edit.keyword].tag: now_ns for edit in edits})
    if target.whose == "patient" and any(attribute.tag in IDENTITY for attribute in changes):
        # Whose he is was said anew: what was said of him as somebody else is not expected of him.
        batch.drop_expected(expected.patient_key(target.identifier, target.issuer))
    for number in _studies(batch, target):
        batch.correct_study(number)
    for number in _series(batch, target):
        batch.correct_series(number)
    return Edited(edits, len(shown))


def resolved(view: View, target: Target) -> Target:
    """The target with whose study or series it is. OperatorError: it is not in the index, or more
    than one patient has one of that UID and none of them is named."""
    if target.whose == "patient":
        if not _studies(view, target):
            raise OperatorError("no patient of this identifier is in the index")
        return target
    whose = dict.fromkeys(
        corrections.patient_of(study) for study in _with_uid(view, target.whose, target.identifier)
    )
    if not target.identifier:
        raise OperatorError(f"a {target.whose} without a UID is corrected by its patient")
    if target.patient is None:
        if not whose:
            raise OperatorError(f"no {target.whose} of this identifier is in the index")
        if len(whose) > 1:
            raise OperatorError(
                f"{len(whose)} patients have a {target.whose} of this UID: say whose with "
                "--patient, and --issuer where the identifiers have one",
                target.identifier,
            )
        (patient,) = whose
        return target._replace(issuer=patient.issuer, patient=patient.identifier)
    named = corrections.key_of(Target("patient", target.patient, target.issuer))
    if named not in map(corrections.key_of, whose):
        raise OperatorError(f"no {target.whose} of this identifier is this patient's")
    return target


def preview(view: View, target: Target, changes: Mapping[Attribute, str | None]) -> Preview:
    """For whoever is asked first. The target is resolved."""
    numbers = _series(view, target)
    studies = [view.study_of_series(number) for number in numbers]
    studies += [one for number in _studies(view, target) if (one := view.study(number)) is not None]
    series = [record for number in numbers if (record := view.series(number)) is not None]
    shown = _shown(view, target)
    patients = [
        (values.get(PATIENT_ID, ""), values.get(PATIENT_NAME, ""))
        for values in (study.values() for study in studies)
    ]
    return Preview(
        list(dict.fromkeys(patients)),
        len(studies),
        sum(one.instances for one in (series or studies)),
        {
            attribute.keyword: list(dict.fromkeys(one.get(attribute.tag, "") for one in shown))
            for attribute in changes
        },
    )


def _with_uid(view: View, whose: Whose, uid: str) -> Iterator[Study]:
    """The studies of a UID, or those that have a series of it."""
    if whose == "study":
        numbers = [number for number, _ in view.studies_of_uid(uid)]
        yield from (study for number in numbers if (study := view.study(number)) is not None)
    else:
        yield from (view.study_of_series(number) for number in view.series_numbers_by_uid(uid))


def _is_of(study: Study, target: Target) -> bool:
    assert target.patient is not None, "the target is resolved"
    return study.patient_mark == patient_mark(target.patient, target.issuer)


def _studies(view: View, target: Target) -> list[int]:
    if target.whose == "study":
        numbers = [number for number, _ in view.studies_of_uid(target.identifier)]
        return [
            number
            for number in numbers
            if (study := view.study(number)) is not None and _is_of(study, target)
        ]
    if target.whose == "series":
        return []
    patient = view.patient_number(target.identifier, target.issuer)
    if patient is None:
        return []
    return [number for number, study in view.studies() if study.patient == patient]


def _series(view: View, target: Target) -> list[int]:
    if target.whose != "series":
        return []
    numbers = view.series_numbers_by_uid(target.identifier)
    return [number for number in numbers if _is_of(view.study_of_series(number), target)]


def _shown(view: View, target: Target) -> list[dict[int, str]]:
    """What is shown of each study or series that the target means."""
    studies = [view.study(number) for number in _studies(view, target)]
    series = [view.series(number) for number in _series(view, target)]
    return [record.values() for record in (*studies, *series) if record is not None]


def history(view: View, target: Target | None = None) -> Iterator[Edit]:
    """All edits, or those of a target, the oldest first; those of every patient who has its UID
    when the target names none, and what 0.2.0 wrote of a UID in any case: it named nobody."""
    for _, value in view.keys_from("edits", b""):
        edit = corrections.decode_edit(value)
        if target is None or _means(edit.target, target):
            yield edit


def _means(edited: Target, target: Target) -> bool:
    if target.whose != "patient" and None in (edited.patient, target.patient):
        return edited[:2] == target[:2]
    return corrections.key_of(edited) == corrections.key_of(target)


def standing(view: View, target: Target) -> dict[str, str]:
    """Keyword -> text of the corrections that stand for a target."""
    values = corrections.values_at(view.correction, resolved(view, target))
    return {BY_TAG[tag].keyword: text for tag, text in values.items()}
