"""When what an instance is sent with was corrected, and by whom: the user, or a message.

A correction's time is in `correction_times`. The user's is also that of its line in the history; a
message's is the time that the message tells of (engine/index/expected.py), at which the history has
nothing of it.
"""

from collections import defaultdict
from typing import NamedTuple

from engine.dictionary.attributes import BY_TAG
from engine.index import corrections, expected
from engine.index.corrections import EDIT_KEY, Target
from engine.index.environment import View
from engine.index.records import Series, Study


class Occasion(NamedTuple):
    """Something was corrected: when, whether by the user, and which elements."""

    when_ns: int
    by_user: bool
    tags: frozenset[int]


def occasions(
    view: View, study: Study, series: Series | None, received_ns: int
) -> tuple[Occasion, ...]:
    """Of all corrections that an instance of this series carries, the earliest first. An instance
    was corrected when it came (`received_ns`), if that was later."""
    targets = [corrections.patient_of(study)]
    if study.uid:
        targets.append(corrections.study_of(study))
    if series is not None and series.uid:
        targets.append(corrections.series_of(study, series))
    made: dict[int, tuple[Target, int]] = {}  # the last target is the strongest
    for target in targets:
        times = expected.times_at(view.stored, target)
        for tag in corrections.values_at(view.correction, target):
            made[tag] = target, times.get(tag, 0)
    found = defaultdict[tuple[int, bool], set[int]](set)
    for tag, (target, when_ns) in made.items():
        by_user = not when_ns or _is_the_users(view, target, tag, when_ns)
        found[max(when_ns, received_ns), by_user].add(tag)
    return tuple(Occasion(*of, frozenset(tags)) for of, tags in sorted(found.items()))


def _is_the_users(view: View, target: Target, tag: int, when_ns: int) -> bool:
    number = 0
    while (line := view.stored("edits", EDIT_KEY.pack(when_ns, number))) is not None:
        edit = corrections.decode_edit(line)
        is_meant = edit.target[:2] == target[:2] and edit.patient in (None, target.patient)
        if is_meant and edit.keyword == BY_TAG[tag].keyword:
            return True
        number += 1
    return False
