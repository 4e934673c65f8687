"""The hit rate of prefetching: how many of the fetched studies somebody used afterwards.

A study is fetched once something of it came, and used once a user sent or opened it. Each study
counts once for each of the two, in whichever order they come. The outbox notes the use, in the
transaction in which a delivery ends; it needs nothing else of this room.
"""

from engine.index import records as index_records
from engine.index.tombstones import tombstones_of_uid
from engine.prefetch import records
from engine.prefetch.records import Fetched, Job, Totals
from engine.prefetch.tables import PrefetchTables


class HitRate(PrefetchTables):
    """Which studies were fetched and which of them were used, within one transaction."""

    def totals(self) -> Totals:
        """The hit rate's two numbers, of all time."""
        return Totals(self._total(records.FETCHED_TOTAL), self._total(records.USED_TOTAL))

    def note_fetched(self, job: Job, now_ns: int) -> None:
        """What the job has brought so far."""
        for study in job.progress.studies:
            known = self._fetched(study.study_uid)
            if study.moved <= 0 or (known is not None and known.fetched_ns):
                continue
            used_ns = 0 if known is None else known.used_ns
            self._put_fetched(study.study_uid, Fetched(job.number, study.moved, now_ns, used_ns))
            if any(stone.fetched for stone in tombstones_of_uid(self, study.study_uid)):
                continue  # it came before, was removed, and was counted then
            self._add(records.FETCHED_TOTAL, 1)
            self._add(records.USED_TOTAL, 1 if used_ns else 0)

    def note_used(self, study_uid: str, now_ns: int) -> bool:
        """A study was sent or opened. True: it came by a prefetch, or is just coming, and had not
        been used before. The latter is counted once something of it came."""
        fetched = self._fetched(study_uid) or self._being_fetched(study_uid)
        if fetched is None or fetched.used_ns:
            return False
        used = Fetched(fetched.job, fetched.instances, fetched.fetched_ns, now_ns)
        self._put_fetched(study_uid, used)
        self._add(records.USED_TOTAL, 1 if fetched.fetched_ns else 0)
        return True

    def note_ended(self, job: Job) -> None:
        """The job is over: a use of a study of which nothing came is a use of no fetched study."""
        for study in job.progress.studies:
            fetched = self._fetched(study.study_uid)
            if fetched is not None and fetched.job == job.number and not fetched.fetched_ns:
                self._delete("prefetch_studies", index_records.uid_key(study.study_uid))

    def forget(self, job: Job) -> None:
        """The job's studies are no longer known as fetched; the totals stay."""
        for study in job.progress.studies:
            fetched = self._fetched(study.study_uid)
            if fetched is not None and fetched.job == job.number:
                self._delete("prefetch_studies", index_records.uid_key(study.study_uid))

    def _fetched(self, study_uid: str) -> Fetched | None:
        stored = self._get("prefetch_studies", index_records.uid_key(study_uid))
        return None if stored is None else records.decode_fetched(stored)

    def _put_fetched(self, study_uid: str, fetched: Fetched) -> None:
        key = index_records.uid_key(study_uid)
        self._put("prefetch_studies", key, records.encode(fetched))

    def _being_fetched(self, study_uid: str) -> Fetched | None:
        """Of a study that the job under way has asked for."""
        number = self.under_way()
        job = None if number is None else self.job(number)
        if job is None:
            return None
        coming = (study.study_uid for study in job.progress.studies if study.missing)
        return Fetched(job.number, 0, 0) if study_uid in coming else None
