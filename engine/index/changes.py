"""The records of studies, series and patients while a batch changes them, and their end.

They are kept as objects while their instances arrive and are written once a batch. So an instance
of a known series costs two puts and the encoding of its own record.
"""

import lmdb

from engine.files.tree import instance_path
from engine.index import records
from engine.index.damage import IndexDamagedError
from engine.index.environment import Tables, View
from engine.index.records import Instance, Numbers, Patient, Series, Study
from engine.index.rows import present
from engine.limits import index_records_cached_max


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


class Changes(View):
    """One write transaction, what it has changed, and the writing of it."""

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
        self._has_expected = self.count("expected") > 0
        self._has_marked = any(True for _ in self.keys_with_prefix("sop_uids", records.MARKED))
        self._changed_patients: set[int] = set()
        self._changed_studies: set[int] = set()
        self._changed_series: set[int] = set()

    def study_of_series(self, series: int) -> Study:
        """As the View's, but it knows what this batch made."""
        return self._load_study(self._load_series(series).study)

    def path_of(self, series: int, instance: Instance) -> str:
        """Likewise."""
        in_series = self._load_series(series)
        study = self._load_study(in_series.study)
        return instance_path(study.uid, in_series.uid, instance.sop_instance_uid, instance.mark)

    def instance_keys(self, sop_instance_uid: str) -> list[bytes]:
        """As the View's; asked for every instance, so what nobody has costs nothing."""
        if self._has_marked:
            return super().instance_keys(sop_instance_uid)
        plain = self._get("sop_uids", records.uid_key(sop_instance_uid))
        return [] if plain is None else [plain]

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
            patient = present(self.patient(number), "patients are removed with their last study")
            self._cache.patients[number] = patient
        self._changed_patients.add(number)
        return patient

    def _load_study(self, number: int) -> Study:
        study = self._cache.studies.get(number)
        if study is None:
            study = present(self.study(number), "studies are removed with their last series")
            self._cache.studies[number] = study
        return study

    def _load_series(self, number: int) -> Series:
        series = self._cache.series.get(number)
        if series is None:
            series = present(self.series(number), "series are removed with their last instance")
            self._cache.series[number] = series
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
        if (study.series > 0) != (study.instances > 0):
            raise IndexDamagedError("a study of no series that has instances, or the other way")
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
        self._delete("study_uids", records.study_uid_key(study.uid, study.alone, number))
        self._load_patient(study.patient).studies -= 1
        del self._cache.studies[number]

    def _flush_patient(self, number: int, patient: Patient) -> None:
        if patient.studies > 0:
            self._put("patients", records.NUMBER.pack(number), records.encode(patient))
            return
        self._delete("patients", records.NUMBER.pack(number))
        self._delete("patient_ids", records.patient_key(patient.patient_id, patient.issuer))
        del self._cache.patients[number]
