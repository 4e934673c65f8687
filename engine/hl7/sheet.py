"""What a message changes, written down before anything is changed.

A sheet reads a view of the index and sees its own changes in front of it. `scai hl7 test` shows it
and throws it away; engine/hl7/store.py carries it over into the transaction it was read in. So both
are made by the same rules (engine/hl7/applying.py).
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from engine.dictionary import matching
from engine.dictionary.attributes import (
    ACCESSION_NUMBER,
    ISSUER_OF_PATIENT_ID,
    PATIENT_ID,
)
from engine.hl7.values import Identity
from engine.index import corrections, expected, records
from engine.index.correcting import Correcting
from engine.index.corrections import Edit, Target
from engine.index.environment import View
from engine.index.expected import Expectation
from engine.index.records import Study
from engine.index.sayable import check_series


class Numbered(NamedTuple):
    """A study and its number."""

    number: int
    study: Study


class Sheet:
    """The changes of one message."""

    def __init__(self, view: View, who: str, now_ns: int) -> None:
        self.view = view
        self.who = who
        self.now_ns = now_ns
        self.edits: list[Edit] = []
        self.studies: set[int] = set()  # whose corrections have changed
        self.matched: set[int] = set()  # studies that the message was about
        self.notes: list[str] = []  # for people, without a patient's data
        self._values: dict[bytes, dict[int, str]] = {}
        self._times: dict[bytes, dict[int, int]] = {}
        self._corrected: dict[bytes, Target] = {}
        self._timed: dict[bytes, Target] = {}
        self._expected: dict[bytes, Expectation | None] = {}
        self._aliases: dict[bytes, tuple[Identity, Identity, bool]] = {}
        self._seen: dict[int, Study] = {}

    @property
    def kept(self) -> list[Expectation]:
        """What would be kept for studies that may come."""
        return [each for each in self._expected.values() if each is not None]

    # --- corrections ---
    def values(self, target: Target) -> dict[int, str]:
        """The corrections that stand for a target; not to be changed by the caller."""
        key = corrections.key_of(target)
        if key not in self._values:
            self._values[key] = corrections.values_at(self.view.correction, target)
        return self._values[key]

    def times(self, target: Target) -> dict[int, int]:
        """When that happened which they were made by."""
        key = corrections.key_of(target)
        if key not in self._times:
            self._times[key] = expected.times_at(self.view.stored, target)
        return self._times[key]

    def correct(self, target: Target, changes: Mapping[int, str], was: Mapping[int, str]) -> None:
        """Corrections with their history; `was`: what is shown now."""
        key = corrections.key_of(target)
        self._values[key] = {**self.values(target), **changes}
        self._corrected[key] = target
        self.edits += [
            Edit.of(target, tag, was.get(tag, ""), text, self.who, self.now_ns)
            for tag, text in changes.items()
        ]

    def note_times(self, target: Target, times: Mapping[int, int]) -> None:
        """When that happened which they are made by now."""
        key = corrections.key_of(target)
        self._times[key] = {**self.times(target), **times}
        self._timed[key] = target

    # --- what is expected ---
    def expectation(self, key: bytes) -> Expectation | None:
        """What is expected under a key of engine/index/expected.py; a copy of it."""
        if key in self._expected:
            held = self._expected[key]
        else:
            stored = self.view.stored("expected", key)
            held = None if stored is None else expected.decode_expectation(stored)
        if held is None:
            return None
        return Expectation(
            held.kind,
            held.patient_id,
            held.issuer,
            dict(held.values),
            dict(held.times),
            held.who,
            held.received_ns,
            held.accession,
            held.study_uid,
        )

    def expect(self, expectation: Expectation) -> None:
        """Keep it, as this message's."""
        expectation.who, expectation.received_ns = self.who, self.now_ns
        self.keep(expectation)

    def keep(self, expectation: Expectation) -> None:
        """Keep it as it is, or nothing where it says nothing."""
        self._expected[expectation.key] = expectation if expectation.values else None

    def forget(self, key: bytes) -> None:
        """Expect it no longer."""
        self._expected[key] = None

    def orders_of(self, patient: Identity) -> list[Expectation]:
        """What is expected of a patient's orders."""
        prefix = expected.order_prefix(patient.identifier, patient.issuer)
        keys = [key for key, _ in self.view.keys_with_prefix("expected", prefix)]
        keys += [key for key in self._expected if key.startswith(prefix) and key not in keys]
        found = (self.expectation(key) for key in keys)
        return [each for each in found if each is not None]

    # --- whose is what ---
    def aliases_of(self, shown: Identity) -> list[Identity]:
        """Received identifiers that are this patient's by a message."""
        prefix = expected.alias_prefix(shown.identifier, shown.issuer)
        length = len(expected.alias_key(shown, shown))
        found = {
            key: Identity(*expected.decode_alias(value))
            for key, value in self.view.keys_with_prefix("patient_aliases", prefix)
            if len(key) == length
        }
        for key, (of, received, stands) in self._aliases.items():
            if of.key == shown.key:
                found.pop(key, None)
                if stands:
                    found[key] = received
        return list(found.values())

    def put_alias(self, shown: Identity, received: Identity, stands: bool) -> None:
        """It is this patient's, or no longer."""
        self._aliases[expected.alias_key(shown, received)] = (shown, received, stands)

    def patient_of(self, study: Study) -> Identity:
        """As received."""
        target = corrections.patient_of(study)
        return Identity(target.identifier, target.issuer)

    def own_values(self, study: Study) -> dict[int, str]:
        """Corrections of this study alone."""
        return self.values(corrections.study_of(study)) if study.uid else {}

    def shown(self, study: Study, tag: int) -> str:
        """A value of a study with this sheet's changes."""
        own = self.own_values(study)
        if tag in own:
            return own[tag]
        return self.patients_value(study, tag)

    def patients_value(self, study: Study, tag: int) -> str:
        """Without the study's own corrections."""
        values = self.values(corrections.patient_of(study))
        if tag in values:
            return values[tag]
        return study.patient_attributes.get(tag) or study.attributes.get(tag, "")

    def shown_patient(self, study: Study) -> Identity:
        """Whose it is shown as."""
        return Identity(self.shown(study, PATIENT_ID), self.shown(study, ISSUER_OF_PATIENT_ID))

    def studies_of(self, patient: Identity) -> list[Numbered]:
        """All studies that are shown as a patient's."""
        word = records.word_prefix(records.PATIENT_ID_WORD, matching.pid(patient.identifier))
        found = dict(self._numbered(word))
        found |= {number: study for number, study in self._seen.items() if number in self.studies}
        return [
            Numbered(number, study)
            for number, study in sorted(found.items())
            if self.shown_patient(study).key == patient.key
        ]

    def studies_of_accession(self, accession: str) -> list[Numbered]:
        """All studies that are shown with an accession number, whoever's they are."""
        wanted = matching.plain(accession)
        found = self._numbered(records.word_prefix(records.ACCESSION_WORD, wanted))
        return [
            Numbered(number, study)
            for number, study in found
            if matching.plain(self.shown(study, ACCESSION_NUMBER)) == wanted
        ]

    def studies_elsewhere(self, received: Identity) -> Iterator[Numbered]:
        """Studies received as a patient's that corrections of their own have given to another."""
        prefix = corrections.given_prefix(received.key)
        for _, value in self.view.keys_with_prefix("given_studies", prefix):
            for number, _ in self.view.studies_of_uid(value.decode("utf-8", "surrogatepass")):
                study = self._study(number)
                if study is not None and self.patient_of(study).key == received.key:
                    yield Numbered(number, study)

    def _numbered(self, word: bytes) -> Iterator[tuple[int, Study]]:
        for key, _ in self.view.keys_with_prefix("words", word + b"\0"):
            if len(key) != len(word) + 1 + records.NUMBER.size:
                continue  # another word, of which this is the beginning
            number = records.study_of_word(key)
            study = self._study(number)
            if study is not None:
                yield number, study

    def _study(self, number: int) -> Study | None:
        if number not in self._seen:
            study = self.view.study(number)
            if study is None:
                return None
            self._seen[number] = study
        return self._seen[number]

    def check_sayable(self, allowed: tuple[str, ...]) -> None:
        """OperatorError when what is corrected could not be sent; `allowed`: the character sets
        that every remote AE takes beyond the statement's."""
        if all((edit.new or "").isascii() for edit in self.edits):
            return
        for number in sorted(self.studies):
            study = self._study(number)
            assert study is not None, "it is corrected"
            values = self.values(corrections.patient_of(study)) | self.own_values(study)
            corrected = msgspec.structs.replace(study, corrections=values)
            for _, series in self.view.series_of(number):
                check_series(corrected, series, allowed)

    # --- the end ---
    def carry_over(self, batch: Correcting) -> None:
        """Make the changes, in the transaction that the sheet was read in."""
        for key in self._corrected:
            batch.put_correction(key, self._values[key], ())
        batch.put_edits(self.edits)
        for key, target in self._timed.items():
            batch.note_times(target, self._times[key])
        for key, expectation in self._expected.items():
            if expectation is None:
                batch.drop_expected(key)
            else:
                batch.put_expected(expectation)
        for shown, received, stands in self._aliases.values():
            if stands:
                batch.put_alias(shown, received)
            else:
                batch.drop_alias(shown, received)
        for number in sorted(self.studies):
            batch.correct_study(number)
        if self._corrected:
            batch.flush()
            batch.advance_generation()
