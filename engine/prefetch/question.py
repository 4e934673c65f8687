"""What a prefetch would ask of its archive, key by key; for people, before anything is asked.

Pure. The same functions make these keys as make those that are sent (engine/dimse/identifiers.py,
engine/prefetch/plan.py); UIDs that only the archive's answers will tell stand here in words.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from engine.dictionary import attributes
from engine.dictionary.query_level import QueryLevel
from engine.dimse.identifiers import (
    QUERY_RETRIEVE_LEVEL,
    SOP_INSTANCE_UID,
    character_set_for,
    find_keys,
    keyword_of,
    kind_of_matching,
)
from engine.prefetch.plan import study_keys
from engine.prefetch.records import Ask


class Key(NamedTuple):
    """One element of an identifier. `matching` in the words of table 4.2-45; "": it is no key."""

    tag: int
    keyword: str
    value: str
    matching: str


class Find(NamedTuple):
    """One C-FIND."""

    level: str
    keys: list[Key]


def finds_of(ask: Ask, allowed: Iterable[str] = ()) -> list[Find]:
    """The queries of a prefetch: one for studies, one for each study, one for each series.
    `allowed`: the character sets that the archive takes beyond the statement's; one has to do."""
    of_study = {attributes.STUDY_INSTANCE_UID: "(the study)"}
    of_series = of_study | {attributes.SERIES_INSTANCE_UID: "(the series)"}
    needed = character_set_for(ask.patient_id, ask.character_set, allowed)
    assert needed is not None, "it can be asked"
    return [
        _find(QueryLevel.STUDY, study_keys(ask), needed),
        _find(QueryLevel.SERIES, find_keys(QueryLevel.SERIES, of_study)),
        _find(QueryLevel.IMAGE, find_keys(QueryLevel.IMAGE, of_series)),
    ]


def _find(level: QueryLevel, keys: Mapping[int, str], character_set: str = "") -> Find:
    rows = [Key(QUERY_RETRIEVE_LEVEL, keyword_of(QUERY_RETRIEVE_LEVEL), level.name, "")]
    if character_set:
        tag = attributes.SPECIFIC_CHARACTER_SET
        rows.append(Key(tag, keyword_of(tag), character_set, ""))
    rows += [
        Key(tag, keyword_of(tag), value, kind_of_matching(tag, value))
        for tag, value in keys.items()
    ]
    return Find(level.name, sorted(rows))


def move_keys_of(ask: Ask) -> list[str]:
    """The keywords of a C-MOVE's unique keys (table 4.2-48)."""
    tags = [attributes.STUDY_INSTANCE_UID]
    tags += [attributes.SERIES_INSTANCE_UID] if ask.level != "study" else []
    tags += [SOP_INSTANCE_UID] if ask.level == "image" else []
    return [keyword_of(tag) for tag in tags]
