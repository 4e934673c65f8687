"""One prefetch, from question to proof: studies, series, images; what is lacking; moves; a check.

Pure: the archive and the index are behind `Archive`, which `workers/retriever/retriever.py`
implements with associations. What is learned goes into the job's `Progress` as it is learned.
So whoever looks sees it, and an attempt after a crash or a failure knows what was here before the
first one.

Nothing is moved that was not asked for: answers about another patient, another day, another
modality, another study or series are counted and dropped. Nothing is moved that is here. What an
archive says of its success is not believed: what it promised is compared with what arrived. What is
missing is asked for once more, and then named. What arrived and was never promised is named as
well.
"""

from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple, Protocol

from engine.dictionary import attributes, matching
from engine.dictionary.query_level import QueryLevel
from engine.dimse.identifiers import MODALITIES_IN_STUDY, SOP_INSTANCE_UID, find_keys
from engine.limits import (
    prefetch_instances_max,
    prefetch_missing_named_max,
    prefetch_notes_max,
    prefetch_unasked_named_max,
)
from engine.prefetch.plan import (
    LEVELS,
    AskFailure,
    Match,
    Move,
    Promised,
    by_day,
    is_doubtful,
    is_of,
    is_of_wanted,
    is_uid,
    plan_moves,
    plan_second_moves,
    study_keys,
    why_unrelated,
)
from engine.prefetch.records import Ask, Progress, StudyProgress

_classes_named_max: Final = 4


class Moved(NamedTuple):
    """What an archive counted in one retrieval."""

    completed: int
    failed: int
    warnings: int


class Archive(Protocol):
    """The archive as it is asked, and the index beside it. find() and move() raise AskFailure."""

    def find(self, level: QueryLevel, keys: Mapping[int, str]) -> list[dict[int, str]]:
        """One C-FIND in an association of its own: all answers."""

    def move(self, level: QueryLevel, keys: Mapping[int, str]) -> Moved:
        """One C-MOVE in an association of its own, to its end."""

    def expect(self, study: StudyProgress) -> None:
        """What arrives of this study from now on is what was asked for."""

    def pass_on(self, study: StudyProgress, uids: Collection[str]) -> None:
        """What is here of these goes where the rule says; what arrived has gone there already."""

    def unasked(self, promised: Container[str]) -> Iterator[str]:
        """What arrived besides this since the job began. Told once."""

    def here(self, uids: Collection[str]) -> set[str]:
        """Which of these instances the index has."""

    def arrived(self, uids: Collection[str]) -> set[str]:
        """As here(), once all came or nothing comes any more."""

    def refused(self) -> Mapping[str, int]:
        """SOP classes that PrefetchAP has refused, and how often, since it runs."""

    def record(self) -> None:
        """The progress has changed, so that it matters after a crash."""

    def show(self) -> None:
        """The progress has changed for those who look."""


class Retrieval:
    """One attempt at one job."""

    def __init__(self, ask: Ask, progress: Progress, archive: Archive) -> None:
        self._ask = ask
        self._progress = progress
        self._archive = archive
        self._promised: set[str] = set()
        self._modalities: dict[str, str] = {}  # of series

    def run(self) -> None:
        """AskFailure when anything failed; what could be fetched nevertheless has been."""
        progress = self._progress
        progress.ignored = progress.completed = progress.failed = progress.warnings = 0
        progress.missing, progress.notes = [], []
        progress.unaskable, progress.unaskable_count = [], 0
        try:
            self._go()
        except AskFailure:
            self._name_unasked()
            raise
        self._name_unasked()

    def _go(self) -> None:
        progress = self._progress
        self._step("asking for studies")
        candidates = self._candidates()
        failure: AskFailure | None = None
        taken: list[StudyProgress] = []
        for match in candidates:
            if len(taken) >= self._ask.at_most:
                break
            study = self._entry(match)
            taken.append(study)
            try:
                if not self._fetch(study, match):
                    taken.remove(study)
                    progress.studies.remove(study)
            except AskFailure as error:
                if error.ends:
                    raise
                failure = failure or error
        progress.studies = taken
        self._step("")
        if failure is not None:
            raise failure

    def _candidates(self) -> list[Match]:
        """The related studies, the latest first, each once."""
        ask = self._ask
        answers = self._by_uid(study_keys(ask))
        if is_doubtful(ask, answers.values()):
            # A list may have been taken for one long text, or its first value for all of it.
            unlisted = self._by_uid(study_keys(ask, of_any_modality=True))
            others = {uid: match for uid, match in unlisted.items() if uid not in answers}
            others = {uid: each for uid, each in others.items() if is_of_wanted(ask, each)}
            if others:
                self._note("the archive does not match a list of modalities; asked for any instead")
            answers |= others
        related: list[Match] = []
        for uid, match in answers.items():
            if why := why_unrelated(ask, match):
                self._ignore(f"a study was answered that was not asked for: {why}")
            elif uid != ask.trigger_study_uid and self._can_be_asked("study", uid):
                related.append(match)
        return sorted(related, key=by_day, reverse=True)

    def _by_uid(self, keys: Mapping[int, str]) -> dict[str, Match]:
        """The studies that are answered, each once."""
        found: dict[str, Match] = {}
        for match in self._archive.find(QueryLevel.STUDY, keys):
            found.setdefault(match.get(attributes.STUDY_INSTANCE_UID, ""), match)
        return found

    def _entry(self, match: Match) -> StudyProgress:
        """The study's line in the progress: of an attempt before this one, or a new one."""
        uid = match[attributes.STUDY_INSTANCE_UID]
        for study in self._progress.studies:
            if study.study_uid == uid:
                return study
        date = matching.date_key(match.get(attributes.STUDY_DATE, ""))
        study = StudyProgress(uid, date, 0, 0)
        self._progress.studies.append(study)
        return study

    # --- one study ---
    def _fetch(self, study: StudyProgress, match: Match) -> bool:
        """False: the study is not related after all."""
        position = self._progress.studies.index(study) + 1
        self._step(f"asking for series and images of study {position}")
        asked = self._ask_study(study.study_uid, MODALITIES_IN_STUDY in match)
        if asked is None:
            return False
        promised, whole = asked
        uids = _instances_of(promised)
        self._archive.expect(study)
        here = self._archive.here(uids)
        if study.promised == 0:
            study.here = len(here)
        study.promised = len(uids)
        self._count(study, here)
        try:
            if study.missing:
                self._bring(study, position, promised, here, whole)
        except AskFailure:
            self._archive.pass_on(study, uids)
            raise
        self._archive.pass_on(study, uids)
        return True

    def _bring(
        self,
        study: StudyProgress,
        position: int,
        promised: Promised,
        here: Collection[str],
        whole: bool,
    ) -> None:
        """Have moved what lacks, and once more what lacks then; name what lacks nevertheless."""
        uids = _instances_of(promised)
        refused = self._archive.refused()
        self._step(f"moving study {position}")
        level = LEVELS[self._ask.level]
        here = self._move(study, uids, plan_moves(level, study.study_uid, promised, here, whole))
        if study.missing:
            self._step(f"asking once more for {study.missing} missing of study {position}")
            again = plan_second_moves(study.study_uid, promised, here)
            here = self._move(study, uids, again)
        if study.missing:
            self._name_missing(uid for uid in uids if uid not in here)
            self._name_refused(refused, promised, here)

    def _ask_study(self, study_uid: str, is_of_modality: bool) -> tuple[Promised, bool] | None:
        """What the archive has of a study: (images by series, whether that is all of it). None when
        its series tell that it is of another modality than was asked."""
        ask = self._ask
        of_study = {attributes.STUDY_INSTANCE_UID: study_uid}
        series = self._answers(QueryLevel.SERIES, of_study, attributes.SERIES_INSTANCE_UID)
        of_modality = is_of_modality or not ask.modalities
        if not (of_modality or any(is_of(match, ask.modalities) for match in series.values())):
            return None
        wanted = {
            uid: match
            for uid, match in series.items()
            if not ask.series_modalities or is_of(match, ask.series_modalities)
        }
        promised: Promised = {}
        for uid in wanted:
            if not self._can_be_asked("series", uid):
                continue
            self._modalities[uid] = series[uid].get(attributes.MODALITY, "")
            of_series = of_study | {attributes.SERIES_INSTANCE_UID: uid}
            images = self._answers(QueryLevel.IMAGE, of_series, SOP_INSTANCE_UID)
            promised[uid] = list(images)
            self._promised.update(images)
            if len(self._promised) > prefetch_instances_max:
                raise AskFailure(
                    f"more than {prefetch_instances_max} instances are promised", permanent=True
                )
        if not any(promised.values()) and (promised or not series):
            self._note("a study has no images by the archive's answer")
        return promised, len(wanted) == len(series)

    def _answers(
        self, level: QueryLevel, above: Mapping[int, str], unique_key: int
    ) -> dict[str, Match]:
        """What stands below a study or a series, by unique key."""
        found: dict[str, Match] = {}
        for match in self._archive.find(level, find_keys(level, above)):
            uid = match.get(unique_key, "")
            strays = any(match.get(tag, value) != value for tag, value in above.items())
            if strays or not uid:
                self._ignore(f"a {level.name.lower()} was answered that was not asked for")
            else:
                found.setdefault(uid, match)
        return found

    def _move(self, study: StudyProgress, uids: Sequence[str], moves: Sequence[Move]) -> set[str]:
        """Ask for these; what of the study is here then."""
        completed = 0
        before = study.moved
        try:
            for move in moves:
                refused = self._archive.refused()
                try:
                    moved = self._archive.move(move.level, move.keys)
                except AskFailure as error:
                    # An archive may call a retrieval failed of which PrefetchAP takes a part only.
                    if error.ends or error.permanent or self._archive.refused() == refused:
                        raise
                    self._note(f"{error}, while PrefetchAP refused what it does not accept")
                    continue
                self._progress.completed += moved.completed
                self._progress.failed += moved.failed
                self._progress.warnings += moved.warnings
                completed += moved.completed + moved.warnings
        finally:
            # Also after a failure: what came before it is here.
            here = self._archive.arrived(uids)
            self._count(study, here)
        came = study.moved - before
        if completed > came:
            self._note(f"the archive counted {completed} as moved, of those promised {came} came")
        return here

    # --- the progress ---
    def _count(self, study: StudyProgress, here: Collection[str]) -> None:
        study.moved = max(0, len(here) - study.here)
        study.missing = study.promised - len(here)
        self._archive.record()

    def _step(self, text: str) -> None:
        self._progress.step = text
        self._archive.show()

    def _ignore(self, note: str) -> None:
        self._progress.ignored += 1
        self._note(note)

    def _note(self, text: str) -> None:
        notes = self._progress.notes
        if text not in notes and len(notes) < prefetch_notes_max:
            notes.append(text)

    def _name_missing(self, uids: Iterable[str]) -> None:
        missing = self._progress.missing
        missing += islice(uids, max(0, prefetch_missing_named_max - len(missing)))

    def _can_be_asked(self, what: str, uid: str) -> bool:
        """Whether it can, by its UID; if not, it is named as lacking."""
        if is_uid(uid):
            return True
        progress = self._progress
        progress.unaskable_count += 1
        if len(progress.unaskable) < prefetch_missing_named_max:
            progress.unaskable.append(f"{what} {uid!a}")
        return False

    def _name_refused(
        self, before: Mapping[str, int], promised: Promised, here: Collection[str]
    ) -> None:
        """What lacks may be of SOP classes that PrefetchAP does not accept: an archive tells by
        proposing them."""
        classes = [name for name, n in self._archive.refused().items() if n > before.get(name, 0)]
        if not classes:
            return
        modalities = {
            self._modalities[series].strip() or "none"
            for series, uids in promised.items()
            if any(uid not in here for uid in uids)
        }
        # An archive that proposes all it knows, for each retrieval, tells nothing by its classes.
        many = f"{len(classes)} SOP classes"
        named = ", ".join(classes) if len(classes) <= _classes_named_max else many
        self._note(
            f"PrefetchAP does not accept {named}; what is missing is of modality "
            f"{', '.join(sorted(modalities))}"
        )

    def _name_unasked(self) -> None:
        progress = self._progress
        for uid in self._archive.unasked(self._promised):
            progress.unasked_count += 1
            if uid not in progress.unasked and len(progress.unasked) < prefetch_unasked_named_max:
                progress.unasked.append(uid)


def _instances_of(promised: Promised) -> list[str]:
    """A UID that the archive has in two series is one instance nevertheless."""
    return list(dict.fromkeys(uid for images in promised.values() for uid in images))
