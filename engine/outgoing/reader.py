"""A stored data set, element by element, without having it in memory.

The file is read through a window, never mapped: what the disk cannot read has to be an error of
this one instance, not the end of the process. No length in the file is trusted; each step moves on
by a header at least, so the work is bounded by the file. LocalError says at which byte it breaks.
"""

import os
from struct import Struct
from typing import Final

from engine import limits
from engine.dictionary.vr import LONG_VRS
from engine.errors import LocalError
from native import _core

UNDEFINED: Final = 0xFFFFFFFF
ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD

_IMPLICIT: Final = Struct("<HHI").unpack_from
_EXPLICIT: Final = Struct("<HH2sH").unpack_from
_LENGTH: Final = Struct("<I").unpack_from
_header_bytes_max: Final = 12
# PS3.5 7.1.2: all other VRs have a length of 32 bits.
SHORT_VRS: Final = frozenset(
    {
        *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO"),
        *(b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
    }
)
_window_bytes: Final = 64 * limits.KIB
# More fragments than the longest runs have; their places take 50 MB of memory.
_fragments_max: Final = 256 * limits.KIB

Header = tuple[int, bytes, int, int]  # tag, VR (empty: none was there), length, where the value is
# Where the first element lies that was not passed over, what the others become, values by tag.
Run = tuple[int, bytes, list[tuple[int, bytes]]]


class DataSetReader:
    """The bytes from `start` to `end` of an open file. `head`: its first bytes, if they have been
    read."""

    def __init__(self, descriptor: int, start: int, end: int, head: bytes = b"") -> None:
        self._descriptor = descriptor
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
            elif vr not in SHORT_VRS and behind <= self.end and not (vr.isalpha() and vr.isupper()):
                raise LocalError(f"the data set has no VR at byte {at}")
        else:
            group, element, length = _IMPLICIT(window, offset)
            vr = b""
        if behind > self.end or (length > self.end - behind and length != UNDEFINED):
            raise LocalError(f"the data set is cut off at byte {at}")
        return group << 16 | element, vr, length, behind

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
        # (explicit inside, whether items are next); PS3.5 6.2.2: of unknown VR is implicit inside.
        levels = [(explicit and vr != b"UN", True)]
        while levels:
            if len(levels) > 2 * limits.sequence_depth_max:
                raise LocalError(f"sequences are nested too deep at byte {at}")
            inside, items = levels[-1]
            tag, vr, length, behind = self.header(at, inside and not items)
            if tag == (SEQUENCE_END if items else ITEM_END):
                levels.pop()
            elif items and tag != ITEM:
                raise LocalError(f"a sequence is broken at byte {at}")
            elif length == UNDEFINED:
                levels.append((inside, False) if items else (inside and vr != b"UN", True))
            else:
                behind += length
            at = behind
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
                return spans, begin
            if tag != ITEM or length == UNDEFINED:
                raise LocalError(f"pixel data are broken at byte {at}")
            if len(spans) > _fragments_max:
                raise LocalError(f"pixel data have more than {_fragments_max} fragments")
            at = begin + length
            spans.append((begin, at))

    def _load(self, at: int) -> int:
        """Move the window there; the place in it."""
        length = min(_window_bytes, self.end - at)
        if length <= 0:
            raise LocalError(f"the data set is cut off at byte {at}")
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
