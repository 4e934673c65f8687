"""What `scai find` says of studies that were here: until when, who removed them and why, and where
they had been delivered.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

import click

from engine.dictionary.attributes import PATIENT_ID
from engine.dictionary.query_level import QueryLevel
from engine.errors import OperatorError
from engine.index import tombstones
from engine.index.environment import View
from engine.index.query import Query, study_test
from engine.index.tombstones import Delivered, Tombstone
from tools.face.terminal import moment, one_line

_mentioned_max: Final = 3  # where somebody looked for what is here


def removed(view: View, query: Query) -> Iterator[Tombstone]:
    """Those that a query for studies means, the latest first; at most its limit."""
    if query.level is not QueryLevel.STUDY:
        raise OperatorError("what was removed is remembered by study: leave out --level")
    uid = query.keys.get("StudyInstanceUID", "").strip()
    is_one = uid and not set(uid) & set("*?\\")
    stones = tombstones.tombstones_of_uid(view, uid) if is_one else tombstones.latest_first(view)
    passes = study_test(query)
    yield from islice((stone for stone in stones if passes(stone.study)), query.limit)


def mention_removed(view: View, query: Query) -> None:
    """Nothing was found: perhaps it was here before."""
    if query.level is QueryLevel.STUDY and any(value.strip() for value in query.keys.values()):
        for stone in islice(removed(view, query), _mentioned_max):
            click.echo(stone_text(stone, is_here(view, stone)), err=True)


def is_here(view: View, stone: Tombstone) -> bool:
    """Whether something of the study is here, or is again."""
    study = stone.study
    numbers = [number for number, _ in view.studies_of_uid(study.uid, study.alone)]
    found = [view.study(number) for number in numbers]
    return any(each is not None and each.patient_mark == study.patient_mark for each in found)


def stone_text(stone: Tombstone, here: bool) -> str:
    """A line about it."""
    study = stone.study
    until = moment(stone.when_ns, "seconds")
    part = "" if stone.whole else f" ({stone.instances} of {study.instances} instances)"
    again = ("; is here again" if stone.whole else "; the rest is here") if here else ""
    why = f" ({stone.why})" if stone.why else ""
    to = delivered_text(stone.earlier | stone.delivered)
    whose = f"study {study.uid} of patient {study.value(PATIENT_ID)!r}"
    return one_line(
        f"{whose} was here until {until}{part}, delivered to {to}; "
        f"removed by {stone.who}{why}{again}"
    )


def stone_fields(stone: Tombstone, here: bool) -> Mapping[str, object]:
    """The same, beside the fields of a study, as one JSON line."""
    return {
        "removed": moment(stone.when_ns),
        "removed_by": stone.who,
        "why": stone.why,
        "removed_instances": stone.instances,
        "removed_bytes": stone.file_bytes,
        "delivered": {
            remote: {"instances": count, "last": moment(last_ns)}
            for remote, (count, last_ns) in (stone.earlier | stone.delivered).items()
        },
        "here": here,
    }


def delivered_text(delivered: Delivered) -> str:
    """Where to, how many, and until when, in words."""
    parts = (
        f"{remote} ({count}, the last {moment(last_ns, 'seconds')})"
        for remote, (count, last_ns) in sorted(delivered.items())
    )
    return ", ".join(parts) or "nobody"
