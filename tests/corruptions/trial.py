"""One trial: a corruption of a copy, a start on it, and the judgement of what came of it.

Where the index is refused, or what crashes is LMDB, the way on is that of docs/operations.md: the
index is moved away and made again from the files, and the judgement is of what is there then.
"""

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

from tests.corruptions.apart import apart
from tests.corruptions.corruption import Corruption, corrupt
from tests.corruptions.material import Made, make
from tests.corruptions.starting import Told, started

_killed_share: Final = 0.7  # of the trials: of a service that was killed


class Outcome(Enum):
    """What a trial came to, in the words of the table."""

    WHOLE = "all there"
    TOLD = "all there, damage told"
    NAMED = "losses named"
    REFUSED = "index refused, made anew"
    WRONG = "not kept"


@dataclass
class Verdict:
    """`wrong` is empty if the start kept its promise. `quiet`: what stands in the index alone is
    another, and nothing says so."""

    outcome: Outcome
    wrong: list[str] = field(default_factory=list)
    refused: str = ""
    quiet: bool = False


def material(room: Path) -> tuple[Made, Made]:
    """Of a killed service, and of one that was stopped; each made in a process of its own."""
    killed, stopped = (_made_in(room / name, name == "killed") for name in ("killed", "stopped"))
    return killed, stopped


def _made_in(directory: Path, killed: bool) -> Made:
    said = apart(lambda: _plain(make(directory, killed)))
    assert "result" in said, said
    acknowledged, records, routed, older = said["result"]
    return Made(
        directory,
        acknowledged,
        {(name, number): uid for name, number, uid in records},
        set(routed),
        {path: [bytes.fromhex(one) for one in copies] for path, copies in older.items()},
    )


def _plain(made: Made) -> list[object]:
    records = [[name, number, uid] for (name, number), uid in made.records.items()]
    older = {path: [one.hex() for one in copies] for path, copies in made.older.items()}
    return [made.acknowledged, records, sorted(made.routed), older]


def damaged_copy(
    makes: Sequence[Made], seed: int, case: int, copy: Path
) -> tuple[Made, Corruption]:
    """A fresh copy with the corruption of this number, the same in every run."""
    chance = random.Random(f"{seed}-{case}")
    made = makes[chance.random() >= _killed_share]
    shutil.copytree(made.directory, copy)
    return made, corrupt(made, copy, chance)


def judge(made: Made, directory: Path, done: Corruption) -> Verdict:
    """Start it, and go the way on where one is told."""
    told, refused = started(directory), ""
    if told.refused.startswith("index") and done.is_of_index:
        refused = told.refused
        shutil.rmtree(directory / "index")
        told = started(directory)
    if told.died or told.refused:
        return Verdict(Outcome.WRONG, [told.died or f"refused: {told.refused}"], refused)
    wrong = [*_not_kept(made, done, told), *_not_standing(directory, told)]
    quiet = done.is_of_index and not (refused or told.differences or told.damage)
    quiet = quiet and (bool(made.routed - told.queued) or not told.corrected)
    if wrong:
        return Verdict(Outcome.WRONG, wrong, refused)
    return Verdict(_outcome(made, told, refused), [], refused, quiet)


def _outcome(made: Made, told: Told, refused: str) -> Outcome:
    if refused:
        return Outcome.REFUSED
    if any(told.there.get(uid) != expected for uid, expected in made.acknowledged.items()):
        return Outcome.NAMED
    return Outcome.TOLD if told.damage or told.differences or told.lost else Outcome.WHOLE


def _not_kept(made: Made, done: Corruption, told: Told) -> list[str]:
    """What was acknowledged is there, or was touched and is named."""
    wrong = []
    numbers = {uid: key for key, uid in made.records.items()}
    for uid, expected in made.acknowledged.items():
        if told.there.get(uid) == expected:
            if uid in made.routed - told.queued and not done.is_of_index:
                wrong.append(f"{uid} is there and not queued")
        elif uid not in told.named and numbers.get(uid) not in told.lost:
            wrong.append(f"{uid} is lost and nobody says so")
        elif uid not in done.costs:
            wrong.append(f"{uid} is lost although it was not touched")
    if not told.corrected and not done.is_of_index:
        wrong.append("a correction is lost")
    return wrong


def _not_standing(directory: Path, told: Told) -> list[str]:
    """The next start finds what this one left."""
    again = started(directory)
    if again.died or again.refused:
        return [f"the second start: {again.died or again.refused}"]
    return [] if again.there == told.there else ["the second start has other instances"]
