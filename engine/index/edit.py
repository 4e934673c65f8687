"""Editing the index beside the indexer: corrections, made durable with their history.

LMDB lets one process write at a time; the indexer keeps decoded records over its transactions and
drops them when it finds that somebody else has written (`Batch.generation`).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import lmdb

from engine.dictionary.attributes import BY_TAG, Attribute
from engine.errors import OperatorError
from engine.index import corrections
from engine.index.batch import Batch, RecordCache
from engine.index.corrections import Edit, Target
from engine.index.environment import INDEX_DIRECTORY, Environment, IndexReader, View


class Edited(NamedTuple):
    """What an edit did: its lines of history, and how many studies or series it touched."""

    edits: list[Edit]
    touched: int


class IndexEditor:
    """For the processes that correct: `scai edit`, the console. The service may run or not."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def reader(self) -> IndexReader:
        """For this process: LMDB may not be opened twice in one. Closed with the editor."""
        return IndexReader(self._environment)

    def close(self) -> None:
        self._environment.close()

    def edit(
        self,
        target: Target,
        changes: Mapping[Attribute, str | None],
        who: str,
        now_ns: int,
    ) -> Edited:
        """Correct attributes (None: back to what was received) and remember it, all or nothing.

        Raises OperatorError when the target is not in the index or a value is not acceptable.
        """
        checked = {
            attribute: None if text is None else corrections.check_value(attribute, text)
            for attribute, text in changes.items()
        }

        def work(transaction: lmdb.Transaction) -> Edited:
            batch = Batch(transaction, self._environment.tables, RecordCache())
            edited = _edit(batch, target, checked, who, now_ns)
            batch.flush()
            batch.advance_generation()
            return edited

        edited = self._environment.change(work)
        self._environment.lmdb.sync(True)
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
    shown = _shown(batch, target)
    if not shown:
        raise OperatorError(f"no {target.whose} of this identifier is in the index")
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
        edits.append(Edit(*target, attribute.keyword, before, text, who, now_ns))
    batch.put_correction(corrections.key_of(target), values, edits)
    for number in _studies(batch, target):
        batch.correct_study(number)
    for number in _series(batch, target):
        batch.correct_series(number)
    return Edited(edits, len(shown))


def _studies(view: View, target: Target) -> list[int]:
    if target.whose == "study":
        number = view.study_number(target.identifier)
        return [] if number is None else [number]
    if target.whose == "series":
        return []
    patient = view.patient_number(target.identifier, target.issuer)
    if patient is None:
        return []
    return [number for number, study in view.studies() if study.patient == patient]


def _series(view: View, target: Target) -> list[int]:
    return view.series_numbers_by_uid(target.identifier) if target.whose == "series" else []


def _shown(view: View, target: Target) -> list[dict[int, str]]:
    """What is shown of each study or series that the target means."""
    studies = [view.study(number) for number in _studies(view, target)]
    series = [view.series(number) for number in _series(view, target)]
    return [record.values() for record in (*studies, *series) if record is not None]


def history(view: View, target: Target | None = None) -> Iterator[Edit]:
    """All edits, or those of a target, the oldest first."""
    key = None if target is None else corrections.key_of(target)
    for _, value in view.keys_from("edits", b""):
        edit = corrections.decode_edit(value)
        own = Target(edit.whose, edit.identifier, edit.issuer)
        if key is None or corrections.key_of(own) == key:
            yield edit


def standing(view: View, target: Target) -> dict[str, str]:
    """Keyword -> text of the corrections that stand for a target."""
    values = corrections.values_at(view.correction, target)
    return {BY_TAG[tag].keyword: text for tag, text in values.items()}
