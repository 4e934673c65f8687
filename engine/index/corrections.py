"""The user's corrections of patient, study and series information: whose they are, how they lie.

A correction belongs to a patient (as received: Patient ID and issuer), to a study of a patient, or
to a patient's series; what another patient has under the same UIDs is never touched by it.
It stands beside what was received, never in its place: the stored file and the received attributes
stay as they are, and what is shown, found and sent carries the correction (`Study.value()`). One
made for a patient holds for every study that comes with that patient's identifier, also for later
ones. One made for a study is stronger, since it was made with that study in view. Who changed what,
when, and from what to what, is kept for good in `edits`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from engine.dictionary import attributes
from engine.dictionary.attributes import BY_KEYWORD, BY_TAG, Attribute, Level
from engine.dictionary.patient_mark import patient_identity
from engine.errors import OperatorError
from engine.index.keys import lmdb_key
from engine.index.records import Series, Study
from engine.index.rows import Packing, decoder

EDIT_KEY: Final = Packing(">QI")
_NOT_EDITED: Final = frozenset(
    {
        attributes.SPECIFIC_CHARACTER_SET,
        attributes.STUDY_INSTANCE_UID,
        attributes.SERIES_INSTANCE_UID,
    }
)
# Whose a study is.
IDENTITY: Final = frozenset({attributes.PATIENT_ID, attributes.ISSUER_OF_PATIENT_ID})
Whose = Literal["patient", "study", "series"]
# The levels of the attributes that may be corrected for each.
LEVELS: Final[Mapping[Whose, frozenset[Level]]] = {
    "patient": frozenset({Level.PATIENT}),
    "study": frozenset({Level.PATIENT, Level.STUDY}),
    "series": frozenset({Level.SERIES}),
}


class Target(NamedTuple):
    """Whose information is corrected: a patient (identifier and issuer as received), a study, or
    all series of a UID. `patient`: the Patient ID, and `issuer` its issuer, of whose study or
    series it is; None: of the one patient who has that UID."""

    whose: Whose
    identifier: str
    issuer: str = ""
    patient: str | None = None


class Edit(msgspec.Struct, frozen=True, array_like=True):
    """One change of one attribute. `new` None: the correction was withdrawn."""

    whose: Whose
    identifier: str
    issuer: str
    keyword: str
    old: str
    new: str | None
    who: str
    when_ns: int
    patient: str | None = None  # None also in what 0.2.0 wrote

    @classmethod
    def of(
        cls, target: Target, tag: int, old: str, new: str | None, who: str, when_ns: int
    ) -> "Edit":
        whose, identifier, issuer, patient = target
        return cls(whose, identifier, issuer, BY_TAG[tag].keyword, old, new, who, when_ns, patient)

    @property
    def target(self) -> Target:
        return Target(self.whose, self.identifier, self.issuer, self.patient)


decode_values: Final = decoder(dict[int, str])
decode_edit: Final = decoder(Edit)


def key_of(target: Target) -> bytes:
    """The key in `corrections`."""
    if target.whose == "patient":
        identity = patient_identity(target.identifier, target.issuer)
    else:
        identity = target.identifier
        if target.patient is not None:
            identity += "\0" + patient_identity(target.patient, target.issuer)
    return lmdb_key(target.whose[:2].encode("ascii") + b"\0", identity)


def given_prefix(identity: str) -> bytes:
    """In `given_studies`, of all studies received as a patient's (patient_identity()) of which
    corrections of their own say whose they are."""
    return identity.encode("utf-8", "surrogatepass") + b"\0"


def given_row(key: bytes, values: Mapping[int, str]) -> tuple[bytes, bytes] | None:
    """The (key, value) in `given_studies` for a row of `corrections`, None for any other. The value
    is empty where the study's own corrections leave it to its patient."""
    kind, _, rest = key.partition(b"\0")
    uid, _, identity = rest.partition(b"\0")
    if kind != b"st" or not identity:
        return None
    return identity + b"\0" + uid, uid if IDENTITY & values.keys() else b""


def patient_of(study: Study) -> Target:
    """The patient a study belongs to, as received."""
    received = study.patient_attributes
    return Target(
        "patient",
        received.get(attributes.PATIENT_ID, ""),
        received.get(attributes.ISSUER_OF_PATIENT_ID, ""),
    )


def study_of(study: Study) -> Target:
    """That study, and nobody else's of its UID."""
    patient = patient_of(study)
    return Target("study", study.uid, patient.issuer, patient.identifier)


def series_of(study: Study, series: Series) -> Target:
    """The series of that UID that this patient has."""
    patient = patient_of(study)
    return Target("series", series.uid, patient.issuer, patient.identifier)


Lookup = Callable[[bytes], bytes | None]


def values_at(look_up: Lookup, target: Target) -> dict[int, str]:
    """{tag: text} of the corrections made for a target."""
    stored = look_up(key_of(target))
    return {} if stored is None else decode_values(stored)


def for_study(look_up: Lookup, study: Study) -> dict[int, str]:
    """What holds for a study: its patient's corrections, and over them its own."""
    own = values_at(look_up, study_of(study)) if study.uid else {}
    return values_at(look_up, patient_of(study)) | own


def for_series(look_up: Lookup, study: Study, series: Series) -> dict[int, str]:
    """What holds for a series of that study."""
    return values_at(look_up, series_of(study, series)) if series.uid else {}


def to_be_sent(study: Study, series: Series) -> dict[int, str]:
    """{tag: text} that an instance of this series is sent with in place of what its file says."""
    if not study.corrections and not series.corrections:
        return {}
    return study.corrections | series.corrections


# --- what an operator asks for ------------------------------------------------------------------
def editable(whose: Whose) -> Iterator[Attribute]:
    """The attributes that may be corrected there."""
    for attribute in BY_KEYWORD.values():
        if attribute.level in LEVELS[whose] and attribute.tag not in _NOT_EDITED:
            yield attribute


def attribute_to_edit(whose: Whose, keyword: str) -> Attribute:
    """The attribute of that keyword, or OperatorError."""
    attribute = BY_KEYWORD.get(keyword)
    if attribute is None or attribute not in tuple(editable(whose)):
        possible = ", ".join(sorted(one.keyword for one in editable(whose)))
        raise OperatorError(f"cannot be corrected for a {whose}; what can be: {possible}", keyword)
    return attribute


def check_value(attribute: Attribute, text: str) -> str:
    """The value without its padding, or OperatorError: it must be one that peers will take."""
    from pydicom import config
    from pydicom.valuerep import validate_value

    value = text.strip(" ")
    if "\\" in value or any(ord(character) < 0x20 for character in value):
        raise OperatorError(
            "one value without backslashes or control characters", attribute.keyword
        )
    if value:
        try:
            validate_value(attribute.vr, value, config.RAISE)
        except ValueError as error:
            raise OperatorError(
                f"{value!r} is no value of its kind ({attribute.vr}): {error}", attribute.keyword
            ) from error
    return value
