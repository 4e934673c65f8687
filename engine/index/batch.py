"""One batch of changes to the index: instances put and removed, and all that follows from it.

Used by `IndexWriter.commit` only. Study, series and patient records are kept as objects while their
instances arrive and are written once a batch, so the price of an instance of a known series is two
puts and the encoding of its own record.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import lmdb

from engine.dictionary import attributes
from engine.dictionary.attributes import DecodedHead
from engine.files.arrival import Arrival
from engine.files.tree import instance_path
from engine.index import corrections, records
from engine.index.corrections import EDIT_KEY, Edit
from engine.index.environment import Tables, View
from engine.index.records import Instance, Numbers, Patient, Position, Series, Study
from engine.limits import index_records_cached_max


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
        self.path = instance_path(self.study_uid, self.series_uid, arrival.sop_instance_uid)
        self.file_bytes = file_bytes
        self.crc32c = crc32c
        self.journal = journal
        self.sequence = sequence


class Put(NamedTuple):
    """What putting an instance did. `removed_path`: of a replaced file that lay elsewhere."""

    replaced: Instance | None
    removed_path: str | None


class RecordCache:
    """Records of the studies that are arriving, by number, as they stand in the index.

    Valid for the state last committed or for the batch under way; emptied when a batch fails.
    `series_by_head` maps the raw upper attributes to the series they were last merged into.
    """

    def __init__(self) -> None:
        self.patients: dict[int, Patient] = {}
        self.studies: dict[int, Study] = {}
        self.series: dict[int, Series] = {}
        self.series_by_head: dict[bytes, int] = {}
        self.generation = b""

    def clear(self) -> None:
        for cache in (self.patients, self.studies, self.series, self.series_by_head):
            cache.clear()

    def trim(self) -> None:
        if len(self.series) + len(self.series_by_head) > index_records_cached_max:
            self.clear()


class Batch(View):
    """One write transaction. Reads through the View part see the index as it was before flush()
    as far as counts go; instances and numbers are seen at once."""

    def __init__(self, transaction: lmdb.Transaction, tables: Tables, cache: RecordCache) -> None:
        super().__init__(transaction, tables)
        self.transaction = transaction
        cache.trim()
        self._cache = cache
        generation = self.generation()
        if generation != cache.generation:
            cache.clear()
            cache.generation = generation
        stored = self._get("meta", b"numbers")
        self._numbers = Numbers() if stored is None else records.decode_numbers(stored)
        self._words_before: dict[int, frozenset[bytes]] = {}
        self._has_removals = self.count("removals") > 0
        self._has_corrections = self.count("corrections") > 0
        self._changed_patients: set[int] = set()
        self._changed_studies: set[int] = set()
        self._changed_series: set[int] = set()

    # --- instances ---
    def put_instance(self, entry: Entry) -> Put:
        """Enter an instance; one with the same SOP Instance UID is replaced, wherever it was."""
        arrival = entry.arrival
        number = self._cache.series_by_head.get(entry.upper)
        if number is None:
            number = self._merge(entry)
        old_key = self.instance_key(arrival.sop_instance_uid)
        replaced = None if old_key is None else self._stored(old_key)
        removed_path: str | None = None
        key = b""
        # A look-up without a row is a damaged index: the instance is taken in all the same.
        if old_key is not None and replaced is not None:
            old_series = records.INSTANCE_KEY.unpack(old_key)[0]
            old_path = self.path_of(old_series, replaced)
            self._count(old_series, -1, -replaced.file_bytes, 0)
            if old_series == number:
                key = old_key
            else:
                self._delete("instances", old_key)
            if old_path != entry.path:
                removed_path = old_path
                self._put("removals", old_path.encode(), b"")
        if not key:
            key = records.INSTANCE_KEY.pack(number, self._numbers.row)
            self._numbers.row += 1
            self._put("sop_uids", records.uid_key(arrival.sop_instance_uid), key)
        self._put("instances", key, records.encode(_instance_of(entry)))
        self._count(number, 1, entry.file_bytes, arrival.received_ns)
        if replaced is not None or self._has_removals:
            self._delete("removals", entry.path.encode())
        return Put(replaced, removed_path)

    def remove_instance(self, sop_instance_uid: str) -> Instance | None:
        """Take an instance out of the index; its file is the caller's affair."""
        key = self.instance_key(sop_instance_uid)
        if key is None:
            return None
        removed = self._stored(key)
        self._delete("sop_uids", records.uid_key(sop_instance_uid))
        if removed is None:
            return None
        self._delete("instances", key)
        self._count(records.INSTANCE_KEY.unpack(key)[0], -1, -removed.file_bytes, 0)
        return removed

    # --- corrections ---
    def put_correction(self, key: bytes, values: dict[int, str], edits: Iterable[Edit]) -> None:
        """Keep the corrections of a target (none: forget it) and the history of this change."""
        if values:
            self._put("corrections", key, records.encode(values))
        else:
            self._delete("corrections", key)
        self._has_corrections = True
        for edit in edits:
            # As many in one nanosecond as there are attributes.
            number = 0
            while not self.lacks("edits", EDIT_KEY.pack(edit.when_ns, number)):
                number += 1
            self._put("edits", EDIT_KEY.pack(edit.when_ns, number), records.encode(edit))

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
        series.corrections = corrections.for_series(self.correction, series)
        if series.modality != before:
            self._count_modality(series.study, before, -1)
            self._count_modality(series.study, series.modality, 1)
        self._changed_series.add(number)

    def advance_generation(self) -> None:
        """Whoever keeps records over transactions shall read them again."""
        generation = int.from_bytes(self.generation(), "big") + 1
        self._put("meta", b"generation", generation.to_bytes(8, "big"))

    def set_position(self, journal: str, position: Position) -> None:
        self._put("meta", records.journal_key(journal), records.encode(position))

    def forget_removals(self, paths: Iterable[str]) -> None:
        """These files are gone from the tree."""
        for path in paths:
            self._delete("removals", path.encode())

    def path_of(self, series: int, instance: Instance) -> str:
        """As the View's, but it knows the series that this batch made."""
        in_series = self._load_series(series)
        study = self._load_study(in_series.study)
        return instance_path(study.uid, in_series.uid, instance.sop_instance_uid)

    def recount(self, study_uid: str) -> bool:
        """Make a study's and its series' sums and words again from its instances; False: gone."""
        number = self.study_number(study_uid)
        if number is None:
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
                self._put("sop_uids", records.uid_key(instance.sop_instance_uid), key)
                series.instances += 1
                series.file_bytes += instance.file_bytes
            study.series += 1
            study.instances += series.instances
            study.file_bytes += series.file_bytes
            self._count_modality(number, series.modality, 1)
            self._changed_series.add(series_number)
        self._changed_studies.add(number)
        return True

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
                series.corrections = corrections.for_series(self.correction, series)
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
            series.attributes |= own
            if series.modality != before:
                self._count_modality(study_number, before, -1)
                self._count_modality(study_number, series.modality, 1)
        series.character_set_broken |= head.character_set_broken
        self._changed_series.add(number)
        self._cache.series_by_head[entry.upper] = number
        return number

    def _study_number_for(self, entry: Entry) -> int:
        head = entry.head
        number = self.study_number(entry.study_uid)
        own = _without(head.study, attributes.STUDY_INSTANCE_UID)
        if number is None:
            number = self._numbers.study
            self._numbers.study += 1
            patient = self._patient_number_for(head.patient)
            study = Study(entry.study_uid, patient, dict(head.patient), own, {})
            study.first_received_ns = entry.arrival.received_ns
            if self._has_corrections:
                study.corrections = corrections.for_study(self.correction, study)
            self._cache.studies[number] = study
            self._words_before[number] = frozenset()
            packed = records.NUMBER.pack(number)
            self._put("study_uids", records.uid_key(study.uid), packed)
            self._load_patient(patient).studies += 1
        else:
            study = self._load_study(number)
            if own.items() <= study.attributes.items() and (
                head.patient.items() <= study.patient_attributes.items()
            ):
                return number
            self._remember_words(number, study)
            study.attributes |= own
            study.patient_attributes |= head.patient
            patient = self._patient_number_for(study.patient_attributes)
            if patient != study.patient:
                self._load_patient(study.patient).studies -= 1
                self._load_patient(patient).studies += 1
                study.patient = patient
                if self._has_corrections:
                    study.corrections = corrections.for_study(self.correction, study)
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

    def _count(self, series_number: int, instances: int, file_bytes: int, received_ns: int) -> None:
        series = self._load_series(series_number)
        study = self._load_study(series.study)
        for record in (series, study):
            record.instances += instances
            record.file_bytes += file_bytes
            record.last_received_ns = max(record.last_received_ns, received_ns)
        self._changed_series.add(series_number)
        self._changed_studies.add(series.study)

    def _count_modality(self, study_number: int, modality: str, series: int) -> None:
        if not modality:
            return
        study = self._load_study(study_number)
        self._remember_words(study_number, study)
        count = study.modalities.get(modality, 0) + series
        if count > 0:
            study.modalities[modality] = count
        else:
            study.modalities.pop(modality, None)
        self._changed_studies.add(study_number)

    def _remember_words(self, number: int, study: Study) -> None:
        if number not in self._words_before:
            self._words_before[number] = frozenset(records.study_words(number, study))

    # --- records under change ---
    def _load_patient(self, number: int) -> Patient:
        patient = self._cache.patients.get(number)
        if patient is None:
            stored = self.patient(number)
            assert stored is not None, "patients are removed with their last study"
            patient = self._cache.patients[number] = stored
        self._changed_patients.add(number)
        return patient

    def _load_study(self, number: int) -> Study:
        study = self._cache.studies.get(number)
        if study is None:
            stored = self.study(number)
            assert stored is not None, "studies are removed with their last series"
            study = self._cache.studies[number] = stored
        return study

    def _load_series(self, number: int) -> Series:
        series = self._cache.series.get(number)
        if series is None:
            stored = self.series(number)
            assert stored is not None, "series are removed with their last instance"
            series = self._cache.series[number] = stored
        return series

    def _stored(self, key: bytes) -> Instance | None:
        value = self._get("instances", key)
        return None if value is None else records.decode_instance(value)

    def _put(self, table: str, key: bytes, value: bytes) -> None:
        self.transaction.put(key, value, db=self._tables[table])

    def _delete(self, table: str, key: bytes) -> None:
        self.transaction.delete(key, db=self._tables[table])

    # --- the end of the batch ---
    def flush(self) -> None:
        """Write the records that changed; those that have nothing left under them go."""
        for number in sorted(self._changed_series):
            self._flush_series(number, self._cache.series[number])
        for number in sorted(self._changed_studies):
            self._flush_study(number, self._cache.studies[number])
        for number in sorted(self._changed_patients):
            self._flush_patient(number, self._cache.patients[number])
        self._put("meta", b"numbers", records.encode(self._numbers))
        self._put("meta", b"format", records.FORMAT)

    def _flush_series(self, number: int, series: Series) -> None:
        if series.instances > 0:
            self._put("series", records.NUMBER.pack(number), records.encode(series))
            return
        self._delete("series", records.NUMBER.pack(number))
        self._delete("series_uids", records.series_uid_key(series.uid, series.study))
        self._delete("members", records.PAIR.pack(series.study, number))
        self._load_study(series.study).series -= 1
        self._count_modality(series.study, series.modality, -1)
        self._changed_studies.add(series.study)
        del self._cache.series[number]
        self._cache.series_by_head.clear()

    def _flush_study(self, number: int, study: Study) -> None:
        assert (study.series > 0) == (study.instances > 0), "an empty series is not kept"
        gone = study.series == 0
        if gone:
            self._remember_words(number, study)
        before = self._words_before.get(number)
        if before is not None:
            after = frozenset() if gone else frozenset(records.study_words(number, study))
            for word in sorted(before - after):
                self._delete("words", word)
            for word in sorted(after - before):
                self._put("words", word, b"")
        if not gone:
            self._put("studies", records.NUMBER.pack(number), records.encode(study))
            return
        self._delete("studies", records.NUMBER.pack(number))
        self._delete("study_uids", records.uid_key(study.uid))
        self._load_patient(study.patient).studies -= 1
        del self._cache.studies[number]

    def _flush_patient(self, number: int, patient: Patient) -> None:
        if patient.studies > 0:
            self._put("patients", records.NUMBER.pack(number), records.encode(patient))
            return
        self._delete("patients", records.NUMBER.pack(number))
        self._delete("patient_ids", records.patient_key(patient.patient_id, patient.issuer))
        del self._cache.patients[number]


def _without(values: Mapping[int, str], tag: int) -> dict[int, str]:
    return {key: value for key, value in values.items() if key != tag}


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
    )
