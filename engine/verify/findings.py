"""What a check of index and files can find, and what is done about each of it.

`engine/verify/verify.py` finds it; `engine/verify/repair.py` carries out the actions. Some
kinds have none: there only the sender can help.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from engine.verify.repair import Action


class FindingKind(Enum):
    """What can be wrong, in words; and what a repair does about it."""

    MISSING = "the file of an indexed instance is gone"
    WRONG_SIZE = "a file has another size than was stored"
    WRONG_BYTES = "a file has other bytes than were stored"
    PIXELS = "an image that cannot be decoded"
    UNKNOWN = "a file of an instance that the index does not know"
    STALE = "a file whose instance is indexed elsewhere in the tree"
    FOREIGN = "a file that is no instance"
    JOINED = "a study that holds instances of several patients"
    RECORDS = "records of the index contradict each other"


REMEDIES: Final = {
    FindingKind.MISSING: "the row is taken out; the instance is lost, ask the sender for it",
    FindingKind.WRONG_SIZE: "none: ask the sender for it, the new one replaces it",
    FindingKind.WRONG_BYTES: "none: ask the sender for it, the new one replaces it",
    FindingKind.PIXELS: "none: if its bytes are those that were sent, "
    "the sender's own copy is broken too",
    FindingKind.UNKNOWN: "it is taken into the index",
    FindingKind.STALE: "it is moved to set_aside/",
    FindingKind.FOREIGN: "it is moved to set_aside/",
    FindingKind.JOINED: "it is parted, by what its files say",
    FindingKind.RECORDS: "they are made again from the instances",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference. `path` is relative to the tree; `text` says more where there is more."""

    kind: FindingKind
    path: str = ""
    sop_instance_uid: str = ""
    study_uid: str = ""
    study: int = 0  # the study's number in the index
    text: str = ""

    @property
    def action(self) -> Action | None:
        """What repairs it, if anything does."""
        if self.kind is FindingKind.MISSING:
            return Action("forget", self.path, self.sop_instance_uid)
        if self.kind is FindingKind.UNKNOWN:
            return Action("adopt", self.path)
        if self.kind in (FindingKind.STALE, FindingKind.FOREIGN):
            return Action("set_aside", self.path)
        if self.kind is FindingKind.JOINED:
            return Action("part", study_uid=self.study_uid, study=self.study)
        if self.kind is FindingKind.RECORDS and self.study:
            return Action("recount", study_uid=self.study_uid, study=self.study)
        return None


@dataclass
class VerifyReport:
    """What was looked at and what was found."""

    instances: int = 0
    files: int = 0
    studies: int = 0
    checked_bytes: int = 0
    images: int = 0  # whose frames were decoded
    frames: int = 0
    frames_unchecked: int = 0  # of a kind, or a size, that is not decoded here
    # Study Instance UIDs that more than one patient has, and how many: kept apart, no difference.
    shared: dict[str, int] = field(default_factory=dict)
    # The first study that release 0.2.0 cannot have joined with another patient's; 0: none can be.
    unparted: int = 0
    findings: list[Finding] = field(default_factory=list)
