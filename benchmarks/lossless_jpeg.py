"""Encodes one frame as JPEG Lossless, process 14, selection value 1; for making test loads only.

Promises: 2 to 16 bits, one component; what a conforming decoder gives back is the frame, bit for
bit. One Huffman table for all frames, so it is fast to make and not the smallest.
"""

from typing import Any, Final

import numpy
from numpy.typing import NDArray

# Code lengths of the categories 0 to 16: short for the small differences of a noisy CT.
_LENGTHS: Final = (5, 5, 4, 3, 3, 3, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13)


def _codes() -> tuple[bytes, bytes, list[int]]:
    """The DHT segment's counts and values, and the canonical code of each category."""
    ordered = sorted(range(17), key=lambda category: (_LENGTHS[category], category))
    counts = bytes(_LENGTHS.count(length) for length in range(1, 17))
    codes = [0] * 17
    code, length = 0, 0
    for category in ordered:
        code <<= _LENGTHS[category] - length
        length = _LENGTHS[category]
        codes[category] = code
        code += 1
    if code > (1 << length) - 1:
        raise ValueError("the code lengths leave no room")
    return counts, bytes(ordered), codes


def _differences(frame: NDArray[Any], bits: int) -> NDArray[numpy.int64]:
    """Each sample less its left neighbour; the first column less the one above (T.81 H.1.2)."""
    samples = frame.astype(numpy.int64)
    predicted = numpy.empty_like(samples)
    predicted[:, 1:] = samples[:, :-1]
    predicted[1:, 0] = samples[:-1, 0]
    predicted[0, 0] = 1 << (bits - 1)
    difference = (samples - predicted) & 0xFFFF  # modulo 2^16 (H.1.2.1)
    return numpy.where(difference > 0x8000, difference - 0x10000, difference).ravel()


def _scan(frame: NDArray[Any], bits: int) -> bytes:
    """The entropy-coded segment, with a zero after each FF."""
    _, _, codes = _codes()
    difference = _differences(frame, bits)
    magnitude = numpy.abs(difference)
    category = numpy.zeros(magnitude.shape, dtype=numpy.int64)
    for bit in range(16):
        category += magnitude >= (1 << bit)
    extra = numpy.where(category == 16, 0, category)
    value = numpy.where(difference < 0, difference + (1 << category) - 1, difference)
    value &= (1 << extra) - 1
    word = (numpy.array(codes)[category] << extra) | value
    length = numpy.array(_LENGTHS)[category] + extra
    ends = numpy.cumsum(length)
    total = int(ends[-1])
    bits_out = numpy.ones((total + 7) // 8 * 8, dtype=numpy.uint8)  # padded with ones (F.1.2.3)
    starts = ends - length
    for bit in range(int(length.max())):
        here = length > bit
        bits_out[starts[here] + bit] = (word[here] >> (length[here] - 1 - bit)) & 1
    return numpy.packbits(bits_out).tobytes().replace(b"\xff", b"\xff\x00")


def encode(frame: NDArray[Any], bits: int) -> bytes:
    """A whole JPEG stream of `frame` (rows x columns, unsigned), `bits` deep."""
    if not 2 <= bits <= 16 or frame.ndim != 2 or int(frame.max()) >> bits:
        raise ValueError("one component of 2 to 16 bits is encoded")
    rows, columns = frame.shape
    counts, values, _ = _codes()
    table = b"\x00" + counts + values
    start = bytes((bits, *rows.to_bytes(2), *columns.to_bytes(2), 1, 1, 0x11, 0))
    stream = b"\xff\xd8"
    for marker, segment in (
        (0xC3, start),
        (0xC4, table),
        (0xDA, bytes((1, 1, 0x00, 1, 0, 0))),
    ):
        stream += bytes((0xFF, marker)) + (len(segment) + 2).to_bytes(2) + segment
    return stream + _scan(frame, bits) + b"\xff\xd9"
