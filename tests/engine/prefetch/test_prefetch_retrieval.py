"""One prefetch against an archive made of dictionaries: only what was asked for, only what lacks,
and what is promised is compared with what came."""

from collections.abc import Mapping

import pytest

from engine.dictionary import attributes
from engine.dictionary.query_level import QueryLevel
from engine.dimse import identifiers
from engine.limits import image_moves_max
from engine.prefetch.plan import AskFailure, plan_moves, plan_second_moves, status_failure
from engine.prefetch.records import Progress
from tests.rigs.dictionary_archive import (
    IMAGE,
    SERIES,
    STUDY,
    Answers,
    Series,
    Shelf,
    Study,
    ask,
    fetched,
    shelf,
    study,
)


def test_exactly_the_related_studies_are_moved_the_latest_first() -> None:
    archive = shelf()
    progress = fetched(archive, ask())
    assert archive.moves == [(QueryLevel.STUDY, "1.1"), (QueryLevel.STUDY, "1.2")]
    assert [(it.study_uid, it.promised, it.here, it.moved) for it in progress.studies] == [
        ("1.1", 6, 0, 6),
        ("1.2", 3, 0, 3),
    ]
    assert not progress.missing
    assert progress.completed == 9


def test_what_was_answered_beyond_the_question_is_dropped_and_counted() -> None:
    archive = shelf()
    progress = fetched(archive, ask())
    assert progress.ignored == 2, "an archive that heeds neither dates nor modalities"
    assert {"another day", "another modality"} == {it.split(": ")[1] for it in progress.notes}


@pytest.mark.parametrize(
    "stray",
    [
        {STUDY: "9.9", attributes.PATIENT_ID: "4712", attributes.STUDY_DATE: "20230101"},
        {STUDY: "9.9", attributes.STUDY_DATE: "20230101"},
        {STUDY: "9.9", attributes.PATIENT_ID: "4711"},
        {STUDY: "../9", attributes.PATIENT_ID: "4712", attributes.STUDY_DATE: "20230101"},
        {},
    ],
)
def test_never_another_patients_studies_nor_any_that_was_not_asked(stray: dict[int, str]) -> None:
    archive = Shelf({}, strays=[stray])
    progress = fetched(archive, ask())
    assert not archive.moves
    assert progress.ignored == 1


@pytest.mark.parametrize(
    "stray",
    [
        {STUDY: "9.9", SERIES: "2.1.0", IMAGE: "3.9.9.9", attributes.MODALITY: "CT"},
        {STUDY: "1.1", SERIES: "2.9.9", IMAGE: "3.9.9.9", attributes.MODALITY: "CT"},
    ],
)
def test_never_images_of_a_study_or_series_that_was_not_asked(stray: dict[int, str]) -> None:
    """Series and images that an answer says are of another study are of another patient, maybe."""
    archive = Shelf({"1.1": study("4711", "20230101", 1, "CT")})
    own = archive.find

    def find(level: QueryLevel, keys: Mapping[int, str]) -> Answers:
        return own(level, keys) + ([stray] if level is QueryLevel.IMAGE else [])

    archive.find = find  # type: ignore[method-assign]
    progress = fetched(archive, ask())
    assert [(it.promised, it.moved) for it in progress.studies] == [(3, 3)]
    assert not progress.missing
    assert progress.ignored == 1
    assert archive.moves == [(QueryLevel.STUDY, "1.1")]


def test_a_series_of_another_study_is_not_asked_about() -> None:
    archive = Shelf({"1.1": study("4711", "20230101", 1, "CT")})
    archive.strays = [{STUDY: "9.9", SERIES: "2.9.9", attributes.MODALITY: "CT"}]
    progress = fetched(archive, ask())
    assert "2.9.9" not in {keys.get(SERIES) for keys in archive.finds}
    assert progress.ignored == 3, "at each level once"


def test_what_is_here_already_goes_on_as_what_comes() -> None:
    archive = shelf()
    both = {
        uid: {image for series in archive.studies[uid].series.values() for image in series.images}
        for uid in ("1.1", "1.2")
    }
    archive.index |= both["1.2"] | {"3.1.0.0"}  # all of one, and an image of the other
    fetched(archive, ask())
    assert archive.passed_on == [*both.items()]


def test_what_is_here_goes_on_although_the_rest_does_not_come() -> None:
    archive = shelf()

    def refuse(level: QueryLevel, uid: str) -> None:
        raise AskFailure("no", ends=False)

    archive.on_move = refuse
    with pytest.raises(AskFailure):
        fetched(archive, ask())
    assert [uid for uid, _ in archive.passed_on] == ["1.1", "1.2"]


@pytest.mark.parametrize("uid", ["../9", "1" * 65, "1.2*", "1.2?3", "1 2", "1.é", "1\\2"])
def test_a_study_that_cannot_be_asked_for_is_named(uid: str) -> None:
    answer = {STUDY: uid, attributes.PATIENT_ID: "4711", attributes.STUDY_DATE: "20230101"}
    archive = Shelf({}, strays=[answer])
    progress = fetched(archive, ask())
    assert not archive.moves
    assert (progress.unaskable, progress.unaskable_count) == ([f"study {uid!a}"], 1)


@pytest.mark.parametrize("level", ["study", "series", "image"])
def test_uids_with_letters_are_asked_for(level: str) -> None:
    series = {"2.B-1": Series("CT", ["3.A", "3.B_2"])}
    archive = Shelf({"A1.2": Study("4711", "20230101", series)})
    progress = fetched(archive, ask(level=level))
    assert (progress.total("promised"), progress.total("moved")) == (2, 2)
    assert (progress.missing, progress.unaskable) == ([], [])


def test_what_of_a_study_cannot_be_asked_for_is_named() -> None:
    """A series is not asked for its images; an image may come with its series, or is missing."""
    series = {
        "2.1": Series("CT", ["3.1", "3*1"]),
        "2*2": Series("CT", ["3.2"]),
    }
    archive = Shelf({"1.2": Study("4711", "20230101", series)})
    progress = fetched(archive, ask(level="image"))
    assert [uid for _, uid in archive.moves] == ["3.1"]
    assert progress.missing == ["3*1"]
    assert progress.unaskable == ["series '2*2'"]
    again = Shelf(archive.studies)
    progress = fetched(again, ask(level="series"))
    assert [uid for _, uid in again.moves] == ["2.1"]
    assert not progress.missing, "it came with its series"


def test_a_study_of_only_other_series_than_wanted_is_no_study_without_images() -> None:
    archive = shelf()
    progress = fetched(archive, ask(series_modalities=("PT",)))
    assert not archive.moves
    assert not any("no images" in note for note in progress.notes)
    archive.studies = {"1.1": Study("4711", "20230101", {"2.1": Series("CT", [])})}
    assert any("no images" in note for note in fetched(archive, ask()).notes)


def test_a_series_of_two_modalities_is_of_each() -> None:
    archive = shelf()
    archive.studies = {"1.1": study("4711", "20230101", 1, "PT\\CT", "MR")}
    progress = fetched(archive, ask(modalities=("PT",), series_modalities=("CT",)))
    assert archive.moves == [(QueryLevel.SERIES, "2.1.0")]
    assert progress.total("moved") == 3


@pytest.mark.parametrize("status", [0xA702, 0xC000, 0x0000])
@pytest.mark.parametrize("refused", [True, False])
def test_what_prefetch_ap_does_not_accept_is_named_and_fails_nothing(
    status: int, refused: bool
) -> None:
    archive = shelf()
    archive.lost = {"3.1.1.0", "3.1.1.1", "3.1.1.2"}

    def answers(level: QueryLevel, uid: str) -> None:
        if uid in ("1.1", "2.1.1", *archive.lost):
            if refused:
                count = archive.refusals.get("Basic Text SR Storage", 0)
                archive.refusals["Basic Text SR Storage"] = count + 1
            if status:
                archive.index |= {"3.1.0.0", "3.1.0.1", "3.1.0.2"}
                raise status_failure("C-MOVE", level, status, "")

    archive.on_move = answers
    progress = Progress()
    if status and not refused:
        with pytest.raises(AskFailure):
            fetched(archive, ask(), progress)
        return
    fetched(archive, ask(), progress)
    assert progress.missing == ["3.1.1.0", "3.1.1.1", "3.1.1.2"]
    assert [it.moved for it in progress.studies] == [3, 3]
    named = "does not accept Basic Text SR Storage; what is missing is of modality SR"
    assert any(named in note for note in progress.notes) == refused


def test_an_answer_that_cannot_hold_the_patient_id_is_no_proof_and_is_told() -> None:
    archive = Shelf(
        {}, strays=[{STUDY: "9.9", attributes.PATIENT_ID: "7", attributes.STUDY_DATE: "20230101"}]
    )
    archive.find = lambda level, keys: archive.strays  # type: ignore[method-assign]
    progress = fetched(archive, ask(patient_id="患者7"))
    assert not archive.moves
    assert "character set" in progress.notes[0]


def test_the_latest_studies_count_against_the_bound() -> None:
    archive = shelf()
    fetched(archive, ask(at_most=1))
    assert archive.moves == [(QueryLevel.STUDY, "1.1")]


def test_an_archive_that_does_not_know_modalities_in_study_is_asked_for_the_series() -> None:
    archive = shelf()
    archive.knows_modalities = False
    progress = fetched(archive, ask())
    assert archive.moves == [(QueryLevel.STUDY, "1.1"), (QueryLevel.STUDY, "1.2")]
    assert [it.study_uid for it in progress.studies] == ["1.1", "1.2"]


@pytest.mark.parametrize("takes", ["all", "list", "text", "first"])
def test_several_modalities_whatever_the_archive_makes_of_a_list(takes: str) -> None:
    archive = shelf()
    archive.studies["1.5"] = study("4711", "20200601", 5, "US")
    archive.takes = takes
    progress = fetched(archive, ask(modalities=("CT", "MR")))
    assert [it.study_uid for it in progress.studies] == ["1.1", "1.4", "1.2"]
    first, second = (keys.get(identifiers.MODALITIES_IN_STUDY) for keys in archive.finds[:2])
    assert first == "CT\\MR"
    asked_twice = takes in ("text", "first")
    assert (second == "") == asked_twice
    assert progress.ignored == (2 if takes == "all" else 1), "what was not asked for, and only that"
    assert any("list of modalities" in note for note in progress.notes) == asked_twice


def test_a_modality_that_no_study_has_is_looked_for_in_all_of_them() -> None:
    archive = shelf()
    archive.takes = "list"
    progress = fetched(archive, ask(modalities=("CT", "NM")))
    assert [it.study_uid for it in progress.studies] == ["1.1", "1.2"]
    assert [keys[identifiers.MODALITIES_IN_STUDY] for keys in archive.finds[:2]] == ["CT\\NM", ""]
    assert not any("list of modalities" in note for note in progress.notes)


def test_only_series_of_the_wanted_modalities_are_moved() -> None:
    archive = shelf()
    progress = fetched(archive, ask(series_modalities=("CT",)))
    assert archive.moves == [(QueryLevel.SERIES, "2.1.0"), (QueryLevel.STUDY, "1.2")]
    assert not any("no images" in note for note in progress.notes)
    assert progress.total("promised") == 6


def test_a_study_that_is_here_is_not_moved() -> None:
    archive = shelf()
    archive.index = {
        f"3.{number}.{series}.{i}" for number in (1, 2) for series in (0, 1) for i in (0, 1, 2)
    }
    progress = fetched(archive, ask())
    assert not archive.moves
    assert (progress.total("here"), progress.total("moved")) == (9, 0)


def test_of_a_study_that_is_partly_here_the_lacking_series_are_moved() -> None:
    archive = shelf()
    archive.index = {"3.1.0.0", "3.1.0.1", "3.1.0.2", "3.2.0.0"}
    progress = fetched(archive, ask())
    assert archive.moves == [
        (QueryLevel.SERIES, "2.1.1"),
        (QueryLevel.IMAGE, "3.2.0.1"),
        (QueryLevel.IMAGE, "3.2.0.2"),
    ]
    assert (progress.total("here"), progress.total("moved")) == (4, 5)


def test_on_image_level_each_lacking_image_is_asked_for() -> None:
    archive = shelf()
    archive.index = {"3.2.0.0"}
    fetched(archive, ask(level="image", at_most=2))
    assert [uid for _, uid in archive.moves][-2:] == ["3.2.0.1", "3.2.0.2"]
    assert {level for level, _ in archive.moves} == {QueryLevel.IMAGE}


def test_what_is_missing_is_asked_for_once_more_and_then_named() -> None:
    archive = shelf()
    archive.lost = {"3.1.0.1", "3.2.0.2"}

    def heals(level: QueryLevel, uid: str) -> None:
        if uid == "3.2.0.2":
            archive.lost.discard(uid)

    archive.on_move = heals
    progress = fetched(archive, ask())
    assert archive.moves == [
        (QueryLevel.STUDY, "1.1"),
        (QueryLevel.IMAGE, "3.1.0.1"),
        (QueryLevel.STUDY, "1.2"),
        (QueryLevel.IMAGE, "3.2.0.2"),
    ]
    assert progress.missing == ["3.1.0.1"]
    assert progress.total("missing") == 1
    assert any("counted 6 as moved, of those promised 5 came" in it for it in progress.notes)


def test_many_missing_images_are_asked_for_by_their_series() -> None:
    images = [f"3.{i}" for i in range(image_moves_max + 1)]
    moves = plan_second_moves("1.1", {"2.1": images, "2.2": ["3.x", "3.y"]}, {"3.x"})
    assert [move.level for move in moves] == [QueryLevel.SERIES, QueryLevel.IMAGE]
    assert moves[1].keys == {STUDY: "1.1", SERIES: "2.2", IMAGE: "3.y"}
    assert not plan_moves(QueryLevel.STUDY, "1.1", {"2.1": ["3.1"]}, {"3.1"}, whole=True)


def test_what_a_failed_attempt_moved_is_not_taken_for_what_was_here_before() -> None:
    archive = shelf()

    def breaks(level: QueryLevel, uid: str) -> None:
        if uid == "1.2":
            raise AskFailure("the peer closed the connection")

    archive.on_move = breaks
    progress = Progress()
    with pytest.raises(AskFailure, match="closed"):
        fetched(archive, ask(), progress)
    archive.on_move = lambda level, uid: None
    archive.moves.clear()
    fetched(archive, ask(), progress)
    assert archive.moves == [(QueryLevel.STUDY, "1.2")]
    assert (progress.total("here"), progress.total("moved")) == (0, 9)


def test_a_failure_status_of_one_study_leaves_the_others_to_be_moved() -> None:
    archive = shelf()

    def refuses(level: QueryLevel, uid: str) -> None:
        if uid == "1.1":
            raise status_failure("C-MOVE", level, 0xA702, "")

    archive.on_move = refuses
    progress = Progress()
    with pytest.raises(AskFailure, match="A702 out of resources"):
        fetched(archive, ask(), progress)
    assert [uid for _, uid in archive.moves] == ["1.1", "1.2"]
    assert [it.moved for it in progress.studies] == [0, 3]


@pytest.mark.parametrize(
    ("status", "permanent", "ends"),
    [
        (0xA700, False, False),
        (0xA801, True, True),
        (0xA900, True, False),
        (0xC000, False, False),
        (0x0110, False, False),
    ],
)
def test_what_a_status_of_a_retrieval_means(status: int, permanent: bool, ends: bool) -> None:
    failure = status_failure("C-MOVE", QueryLevel.SERIES, status, "no luck")
    assert (failure.permanent, failure.ends) == (permanent, ends)
    assert f"{status:04X}" in failure.text
    assert "no luck" not in failure.text, "what an archive says may name a patient"
    assert "(no luck)" in str(failure)
    assert ("PrefetchAP" in failure.text) == (status == 0xA801)


def test_an_image_in_two_series_is_one_instance() -> None:
    archive = shelf()
    archive.studies["1.2"].series["2.2.9"] = Series("CT", ["3.2.0.0"])
    progress = fetched(archive, ask())
    assert progress.studies[1].promised == 3
    assert progress.studies[1].missing == 0


def test_the_first_question_has_the_keys_of_the_table() -> None:
    archive = shelf()
    fetched(archive, ask())
    assert archive.finds[0] == {
        attributes.STUDY_DATE: "20200101-20240601",
        identifiers.MODALITIES_IN_STUDY: "CT",
        attributes.PATIENT_ID: "4711",
        STUDY: "",
    }
    assert archive.finds[1] == {
        STUDY: "1.1",
        SERIES: "",
        attributes.MODALITY: "",
        identifiers.SERIES_DATE: "",
        identifiers.SERIES_TIME: "",
    }
    assert archive.finds[2] == {STUDY: "1.1", SERIES: "2.1.0", IMAGE: ""}
