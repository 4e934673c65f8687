"""Whether an instance may replace one of the same SOP Instance UID and patient, by whose they are.

The conformance statement has each replace the one before. An operator may choose otherwise: an AE
title is no proof of who calls, but it keeps apart what two honest applications send. What may not
replace is kept beside the archive, so that nothing that was acknowledged is lost.
"""

from collections.abc import Iterable
from typing import Final

from engine.index.batch import Entry, Put
from engine.index.environment import View
from engine.intake.step import Replacement

ALWAYS: Final = "always"
SAME_SENDER: Final = "same-sender"
NEVER: Final = "never"


def may_replace(policy: str, before: str, calling_ae_title: str) -> bool:
    """`before`: the calling AE title of what is there. PS3.5 6.2: spaces around a title say
    nothing."""
    if policy == SAME_SENDER:
        return before.strip(" ") == calling_ae_title.strip(" ")
    return policy == ALWAYS


class Standing:
    """Who sent what is there, and when: in the index, or placed and on its way into it."""

    def __init__(self) -> None:
        self._placed: dict[tuple[str, str], tuple[str, int]] = {}

    def refuser(
        self, view: View, entry: Entry, policy: str, comes_back: bool = False
    ) -> str | None:
        """The title of what an instance may not replace; None: nothing is there, or it may.

        `comes_back`: its record may be one that a start gave it after a damage of the journal,
        behind all others: then it does not replace what came after it.
        """
        if policy == ALWAYS and not comes_back:
            return None
        uid, patient = entry.arrival.sop_instance_uid, entry.patient_mark
        before = self._placed.get((uid, patient))
        if before is None:
            found = view.instances_of_uid(uid)
            standing = [
                (one.calling_ae_title, one.received_ns)
                for series, one in found
                if view.whose(series) == patient
            ]
            if not standing:
                return None
            before = standing[0]
        title, received_ns = before
        if comes_back and received_ns > entry.arrival.received_ns:
            return title
        return None if may_replace(policy, title, entry.arrival.calling_ae_title) else title

    def note(self, entry: Entry) -> None:
        """It is placed, and what comes after it finds it there."""
        key = entry.arrival.sop_instance_uid, entry.patient_mark
        self._placed[key] = entry.arrival.calling_ae_title, entry.arrival.received_ns


def replacements(entries: Iterable[Entry], puts: Iterable[Put]) -> list[Replacement]:
    """What was replaced by which of these entries."""
    return [
        Replacement(
            entry.journal,
            entry.sequence,
            entry.arrival.sop_instance_uid,
            entry.study_uid,
            put.replaced.calling_ae_title,
            entry.arrival.calling_ae_title,
        )
        for put, entry in zip(puts, entries, strict=True)
        if put.replaced is not None
    ]
