"""A stored data set, element by element, without having it in memory.

The file is read through a window, never mapped: what the disk cannot read has to be an error of
this one instance, not the end of the process. No length in the file is trusted; each step moves on
by a header at least, so the work is bounded by the file. LocalError says at which byte it breaks.
"""

import os
from struct import Struct
from typing import Final

from engine import limits
from engine.dictionary.headers import NO_VR, SHORT_VRS, Form, form_of, may_follow
from engine.dictionary.vr import LONG_VRS, UNKNOWN
from engine.errors import LocalError
from engine.outgoing.oddities import Oddities, Oddity
from native import _core

UNDEFINED: Final = 0xFFFFFFFF
ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD

_IMPLICIT: Final = Struct("<HHI").unpack_from
_EXPLICIT: Final = Struct("<HH2sH").unpack_from
_LENGTH: Final = Struct("<I").unpack_from
_TAG: Final = Struct("<HH").unpack_from
_header_bytes_max: Final = 12
_header_bytes_min: Final = 8
_meta_group: Final = b"\2\0"
_window_bytes: Final = 64 * limits.KIB
# More fragments than the longest runs have; their places take 50 MB of memory.
_fragments_max: Final = 256 * limits.KIB

# Tag, VR (empty: none was there; UN: none that we know), length, where the value is.
Header = tuple[int, bytes, int, int]
# Where the first element lies that was not passed over, what the others become, values by tag.
Run = tuple[int, bytes, list[tuple[int, bytes]]]


def is_delimiter(group: int, element: int) -> bool:
    """Of an item or a sequence: its length says nothing."""
    return group == 0xFFFE and element in (0xE00D, 0xE0DD)


def shown(tag: int) -> str:
    """A tag as people write it."""
    return f"({tag >> 16:04x},{tag & 0xFFFF:04x})"


def too_deep(tag: int, at: int) -> LocalError:
    """What sequences are that are nested beyond the bound."""
    return LocalError(
        f"sequences are nested more than {limits.sequence_depth_max} deep at byte {at}, with "
        f"{shown(tag)}"
    )


def broken_sequence(tag: int, at: int) -> LocalError:
    """What a sequence is in which no item is next."""
    return LocalError(f"a sequence is broken at byte {at}: {shown(tag)} and no item")


class DataSetReader:
    """The bytes from `start` to `end` of an open file. `head`: its first bytes, if they have been
    read."""

    def __init__(
        self,
        descriptor: int,
        start: int,
        end: int,
        head: bytes = b"",
        oddities: Oddities | None = None,
    ) -> None:
        self._descriptor = descriptor
        self.oddities = Oddities() if oddities is None else oddities
        self.start = start
        self.end = end
        self._window = b""
        self._base = 0  # where the window lies in the file
        self._whole = -1  # up to this place in the window a header lies in it as a whole
        if len(head) > start:
            self._look_at(0, head)

    def header(self, at: int, explicit: bool) -> Header:
        """The element, item or delimiter at `at`. A defined length never leads outside."""
        offset = at - self._base
        if not 0 <= offset <= self._whole:
            offset = self._load(at)
        window = self._window
        behind = at + 8
        if explicit:
            group, element, vr, length = _EXPLICIT(window, offset)
            if group == 0xFFFE:
                vr = b""
                length = _LENGTH(window, offset + 4)[0]
            elif vr in LONG_VRS:
                length = _LENGTH(window, offset + 8)[0]
                behind = at + 12
            elif vr not in SHORT_VRS:
                tag = group << 16 | element
                vr, length, behind = self._odd_header(at, tag, vr, length)
        else:
            group, element, length = _IMPLICIT(window, offset)
            vr = b""
        if behind > self.end or (
            length > self.end - behind and length != UNDEFINED and not is_delimiter(group, element)
        ):
            raise self._cut_off(at)
        return group << 16 | element, vr, length, behind

    def _cut_off(self, at: int) -> LocalError:
        """With the tag of the element at this byte, if as much is there."""
        offset = at - self._base
        if self.end - at < 4:
            return LocalError(f"the data set is cut off at byte {at}, amid a tag")
        group, element = _TAG(self._window, offset)
        return LocalError(f"the data set is cut off at byte {at}, in ({group:04x},{element:04x})")

    def _odd_header(self, at: int, tag: int, vr: bytes, short: int) -> tuple[bytes, int, int]:
        """(VR, length, where the value begins) of an element with no VR that we know."""
        form = form_of(vr, short)
        doubtful = (vr == NO_VR and short) or form is Form.LONG
        if doubtful and self._may_be_next(at + 8 + short, tag):
            form = Form.SHORT
        elif form is not Form.SHORT:
            behind = at + (12 if form is Form.LONG else 8)
            long = int.from_bytes(self.value(behind - 4, 4), "little")
            if long > self.end - behind and long != UNDEFINED:
                form = Form.SHORT  # it leads outside, as DCMTK sees as well
        is_implicit = form is Form.IMPLICIT
        self.oddities.note(Oddity.IMPLICIT_ELEMENT if is_implicit else Oddity.UNKNOWN_VR, tag, at)
        if form is Form.SHORT:
            return UNKNOWN, short, at + 8
        return (b"" if is_implicit else UNKNOWN), long, behind

    def _may_be_next(self, at: int, tag: int) -> bool:
        """Whether a data set's end, or what may follow `tag`, is at this place."""
        return at == self.end or (at + 6 <= self.end and may_follow(tag, self.value(at, 6)))

    def begin(self, explicit: bool) -> tuple[int, bool]:
        """(where the data set's own elements begin, whether they are explicit).

        Elements of group 0002 ahead of them belong to no data set (PS3.10 7.1); they are in the
        encoding of the file meta information or in that of the data set. A data set may be in the
        other encoding than the one that was negotiated: its first element tells, as in
        native/src/spool/tag_scanner.cpp.
        """
        at = self.start
        while self.end - at >= _header_bytes_min and self.value(at, 2) == _meta_group:
            tag, vr, length, start = self.header(at, self._has_vr(at))
            self.oddities.note(Oddity.META_IN_DATA_SET, tag, at)
            at = self.skip(start, vr, length, explicit)
        if self.end - at < _header_bytes_min:
            return at, explicit
        vr, behind = self.value(at + 4, 2), int.from_bytes(self.value(at + 6, 2), "little")
        other = form_of(vr, behind) is Form.IMPLICIT if explicit else self._has_vr(at)
        if other:
            tag = self.header(at, not explicit)[0]
            self.oddities.note(Oddity.OTHER_ENCODING, tag, at)
        return at, explicit != other

    def _has_vr(self, at: int) -> bool:
        """Whether two letters that are a VR follow the tag."""
        vr = self.value(at + 4, 2)
        return vr in SHORT_VRS or vr in LONG_VRS

    def value(self, at: int, length: int) -> bytes:
        """Bytes that header() said are there. Whoever calls bounds the length."""
        offset = at - self._base
        if not length:
            return b""
        if offset < 0 or offset + length > len(self._window):
            if length > _window_bytes // 2:
                return self._read(at, length)
            offset = self._load(at)
        return self._window[offset : offset + length]

    def run(self, at: int, end: int, runs: _core.ElementRun, depth: int, below: int) -> Run:
        """The plain explicit elements from `at` on, as many as are at hand, in a level that ends at
        `end` at most; native/src/outgoing/element_run.hpp says which are."""
        offset = at - self._base
        if not 0 <= offset <= self._whole:
            offset = self._load(at)
        last = min(len(self._window), end - self._base, self.end - self._base)
        stopped, written, kept = runs.pass_over(self._window, offset, last, depth, below)
        return self._base + stopped, written, kept

    def skip(self, at: int, vr: bytes, length: int, explicit: bool) -> int:
        """Where the element behind a value of this length begins."""
        if length != UNDEFINED:
            return at + length
        # PS3.5 6.2.2: of unknown VR is implicit inside.
        return self._behind(at, [(explicit and vr != b"UN", True)])

    def skip_item(self, at: int, length: int, explicit: bool) -> int:
        """Likewise, of an item's value."""
        return at + length if length != UNDEFINED else self._behind(at, [(explicit, False)])

    def _behind(self, at: int, levels: list[tuple[bool, bool]]) -> int:
        """Where all of these end: (explicit inside, whether items are next) of each."""
        tag = 0
        while levels:
            if len(levels) > 2 * limits.sequence_depth_max:
                raise too_deep(tag, at)
            inside, items = levels[-1]
            tag, vr, length, behind = self.header(at, inside and not items)
            if tag == (SEQUENCE_END if items else ITEM_END):
                levels.pop()
                behind = self.behind_delimiter(tag, length, at)
            elif items and tag != ITEM:
                raise broken_sequence(tag, at)
            elif length == UNDEFINED:
                levels.append((inside, False) if items else (inside and vr != b"UN", True))
            else:
                behind += length
            at = behind
        return at

    def holds_items(self, start: int, end: int, explicit: bool) -> bool:
        """Whether what lies there are items, and in each of them whole elements."""
        at = start
        try:
            while at < end:
                tag, _, length, at = self.header(at, explicit=False)
                if tag == SEQUENCE_END:
                    return True
                if tag != ITEM:
                    return False
                item_end = self.end + 1 if length == UNDEFINED else at + length
                while at < item_end:
                    tag, vr, length, value = self.header(at, explicit)
                    at = value if tag == ITEM_END else self.skip(value, vr, length, explicit)
                    if tag == ITEM_END:
                        break
                if at > min(item_end, end):
                    return False
        except LocalError:
            return False
        return True

    def behind_delimiter(self, tag: int, length: int, at: int) -> int:
        """Where what follows the delimiter at `at` begins. Its length has to be 0 (PS3.5 7.5);
        like everybody else we do not believe another one."""
        if length:
            self.oddities.note(Oddity.DELIMITER, tag, at)
        return at + 8

    def end_of_data_set(self, at: int) -> int:
        """The item delimiter at `at`, outside of any item, ends the data set for pydicom, DCMTK and
        GDCM alike. What is behind it is left out where the data set is written anew."""
        behind = at + 8 < self.end
        self.oddities.note(Oddity.BEHIND_END if behind else Oddity.DELIMITER, ITEM_END, at)
        return at

    def fragments(self, at: int) -> tuple[list[tuple[int, int]], int]:
        """(where each item of encapsulated pixel data begins and ends, where the next element is);
        the first one is the offset table."""
        found = _core.find_fragments(self._descriptor, at, self.end, _fragments_max)
        return found or self._broken_fragments(at)

    def _broken_fragments(self, at: int) -> tuple[list[tuple[int, int]], int]:
        """Step by step, to say where they break."""
        spans: list[tuple[int, int]] = []
        while True:
            tag, _, length, begin = self.header(at, explicit=False)
            if tag == SEQUENCE_END and spans:
                return spans, self.behind_delimiter(tag, length, at)
            if tag != ITEM or length == UNDEFINED:
                raise LocalError(f"pixel data (7fe0,0010) are broken at byte {at}")
            if len(spans) > _fragments_max:
                raise LocalError(
                    f"pixel data (7fe0,0010) have more than {_fragments_max} fragments at byte {at}"
                )
            at = begin + length
            spans.append((begin, at))

    def _load(self, at: int) -> int:
        """Move the window there; the place in it."""
        length = min(_window_bytes, self.end - at)
        if length <= 0:
            raise self._cut_off(at)
        self._look_at(at, self._read(at, length))
        return 0

    def _look_at(self, base: int, window: bytes) -> None:
        if base + len(window) >= self.end:
            # So that the last header, which may be shorter than the longest, can be looked at.
            window = window[: self.end - base] + bytes(_header_bytes_max)
        self._window = window
        self._base = base
        self._whole = len(window) - _header_bytes_max

    def _read(self, at: int, length: int) -> bytes:
        try:
            data = os.pread(self._descriptor, length, at)
            while len(data) < length:  # a signal, or more than one call may read
                more = os.pread(self._descriptor, length - len(data), at + len(data))
                if not more:
                    raise LocalError(f"the file ends at byte {at + len(data)}, it was longer")
                data += more
        except OSError as error:
            raise LocalError(f"the file cannot be read: {error.strerror}") from error
        return data
