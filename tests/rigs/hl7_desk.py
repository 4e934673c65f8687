"""An index, and the store that takes HL7 messages into it: in one process, without a network."""

import time
from collections.abc import Sequence
from pathlib import Path

from engine.dictionary.attributes import BY_KEYWORD
from engine.dictionary.query_level import QueryLevel
from engine.hl7.instructions import Terms
from engine.hl7.message import read_message
from engine.hl7.store import MessageStore, Taken, expectations
from engine.index.corrections import Edit, Target
from engine.index.edit import Edited, IndexEditor, history
from engine.index.expected import Expectation
from engine.index.query import Query, find
from engine.index.writer import IndexWriter
from tests.rigs.index_entries import check_whole, make_entry, put

SHOWN = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "StudyDescription")


class Hl7Desk:
    """Everything a test does to it."""

    def __init__(self, directory: Path, terms: Terms | None = None) -> None:
        self.terms = terms or Terms()
        self.writer = IndexWriter(directory)
        self.store = MessageStore.__new__(MessageStore)
        self.store._environment = self.writer._environment  # LMDB is opened once in a process

    def arrive(self, sop: str, patient: str, study: str = "1.2", **values: str) -> None:
        """An instance is taken into the index."""
        given = {"PatientID": patient, "PatientName": f"{patient}^NAME"} | values
        put(self.writer, make_entry(sop, f"{study}.3", study, **given))
        self.check()

    def take(self, content: bytes, now_ns: int = 0) -> Taken:
        """A message is taken."""
        message = read_message(content, self.terms.character_set)
        taken = self.store.take(content, message, self.terms, now_ns or time.time_ns())
        self.check()
        return taken

    def edit(self, target: Target, **values: str | None) -> Edited:
        """The user corrects."""
        changes = {BY_KEYWORD[keyword]: text for keyword, text in values.items()}
        return IndexEditor(self.writer._environment).edit(target, changes, "user", time.time_ns())

    def shown(self, sop: str) -> dict[str, str]:
        """What is shown of the study of an instance."""
        with self.writer.reader().view() as view:
            ((series, _),) = view.instances_of_uid(sop)
            study = view.study_of_series(series)
            return {name: study.value(BY_KEYWORD[name].tag) for name in SHOWN}

    def patient(self, sop: str) -> tuple[str, str]:
        """Patient ID and name that are shown."""
        shown = self.shown(sop)
        return shown["PatientID"], shown["PatientName"]

    def found(self, **keys: str) -> set[str]:
        """The Study UIDs that a query finds."""
        with self.writer.reader().view() as view:
            matches = find(view, Query(QueryLevel.STUDY, keys))
            return {match.values()["StudyInstanceUID"] for match in matches}

    def history(self) -> Sequence[Edit]:
        with self.writer.reader().view() as view:
            return list(history(view))

    def kept(self) -> list[Expectation]:
        with self.writer.reader().view() as view:
            return list(expectations(view))

    def check(self) -> None:
        """Every table agrees with what the instances say."""
        with self.writer.reader().view() as view:
            check_whole(view)
            assert view.count("expected") == view.count("expected_ages")
            assert view.count("hl7_messages") == view.count("hl7_message_ages")

    def close(self) -> None:
        self.writer.close()
