"""What becomes of what PrefetchAP receives: who else is to have it, and had anybody asked for it.

A rule may name remote AEs that get what it fetches (`to`). Each instance of such a study is queued
for them once. What arrives is queued in the transaction that takes it into the index. What was here
before is queued by the retriever, when the study's retrievals have ended. Its record alone tells
which of the two an instance is (where and when it was received), so nothing falls between them: a
study's `since_ns` is read inside the transaction that enters it in `prefetch_passing`.

While a job is under way everything that arrives is written down for it, so that it can tell what
the archive sent besides what it had promised.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Final

from engine.dictionary import attributes, matching
from engine.index.environment import View
from engine.index.records import Instance
from engine.limits import prefetch_late_s
from engine.outbox.outbox import Outbox
from engine.outbox.records import NewDelivery
from engine.prefetch import records
from engine.prefetch.jobs import PrefetchJobs
from engine.prefetch.records import DUE, ENDED, Job, Passing, StudyProgress
from engine.rules.routing import PREFETCH

_late_ns: Final = prefetch_late_s * 1_000_000_000


def origin_of(rule: str) -> str:
    """What the queue calls the deliveries of a prefetch rule."""
    return f"prefetch {rule}"


class Arrivals(PrefetchJobs):
    """The jobs, the index and the outbox, in one write transaction."""

    # --- the indexer's ---
    def note(self, sop_instance_uid: str, sequence: int) -> None:
        """PrefetchAP received this; `sequence` is its record's in the journal."""
        number = self.under_way()
        if number is not None:
            self._put("prefetch_arrivals", DUE.pack(number, sequence), sop_instance_uid.encode())

    def also_for(self, study_uid: str, patient_id: str, received_ns: int) -> list[tuple[str, str]]:
        """(remote AE, origin) of each that gets what PrefetchAP received of a patient's study. What
        comes of another patient under that UID was not asked for."""
        passing = self._passing(study_uid, patient_id)
        if passing is None or received_ns < passing.since_ns:
            return []
        job = self.job(passing.job)
        if job is None or (job.state in ENDED and received_ns > job.changed_ns + _late_ns):
            return []
        return [(remote, origin_of(job.rule)) for remote in passing.to]

    # --- the retriever's ---
    def expect(self, job: int, study_uid: str, to: tuple[str, ...], now_ns: int) -> None:
        """From now on a job fetches this study, for these. Attempts after the first change only
        for whom."""
        asked = self.job(job)
        patient_id = "" if asked is None else asked.ask.patient_id
        key = records.passing_key(study_uid, patient_id)
        before = self._passing(study_uid, patient_id)
        if not to:
            self._delete("prefetch_passing", key)
            return
        since_ns = before.since_ns if before is not None and before.job == job else now_ns
        self._put("prefetch_passing", key, records.encode(Passing(job, since_ns, to, patient_id)))

    def queue_here(self, job: Job, study: StudyProgress, uids: Sequence[str], now_ns: int) -> int:
        """Queue those of these instances that were here before their study was fetched; how many.

        `uids` are a portion of the study's, sorted, behind `study.queued_to`. Nothing of `study` is
        changed.
        """
        patient_id = job.ask.patient_id
        passing = self._passing(study.study_uid, patient_id)
        if passing is None or passing.job != job.number:
            return 0
        queued = 0
        outbox = Outbox.within(self)
        for uid in uids:
            found = instance_of_patient(self, uid, patient_id)
            if found is None or _was_queued_on_arrival(found[1], passing):
                continue
            for remote in passing.to:
                outbox.enqueue(self._delivery(remote, origin_of(job.rule), *found), now_ns)
                queued += 1
        return queued

    def _delivery(self, remote: str, origin: str, series: int, instance: Instance) -> NewDelivery:
        in_series = self.series(series)
        assert in_series is not None, "an instance's series is in the index"
        study = self.study_of_series(series)
        return NewDelivery(
            remote,
            instance.sop_instance_uid,
            instance.sop_class_uid,
            study.uid,
            in_series.uid,
            instance.transfer_syntax_uid,
            instance.file_bytes,
            origin,
            patient="" if self.may_be_joined(in_series.study) else study.patient_mark,
        )

    def take_arrivals(self, number: int, limit: int) -> tuple[list[str], bool]:
        """A portion of what arrived while a job was under way, and whether there may be more.

        It is forgotten, as is what came too late for other jobs.
        """
        rows = list(islice(self.keys_from("prefetch_arrivals", b""), limit))
        for key, _ in rows:
            self._delete("prefetch_arrivals", key)
        own = [uid.decode() for key, uid in rows if DUE.unpack(key)[0] == number]
        return own, len(rows) == limit

    def _passing(self, study_uid: str, patient_id: str) -> Passing | None:
        stored = self._get("prefetch_passing", records.passing_key(study_uid, patient_id))
        stored = stored or self._get("prefetch_passing", records.passing_key(study_uid, ""))
        return None if stored is None else records.decode_passing(stored)


def instance_of_patient(
    view: View, sop_instance_uid: str, patient_id: str
) -> tuple[int, Instance] | None:
    """(number of its series, the instance) that a patient has of a UID; by Patient ID alone, as an
    archive is asked."""
    for series, instance in view.instances_of_uid(sop_instance_uid):
        received = view.study_of_series(series).patient_attributes
        if matching.pid(received.get(attributes.PATIENT_ID, "")) == patient_id:
            return series, instance
    return None


def _was_queued_on_arrival(instance: Instance, passing: Passing) -> bool:
    return instance.journal == PREFETCH and instance.received_ns >= passing.since_ns
