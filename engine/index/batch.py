"""One batch of changes to the index: instances put and removed, and all that follows from it.

Used by `IndexWriter.commit` only. A study is one patient's (engine/index/records.py): whoever sends
one UID for two patients, or none, has them kept apart here.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from engine.dictionary import attributes
from engine.dictionary.attributes import DecodedHead
from engine.dictionary.patient_mark import mark_of as attributes_mark
from engine.files.arrival import Arrival
from engine.files.tree import instance_path
from engine.index import corrections, records
from engine.index.correcting import Correcting
from engine.index.records import Instance, Patient, Position, Series, Study


class Entry:
    """An instance that is to be put: what its journal record, or its file, tells of it."""

    __slots__ = (
        "arrival",
        "attributes",
        "crc32c",
        "extra",
        "file_bytes",
        "head",
        "journal",
        "mark",
        "path",
        "sequence",
        "series_uid",
        "study_uid",
        "upper",
    )

    def __init__(
        self,
        arrival: Arrival,
        row: bytes,
        file_bytes: int,
        crc32c: int,
        journal: str = "",
        sequence: int = 0,
    ) -> None:
        self.arrival = arrival
        self.upper, elements, self.extra = attributes.split_row(row)
        self.attributes = attributes.decode_instance(elements)
        self.head: DecodedHead = attributes.decode_head(self.upper)
        self.study_uid = self.head.study.get(attributes.STUDY_INSTANCE_UID, "")
        self.series_uid = self.head.series.get(attributes.SERIES_INSTANCE_UID, "")
        # None: not decided yet; see engine/index/records.py.
        self.mark: str | None = None
        self.path = instance_path(self.study_uid, self.series_uid, arrival.sop_instance_uid)
        self.file_bytes = file_bytes
        self.crc32c = crc32c
        self.journal = journal
        self.sequence = sequence

    @property
    def patient_mark(self) -> str:
        """Whose it is, as its head tells."""
        return attributes_mark(self.head.patient)

    def mark_as(self, mark: str) -> None:
        """Decide its mark, before it gets its place."""
        self.mark = mark
        sop_instance_uid = self.arrival.sop_instance_uid
        self.path = instance_path(self.study_uid, self.series_uid, sop_instance_uid, mark)


class Put(NamedTuple):
    """What putting an instance did. `removed_path`: of a replaced file that lay elsewhere. `apart`:
    what was entered beside another patient's of the same UID."""

    replaced: Instance | None
    removed_path: str | None
    apart: Literal["", "study", "instance"] = ""


def choose_mark(held: Mapping[str, str], patient_mark: str) -> str:
    """The mark of a patient's instance, by those that stand for its UID: {patient's mark: mark}."""
    if patient_mark in held:
        return held[patient_mark]
    return patient_mark if "" in held.values() else ""


class Batch(Correcting):
    """One write transaction. Reads through the View part see the index as it was before flush()
    as far as counts go; instances and numbers are seen at once."""

    # --- instances ---
    def put_instance(self, entry: Entry) -> Put:
        """Enter an instance; the same patient's of that SOP Instance UID is replaced, wherever it
        was. Another patient's stays."""
        arrival = entry.arrival
        self._made_twin = False
        number = self._cache.series_by_head.get(entry.upper) if entry.study_uid else None
        if number is None:
            number = self._merge(entry)
        held = self._held(arrival.sop_instance_uid)
        own_mark = entry.patient_mark
        old_key, replaced = held.pop(own_mark, (b"", None))
        marks = {patient: instance.mark for patient, (_, instance) in held.items()}
        if entry.mark is None:
            stands = {} if replaced is None else {own_mark: replaced.mark}
            entry.mark_as(choose_mark(marks | stands, own_mark))
        assert entry.mark is not None, "it was decided"
        assert entry.mark not in marks.values(), "no file is put in another patient's place"
        apart: Literal["", "study", "instance"] = "study" if self._made_twin else ""
        if marks and replaced is None:
            apart = "instance"
        removed_path: str | None = None
        key = b""
        uid_key = records.instance_uid_key(arrival.sop_instance_uid, entry.mark)
        if replaced is not None:
            old_series = records.INSTANCE_KEY.unpack(old_key)[0]
            old_path = self.path_of(old_series, replaced)
            self._count(old_series, -1, -replaced.file_bytes, 0)
            if old_series == number:
                key = old_key
            else:
                self._delete("instances", old_key)
            if old_path != entry.path:
                removed_path = old_path
                self.note_removal(old_path)
            if replaced.mark != entry.mark:
                self._delete("sop_uids", _uid_key_of(replaced))
                self._put("sop_uids", uid_key, key or old_key)
        if not key:
            key = records.INSTANCE_KEY.pack(number, self._numbers.row)
            self._numbers.row += 1
            self._put("sop_uids", uid_key, key)
        self._has_marked |= entry.mark != ""
        self._put("instances", key, records.encode(_instance_of(entry)))
        self._count(number, 1, entry.file_bytes, arrival.received_ns)
        if replaced is not None or self._has_removals:
            self._delete("removals", entry.path.encode())
        return Put(replaced, removed_path, apart)

    def _held(self, sop_instance_uid: str) -> dict[str, tuple[bytes, Instance]]:
        """{patient's mark: (key, instance)} of each that has this UID. A look-up without a row is a
        damaged index: the instance is taken in all the same."""
        held = {}
        for key in self.instance_keys(sop_instance_uid):
            instance = self._stored(key)
            if instance is not None:
                study = self.study_of_series(records.INSTANCE_KEY.unpack(key)[0])
                held[study.patient_mark] = key, instance
        return held

    def remove_instance(self, sop_instance_uid: str, mark: str = "") -> Instance | None:
        """Take an instance out of the index; its file is the caller's affair."""
        uid_key = records.instance_uid_key(sop_instance_uid, mark)
        key = self._get("sop_uids", uid_key)
        if key is None:
            return None
        removed = self._stored(key)
        self._delete("sop_uids", uid_key)
        if removed is None:
            return None
        self._delete("instances", key)
        self._count(records.INSTANCE_KEY.unpack(key)[0], -1, -removed.file_bytes, 0)
        return removed

    def set_position(self, journal: str, position: Position) -> None:
        self._put("meta", records.journal_key(journal), records.encode(position))

    def keep_policies(self, policies: Mapping[str, str]) -> None:
        """What may replace what, by journal."""
        for journal, policy in policies.items():
            self._put("meta", records.policy_key(journal), policy.encode("ascii"))

    def note_removal(self, path: str) -> None:
        """No instance of the index has this file any more: it is to be unlinked."""
        self._put("removals", path.encode(), b"")
        self._has_removals = True

    def forget_removals(self, paths: Iterable[str]) -> None:
        """These files are gone from the tree."""
        for path in paths:
            self._delete("removals", path.encode())

    def recount(self, number: int) -> bool:
        """Make a study's and its series' sums and words again from its instances; False: gone."""
        if self.study(number) is None:
            return False
        self._cache.clear()
        study = self._load_study(number)
        # The words of the study as they really are, which may be other ones than they should be.
        self._words_before[number] = frozenset(
            key for key, _ in self.keys_from("words", b"") if records.study_of_word(key) == number
        )
        study.series = study.instances = study.file_bytes = 0
        study.modalities = {}
        for series_number, _ in list(self.series_of(number)):
            series = self._load_series(series_number)
            series.instances = series.file_bytes = 0
            prefix = records.NUMBER.pack(series_number)
            for key, value in list(self.keys_with_prefix("instances", prefix)):
                instance = records.decode_instance(value)
                self._put("sop_uids", _uid_key_of(instance), key)
                series.instances += 1
                series.file_bytes += instance.file_bytes
            study.series += 1
            study.instances += series.instances
            study.file_bytes += series.file_bytes
            self._count_modality(number, series.modality, 1)
            self._changed_series.add(series_number)
        name = records.study_uid_key(study.uid, study.alone, number)
        self._put("study_uids", name, records.PAIR.pack(number, study.patient))
        self._changed_studies.add(number)
        return True

    def part_study(self, number: int, stored: Sequence[tuple[Instance, Entry]]) -> list[str]:
        """Enter all instances of a study anew, each where its own head says. The paths of those
        that their patients have newer ones of: they are out of the index."""
        study = self._load_study(number)
        self._cache.series_by_head.clear()
        # So none is found here again: the study takes its values along that were others'.
        self._delete("study_uids", records.study_uid_key(study.uid, study.alone, number))
        for instance, _ in stored:
            self.remove_instance(instance.sop_instance_uid, instance.mark)
        superseded = []
        for instance, entry in stored:
            newer = self._held(instance.sop_instance_uid).get(entry.patient_mark)
            if newer is not None and newer[1].received_ns > instance.received_ns:
                superseded.append(entry.path)
            else:
                self.put_instance(entry)
        return superseded

    def forget_unparted(self) -> None:
        """No study holds more than one patient's instances."""
        self._delete("meta", records.UNPARTED)

    # --- what an instance brings with it ---
    def _merge(self, entry: Entry) -> int:
        """The number of the entry's series. Study, series and patient take over what it says of
        them: the latest that was received holds, an attribute it lacks stays as it was."""
        head = entry.head
        study_number = self._study_number_for(entry)
        study = self._load_study(study_number)
        stored = self._get("series_uids", records.series_uid_key(entry.series_uid, study_number))
        own = _without(head.series, attributes.SERIES_INSTANCE_UID)
        if stored is None:
            number = self._numbers.series
            self._numbers.series += 1
            series = Series(entry.series_uid, study_number, own)
            series.first_received_ns = entry.arrival.received_ns
            if self._has_corrections:
                series.corrections = corrections.for_series(self.correction, study, series)
            self._cache.series[number] = series
            packed = records.NUMBER.pack(number)
            self._put("series_uids", records.series_uid_key(series.uid, study_number), packed)
            self._put("members", records.PAIR.pack(study_number, number), b"")
            study.series += 1
            self._count_modality(study_number, series.modality, 1)
        else:
            number = records.NUMBER.unpack(stored)[0]
            series = self._load_series(number)
            before = series.modality
            if not own.items() <= series.attributes.items():
                self._cache.series_by_head.clear()  # heads that said otherwise say news again
            series.attributes |= own
            if series.modality != before:
                self._count_modality(study_number, before, -1)
                self._count_modality(study_number, series.modality, 1)
        series.character_set_broken |= head.character_set_broken
        self._changed_series.add(number)
        if entry.study_uid:
            self._cache.series_by_head[entry.upper] = number
        return number

    def _study_number_for(self, entry: Entry) -> int:
        """The study of that UID that this patient has; one that lacks a UID is of one instance."""
        head = entry.head
        alone = "" if entry.study_uid else entry.arrival.sop_instance_uid
        patient = self._patient_number_for(head.patient)
        studies = self.studies_of_uid(entry.study_uid, alone)
        number = next((study for study, whose in studies if whose == patient), None)
        own = _without(head.study, attributes.STUDY_INSTANCE_UID)
        if number is None:
            self._made_twin = bool(studies)
            number = self._numbers.study
            self._numbers.study += 1
            study = Study(entry.study_uid, patient, dict(head.patient), own, {}, alone=alone)
            study.first_received_ns = entry.arrival.received_ns
            if self._has_corrections:
                study.corrections = corrections.for_study(self.correction, study)
            if self._has_expected:
                self._meet_expected(study, entry.arrival.received_ns)
            self._cache.studies[number] = study
            self._words_before[number] = frozenset()
            name = records.study_uid_key(study.uid, alone, number)
            self._put("study_uids", name, records.PAIR.pack(number, patient))
            self._load_patient(patient).studies += 1
        else:
            study = self._load_study(number)
            if own.items() <= study.attributes.items() and (
                head.patient.items() <= study.patient_attributes.items()
            ):
                return number
            self._cache.series_by_head.clear()  # heads that said otherwise say news again
            self._remember_words(number, study)
            study.attributes |= own
            study.patient_attributes |= head.patient
            if self._has_expected:
                self._meet_expected(study, entry.arrival.received_ns)
        self._changed_studies.add(number)
        return number

    def _patient_number_for(self, own: dict[int, str]) -> int:
        patient_id = own.get(attributes.PATIENT_ID, "")
        issuer = own.get(attributes.ISSUER_OF_PATIENT_ID, "")
        key = records.patient_key(patient_id, issuer)
        stored = self._get("patient_ids", key)
        if stored is None:
            number = self._numbers.patient
            self._numbers.patient += 1
            self._cache.patients[number] = Patient(patient_id, issuer, dict(own))
            self._put("patient_ids", key, records.NUMBER.pack(number))
        else:
            number = records.NUMBER.unpack(stored)[0]
            self._load_patient(number).attributes |= own
        self._changed_patients.add(number)
        return number


def _without(values: Mapping[int, str], tag: int) -> dict[int, str]:
    return {key: value for key, value in values.items() if key != tag}


def _uid_key_of(instance: Instance) -> bytes:
    return records.instance_uid_key(instance.sop_instance_uid, instance.mark)


def _instance_of(entry: Entry) -> Instance:
    arrival = entry.arrival
    return Instance(
        arrival.sop_instance_uid,
        arrival.sop_class_uid,
        arrival.transfer_syntax_uid,
        entry.file_bytes,
        entry.crc32c,
        arrival.received_ns,
        arrival.calling_ae_title,
        arrival.called_ae_title,
        arrival.peer,
        entry.journal,
        entry.sequence,
        entry.attributes,
        entry.mark or "",
    )
