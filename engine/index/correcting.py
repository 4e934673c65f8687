"""The part of a batch that corrects: corrections with their history, and what is expected of
studies that may come (engine/index/expected.py).
"""

from collections.abc import Iterable, Mapping

from engine.dictionary import matching
from engine.dictionary.attributes import ISSUER_OF_PATIENT_ID, PATIENT_ID
from engine.index import corrections, expected, records
from engine.index.changes import Changes
from engine.index.corrections import EDIT_KEY, Edit, Target
from engine.index.expected import Expectation
from engine.index.records import Study


class Correcting(Changes):
    """One write transaction, as far as it corrects."""

    # --- corrections ---
    def put_correction(self, key: bytes, values: dict[int, str], edits: Iterable[Edit]) -> None:
        """Keep the corrections of a target (none: forget it) and the history of this change."""
        if values:
            self._put("corrections", key, records.encode(values))
        else:
            self._delete("corrections", key)
        given = corrections.given_row(key, values)
        if given is not None and given[1]:
            self._put("given_studies", *given)
        elif given is not None:
            self._delete("given_studies", given[0])
        self._has_corrections = True
        self.put_edits(edits)

    def put_edits(self, edits: Iterable[Edit]) -> None:
        """Keep the history of what was corrected."""
        for edit in edits:
            self._put("edits", self.free_moment("edits", edit.when_ns), records.encode(edit))

    def free_moment(self, table: str, when_ns: int) -> bytes:
        """The key of one more row of a time: there may be many of one nanosecond."""
        number = 0
        while not self.lacks(table, EDIT_KEY.pack(when_ns, number)):
            number += 1
        return EDIT_KEY.pack(when_ns, number)

    def correct_study(self, number: int) -> None:
        """Let a study's record show the corrections that stand now."""
        study = self._load_study(number)
        self._remember_words(number, study)
        study.corrections = corrections.for_study(self.correction, study)
        self._changed_studies.add(number)

    def correct_series(self, number: int) -> None:
        """Likewise a series'."""
        series = self._load_series(number)
        before = series.modality
        study = self._load_study(series.study)
        series.corrections = corrections.for_series(self.correction, study, series)
        if series.modality != before:
            self._count_modality(series.study, before, -1)
            self._count_modality(series.study, series.modality, 1)
        self._changed_series.add(number)

    def advance_generation(self) -> None:
        """Whoever keeps records over transactions shall read them again."""
        generation = int.from_bytes(self.generation(), "big") + 1
        self._put("meta", b"generation", generation.to_bytes(8, "big"))

    def note_times(self, target: Target, times: Mapping[int, int]) -> None:
        """When that happened which a target's corrections were made by: {tag: ns}."""
        known = expected.times_at(self._get, target)
        merged = expected.encode({**known, **times})
        self._put("correction_times", corrections.key_of(target), merged)

    # --- what is expected ---
    def put_expected(self, expectation: Expectation) -> None:
        """Keep it, in place of what was expected there; as old as its last message."""
        self.drop_expected(expectation.key)
        expectation.age = self.free_moment("expected_ages", expectation.received_ns)
        self._put("expected_ages", expectation.age, expectation.key)
        self._put("expected", expectation.key, expected.encode(expectation))
        self._has_expected = True

    def drop_expected(self, key: bytes) -> Expectation | None:
        """Expect it no longer; what it was."""
        stored = self._get("expected", key)
        if stored is None:
            return None
        dropped = expected.decode_expectation(stored)
        self._delete("expected", key)
        self._delete("expected_ages", dropped.age)
        return dropped

    def put_alias(self, shown: tuple[str, str], received: tuple[str, str]) -> None:
        """A received identifier is this patient's; both as (Patient ID, issuer)."""
        self._put("patient_aliases", expected.alias_key(shown, received), expected.encode(received))

    def drop_alias(self, shown: tuple[str, str], received: tuple[str, str]) -> None:
        """It is no longer."""
        self._delete("patient_aliases", expected.alias_key(shown, received))

    def forget_alias(self, dropped: Expectation) -> None:
        """Of an expectation that was dropped: unless a correction says the same, nobody is another
        patient by it any more."""
        received = dropped.patient_id, dropped.issuer
        standing = corrections.values_at(self.correction, Target("patient", *received))
        if dropped.kind == "patient" and PATIENT_ID not in standing:
            shown = (
                dropped.values.get(PATIENT_ID, dropped.patient_id),
                dropped.values.get(ISSUER_OF_PATIENT_ID, dropped.issuer),
            )
            self.drop_alias(shown, received)

    # --- rows of rooms above ---
    def put_row(self, table: str, key: bytes, value: bytes) -> None:
        """A row of a table that a room above keeps here."""
        self._put(table, key, value)

    def drop_row(self, table: str, key: bytes) -> None:
        """Likewise."""
        self._delete(table, key)

    def _meet_expected(self, study: Study, now_ns: int) -> None:
        """A study has come, or says something new: correct what was said of it before."""
        for target, expectation, differing in expected.that_differ(self._get, study):
            edits = [
                Edit.of(target, tag, study.value(tag), text, expectation.who, now_ns)
                for tag, text in differing.items()
            ]
            standing = corrections.values_at(self.correction, target)
            self.put_correction(corrections.key_of(target), standing | differing, edits)
            self.note_times(target, {tag: expectation.times.get(tag, 0) for tag in differing})
            study.corrections = corrections.for_study(self.correction, study)
            if expectation.kind == "patient":
                shown = standing.get(PATIENT_ID, expectation.patient_id)
                for number in self._shown_as(shown, study.patient):
                    self.correct_study(number)
                # It holds for every study of his from now on. An order's may get more studies.
                self.drop_expected(expectation.key)
                for tag in differing:
                    del expectation.values[tag]
                if expectation.values:
                    self.put_expected(expectation)

    def _shown_as(self, patient_id: str, patient: int) -> list[int]:
        """The studies received as a patient's, of those shown with a Patient ID."""
        word = records.word_prefix(records.PATIENT_ID_WORD, matching.pid(patient_id)) + b"\0"
        found = {
            records.study_of_word(key)
            for key, _ in self.keys_with_prefix("words", word)
            if len(key) == len(word) + records.NUMBER.size
        }
        found |= self._changed_studies  # their words are written at the end of the batch
        return sorted(number for number in found if self._load_study(number).patient == patient)
