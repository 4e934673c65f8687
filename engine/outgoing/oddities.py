"""What a stored data set has that the standard does not, and that was read all the same.

DCMTK, pydicom and GDCM read these things alike, so they are no reason to keep an instance from
going out; but whoever looks for the cause of a peer's complaint has to be able to find them. So
each is counted by its kind, and logged with the place where it was seen first.
"""

from enum import StrEnum


class Oddity(StrEnum):
    """The label of its counter."""

    META_IN_DATA_SET = "meta_in_data_set"
    OTHER_ENCODING = "other_encoding"
    UNKNOWN_VR = "unknown_vr"
    IMPLICIT_ELEMENT = "implicit_element"
    DELIMITER = "delimiter"
    BEHIND_END = "behind_end"
    SEQUENCE_VALUE = "sequence_value"
    OFFSET_TABLE = "offset_table"
    FRAME_COUNT = "frame_count"
    EMPTY_FRAGMENT = "empty_fragment"


_WORDS = {
    Oddity.META_IN_DATA_SET: "elements of group 0002 in the data set, left out",
    Oddity.OTHER_ENCODING: "a data set that is not in the transfer syntax it came in",
    Oddity.UNKNOWN_VR: "an unknown VR, sent as UN",
    Oddity.IMPLICIT_ELEMENT: "an element without VR",
    Oddity.DELIMITER: "a delimiter with a length, or without need",
    Oddity.BEHIND_END: "elements behind a delimiter that ends the data set, left out",
    Oddity.SEQUENCE_VALUE: "a sequence that holds no items, sent as UN",
    Oddity.OFFSET_TABLE: "an offset table that does not fit its fragments",
    Oddity.FRAME_COUNT: "no usable number of frames",
    Oddity.EMPTY_FRAGMENT: "an empty fragment behind the frames",
}


class Oddities:
    """Of one instance."""

    def __init__(self) -> None:
        self._first: dict[Oddity, tuple[int, int]] = {}

    def note(self, kind: Oddity, tag: int, at: int) -> None:
        """Seen in this element, at this byte of the file."""
        self._first.setdefault(kind, (tag, at))

    @property
    def kinds(self) -> tuple[Oddity, ...]:
        """In the order in which they were seen."""
        return tuple(self._first)

    def words(self) -> str:
        """For the log: no values, only what, which tag and where."""
        return "; ".join(
            f"{_WORDS[kind]}: ({tag >> 16:04x},{tag & 0xFFFF:04x}) at byte {at}"
            for kind, (tag, at) in self._first.items()
        )
