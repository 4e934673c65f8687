"""Queries: a level, keys and a limit -> a plan over the index's keys -> matches in order.

The rarest key that the index is sorted by chooses the candidates (a UID, an accession number, a
patient, a name, the days, in this order). Every key is then compared with the whole record, so a
plan can be slow but never wrong. Studies come latest first, series and instances by their numbers.
Meant for `find`, sending by selection, prefetch and the console alike.
"""

import heapq
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

from engine.dictionary import attributes, matching
from engine.dictionary.attributes import BY_KEYWORD, BY_TAG, Level
from engine.dictionary.matching import Matcher
from engine.dictionary.query_level import QueryLevel
from engine.errors import OperatorError
from engine.files.tree import instance_path
from engine.index import records
from engine.index.environment import View
from engine.index.keys import cut_key
from engine.index.records import Instance, Series, Study
from engine.index.rows import present

Record = TypeVar("Record")
# A modality with fewer studies than this is looked up; a usual one is met on the way anyway.
_rare_studies_max: Final = 5000


# Keys beside the attributes: (level, VR it is matched by).
EXTRA_KEYS: Final = {
    "ModalitiesInStudy": (Level.STUDY, "CS"),
    "SOPInstanceUID": (Level.INSTANCE, "UI"),
    "SOPClassUID": (Level.INSTANCE, "UI"),
}


@dataclass(frozen=True)
class Query:
    """`keys`: keyword -> value, as in a C-FIND identifier; an empty value matches everything."""

    level: QueryLevel
    keys: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """What was found, with what stands above it. Series and instance are None on higher levels."""

    study: Study
    series: Series | None = None
    instance: Instance | None = None
    # How many patients have a study of this UID: more than one is their senders' mistake.
    patients: int = 1

    @property
    def path(self) -> str | None:
        """Of the instance's file, relative to the tree."""
        if self.series is None or self.instance is None:
            return None
        instance = self.instance
        return instance_path(
            self.study.uid, self.series.uid, instance.sop_instance_uid, instance.mark
        )

    def values(self) -> dict[str, str]:
        """Keyword -> text of all attributes known on this level and above."""
        found = _named(self.study.values())
        found["StudyInstanceUID"] = self.study.uid
        found["ModalitiesInStudy"] = "\\".join(records.modalities_of(self.study))
        if self.series is not None:
            found |= _named(self.series.values())
            found["SeriesInstanceUID"] = self.series.uid
        if self.instance is not None:
            found |= _named(self.instance.attributes)
            found["SOPInstanceUID"] = self.instance.sop_instance_uid
            found["SOPClassUID"] = self.instance.sop_class_uid
        return found


def find(view: View, query: Query) -> Iterator[Match]:
    """The matches, in order, at most `limit`. Consume them while the view is open.

    Raises OperatorError for an unknown key, or a value that its kind of matching cannot take.
    """
    limit = None if query.limit is None else min(query.limit, sys.maxsize)
    yield from islice(_Plan(query).run(view), limit)


def study_test(query: Query) -> Callable[[Study], bool]:
    """Whether a query for studies means one, wherever it stands."""
    plan = _Plan(query)
    return lambda study: _passes(plan.study_tests, study)


def _match(
    view: View, study: Study, series: Series | None = None, instance: Instance | None = None
) -> Match:
    patients = len(view.studies_of_uid(study.uid)) if study.uid else 1
    return Match(study, series, instance, patients)


class _Plan:
    """A query taken apart: predicates by level, and the keys that choose candidates."""

    def __init__(self, query: Query) -> None:
        self._level = query.level
        self._limit = query.limit
        # Values with something in them; an empty key asks for the attribute, not for a value.
        self._wanted = {k: v for k, v in query.keys.items() if v.strip(" \0*")}
        self.study_tests: list[tuple[Callable[[Study], str], Matcher]] = []
        self._series_tests: list[tuple[Callable[[Series], str], Matcher]] = []
        self._instance_tests: list[tuple[Callable[[Instance], str], Matcher]] = []
        for keyword in query.keys:
            self._add_test(keyword, query.keys[keyword])

    def _add_test(self, keyword: str, pattern: str) -> None:
        if keyword in BY_KEYWORD:
            attribute = BY_KEYWORD[keyword]
            level, vr, tag = attribute.level, attribute.vr, attribute.tag
        elif keyword in EXTRA_KEYS:
            level, vr = EXTRA_KEYS[keyword]
            tag = 0
        else:
            raise OperatorError(f"{keyword!r} is not an attribute that the index keeps")
        if level > self._level.value:
            raise OperatorError(
                f"{keyword} belongs to the {level.name.lower()} level, the query asks for "
                f"{self._level.name.lower()}s: ask on that level"
            )
        match = matching.matcher(vr, pattern)
        if match is None:
            return
        if level is Level.INSTANCE:
            self._instance_tests.append((_instance_value(keyword, tag), match))
        elif level is Level.SERIES:
            self._series_tests.append((_series_value(keyword, tag), match))
        else:
            self.study_tests.append((_study_value(keyword, tag), match))

    def run(self, view: View) -> Iterator[Match]:
        if "SOPInstanceUID" in self._wanted and not self._has_wildcard("SOPInstanceUID"):
            yield from self._by_instance_uid(view)
            return
        for study_number, study in self._studies(view):
            if self._level is QueryLevel.STUDY:
                yield _match(view, study)
                continue
            for series_number, series in self._series(view, study_number):
                if self._level is QueryLevel.SERIES:
                    yield _match(view, study, series)
                    continue
                instances = [
                    instance
                    for instance in view.instances_of(series_number)
                    if _passes(self._instance_tests, instance)
                ]
                for instance in sorted(instances, key=_instance_order):
                    yield _match(view, study, series, instance)

    def _by_instance_uid(self, view: View) -> Iterator[Match]:
        for uid in self._wanted["SOPInstanceUID"].split("\\"):
            for number, instance in view.instances_of_uid(uid.strip(" \0")):
                series = present(view.series(number), "an instance's series is in the index")
                study = view.study_of_series(number)
                if (
                    _passes(self.study_tests, study)
                    and _passes(self._series_tests, series)
                    and _passes(self._instance_tests, instance)
                ):
                    yield _match(view, study, series, instance)

    def _series(self, view: View, study_number: int) -> list[tuple[int, Series]]:
        found = [
            (number, series)
            for number, series in view.series_of(study_number)
            if _passes(self._series_tests, series)
        ]
        return sorted(found, key=_series_order)

    def _studies(self, view: View) -> Iterator[tuple[int, Study]]:
        """Those that match, latest first."""
        numbers = self._candidates(view)
        if numbers is None:
            first, last = self._days()
            for number in view.study_numbers_latest_first(first, last):
                study = view.study(number)
                if study is not None and _passes(self.study_tests, study):
                    yield number, study
            return
        matches: list[tuple[int, Study]] = []
        for number in numbers:
            study = view.study(number)
            if study is not None and _passes(self.study_tests, study):
                matches.append((number, study))
        if self._level is QueryLevel.STUDY and self._limit is not None:
            yield from heapq.nlargest(self._limit, matches, key=_study_order)
        else:
            yield from sorted(matches, key=_study_order, reverse=True)

    def _days(self) -> tuple[str, str]:
        if "StudyDate" not in self._wanted:
            return "", "\x7f"
        return matching.date_bounds(self._wanted["StudyDate"])

    def _candidates(self, view: View) -> set[int] | None:
        """Numbers of studies among which all matches are; None: go through the days."""
        wanted = self._wanted
        if "StudyInstanceUID" in wanted and not self._has_wildcard("StudyInstanceUID"):
            uids = wanted["StudyInstanceUID"].split("\\")
            return {number for uid in uids for number, _ in view.studies_of_uid(uid.strip(" \0"))}
        if "SeriesInstanceUID" in wanted and not self._has_wildcard("SeriesInstanceUID"):
            found: set[int] = set()
            for uid in wanted["SeriesInstanceUID"].split("\\"):
                for number in view.series_numbers_by_uid(uid.strip(" \0")):
                    series = view.series(number)
                    if series is not None:
                        found.add(series.study)
            return found
        prefix = self._word_prefix()
        return self._of_rare_modality(view) if prefix is None else set(view.study_numbers(prefix))

    def _of_rare_modality(self, view: View) -> set[int] | None:
        wanted = self._wanted.get("ModalitiesInStudy") or self._wanted.get("Modality", "")
        if not wanted or matching.has_wildcard(wanted):
            return None
        found: set[int] = set()
        for modality in wanted.split("\\"):
            prefix = records.word_prefix(records.MODALITY_WORD, matching.plain(modality)) + b"\0"
            found.update(islice(view.study_numbers(prefix), _rare_studies_max))
            if len(found) >= _rare_studies_max:
                return None
        return found

    def _word_prefix(self) -> bytes | None:
        """The start of the words to look through, by the first key that has a literal start."""
        wanted = self._wanted
        choices = (
            ("AccessionNumber", records.ACCESSION_WORD, matching.plain),
            ("PatientID", records.PATIENT_ID_WORD, matching.pid),
            ("PatientName", records.NAME_WORD, _first_name_group),
        )
        for keyword, kind, normal_form in choices:
            text = normal_form(wanted.get(keyword, ""))
            literal = matching.literal_prefix(text)
            if literal == text and literal:
                # The end mark keeps "12" from walking through all that begins with 12; a name's
                # pattern may leave out its last components.
                return records.word_prefix(kind, text) + b"\0"
            # "Doe^*" matches "Doe" too.
            literal = literal.rstrip("^")
            if literal:
                return cut_key(kind + literal.encode("utf-8", "surrogatepass"), 400)
        return None

    def _has_wildcard(self, keyword: str) -> bool:
        return matching.has_wildcard(self._wanted[keyword])


def _passes(tests: list[tuple[Callable[[Record], str], Matcher]], record: Record) -> bool:
    return all(match(value(record)) for value, match in tests)


def _named(values: Mapping[int, str]) -> dict[str, str]:
    return {BY_TAG[tag].keyword: text for tag, text in values.items() if tag in BY_TAG}


def _first_name_group(name: str) -> str:
    return next((group for group in matching.pn_groups(name) if group), "")


def _study_value(keyword: str, tag: int) -> Callable[[Study], str]:
    if keyword == "StudyInstanceUID":
        return lambda study: study.uid
    if keyword == "ModalitiesInStudy":
        return lambda study: "\\".join(records.modalities_of(study))
    return lambda study: study.value(tag)


def _series_value(keyword: str, tag: int) -> Callable[[Series], str]:
    if keyword == "SeriesInstanceUID":
        return lambda series: series.uid
    return lambda series: series.value(tag)


def _instance_value(keyword: str, tag: int) -> Callable[[Instance], str]:
    if keyword == "SOPInstanceUID":
        return lambda instance: instance.sop_instance_uid
    if keyword == "SOPClassUID":
        return lambda instance: instance.sop_class_uid
    return lambda instance: instance.attributes.get(tag, "")


def _study_order(numbered: tuple[int, Study]) -> tuple[str, int]:
    return records.date_word(numbered[1]), numbered[0]


def _series_order(numbered: tuple[int, Series]) -> tuple[float, str, int]:
    number, series = numbered
    return _by_number(series.value(attributes.SERIES_NUMBER)), series.uid, number


def _instance_order(instance: Instance) -> tuple[float, str]:
    number = _by_number(instance.attributes.get(attributes.INSTANCE_NUMBER, ""))
    return number, instance.sop_instance_uid


def _by_number(text: str) -> float:
    """What has no number comes last."""
    number = matching.number_key(text)
    return math.inf if number is None else number
