"""What a message wants: its event and its fields as instructions in the index's own words.

    message                                         instruction
    ADT A08, A31                                    Update: PID-3, what PID says of the patient
    ADT A18, A34, A40, A47                          Merge: MRG-1 becomes PID-3
    ADT A35 (account numbers only)                  nothing: no image is known by an account
    ORM O01, OMG O19, OMI O23                       Order: study information by accession number

A message may name a patient by several identifiers, and a hospital's own authority may stand for
images without any issuer (`Terms.local_authorities`): there is one instruction for each.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from engine.dictionary.attributes import (
    ACCESSION_NUMBER,
    BY_KEYWORD,
    BY_TAG,
    PATIENT_NAME,
)
from engine.errors import OperatorError
from engine.hl7 import values
from engine.hl7.message import Message, Segment, repeated
from engine.hl7.refusal import ErrorCode, RefusedError
from engine.hl7.values import Identity
from engine.index.corrections import check_value
from engine.settings.values import HL7_MESSAGES

Reading = Callable[[Segment, int], str | None]

UPDATES: Final = frozenset({"ADT^A08", "ADT^A31"})
MERGES: Final = frozenset({"ADT^A18", "ADT^A34", "ADT^A40", "ADT^A47"})
ACCOUNTS: Final = frozenset({"ADT^A35"})
ORDERS: Final = frozenset({"ORM^O01", "OMG^O19", "OMI^O23"})
KINDS: Final = tuple(sorted(UPDATES | MERGES | ACCOUNTS | ORDERS))
assert set(KINDS) == set(HL7_MESSAGES), "what may be set is what is understood"

# PID field -> the attribute, and how it is read.
_PATIENT_FIELDS: Final[Mapping[int, tuple[int, Reading]]] = {
    5: (PATIENT_NAME, values.patient_name),
    7: (BY_KEYWORD["PatientBirthDate"].tag, values.date),
    8: (BY_KEYWORD["PatientSex"].tag, values.sex),
}
_REFERRING: Final = BY_KEYWORD["ReferringPhysicianName"].tag
_DESCRIPTION: Final = BY_KEYWORD["StudyDescription"].tag
# HL7 table 0119: orders that say how the study is to be described. All others (cancelled, held,
# discontinued, refused) say nothing of images that were made.
_SPEAKING_CONTROLS: Final = frozenset(
    {"NW", "SN", "NA", "OK", "XO", "XX", "XR", "RO", "RU", "SC", "PA", "CH"}
)


class Terms(NamedTuple):
    """What the operator has decided."""

    messages: tuple[str, ...] = KINDS
    senders: tuple[str, ...] = ()  # application, or application/facility; empty: everybody
    local_authorities: tuple[str, ...] = ()
    character_set: str = "ASCII"
    accession_field: str = "OBR-18"
    acknowledge_others: bool = False
    outgoing_sets: tuple[str, ...] = ()  # what every remote AE takes beyond the statement's


class Update(NamedTuple):
    """What holds for a patient from now on: {tag: text}."""

    patient: Identity
    values: dict[int, str]


class Merge(NamedTuple):
    """The first was the second all along. `values`: what the message says of him."""

    prior: Identity
    surviving: Identity
    values: dict[int, str]


class Order(NamedTuple):
    """What holds for a patient's studies of an accession number, or for one study of them."""

    patient: Identity
    accession: str
    study_uid: str  # "": whichever has that accession number
    values: dict[int, str]


Instruction = Update | Merge | Order


def instructions_of(message: Message, terms: Terms) -> list[Instruction]:
    """Everything a message wants, in its order; nothing, where it is only acknowledged.

    RefusedError: it is not for us, or something in it is wrong."""
    header = message.header
    senders = (header.sending_application, header.sender)
    if terms.senders and not any(sender in terms.senders for sender in senders):
        raise RefusedError(
            "this sender is not accepted", ErrorCode.TABLE_VALUE, "MSH-3", answer="AR"
        )
    kind = header.kind
    if kind not in terms.messages:
        if terms.acknowledge_others:
            return []
        known = any(each.startswith(f"{header.message_type}^") for each in terms.messages)
        code = ErrorCode.UNSUPPORTED_EVENT if known else ErrorCode.UNSUPPORTED_MESSAGE
        raise RefusedError("messages of this kind are not taken", code, "MSH-9", answer="AR")
    if kind in UPDATES:
        patient = message.only("PID")
        patients, said = _patients(patient, terms), _said_of(patient)
        return [Update(each, said) for each in patients] if said else []
    if kind in ORDERS:
        return list(_orders(message, terms))
    return list(_merges(message, terms))


def _patients(segment: Segment, terms: Terms) -> list[Identity]:
    """Who PID-3 or MRG-1 names. RefusedError: nobody."""
    field = 1 if segment.name == "MRG" else 3
    found = values.patient_identifiers(segment.repetitions(field))
    if not found:
        raise RefusedError(
            "no identifier that a hospital gives to a patient",
            ErrorCode.REQUIRED_FIELD_MISSING,
            f"{segment.name}-{field}",
        )
    return [each for one in found for each in _meanings(one, terms)]


def _meanings(one: Identity, terms: Terms) -> Iterator[Identity]:
    """An identifier as images carry it."""
    yield one
    if one.issuer and one.issuer in terms.local_authorities:
        yield Identity(one.identifier)


def _said_of(segment: Segment) -> dict[int, str]:
    """{tag: text} of what PID says."""
    said = {}
    for field, (tag, read) in _PATIENT_FIELDS.items():
        text = read(segment, field)
        if text is not None:
            said[tag] = _checked(tag, text, f"PID-{field}")
    return said


def _checked(tag: int, text: str, place: str) -> str:
    """As the user's own correction is checked."""
    try:
        return check_value(BY_TAG[tag], text)
    except OperatorError as error:
        raise RefusedError("no value that DICOM takes", ErrorCode.DATA_TYPE, place) from error


# --- merges -------------------------------------------------------------------------------------
def _merges(message: Message, terms: Terms) -> Iterator[Merge]:
    """Each PID with the MRG that follows it; A40 may have several pairs."""
    pairs: list[tuple[Segment, list[Segment]]] = []
    for segment in message.segments:
        if segment.name == "PID":
            pairs.append((segment, []))
        elif segment.name == "MRG" and pairs:
            pairs[-1][1].append(segment)
    if not pairs:
        message.only("PID")
    for patient, priors in pairs:
        if not priors:
            text = "the segment is missing"
            raise RefusedError(text, ErrorCode.REQUIRED_FIELD_MISSING, "MRG")
        if message.header.kind in ACCOUNTS:
            _check_accounts(patient, priors)
            continue
        said = _said_of(patient)
        for prior in priors:
            yield from _pair(prior, patient, said, terms)


def _check_accounts(patient: Segment, priors: Sequence[Segment]) -> None:
    """Accounts of one patient: who names two would have us move images by a message that does not
    mean that."""
    own = {one.key for one in values.patient_identifiers(patient.repetitions(3))}
    others = {one.key for one in values.patient_identifiers(repeated(list(priors), 1))}
    if others - own:
        raise RefusedError(
            "an event of accounts names two patients: A40 merges them",
            ErrorCode.UNKNOWN_KEY,
            "MRG-1",
        )


def _pair(prior: Segment, patient: Segment, said: dict[int, str], terms: Terms) -> Iterator[Merge]:
    """By authority: an identifier becomes the one that the same authority gives."""
    survivors = values.patient_identifiers(patient.repetitions(3))
    priors = values.patient_identifiers(prior.repetitions(1))
    for segment, found in ((patient, survivors), (prior, priors)):
        if not found:
            _patients(segment, terms)  # says what is missing
    for old in priors:
        same = [new for new in survivors if new.issuer == old.issuer]
        candidates = same or (survivors if len(survivors) == len(priors) == 1 else [])
        if len(candidates) != 1:
            raise RefusedError(
                "it cannot be told which identifier of PID-3 takes its place",
                ErrorCode.UNKNOWN_KEY,
                "MRG-1",
            )
        new = candidates[0]
        for meant in _meanings(old, terms):
            # Images that carry no issuer go on carrying none.
            local = not meant.issuer and new.issuer in terms.local_authorities
            surviving = Identity(new.identifier) if local else new
            if meant.key != surviving.key:
                yield Merge(meant, surviving, said)


# --- orders -------------------------------------------------------------------------------------
def _orders(message: Message, terms: Terms) -> Iterator[Order]:
    """Each ORC with its OBR, IPC and ZDS."""
    patients = _patients(message.only("PID"), terms)
    visits = message.named("PV1")
    referring = values.person_name(visits[0], 8) if visits else None
    groups: list[list[Segment]] = []
    for segment in message.segments:
        if segment.name == "ORC" or (segment.name == "OBR" and not groups):
            groups.append([])
        if groups:
            groups[-1].append(segment)
    if not groups:
        message.only("ORC")
    for group in groups:
        order = _order(group, referring, terms.accession_field)
        if order is not None:
            yield from (order._replace(patient=patient) for patient in patients)


def _order(group: Sequence[Segment], referring: str | None, field: str) -> Order | None:
    by_name = {segment.name: segment for segment in reversed(group)}
    control = by_name["ORC"].text(1).upper() if "ORC" in by_name else "NW"
    if control not in _SPEAKING_CONTROLS:
        return None
    accession, place = _accession(by_name, field)
    if not accession:
        raise RefusedError("no accession number", ErrorCode.REQUIRED_FIELD_MISSING, place)
    _checked(ACCESSION_NUMBER, accession, place)
    said = {}
    procedure = values.text_of(by_name["OBR"], 4, (2, 5)) if "OBR" in by_name else None
    if "OBR" in by_name:
        procedure = values.text_of(by_name["OBR"], 44, (2, 5)) or procedure
    for tag, text, where in ((_DESCRIPTION, procedure, "OBR-4"), (_REFERRING, referring, "PV1-8")):
        if text is not None:
            said[tag] = _checked(tag, text, where)
    return Order(Identity(""), accession, _study_uid(by_name), said)


def _accession(by_name: Mapping[str, Segment], field: str) -> tuple[str, str]:
    """IPC-1 where there is one (OMI), else the field that the operator names; OBR-18 as IHE's
    Scheduled Workflow has it."""
    if "IPC" in by_name and by_name["IPC"].text(1):
        return by_name["IPC"].text(1), "IPC-1"
    name, _, number = field.partition("-")
    return (by_name[name].text(int(number)) if name in by_name else ""), field


def _study_uid(by_name: Mapping[str, Segment]) -> str:
    uid = by_name["IPC"].text(3) if "IPC" in by_name else ""
    uid = uid or (by_name["ZDS"].text(1) if "ZDS" in by_name else "")
    values.check_text(uid, "ZDS-1")
    return uid
