"""What an instruction changes: its corrections, and what is kept for studies that may come.

Whom a message means is decided by what is shown: a study is a patient's whose identifier (issuer
and Patient ID) it shows, by what was received or by a correction. Corrections are made for the
identifier received, as the user's are, so they hold for later studies too.

- What a message says is compared with what happened last (`Sheet.times`): an older one that comes
  later does not win, attribute by attribute. Of the same second the one that comes later wins.
- What no study contradicts is only kept (engine/index/expected.py), since a correction would change
  nothing; it becomes one when a study comes that contradicts it.
- A correction that was made for one study is stronger than what a message says of its patient. But
  when its patient becomes another, all of it does: identifier and name are never of two people.
- A study that a correction of its own has given to another patient does not change with the one
  whom it was received as.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from engine.dictionary.attributes import (
    BY_KEYWORD,
    ISSUER_OF_PATIENT_ID,
    PATIENT_ID,
    PATIENT_NAME,
)
from engine.hl7.instructions import Instruction, Merge, Order, Update
from engine.hl7.sheet import Numbered, Sheet
from engine.hl7.values import Identity
from engine.index import corrections, expected
from engine.index.corrections import IDENTITY, Target
from engine.index.expected import Expectation

_DEMOGRAPHIC: Final = (
    PATIENT_NAME,
    BY_KEYWORD["PatientBirthDate"].tag,
    BY_KEYWORD["PatientSex"].tag,
)


def apply(sheet: Sheet, instructions: Iterable[Instruction], happened_ns: int) -> None:
    """Write down what they change. `happened_ns`: when what the message tells happened."""
    strangers = 0
    for instruction in instructions:
        if isinstance(instruction, Update):
            _update(sheet, instruction, happened_ns)
        elif isinstance(instruction, Merge):
            _merge(sheet, instruction, happened_ns)
        else:
            strangers += _order(sheet, instruction, happened_ns)
    if strangers and not sheet.matched:
        sheet.notes.append("another patient has this accession number: it is left alone")


# --- a patient ----------------------------------------------------------------------------------
def _update(sheet: Sheet, update: Update, happened_ns: int) -> None:
    patient = update.patient
    if _now_shown(sheet, patient).key != patient.key:
        sheet.notes.append("the identifier was merged into another one: nothing is changed")
        return
    _tell(sheet, patient, update.values, dict.fromkeys(update.values, happened_ns))


def _merge(sheet: Sheet, merge: Merge, happened_ns: int) -> None:
    prior, surviving = merge.prior, merge.surviving
    # Who survives may have been merged himself, by a message that has come already.
    now = _now_shown(sheet, surviving)
    was_merged = now.key != surviving.key and (
        now.key != prior.key or _redirected_ns(sheet, surviving) > happened_ns
    )
    if was_merged:
        surviving = now
    if surviving.key == prior.key:
        sheet.notes.append("the other way round was said of a later time: nothing is changed")
        return
    if not was_merged:
        _tell(sheet, surviving, merge.values, dict.fromkeys(merge.values, happened_ns))
    values, later = dict(merge.values), dict[int, int]()
    if _now_shown(sheet, surviving).key == surviving.key:  # else he comes back by this message
        # What is known of him by now may be of a later time than what the message tells.
        values |= _known_of(sheet, surviving)
        later = _times_of(sheet, surviving)
    times = {tag: max(happened_ns, later.get(tag, 0)) for tag in values}
    values |= {PATIENT_ID: surviving.identifier, ISSUER_OF_PATIENT_ID: surviving.issuer}
    times |= dict.fromkeys(IDENTITY, happened_ns)
    moved = _tell(sheet, prior, values, times)
    for received in moved:
        sheet.put_alias(prior, received, False)
        sheet.put_alias(surviving, received, received.key != surviving.key)
    if moved:
        _move_orders(sheet, prior, surviving)


def _tell(
    sheet: Sheet, patient: Identity, values: Mapping[int, str], times: Mapping[int, int]
) -> list[Identity]:
    """Let values hold for all that is shown as a patient's; the received identifiers meant, as far
    as nothing later was said of them. `times`: when it happened that says so, for each value. With
    an identifier among the values he becomes another one, and all values go with it."""
    if not values:
        return []
    studies = sheet.studies_of(patient)
    sheet.matched |= {each.number for each in studies}
    told = []
    for received in _received_as(sheet, patient, studies):
        fresh = _fresh(sheet, received, values, times)
        # Whoever became this patient goes with him, also if he became so later than the message
        # tells of: then this patient was another one already.
        if PATIENT_ID in values and (PATIENT_ID in fresh or received.key != patient.key):
            fresh = dict(values)
        elif PATIENT_ID in values:
            continue
        if not fresh:
            sheet.notes.append("something later was said already: this changes nothing")
            continue
        told.append(received)
        own = [each for each in studies if sheet.patient_of(each.study).key == received.key]
        _pin_elsewhere(sheet, received, own, fresh)
        _correct_patient(sheet, received, own, fresh, times)
    keys = {each.key for each in told}
    for each in studies:
        goes_along = PATIENT_ID in values and sheet.patient_of(each.study).key in keys
        _correct_own(sheet, each, values, times, goes_along)
    return told


def _received_as(sheet: Sheet, patient: Identity, studies: Iterable[Numbered]) -> list[Identity]:
    """The received identifiers that are shown as a patient's, his own among them."""
    candidates = [patient, *sheet.aliases_of(patient)]
    candidates += [sheet.patient_of(each.study) for each in studies]
    found = {each.key: each for each in reversed(candidates)}
    return [each for each in found.values() if _now_shown(sheet, each).key == patient.key]


def _target(received: Identity) -> Target:
    return Target("patient", received.identifier, received.issuer)


def _known_values(sheet: Sheet, received: Identity) -> dict[int, str]:
    """What stands or is expected for a received identifier."""
    waiting = sheet.expectation(expected.patient_key(*received))
    return ({} if waiting is None else waiting.values) | sheet.values(_target(received))


def _now_shown(sheet: Sheet, received: Identity) -> Identity:
    """Whom a received identifier is shown as."""
    known = _known_values(sheet, received)
    return Identity(
        known.get(PATIENT_ID, received.identifier),
        known.get(ISSUER_OF_PATIENT_ID, received.issuer),
    )


def _times_of(sheet: Sheet, received: Identity) -> dict[int, int]:
    """{tag: when it happened that says so} of a received identifier."""
    times = dict(sheet.times(_target(received)))
    waiting = sheet.expectation(expected.patient_key(*received))
    for tag, happened_ns in ({} if waiting is None else waiting.times).items():
        times[tag] = max(times.get(tag, 0), happened_ns)
    return times


def _redirected_ns(sheet: Sheet, received: Identity) -> int:
    return _times_of(sheet, received).get(PATIENT_ID, 0)


def _fresh(
    sheet: Sheet, received: Identity, values: Mapping[int, str], times: Mapping[int, int]
) -> dict[int, str]:
    """The values of which nothing later was said."""
    later = _times_of(sheet, received)
    return {tag: text for tag, text in values.items() if later.get(tag, 0) <= times[tag]}


def _known_of(sheet: Sheet, patient: Identity) -> dict[int, str]:
    """What is known of who survives, so that nothing of the prior patient stays beside it."""
    known = dict(_known_values(sheet, patient))
    studies = sorted(sheet.studies_of(patient), key=lambda each: each.study.last_received_ns)
    for each in studies:  # the latest last
        own = sheet.own_values(each.study)
        for tag in _DEMOGRAPHIC:
            # What was corrected of one study alone, or is another one's, says nothing of him.
            if not own.keys() & (IDENTITY | {tag}):
                known[tag] = sheet.patients_value(each.study, tag)
    return {tag: known[tag] for tag in _DEMOGRAPHIC if known.get(tag)}


def _correct_patient(
    sheet: Sheet,
    received: Identity,
    studies: Iterable[Numbered],
    values: Mapping[int, str],
    times: Mapping[int, int],
) -> None:
    """Correct what a study contradicts, and keep the rest for those that come."""
    target, studies = _target(received), list(studies)
    standing = sheet.values(target)
    key = expected.patient_key(*received)
    waiting = sheet.expectation(key) or Expectation("patient", *received, {}, {}, "", 0)
    changes, was = {}, {}
    for tag, text in values.items():
        contradicting = [
            shown for each in studies if (shown := sheet.patients_value(each.study, tag)) != text
        ]
        if tag in standing or contradicting:
            waiting.values.pop(tag, None)
            waiting.times.pop(tag, None)
            if standing.get(tag) != text:
                changes[tag] = text
                was[tag] = contradicting[0] if contradicting else standing.get(tag, "")
        else:
            waiting.values[tag] = text
            waiting.times[tag] = times[tag]
    made = {tag: times[tag] for tag in values if tag not in waiting.values}
    if made:
        sheet.note_times(target, made)
    if changes:
        sheet.correct(target, changes, was)
        sheet.studies |= {each.number for each in studies}
    sheet.expect(waiting)


def _correct_own(
    sheet: Sheet,
    each: Numbered,
    values: Mapping[int, str],
    times: Mapping[int, int],
    goes_along: bool,
) -> None:
    """What corrections of the study's own say against it. `goes_along`: its patient becomes another
    one, so they are not heeded."""
    own = sheet.own_values(each.study)
    # It was given to this patient by a correction of its own: the identifier received is not asked.
    given = bool(IDENTITY & own.keys())
    becomes_another = PATIENT_ID in values and (given or goes_along)
    later = sheet.times(corrections.study_of(each.study)) if own else {}
    changes = {}
    for tag, text in values.items():
        concerns = (tag in own and becomes_another) or (tag not in own and given)
        if concerns and sheet.shown(each.study, tag) != text and later.get(tag, 0) <= times[tag]:
            changes[tag] = text
    if changes:
        target = corrections.study_of(each.study)
        sheet.correct(target, changes, {tag: sheet.shown(each.study, tag) for tag in changes})
        sheet.note_times(target, {tag: times[tag] for tag in changes})
        sheet.studies.add(each.number)


def _pin_elsewhere(
    sheet: Sheet, received: Identity, own: Iterable[Numbered], values: Mapping[int, str]
) -> None:
    """What is shown as another patient's goes on showing what it shows."""
    numbers = {each.number for each in own}
    for number, study in sheet.studies_elsewhere(received):
        if number in numbers:
            continue
        already = sheet.own_values(study)
        pinned = {tag: sheet.shown(study, tag) for tag in values if tag not in already}
        if pinned:
            sheet.correct(corrections.study_of(study), pinned, pinned)
            sheet.studies.add(number)


# --- an order -----------------------------------------------------------------------------------
def _order(sheet: Sheet, order: Order, happened_ns: int) -> int:
    """How many studies of other patients have the accession number."""
    patient = _now_shown(sheet, order.patient)
    strangers = 0
    for each in sheet.studies_of_accession(order.accession):
        if order.study_uid and each.study.uid != order.study_uid:
            continue
        if sheet.shown_patient(each.study).key != patient.key:
            strangers += 1
        elif each.study.uid:
            sheet.matched.add(each.number)
            _correct_study(sheet, each, order.values, happened_ns)
    named = (*patient, order.accession, order.study_uid)
    waiting = sheet.expectation(expected.order_key(*named)) or Expectation(
        "order", *patient, {}, {}, "", 0, order.accession, order.study_uid
    )
    fresh = {
        tag: text for tag, text in order.values.items() if waiting.times.get(tag, 0) <= happened_ns
    }
    if fresh:
        waiting.values |= fresh
        waiting.times |= dict.fromkeys(fresh, happened_ns)
        sheet.expect(waiting)
    return strangers


def _correct_study(
    sheet: Sheet, each: Numbered, values: Mapping[int, str], happened_ns: int
) -> None:
    target = corrections.study_of(each.study)
    later = sheet.times(target)
    fresh = {tag: text for tag, text in values.items() if later.get(tag, 0) <= happened_ns}
    if not fresh:
        sheet.notes.append("something later was said already: this changes nothing")
        return
    sheet.note_times(target, dict.fromkeys(fresh, happened_ns))
    was = {tag: sheet.shown(each.study, tag) for tag in fresh}
    changes = {tag: text for tag, text in fresh.items() if was[tag] != text}
    if changes:
        sheet.correct(target, changes, was)
        sheet.studies.add(each.number)


def _move_orders(sheet: Sheet, prior: Identity, surviving: Identity) -> None:
    """What is expected of a patient's orders is the surviving one's."""
    for waiting in sheet.orders_of(prior):
        sheet.forget(waiting.key)
        waiting.patient_id, waiting.issuer = surviving
        there = sheet.expectation(waiting.key)
        if there is not None:
            for tag, text in waiting.values.items():
                if waiting.times.get(tag, 0) > there.times.get(tag, 0):
                    there.values[tag], there.times[tag] = text, waiting.times[tag]
            waiting = there
        sheet.keep(waiting)
