"""What a prefetch asks, what counts as an answer to it, which retrievals bring what is lacking.

Pure functions of a question, of answers and of what is here; `engine/prefetch/retrieval.py` goes
through them in order.
"""

import re
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from engine.dictionary import attributes, matching
from engine.dictionary.query_level import QueryLevel
from engine.dimse.identifiers import MODALITIES_IN_STUDY, SOP_INSTANCE_UID, find_keys
from engine.dimse.requests import status_words
from engine.limits import image_moves_max
from engine.prefetch.records import Ask

Match = Mapping[int, str]  # an answer's attributes
Promised = dict[str, list[str]]  # SeriesInstanceUID -> SOPInstanceUIDs

LEVELS: Final = {"study": QueryLevel.STUDY, "series": QueryLevel.SERIES, "image": QueryLevel.IMAGE}
# Letters are none of a UID's, and come all the same; what has a meaning in a key, or could not be
# in one, cannot be asked for.
_UID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")


class AskFailure(Exception):  # noqa: N818 - an outcome, more than an error
    """A query or a retrieval that failed, in words. `comment`: the archive's own, which may say
    anything, a patient's name too. `permanent`: no retry can mend it. `ends`: the rest of the job
    need not be tried now. `unreachable`: nor any other job of this archive."""

    def __init__(
        self,
        text: str,
        *,
        comment: str = "",
        permanent: bool = False,
        ends: bool = True,
        unreachable: bool = False,
    ) -> None:
        super().__init__(f"{text} ({comment})" if comment else text)
        self.text = text
        self.comment = comment
        self.unreachable = unreachable
        self.permanent = permanent
        self.ends = ends


class Move(NamedTuple):
    """One retrieval that is to be asked for."""

    level: QueryLevel
    keys: dict[int, str]


def status_failure(operation: str, level: QueryLevel, status: int, comment: str) -> AskFailure:
    """What a failure status of tables 4.2-43 and 4.2-46 means for the job.

    A9xx and A801 are answers to what was asked; A7xx and Cxxx may pass. Only of a query for studies
    and of an unknown destination is it certain that the other questions would fail alike.
    """
    text = f"{operation} on {level.name.lower()} level answered {status_words(status)}"
    if status == 0xA801:
        text += "; enter PrefetchAP with its host and port at the archive"
    permanent = status == 0xA801 or status & 0xFF00 == 0xA900
    ends = status == 0xA801 or (operation == "C-FIND" and level is QueryLevel.STUDY)
    return AskFailure(text, comment=comment, permanent=permanent, ends=ends)


def study_keys(ask: Ask, of_any_modality: bool = False) -> dict[int, str]:
    """The keys of the first C-FIND, and of the one that leaves the modalities to us."""
    return find_keys(
        QueryLevel.STUDY,
        {
            attributes.PATIENT_ID: ask.patient_id,
            attributes.STUDY_DATE: ask.study_date,
            MODALITIES_IN_STUDY: "" if of_any_modality else "\\".join(ask.modalities),
        },
    )


def why_unrelated(ask: Ask, match: Match) -> str:
    """Why a study that an archive answered with was not asked for; "": it was."""
    if not match.get(attributes.STUDY_INSTANCE_UID, ""):
        return "no Study Instance UID"
    patient_id = matching.pid(match.get(attributes.PATIENT_ID, ""))
    if patient_id != matching.pid(ask.patient_id):
        if not ask.patient_id.isascii() and _in_ascii(patient_id) == _in_ascii(ask.patient_id):
            return "its Patient ID was lost in the character set that the archive answers in"
        return "another patient"
    date = matching.date_key(match.get(attributes.STUDY_DATE, ""))
    if ask.study_date:
        first, last = matching.date_bounds(ask.study_date)
        if not first <= date <= last:
            return "another day"
    return "" if is_of_wanted(ask, match) else "another modality"


def is_of_wanted(ask: Ask, match: Match) -> bool:
    """Whether a study may have one of the wanted modalities. Archives that do not know the key
    leave it out: then the series decide."""
    modalities = match.get(MODALITIES_IN_STUDY, "")
    return not (ask.modalities and modalities) or _meet(modalities, ask.modalities)


def is_doubtful(ask: Ask, answers: Collection[Match]) -> bool:
    """Whether the answers to a list of modalities may lack what another question would bring: the
    list is the statement's (table 4.2-45), PS3.4 C.2.2.2 leaves archives free not to take it. Who
    answers with each of them did, and who does not know the key had nothing to take."""
    if len(ask.modalities) < 2 or not all(MODALITIES_IN_STUDY in match for match in answers):
        return False
    found = "\\".join(match[MODALITIES_IN_STUDY] for match in answers)
    return not all(_meet(found, (modality,)) for modality in ask.modalities)


def _in_ascii(text: str) -> str:
    """What is left of a text in an answer that cannot hold the rest."""
    return "".join(character for character in text if character.isascii() and character != "?")


def _meet(values: str, wanted: Collection[str]) -> bool:
    return any(value.strip() in wanted for value in values.split("\\"))


def plan_moves(
    level: QueryLevel, study_uid: str, promised: Promised, here: Collection[str], whole: bool
) -> list[Move]:
    """The retrievals that bring what is promised and not here, and little else.

    `whole`: the study has nothing else at the archive than what is promised. A study is moved as
    one only if nothing of it is here. Of a series that is here in part what lacks is asked for by
    image, unless that is so much that moving the series is less work.
    """
    of_study = {attributes.STUDY_INSTANCE_UID: study_uid}
    if level is QueryLevel.STUDY and whole and not here:
        return [Move(QueryLevel.STUDY, of_study)]
    moves: list[Move] = []
    for series_uid, uids in promised.items():
        lacking = [uid for uid in uids if uid not in here]
        of_series = of_study | {attributes.SERIES_INSTANCE_UID: series_uid}
        in_part = len(lacking) < len(uids) and len(lacking) <= image_moves_max
        if lacking and (level is QueryLevel.IMAGE or in_part):
            moves += (
                Move(QueryLevel.IMAGE, of_series | {SOP_INSTANCE_UID: uid})
                for uid in lacking
                if is_uid(uid)
            )
        elif lacking:
            moves.append(Move(QueryLevel.SERIES, of_series))
    return moves


def plan_second_moves(study_uid: str, promised: Promised, here: Collection[str]) -> list[Move]:
    """The same once more: by image where few are missing, else by series."""
    moves: list[Move] = []
    for series_uid, uids in promised.items():
        few = sum(uid not in here for uid in uids) <= image_moves_max
        level = QueryLevel.IMAGE if few else QueryLevel.SERIES
        moves += plan_moves(level, study_uid, {series_uid: uids}, here, whole=False)
    return moves


def is_uid(text: str) -> bool:
    """Whether an answer's UID can be asked for again."""
    return _UID.fullmatch(text) is not None


def is_of(series: Match, modalities: Collection[str]) -> bool:
    """Whether a series has one of these modalities."""
    return _meet(series.get(attributes.MODALITY, ""), modalities)


def by_day(match: Match) -> tuple[str, str]:
    """The order of studies."""
    date = matching.date_key(match.get(attributes.STUDY_DATE, ""))
    return date, match[attributes.STUDY_INSTANCE_UID]
