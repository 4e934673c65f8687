"""An archive made of dictionaries, with an index beside it, as one retrieval sees them."""

from collections.abc import Callable, Collection, Container, Iterator, Mapping
from dataclasses import dataclass, field

from engine.dictionary import attributes
from engine.dictionary.query_level import QueryLevel
from engine.dimse import identifiers
from engine.prefetch.records import Ask, Progress, StudyProgress
from engine.prefetch.retrieval import Moved, Retrieval

STUDY, SERIES = attributes.STUDY_INSTANCE_UID, attributes.SERIES_INSTANCE_UID
IMAGE = identifiers.SOP_INSTANCE_UID
Answers = list[dict[int, str]]


@dataclass
class Series:
    """A series at the archive."""

    modality: str
    images: list[str]


@dataclass
class Study:
    """A study at the archive."""

    patient_id: str
    date: str
    series: dict[str, Series]


@dataclass
class Shelf:
    """An archive, an index, and a record of what was asked."""

    studies: dict[str, Study]
    index: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)  # moved by its own words, and never arriving
    strays: Answers = field(default_factory=list)  # answered to every query
    moves: list[tuple[QueryLevel, str]] = field(default_factory=list)
    finds: list[dict[int, str]] = field(default_factory=list)
    knows_modalities: bool = True
    takes: str = "all"  # studies, whatever modalities are asked for; or "list", "text", "first"
    on_move: Callable[[QueryLevel, str], None] = lambda level, uid: None
    records: int = 0
    passed_on: list[tuple[str, set[str]]] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    refusals: dict[str, int] = field(default_factory=dict)
    before: set[str] = field(default_factory=set)  # in the index when the job began

    def __post_init__(self) -> None:
        self.before = set(self.index)

    def _fits(self, modalities: str, wanted: str) -> bool:
        """Archives read a list as one, as one long text, or as its first value."""
        if self.takes == "all" or not wanted:
            return True
        values = {"list": wanted.split("\\"), "text": [wanted], "first": [wanted.split("\\")[0]]}
        return not set(values[self.takes]).isdisjoint(modalities.split("\\"))

    def find(self, level: QueryLevel, keys: Mapping[int, str]) -> Answers:
        self.finds.append(dict(keys))
        answers: Answers = []
        for uid, study in self.studies.items():
            modalities = "\\".join(sorted({it.modality for it in study.series.values()}))
            answer = {STUDY: uid, attributes.PATIENT_ID: study.patient_id}
            answer |= {attributes.STUDY_DATE: study.date}
            if self.knows_modalities:
                answer[identifiers.MODALITIES_IN_STUDY] = modalities
            is_asked = study.patient_id == keys.get(attributes.PATIENT_ID)
            is_asked &= self._fits(modalities, keys.get(identifiers.MODALITIES_IN_STUDY, ""))
            if level is QueryLevel.STUDY and is_asked:
                answers.append(answer)
            if uid != keys.get(STUDY):
                continue
            for series_uid, series in study.series.items():
                if level is QueryLevel.SERIES:
                    answers.append({SERIES: series_uid, attributes.MODALITY: series.modality})
                elif level is QueryLevel.IMAGE and series_uid == keys[SERIES]:
                    answers += ({IMAGE: image} for image in series.images)
        return answers + self.strays

    def move(self, level: QueryLevel, keys: Mapping[int, str]) -> Moved:
        uid = keys[{QueryLevel.STUDY: STUDY, QueryLevel.SERIES: SERIES}.get(level, IMAGE)]
        self.moves.append((level, uid))
        self.on_move(level, uid)
        study = self.studies[keys[STUDY]]
        moved = [
            image
            for series_uid, series in study.series.items()
            for image in series.images
            if series_uid == keys.get(SERIES, series_uid) and image == keys.get(IMAGE, image)
        ]
        self.index |= set(moved) - self.lost
        return Moved(len(moved), 0, 0)

    def here(self, uids: Collection[str]) -> set[str]:
        return self.index & set(uids)

    arrived = here

    def expect(self, study: StudyProgress) -> None:
        self.expected.append(study.study_uid)

    def pass_on(self, study: StudyProgress, uids: Collection[str]) -> None:
        self.passed_on.append((study.study_uid, set(uids)))

    def unasked(self, promised: Container[str]) -> Iterator[str]:
        return (uid for uid in sorted(self.index - self.before) if uid not in promised)

    def refused(self) -> dict[str, int]:
        return dict(self.refusals)

    def record(self) -> None:
        self.records += 1

    show = record


def study(patient: str, date: str, number: int, *modalities: str, images: int = 3) -> Study:
    series = {
        f"2.{number}.{position}": Series(
            modality, [f"3.{number}.{position}.{image}" for image in range(images)]
        )
        for position, modality in enumerate(modalities)
    }
    return Study(patient, date, series)


def ask(**changes: object) -> Ask:
    fields: dict[str, object] = {
        "archive": "archive",
        "level": "study",
        "patient_id": "4711",
        "character_set": "",
        "study_date": "20200101-20240601",
        "modalities": ("CT",),
        "series_modalities": (),
        "at_most": 5,
        "trigger_study_uid": "1.0",
    }
    return Ask(**{**fields, **changes})  # type: ignore[arg-type]


def fetched(shelf: Shelf, question: Ask, progress: Progress | None = None) -> Progress:
    progress = progress or Progress()
    Retrieval(question, progress, shelf).run()
    return progress


def shelf() -> Shelf:
    return Shelf(
        {
            "1.0": study("4711", "20240601", 0, "CT"),  # the trigger itself
            "1.1": study("4711", "20230101", 1, "CT", "SR"),
            "1.2": study("4711", "20210101", 2, "CT"),
            "1.3": study("4711", "20150101", 3, "CT"),  # too old
            "1.4": study("4711", "20220101", 4, "MR"),
        }
    )
