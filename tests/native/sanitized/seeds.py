"""Inputs that each fuzz target begins with, made here and not stored: the promise is that every
target starts where its work starts, with input that is whole, beside what breaks it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tests.material.jpeg_encoder import Form, encode, picture
from tests.native.sanitized import hostile

# Programs for pdu_cutter_fuzz.cpp: accepted, seed, then a command that stores (2) or discards (1),
# data fragments of every kind, their repetition, and what ends or breaks the stream.
COMMAND: Final = bytes([1, 1, 40, 2])
DATA: Final = bytes([2, 1, 0x3F, 0xF4, 5])
LAST: Final = bytes([3, 1, 0x10, 0x01, 9])
CUTTER_SEEDS: Final = [
    bytes([1, 3]) + COMMAND + LAST + COMMAND + LAST + bytes([6, 0]),
    bytes([1, 8]) + COMMAND + DATA + bytes([14, 20]) + LAST + COMMAND + DATA + LAST,
    bytes([1, 9]) + COMMAND + DATA + bytes([14, 150, 2, 1, 1, 1, 7, 14, 90]) + LAST,
    bytes([1, 4]) + COMMAND + bytes([2, 1, 0, 1, 5, 14, 159]) + LAST + COMMAND + LAST,
    bytes([1, 5]) + COMMAND[:3] + bytes([1]) + DATA + bytes([14, 9]) + LAST + COMMAND + LAST,
    bytes([0, 6, 5, 80, 0]) + COMMAND + LAST + bytes([6, 2]),
    bytes([1, 7]) + COMMAND + DATA + bytes([15, 0, 70, 255]) + LAST,
    bytes([1, 2]) + COMMAND + bytes([4, 3, 1, 0, 200, 1, 0, 100, 1, 2, 9]) + COMMAND + LAST,
]


# Programs for tls_session_fuzz.cpp: TLS 1.3 or 1.2, reading ahead or not, then for each write what
# is done to its records (0 changed, 1 cut, 2 repeated, above: nothing), its size, and where.
TLS_SEEDS: Final = [
    bytes([how, 0]) + bytes([3, 200, 0, 0]) * 3 + bytes([wrong, 200, 90, 16])
    for how in (0, 2, 4, 6)
    for wrong in (0, 1, 2, 3)
]


# For seal_fuzz.cpp: kind, prologue, attributes, place and change of a byte, then the file.
SEAL_SEEDS: Final = [
    bytes([1, 60, 9, *place, change]) + b"instance" * count
    for place in ((0, 0), (0, 5), (15, 250))
    for change in (0, 1)
    for count in (1, 400)
]
# For fragments_fuzz.cpp: begin, cut, most items, then items and their delimiter (PS3.5 A.4).
_ITEM: Final = bytes([0xFE, 0xFF, 0x00, 0xE0])
_END: Final = bytes([0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0])
FRAGMENTS_SEEDS: Final = [
    bytes([0, 0, 9]) + (_ITEM + bytes([4, 0, 0, 0]) + b"data") * count + _END
    for count in (0, 1, 3, 10)
]


def element_run_seeds() -> list[bytes]:
    """Choices, depth, value_max, how much is at hand: see the target's head."""
    return [
        bytes([choices, 0, 255, index % 256]) + case.data[:2048]
        for index, case in enumerate(hostile.cases())
        if case.explicit
        for choices in (2, 4)
    ]


def tag_scanner_seeds() -> list[bytes]:
    """Which tags, value_max, row_max, how much is at hand: see the target's head."""
    choices = [(0, 64, 255), (2, 8, 16)]
    return [
        bytes([which | case.explicit, value_max, row_max, index % 256]) + case.data[:2048]
        for index, case in enumerate(hostile.cases())
        for which, value_max, row_max in choices
    ]


def jpeg_streams() -> list[bytes]:
    """Whole streams of JPEG Lossless, small ones of every form that is read."""
    forms = [Form(bits, predictor) for bits in (2, 8, 12, 16) for predictor in (1, 2, 4, 7)]
    forms += [
        Form(12, restart_rows=2),
        Form(16, point_transform=3),
        Form(12, long_codes=True, fill_bytes=1),
    ]
    colour = [Form(8), Form(8, interleaved=False), Form(8, 6, own_tables=True, restart_rows=1)]
    streams = [encode(picture(7, 9, 1, form.precision), form) for form in forms]
    streams += [encode(picture(5, 6, 3, form.precision), form) for form in colour]
    # Rows long enough for several positions to be decoded at once.
    return [*streams, encode(picture(4, 300, 1, 12), replace(forms[0], precision=12))]


def jpeg_lossless_seeds() -> list[bytes]:
    """Width of samples and threads: see the target's head."""
    return [bytes([index % 2 * 64]) + one for index, one in enumerate(jpeg_streams())]


def frame_sender_seeds() -> list[bytes]:
    """How the frames are cut up, which of them is broken: see the target's head."""
    return [bytes([index, index % 16]) + one for index, one in enumerate(jpeg_streams())]


_SEEDS: Final[dict[str, Callable[[], list[bytes]]]] = {
    "element_run_fuzz": element_run_seeds,
    "fragments_fuzz": lambda: FRAGMENTS_SEEDS,
    "frame_sender_fuzz": frame_sender_seeds,
    "pdu_cutter_fuzz": lambda: CUTTER_SEEDS,
    "jpeg_lossless_fuzz": jpeg_lossless_seeds,
    "seal_fuzz": lambda: SEAL_SEEDS,
    "tag_scanner_fuzz": tag_scanner_seeds,
    "tls_session_fuzz": lambda: TLS_SEEDS,
}


def seeds(target: str) -> list[bytes]:
    """A target's; none where what earlier runs found (`corpus/`) is start enough."""
    return _SEEDS.get(target, list)()
