"""What is kept of a prefetch: the job, its keys, and the names of its tables.

    table             key                                   value
    prefetch_jobs     u64 job                               Job
    prefetch_due      u64 when it is due, u64 job           empty
    prefetch_triggers rule, NUL, StudyInstanceUID           u64 of the latest job
    prefetch_studies  StudyInstanceUID                      Fetched
    prefetch_passing  StudyInstanceUID, NUL, Patient ID     Passing
    prefetch_arrivals u64 job, u64 of the journal           SOPInstanceUID
    prefetch_totals   "next", "fetched", "used", state      u64

A job is what one rule made of one study that arrived, however many of its instances matched. It
carries the whole question, so that a later change of the rule changes nothing that is under way. A
job that is under way stands in `prefetch_due` under 0, before all that wait, and is found there
after a crash. `prefetch_studies` has the studies that were fetched, for the hit rate: which of them
was used afterwards. All numbers in keys are big endian, so that they sort.
"""

from enum import IntEnum
from typing import Final

import msgspec

from engine.index.damage import IndexDamagedError
from engine.index.keys import lmdb_key
from engine.index.rows import Packing, decoder
from engine.limits import index_key_bytes_max

NUMBER: Final = Packing(">Q")
DUE: Final = Packing(">QQ")


class JobState(IntEnum):
    """Where a job stands."""

    WAITING = 1  # for its study to be quiet, or for its turn
    RUNNING = 2
    RETRYING = 3  # an attempt failed; the next one is due at `due_ns`
    FAILED = 4
    INCOMPLETE = 5  # done, but not all that was promised came
    DONE = 6


ENDED: Final = frozenset({JobState.FAILED, JobState.INCOMPLETE, JobState.DONE})


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """What is asked of an archive. Texts are values of the attributes they are named after."""

    archive: str  # the name of a remote
    level: str  # of what is moved: "study", "series" or "image"
    patient_id: str
    character_set: str  # the one the Patient ID came in
    study_date: str  # a range of days; "": any
    modalities: tuple[str, ...]  # of studies; none: any
    series_modalities: tuple[str, ...]  # of the series that are moved; none: any
    at_most: int  # studies, the latest ones
    trigger_study_uid: str  # never asked for
    to: tuple[str, ...] = ()  # the remote AEs that get what is fetched


class StudyProgress(msgspec.Struct, array_like=True):
    """One related study: how many of its instances the archive promised, and where they are."""

    study_uid: str
    study_date: str
    promised: int
    here: int  # before anything was moved
    moved: int = 0
    missing: int = 0
    queued: int = 0  # deliveries of instances that had not to be moved
    queued_to: str = ""  # the last SOP Instance UID looked at for that, in their order


class Progress(msgspec.Struct, array_like=True):
    """How far a job has come; what `scai prefetch` shows of it."""

    step: str = ""  # in words, while it runs
    studies: list[StudyProgress] = []
    missing: list[str] = []  # SOP Instance UIDs, at most prefetch_missing_named_max
    ignored: int = 0  # answers beyond what was asked
    notes: list[str] = []  # what an operator should know and no fault is
    completed: int = 0  # sub-operations by the archive's own counts
    failed: int = 0
    warnings: int = 0
    unasked: list[str] = []  # SOP Instance UIDs that arrived and were not promised; as `missing`
    unasked_count: int = 0
    unaskable: list[str] = []  # studies and series that have a UID no key can say; as `missing`
    unaskable_count: int = 0

    def total(self, field: str) -> int:
        """The sum of one of StudyProgress's numbers."""
        return sum(getattr(study, field) for study in self.studies)


class Job(msgspec.Struct, array_like=True):
    """One prefetch. Times are nanoseconds since 1970; `seconds` is time spent, all attempts."""

    number: int
    rule: str
    ask: Ask
    trigger_sop_instance_uid: str
    trigger_calling_ae_title: str
    state: JobState
    created_ns: int
    due_ns: int
    latest_due_ns: int  # instances that still arrive defer it no further
    changed_ns: int
    attempts: int = 0
    interruptions: int = 0  # the process that worked on it died
    seconds: float = 0.0
    reason: str = ""
    progress: Progress = msgspec.field(default_factory=Progress)


class Fetched(msgspec.Struct, frozen=True, array_like=True):
    """A study that came by a prefetch. `used_ns` 0: not used since. `fetched_ns` 0: its job is
    under way, nothing is known to have come, and it was used already."""

    job: int
    instances: int
    fetched_ns: int
    used_ns: int = 0


class Passing(msgspec.Struct, frozen=True, array_like=True):
    """A study that is being fetched, and who else gets what arrives of it from `since_ns` on."""

    job: int
    since_ns: int
    to: tuple[str, ...]
    patient_id: str = ""  # whose; "" in what 0.2.0 wrote


class Totals(msgspec.Struct, frozen=True):
    """Studies fetched and, of these, used: the hit rate's two numbers."""

    fetched: int
    used: int


encode: Final = msgspec.msgpack.Encoder().encode
decode_job: Final = decoder(Job)
decode_fetched: Final = decoder(Fetched)
decode_passing: Final = decoder(Passing)


def job_of(key: bytes, value: bytes) -> Job:
    """A stored job. IndexDamagedError: it says another number than its key, so that whoever goes
    on from it would not come to an end."""
    job = decode_job(value)
    if key != NUMBER.pack(job.number):
        raise IndexDamagedError("a job under the number of another")
    return job


NEXT_NUMBER: Final = b"next"
FETCHED_TOTAL: Final = b"fetched"
USED_TOTAL: Final = b"used"


def state_key(state: JobState) -> bytes:
    """Of the number of jobs in a state."""
    return b"state\0" + bytes((state,))


def trigger_key(rule: str, study_uid: str, patient_id: str) -> bytes:
    """The name of a rule is bounded, a study's UID came from a peer and is not. Two patients with
    one UID have a job each."""
    return lmdb_key(b"t", f"{rule}\0{study_uid}\0{patient_id}", index_key_bytes_max)


def trigger_key_before(rule: str, study_uid: str) -> bytes:
    """As 0.2.0 wrote it, without the patient."""
    return lmdb_key(b"t", f"{rule}\0{study_uid}", index_key_bytes_max)


def passing_key(study_uid: str, patient_id: str) -> bytes:
    """Without a patient as 0.2.0 wrote it."""
    return lmdb_key(b"u", f"{study_uid}\0{patient_id}" if patient_id else study_uid)
