"""What was said of patients and orders before their studies came, kept until they come.

A message about a patient (or about an order) says what holds for every study of his (of that
accession number), also for one that arrives later. As long as no study differs from it there is
nothing to correct, so it stands here, and is forgotten some days later (engine/hl7/store.py). When
a study arrives that differs, the transaction that takes it into the index makes the correction of
it, with its history: so nothing of that study is ever shown or sent without.

    table             key                                        value
    expected          kind, identity (, accession, study UID)     Expectation
    expected_ages     u64 of the time received in ns, u32        key in `expected`
    patient_aliases   patient shown, NUL, mark of the received   Patient ID, issuer as received
    correction_times  key in `corrections`                       {tag: ns of what it was made by}

`patient_aliases` tell which received identifiers are another patient's by a message; studies tell
it of themselves, this is for those that are not here. `correction_times` let what happened later
win, whatever comes first.
"""

from collections.abc import Callable, Iterator
from typing import Final, Literal

import msgspec

from engine.dictionary.attributes import ACCESSION_NUMBER, ISSUER_OF_PATIENT_ID, PATIENT_ID
from engine.dictionary.matching import plain
from engine.dictionary.patient_mark import MARK_CHARACTERS, patient_identity, patient_mark
from engine.index import corrections
from engine.index.corrections import Target
from engine.index.keys import lmdb_key
from engine.index.records import Study
from engine.index.rows import decoder
from engine.limits import index_key_bytes_max

Kind = Literal["patient", "order"]


class Expectation(msgspec.Struct, array_like=True):
    """What holds for studies that may come. A patient is named as received, an order's patient as
    he is shown."""

    kind: Kind
    patient_id: str
    issuer: str
    values: dict[int, str]
    times: dict[int, int]  # {tag: when it happened that says so, ns}
    who: str
    received_ns: int  # when its last message came
    accession: str = ""
    study_uid: str = ""
    age: bytes = b""  # its key in `expected_ages`

    @property
    def key(self) -> bytes:
        """In `expected`."""
        if self.kind == "patient":
            return patient_key(self.patient_id, self.issuer)
        return order_key(self.patient_id, self.issuer, self.accession, self.study_uid)


encode: Final = msgspec.msgpack.Encoder().encode
decode_expectation: Final = decoder(Expectation)
decode_alias: Final = decoder(tuple[str, str])
decode_times: Final = decoder(dict[int, int])
Lookup = Callable[[str, bytes], bytes | None]


def patient_key(patient_id: str, issuer: str) -> bytes:
    """Of what is expected of a patient, as received."""
    return lmdb_key(b"pa\0", patient_identity(patient_id, issuer))


def order_prefix(patient_id: str, issuer: str) -> bytes:
    """Of all orders of a patient, as shown."""
    return lmdb_key(b"or\0", f"{patient_identity(patient_id, issuer)}\0")


def order_key(patient_id: str, issuer: str, accession: str, study_uid: str) -> bytes:
    """Of what is expected of a patient's accession number, or of one study of it."""
    identity = patient_identity(patient_id, issuer)
    return lmdb_key(b"or\0", f"{identity}\0{plain(accession)}\0{study_uid}")


def alias_prefix(patient_id: str, issuer: str) -> bytes:
    """Of all that are this patient by a message."""
    limit = index_key_bytes_max - 1 - MARK_CHARACTERS
    return lmdb_key(b"p", patient_identity(patient_id, issuer), limit) + b"\0"


def alias_key(shown: tuple[str, str], received: tuple[str, str]) -> bytes:
    """Both as (Patient ID, issuer)."""
    return alias_prefix(*shown) + patient_mark(*received).encode("ascii")


def times_at(look_up: Lookup, target: Target) -> dict[int, int]:
    """{tag: ns} of what a target's corrections were made by."""
    stored = look_up("correction_times", corrections.key_of(target))
    return {} if stored is None else decode_times(stored)


def that_differ(
    look_up: Lookup, study: Study
) -> Iterator[tuple[Target, Expectation, dict[int, str]]]:
    """What is expected of a study and is not so: whose correction it has to become, the
    expectation, and {tag: text}. The order's comes second, since the patient's says whose it is."""
    patient = corrections.patient_of(study)
    received = look_up("expected", patient_key(patient.identifier, patient.issuer))
    if received is not None:
        yield from _of(look_up, study, patient, decode_expectation(received))
    accession = study.value(ACCESSION_NUMBER)
    if not accession or not study.uid:
        return  # a study without a UID is corrected by its patient alone
    shown = study.value(PATIENT_ID), study.value(ISSUER_OF_PATIENT_ID)
    for uid in ("", study.uid):
        stored = look_up("expected", order_key(*shown, accession, uid))
        if stored is not None:
            yield from _of(look_up, study, corrections.study_of(study), decode_expectation(stored))


def _of(
    look_up: Lookup, study: Study, target: Target, expected: Expectation
) -> Iterator[tuple[Target, Expectation, dict[int, str]]]:
    later = times_at(look_up, target)
    differing = {
        tag: text
        for tag, text in expected.values.items()
        if study.value(tag) != text and expected.times.get(tag, 0) >= later.get(tag, 0)
    }
    if differing:
        yield target, expected, differing
