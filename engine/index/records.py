"""What the index holds: the records, their keys, and the names of its tables.

    table       key                                      value
    meta        "format", "numbers", "journal\\0" name    text, Numbers, Position
                "replace\\0" name                        text: what may replace (engine/intake)
    patients    u32                                      Patient
    patient_ids patient id, NUL, issuer                  u32 of the patient
    studies     u32                                      Study
    study_uids  StudyInstanceUID, NUL, u32 of the study  u32 of the study, u32 of its patient
    series      u32                                      Series
    series_uids SeriesInstanceUID, NUL, u32 of the study u32 of the series
    members     u32 of the study, u32 of the series      empty
    instances   u32 of the series, u64 row               Instance
    sop_uids    SOPInstanceUID (, NUL, mark)             key in `instances`
    words       kind, normal form, NUL, u32 of the study empty
    removals    path in the tree                         empty
    corrections whose (engine/index/corrections.py)      {tag: text}
    edits       u64 of the time in ns, u32               Edit
    given_studies patient as received, NUL, study's UID  that UID: its own corrections say whose

A study is one patient's: two patients whose studies have one UID have two studies. An instance
without a Study Instance UID is a study of its own, known by its SOP Instance UID (`Study.alone`);
that stands in `study_uids` behind a NUL. An instance is known by its SOP Instance UID and its mark:
none, but where another patient's instance has that UID already; then it is the patient's mark
(engine/dictionary/patient_mark.py), which is in the file's name, too.

Format 1 had one study for each UID, whoever's it was; engine/index/migration.py brings it here.
`meta` "unparted" is the number from which on no study can hold more than one patient's instances.

The tables of the outbox, `deliveries` and those after it, are told in engine/outbox/records.py,
those of prefetching in engine/prefetch/records.py, what is expected of studies that may come in
engine/index/expected.py, the messages that were answered in engine/hl7/store.py, and what is
remembered of studies that were removed in engine/index/tombstones.py; who wants which kept, in
engine/index/pins.py.

Studies and series are numbered so that the instances of one series lie side by side: taking in a
series appends to one leaf page, however many millions there are. `words` are the secondary keys,
all of them to studies: kinds P patient id, N name group, A accession number, D date and time,
M modality. All numbers in keys are big endian, so that they sort. `removals` are files whose
instance is gone from the index but which may still lie in the tree.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from engine.dictionary import attributes, matching
from engine.dictionary.patient_mark import MARK_CHARACTERS, mark_of, patient_identity
from engine.index.keys import lmdb_key
from engine.index.rows import Packing, decoder
from engine.limits import index_key_bytes_max

FORMAT: Final = b"2"
FORMAT_BEFORE: Final = b"1"  # what 0.2.0 wrote: read as it is, migrated before anything is written
TABLES: Final = (
    "meta",
    "patients",
    "patient_ids",
    "studies",
    "study_uids",
    "series",
    "series_uids",
    "members",
    "instances",
    "sop_uids",
    "words",
    "removals",
    "corrections",
    "edits",
    "deliveries",
    "delivery_queue",
    "delivery_targets",
    "delivery_studies",
    "delivery_ranks",
    "delivery_files",
    "outbox",
    "prefetch_jobs",
    "prefetch_due",
    "prefetch_triggers",
    "prefetch_studies",
    "prefetch_passing",
    "prefetch_arrivals",
    "prefetch_totals",
    "expected",
    "expected_ages",
    "patient_aliases",
    "correction_times",
    "given_studies",
    "hl7_messages",
    "hl7_message_ages",
    "delivered_instances",
    "tombstones",
    "tombstone_ages",
    "removed",
    "pins",
)

NUMBER: Final = Packing(">I")
PAIR: Final = Packing(">II")
INSTANCE_KEY: Final = Packing(">IQ")
_suffix_bytes: Final = 1 + NUMBER.size
MARKED: Final = b"v"
UNPARTED: Final = b"unparted"
POLICY: Final = b"replace\0"

PATIENT_ID_WORD: Final = b"P"
NAME_WORD: Final = b"N"
ACCESSION_WORD: Final = b"A"
DATE_WORD: Final = b"D"
MODALITY_WORD: Final = b"M"


class Numbers(msgspec.Struct, array_like=True):
    """The next free ones."""

    patient: int = 1
    study: int = 1
    series: int = 1
    row: int = 1


class Position(msgspec.Struct, frozen=True, array_like=True):
    """How far a journal has been taken in.

    `applied`: in the index. `checkpointed`: and synced in the tree, so no longer needed. `identity`
    is the prologue of the record `applied`: a journal that lost its end in a power cut numbers
    other records alike, and is told by it.
    """

    applied: int = 0
    checkpointed: int = 0
    identity: bytes = b""


class Patient(msgspec.Struct, array_like=True):
    patient_id: str
    issuer: str
    attributes: dict[int, str]
    studies: int = 0


class Study(msgspec.Struct, array_like=True):
    """Patient attributes stand here as this study has them; `modalities` counts series.

    Attributes are as received; `corrections` holds what the user has put in their place.
    """

    uid: str
    patient: int
    patient_attributes: dict[int, str]
    attributes: dict[int, str]
    modalities: dict[str, int]
    series: int = 0
    instances: int = 0
    file_bytes: int = 0
    first_received_ns: int = 0
    last_received_ns: int = 0
    corrections: dict[int, str] = {}
    alone: str = ""  # SOP Instance UID of the one instance of a study without a UID

    def value(self, tag: int) -> str:
        """An attribute of the study or of its patient, as it is to be shown."""
        if tag in self.corrections:
            return self.corrections[tag]
        return self.patient_attributes.get(tag) or self.attributes.get(tag, "")

    @property
    def patient_mark(self) -> str:
        """Whose it is, as received."""
        return mark_of(self.patient_attributes)

    def values(self) -> dict[int, str]:
        """All of them, empty ones left out."""
        return shown(self.patient_attributes | self.attributes, self.corrections)


class Series(msgspec.Struct, array_like=True):
    uid: str
    study: int
    attributes: dict[int, str]
    instances: int = 0
    file_bytes: int = 0
    first_received_ns: int = 0
    last_received_ns: int = 0
    character_set_broken: bool = False
    corrections: dict[int, str] = {}

    @property
    def modality(self) -> str:
        return self.value(attributes.MODALITY)

    def value(self, tag: int) -> str:
        """An attribute of the series, as it is to be shown."""
        if tag in self.corrections:
            return self.corrections[tag]
        return self.attributes.get(tag, "")

    def values(self) -> dict[int, str]:
        """All of them, empty ones left out."""
        return shown(self.attributes, self.corrections)


def shown(received: dict[int, str], corrections: dict[int, str]) -> dict[int, str]:
    """What was received with the user's corrections in its place."""
    if not corrections:
        return received
    return {tag: text for tag, text in (received | corrections).items() if text}


class Instance(msgspec.Struct, frozen=True, array_like=True):
    """One stored instance; its path follows from the UIDs (engine/files/tree.py)."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    file_bytes: int
    file_crc32c: int
    received_ns: int
    calling_ae_title: str
    called_ae_title: str
    peer: str
    journal: str
    sequence: int
    attributes: dict[int, str]
    mark: str = ""  # the patient's, where another patient has the plain name


encode: Final = msgspec.msgpack.Encoder().encode
decode_numbers: Final = decoder(Numbers)
decode_position: Final = decoder(Position)
decode_patient: Final = decoder(Patient)
decode_study: Final = decoder(Study)
decode_series: Final = decoder(Series)
decode_instance: Final = decoder(Instance)


def uid_key(uid: str) -> bytes:
    """The letter makes the key of an empty UID a legal one."""
    return lmdb_key(b"u", uid)


def instance_uid_key(sop_instance_uid: str, mark: str) -> bytes:
    """In `sop_uids`. Marked ones have a letter of their own: a UID may hold anything."""
    if not mark:
        return uid_key(sop_instance_uid)
    return marked_prefix(sop_instance_uid) + mark.encode("ascii")


def marked_prefix(sop_instance_uid: str) -> bytes:
    """Of the keys of all marked instances of a UID."""
    limit = index_key_bytes_max - 1 - MARK_CHARACTERS
    return lmdb_key(MARKED, sop_instance_uid, limit) + b"\0"


def study_uid_key(uid: str, alone: str, study: int) -> bytes:
    return study_uid_prefix(uid, alone) + NUMBER.pack(study)


def study_uid_prefix(uid: str, alone: str = "") -> bytes:
    """No UID begins with a NUL: padding is taken from its ends."""
    text = uid or "\0" + alone
    return lmdb_key(b"u", text, index_key_bytes_max - _suffix_bytes) + b"\0"


def series_uid_key(series_uid: str, study: int) -> bytes:
    return series_uid_prefix(series_uid) + NUMBER.pack(study)


def series_uid_prefix(series_uid: str) -> bytes:
    return lmdb_key(b"u", series_uid, index_key_bytes_max - _suffix_bytes) + b"\0"


def patient_key(patient_id: str, issuer: str) -> bytes:
    return lmdb_key(b"p", patient_identity(patient_id, issuer))


def journal_key(journal: str) -> bytes:
    return lmdb_key(b"journal\0", journal)


def policy_key(journal: str) -> bytes:
    return lmdb_key(POLICY, journal)


def word_key(kind: bytes, text: str, study: int) -> bytes:
    return word_prefix(kind, text) + b"\0" + NUMBER.pack(study)


def word_prefix(kind: bytes, text: str) -> bytes:
    return lmdb_key(kind, text, index_key_bytes_max - _suffix_bytes)


def study_of_word(key: bytes) -> int:
    number: int = NUMBER.unpack_from(key, len(key) - NUMBER.size)[0]
    return number


def study_words(number: int, study: Study) -> Iterator[bytes]:
    """The keys in `words` under which a study is found."""
    patient_id = matching.pid(study.value(attributes.PATIENT_ID))
    if patient_id:
        yield word_key(PATIENT_ID_WORD, patient_id, number)
    for group in matching.pn_groups(study.value(attributes.PATIENT_NAME)):
        if group:
            yield word_key(NAME_WORD, group, number)
    accession = matching.plain(study.value(attributes.ACCESSION_NUMBER))
    if accession:
        yield word_key(ACCESSION_WORD, accession, number)
    yield word_key(DATE_WORD, date_word(study), number)
    yield from modality_words(number, study)


def modalities_of(study: Study) -> list[str]:
    """Each once: a series may say several, parted by backslashes, though it should say one."""
    said = (part.strip() for modality in study.modalities for part in modality.split("\\"))
    return sorted({part for part in said if part})


def modality_words(number: int, study: Study) -> Iterator[bytes]:
    """The keys in `words` of its modalities."""
    for modality in modalities_of(study):
        yield word_key(MODALITY_WORD, modality, number)


def date_word(study: Study) -> str:
    """Sorts by time; a study without a date comes before all others."""
    date = matching.date_key(study.value(attributes.STUDY_DATE))
    return date and date + matching.time_key(study.value(attributes.STUDY_TIME))
