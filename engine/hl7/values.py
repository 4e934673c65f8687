"""HL7's values as DICOM has them: names, dates, sex, identifiers.

A field that is empty says nothing. One that is two quotation marks says that there is no value
(2.5.3). What has no counterpart in DICOM says nothing either: it must not empty what is there.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from engine.dictionary.patient_mark import patient_identity
from engine.hl7.message import DELETED, Repetition, Segment
from engine.hl7.refusal import ErrorCode, RefusedError
from engine.limits import hl7_text_characters_max

# HL7 table 0001. U, unknown, is no answer.
_SEX: Final = {"M": "M", "F": "F", "O": "O", "A": "O", "N": "O", DELETED: ""}
_DATE: Final = re.compile(r"\d{8}")
# HL7 table 0203: identifiers that a hospital gives to patients. Others (social security, insurance,
# driver's licence) are the person's too, but no image is named by them.
_PATIENT_IDENTIFIERS: Final = frozenset({"", "MR", "PI", "PT", "MRT"})
# HL7 table 0200, in the order of preference: legal, not said, display, current.
_NAME_TYPES: Final = ("L", "", "D", "C")
# HL7 table 0465, to the group of PS3.5 6.2, VR PN.
_NAME_GROUPS: Final = {"A": 0, "I": 1, "P": 2}
_IDEOGRAPH: Final = re.compile("[\u3400-\u9fff\uf900-\ufaff]")
_HIDDEN_IN_NAMES: Final = str.maketrans({"^": " ", "=": " ", "\\": " "})
_NO_TEXT: Final = str.maketrans({"\\": "/"})  # separates values in DICOM


class Identity(NamedTuple):
    """A patient as he is known: by issuer and identifier together."""

    identifier: str
    issuer: str = ""

    @property
    def key(self) -> str:
        """As two of them are compared."""
        return patient_identity(self.identifier, self.issuer)


def patient_identifiers(repetitions: Iterable[Repetition]) -> list[Identity]:
    """The identifiers (CX) of a list that a hospital gives to patients, each once."""
    found: dict[str, Identity] = {}
    for repetition in repetitions:
        identifier, issuer = repetition.text(1), repetition.text(4) or repetition.text(4, 2)
        if not identifier or identifier == DELETED:
            continue
        if repetition.text(5).upper() not in _PATIENT_IDENTIFIERS:
            continue
        for text in (identifier, issuer):
            check_text(text, repetition.place)
        identity = Identity(identifier, issuer)
        found.setdefault(identity.key, identity)
    return list(found.values())


def check_text(text: str, place: str) -> None:
    """RefusedError: no value of DICOM's short text kinds."""
    wrong = "\\" in text or any(unicodedata.category(c) == "Cc" for c in text)
    if wrong or len(text) > hl7_text_characters_max:
        raise RefusedError(
            f"at most {hl7_text_characters_max} characters without backslash or control characters",
            ErrorCode.DATA_TYPE,
            place,
        )


def patient_name(segment: Segment, field: int) -> str | None:
    """XPN: one repetition for each way of writing, as PN's three groups. None: nothing is said."""
    return _joined(segment.repetitions(field), _xpn, 7, 8)


def person_name(segment: Segment, field: int) -> str | None:
    """XCN, of which the first component is an identifier."""
    return _joined(segment.repetitions(field), _xcn, 10, 15)


def _joined(
    repetitions: Sequence[Repetition],
    written: Callable[[Repetition], str],
    type_component: int,
    group_component: int,
) -> str | None:
    names = [one for one in repetitions if written(one)]
    if not names:
        return None
    if any(DELETED in (one.text(1), one.text(2)) for one in names):
        return None  # nobody loses his name by a message
    kinds = [one.text(type_component).upper() for one in names]
    kind = next((each for each in _NAME_TYPES if each in kinds), kinds[0])
    groups = ["", "", ""]
    for one, its_kind in zip(names, kinds, strict=True):
        text = written(one)
        code = one.text(group_component).upper()
        group = _NAME_GROUPS.get(code, 1 if _IDEOGRAPH.search(text) else 0)
        if its_kind == kind and not groups[group]:
            groups[group] = text
    return "=".join(groups).rstrip("=")


def _xpn(one: Repetition) -> str:
    """Family, given, middle, suffix, prefix, degree, to PN's order."""
    parts = [one.text(number) for number in range(1, 7)]
    return _pn(parts)


def _xcn(one: Repetition) -> str:
    parts = [one.text(number) for number in range(2, 8)]
    return _pn(parts)


def _pn(parts: Sequence[str]) -> str:
    family, given, middle, suffix, prefix, degree = (
        " ".join(part.translate(_HIDDEN_IN_NAMES).split()) for part in parts
    )
    suffixes = " ".join(filter(None, (suffix, degree)))
    return "^".join((family, given, middle, prefix, suffixes)).rstrip("^")


def date(segment: Segment, field: int) -> str | None:
    """A day; None: nothing is said, or not to the day."""
    text = segment.text(field)
    if text == DELETED:
        return ""
    digits = text[:8]
    if not _DATE.fullmatch(digits) or not "01" <= digits[4:6] <= "12":
        return None
    return digits if "01" <= digits[6:] <= "31" else None


def sex(segment: Segment, field: int) -> str | None:
    """Administrative sex."""
    return _SEX.get(segment.text(field).upper())


def text_of(segment: Segment, field: int, components: Sequence[int] = (1,)) -> str | None:
    """The first of the components that says something, as long as VR LO has it; None: none does."""
    for component in components:
        text = segment.text(field, component)
        if text == DELETED:
            return ""
        if text:
            return " ".join(text.translate(_NO_TEXT).split())[:hl7_text_characters_max]
    return None
