"""A reference encoder of JPEG Lossless (ITU-T T.81 process 14), slow and literal, for the tests.

Writes every form the decoder promises to read: predictors 1 to 7, 2 to 16 bits, point transform,
restart intervals, one scan or one for each component, one table or several. Shares nothing with the
decoder but the standard; the formulas are those of annexes C, F and H.
"""

import heapq
import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Differences = NDArray[np.int64]

CODE_BITS_MAX: Final = 16


@dataclass(frozen=True)
class Form:
    """How a stream is to be written."""

    precision: int
    predictor: int = 1
    point_transform: int = 0
    restart_rows: int = 0
    interleaved: bool = True
    own_tables: bool = False  # one Huffman table for each component
    long_codes: bool = False  # codes as long as they may be
    fill_bytes: int = 0  # before each marker
    end_marker: bool = True
    extra_segments: bytes = field(default=b"")


def picture(
    rows: int, columns: int, components: int, precision: int, seed: int = 1
) -> NDArray[np.uint16]:
    """Smooth with noise and edges, using the whole range."""
    noise = np.random.default_rng(seed)
    top = (1 << precision) - 1
    y, x = np.mgrid[0:rows, 0:columns]
    smooth = (np.sin(x / 17) + np.cos(y / 11) + 2) / 4 * top
    planes = [
        smooth + noise.normal(0, max(top / 200, 0.4), (rows, columns)) + index * top / 9
        for index in range(components)
    ]
    image = np.clip(np.stack(planes, axis=-1), 0, top)
    image[rows // 3 : rows // 3 + 2, columns // 4 :] = top
    image[rows // 2, : columns // 2] = 0
    return np.asarray(image.round(), np.uint16)


def predicted(samples: Differences, form: Form, row_in_interval: int, row: int) -> Differences:
    """The predictions of one row (H.1.2.1); `samples` are those of the whole component."""
    line = samples[row]
    if row_in_interval == 0:
        first = 1 << (form.precision - form.point_transform - 1)
        return np.concatenate(([first], line[:-1]))
    above = samples[row - 1]
    left, corner, over = line[:-1], above[:-1], above[1:]
    rest = {
        1: left,
        2: over,
        3: corner,
        4: left + over - corner,
        5: left + ((over - corner) >> 1),
        6: over + ((left - corner) >> 1),
        7: (left + over) >> 1,
    }[form.predictor]
    return np.concatenate((above[:1], rest))


def differences(component: NDArray[Any], form: Form) -> Differences:
    """The differences of one component, from -32767 to 32768 (H.1.2.1, modulo 2^16)."""
    samples = component.astype(np.int64) >> form.point_transform
    interval = form.restart_rows or len(samples)
    rows = [
        samples[row] - predicted(samples, form, row % interval, row) for row in range(len(samples))
    ]
    modulo = np.stack(rows) & 0xFFFF
    return np.where(modulo > 0x8000, modulo - 0x10000, modulo)


def categories(values: Differences) -> Differences:
    """Table H.2: how many extra bits, and 16 for 32768, which has none."""
    return np.array([int(abs(value)).bit_length() for value in values.ravel().tolist()])


def code_lengths(counts: Counter[int], long_codes: bool) -> dict[int, int]:
    """A Huffman code's lengths, none longer than 16 bits and the code of all ones left free."""
    if long_codes:  # one bit longer for each category, the most frequent last
        ordered = [category for category, _ in sorted(counts.items(), key=lambda item: item[1])]
        return {category: min(index + 1, 16) for index, category in enumerate(ordered)}
    floor = sum(counts.values()) // 2000 + 1  # keeps the rarest within 16 bits
    heap: list[tuple[int, int, tuple[int, ...]]] = [
        (max(count, floor), index, (category,))
        for index, (category, count) in enumerate(sorted(counts.items()))
    ]
    heap.append((0, -1, (-1,)))  # stands for the code of all ones
    heapq.heapify(heap)
    lengths: Counter[int] = Counter()
    while len(heap) > 1:
        one, other = heapq.heappop(heap), heapq.heappop(heap)
        for category in one[2] + other[2]:
            lengths[category] += 1
        heapq.heappush(heap, (one[0] + other[0], max(one[1], other[1]) + 100, one[2] + other[2]))
    deepest = max(lengths.values())
    reserved = next(category for category in lengths if lengths[category] == deepest)
    lengths[-1], lengths[reserved] = lengths[reserved], lengths[-1]
    del lengths[-1]
    return dict(lengths)


def code_table(counts: Counter[int], form: Form) -> tuple[bytes, dict[int, str]]:
    """The BITS and HUFFVAL of a table, and each category's code (annex C)."""
    lengths = code_lengths(counts, form.long_codes)
    ordered = sorted(lengths, key=lambda category: (lengths[category], category))
    codes: dict[int, str] = {}
    code, length = 0, 0
    for category in ordered:
        code <<= lengths[category] - length
        length = lengths[category]
        codes[category] = f"{code:0{length}b}"
        code += 1
    bits = bytes(sum(1 for each in lengths.values() if each == size) for size in range(1, 17))
    return bits + bytes(ordered), codes


def entropy_coded(symbols: list[tuple[int, dict[int, str]]]) -> bytes:
    """(difference, codes) in order, as bytes: zeros stuffed, the last byte filled with ones."""
    bits: list[str] = []
    for value, codes in symbols:
        category = abs(value).bit_length()
        bits.append(codes[category])
        if 0 < category < 16:
            extra = value if value > 0 else value + (1 << category) - 1
            bits.append(f"{extra:0{category}b}")
    row = "".join(bits)
    row += "1" * (-len(row) % 8)
    return int("1" + row, 2).to_bytes(len(row) // 8 + 1, "big")[1:].replace(b"\xff", b"\xff\x00")


def segment(marker: int, body: bytes, form: Form) -> bytes:
    """One marker segment."""
    return b"\xff" * form.fill_bytes + bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2) + body


def encode(image: NDArray[Any], form: Form) -> bytes:
    """`image` has rows, columns and, where there are several, components."""
    planes = image.reshape(*image.shape[:2], -1)
    rows, columns, components = planes.shape
    values = [differences(planes[:, :, index], form) for index in range(components)]
    counts = [Counter(categories(each).tolist()) for each in values]
    if not form.own_tables:
        counts = [sum(counts, Counter())] * components
    tables = [code_table(each, form) for each in counts]
    head = bytes((form.precision,)) + rows.to_bytes(2) + columns.to_bytes(2) + bytes((components,))
    head += b"".join(bytes((index + 1, 0x11, 0)) for index in range(components))
    stream = b"\xff\xd8" + form.extra_segments + segment(0xC3, head, form)
    for index, (table, _) in enumerate(tables):
        stream += segment(0xC4, bytes((index,)) + table, form)
    if form.restart_rows:
        stream += segment(0xDD, (form.restart_rows * columns).to_bytes(2), form)
    every = list(range(components))
    for chosen in [every] if form.interleaved else [[index] for index in every]:
        scan = bytes((len(chosen),))
        scan += b"".join(bytes((index + 1, index << 4)) for index in chosen)
        scan += bytes((form.predictor, 0, form.point_transform))
        stream += segment(0xDA, scan, form)
        stream += _intervals(
            [values[index] for index in chosen], [tables[index][1] for index in chosen], form
        )
    return stream + (b"\xff" * form.fill_bytes + b"\xff\xd9" if form.end_marker else b"")


def _intervals(values: list[Differences], codes: list[dict[int, str]], form: Form) -> bytes:
    rows = len(values[0])
    step = form.restart_rows or rows
    parts = []
    for number, first in enumerate(range(0, rows, step)):
        if number:
            parts.append(b"\xff" * form.fill_bytes + bytes((0xFF, 0xD0 + (number - 1) % 8)))
        interleaved = np.stack([each[first : first + step] for each in values], axis=-1)
        turns = itertools.cycle(codes)
        parts.append(entropy_coded(list(zip(interleaved.ravel().tolist(), turns, strict=False))))
    return b"".join(parts)
