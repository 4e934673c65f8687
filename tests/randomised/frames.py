"""Frames that nobody would encode, through the decoder that may die of them: neither it nor whoever
asks hangs, grows or stops.

`python -m tests.randomised.frames --seconds 3600 [--seed N]` runs for long; the gate runs a few
hundred (tests/workers/decoding/test_decoding_fuzz.py). The frames are those of every JPEG kind that
DCMTK encodes, changed: bits, header fields, lengths, segments left out, doubled or taken from
another kind. What fails is kept as a file, and its number is printed: the same seed and number make
the same frame.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pydicom
from pydicom.encaps import generate_frames

from engine import limits
from engine.errors import LocalError
from engine.pixels.allowance import allowance_for
from engine.pixels.transcode import Shape
from tests.material.hostile_frames import COLUMNS, ROWS, open_rows
from workers.decoding.decoders import Decoders

_rows, _columns = 40, 56
# Name -> (samples, bits, command). DCMTK encodes 12 bits as extended, and 16 losslessly only.
KINDS: Final[dict[str, tuple[int, int, list[str]]]] = {
    "baseline": (1, 8, ["dcmcjpeg", "+eb"]),
    "baseline colour": (3, 8, ["dcmcjpeg", "+eb", "+cy"]),
    "extended": (1, 12, ["dcmcjpeg", "+ee"]),
    "spectral": (1, 8, ["dcmcjpeg", "+es"]),
    "progressive": (3, 8, ["dcmcjpeg", "+ep"]),
    "lossless SV1": (1, 16, ["dcmcjpeg", "+e1"]),
    "lossless SV1 colour": (3, 8, ["dcmcjpeg", "+e1"]),
    **{f"lossless SV{sv}": (1, 12, ["dcmcjpeg", "+el", "+sv", str(sv)]) for sv in range(2, 8)},
    "lossless shifted": (1, 16, ["dcmcjpeg", "+el", "+sv", "4", "+pt", "3"]),
    "JPEG-LS": (1, 16, ["dcmcjpls", "+el"]),
    "JPEG-LS near-lossless": (3, 8, ["dcmcjpls", "+en"]),
}
_growth_kib_max: Final = 64 * 1024  # of whoever asks, over thousands of frames
_helper_kib: Final = 96 * 1024  # of a helper, before any frame


class Seed(NamedTuple):
    kind: str
    frame: bytes
    shape: Shape


def seeds(directory: Path) -> list[Seed]:
    """One frame of each kind, encoded by DCMTK; and one that libjpeg never came back from."""
    made = [_encoded(directory, kind, *how) for kind, how in KINDS.items()]
    return [*made, Seed("open rows", open_rows(True), Shape(ROWS, COLUMNS, 1, 16))]


def _encoded(directory: Path, kind: str, samples: int, bits: int, command: list[str]) -> Seed:
    y, x = np.mgrid[0:_rows, 0:_columns]
    top = (1 << bits) - 1
    planes = [((np.sin(x / 7 + n) + np.cos(y / 5)) / 4 + 0.5) * top for n in range(samples)]
    allocated = 8 if bits == 8 else 16
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
    data.Rows, data.Columns, data.SamplesPerPixel = _rows, _columns, samples
    data.PixelRepresentation, data.BitsAllocated, data.BitsStored = 0, allocated, bits
    data.HighBit = bits - 1
    data.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
    if samples == 3:
        data.PlanarConfiguration = 0
    pixels = np.stack(planes, -1).astype(np.uint8 if allocated == 8 else "<u2")
    data.PixelData = pixels.tobytes()
    data["PixelData"].VR = "OB" if allocated == 8 else "OW"
    plain, encoded = directory / "plain.dcm", directory / "encoded.dcm"
    data.save_as(plain, enforce_file_format=True)
    program, *options = command
    subprocess.run([f"/usr/bin/{program}", *options, plain, encoded], check=True)
    pixel_data = pydicom.dcmread(encoded).PixelData
    frame = next(iter(generate_frames(pixel_data, number_of_frames=1)))
    return Seed(kind, frame, Shape(_rows, _columns, samples, allocated))


# --- changes -----------------------------------------------------------------------------------
def changed(known: list[Seed], choose: random.Random) -> Seed:
    """One of them, changed once to four times."""
    seed = choose.choice(known)
    frame = bytearray(seed.frame)
    for _ in range(choose.randint(1, 4)):
        change = choose.choice((_bits, _field, _length, _cut, _double, _graft, _marker))
        change(frame, choose, known)
    return seed._replace(frame=bytes(frame))


def _bits(frame: bytearray, choose: random.Random, _: list[Seed]) -> None:
    for _turn in range(choose.randint(1, 8)):
        if frame:
            frame[choose.randrange(len(frame))] ^= 1 << choose.randrange(8)


def _segments(frame: bytearray) -> list[tuple[int, int]]:
    """(begin, length) of what looks like a segment."""
    found = []
    at = 2
    while at + 4 <= len(frame) and frame[at] == 0xFF:
        length = 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
        found.append((at, min(length, len(frame) - at)))
        if frame[at + 1] == 0xDA:
            break
        at += length
    return found


def _field(frame: bytearray, choose: random.Random, _: list[Seed]) -> None:
    """A byte of a header, to a value that means something."""
    if found := _segments(frame):
        at, length = choose.choice(found)
        frame[min(at + choose.randrange(max(1, length)), len(frame) - 1)] = choose.choice(
            (0, 1, 2, 7, 8, 16, 17, 0x7F, 0x80, 0xFF)
        )


def _length(frame: bytearray, choose: random.Random, _: list[Seed]) -> None:
    if found := _segments(frame):
        at, _length = choose.choice(found)
        frame[at + 2 : at + 4] = choose.choice((0, 1, 2, 3, 0x7FFF, 0xFFFF)).to_bytes(2, "big")


def _cut(frame: bytearray, choose: random.Random, _: list[Seed]) -> None:
    begin = choose.randrange(len(frame) + 1)
    del frame[begin : begin + choose.choice((1, 2, 16, 256, len(frame)))]


def _double(frame: bytearray, choose: random.Random, _: list[Seed]) -> None:
    if found := _segments(frame):
        at, length = choose.choice(found)
        frame[at:at] = frame[at : at + length] * choose.choice((1, 2, 50))


def _graft(frame: bytearray, choose: random.Random, known: list[Seed]) -> None:
    """A segment of another kind in the place of one of its own, or beside it."""
    other = bytearray(choose.choice(known).frame)
    theirs, ours = _segments(other), _segments(frame)
    if theirs and ours:
        (at, length), (begin, count) = choose.choice(theirs), choose.choice(ours)
        frame[begin : begin + choose.choice((0, count))] = other[at : at + length]


def _marker(frame: bytearray, choose: random.Random, _: list[Seed]) -> None:
    at = choose.randrange(len(frame) + 1)
    frame[at:at] = choose.choice(
        (
            b"\xff\xdc\0\4\0\0",  # DNL: no rows
            b"\xff\xdc\0\4\xff\xff",
            b"\xff\xdd\0\4\0\1",  # DRI: a restart after each
            b"\xff\xdd\0\4\xff\xff",
            b"\xff\xd0",
            b"\xff\xd9",
            b"\xff\xd8",
            b"\xff\xc3",
            b"\xff\xf8\0\2",
            b"\xff\xff\xff\xff",
        )
    )


# --- what is claimed ---------------------------------------------------------------------------
class Trial:
    """Frames through one set of helpers, and what may not happen meanwhile."""

    def __init__(self, known: list[Seed], number: int) -> None:
        self._known = known
        self._choose = random.Random(number)
        self._good = [seed for seed in known if seed.kind != "open rows"]
        self.outcomes: Counter[str] = Counter()
        self.longest_s = 0.0
        self.frame = b""

    def run(self, decoders: Decoders, more: Iterator[object]) -> None:
        """AssertionError: what is claimed does not hold; `frame` is the one it does not hold of."""
        expected = {seed.kind: decoders.decode(seed.frame, seed.shape) for seed in self._good}
        resident, descriptors = _kib("self", "VmRSS"), len(os.listdir("/proc/self/fd"))
        for turn, _ in enumerate(more):
            seed = changed(self._known, self._choose)
            self.frame = seed.frame
            self._try(decoders, seed)
            if turn % 25 == 0:
                good = self._good[turn // 25 % len(self._good)]
                samples = decoders.decode(good.frame, good.shape)
                assert samples == expected[good.kind], "a good one is decoded as before"
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 2, "descriptors are left"
        grown = _kib("self", "VmRSS") - resident
        assert grown < _growth_kib_max, f"whoever asks has grown by {grown} KiB"

    def _try(self, decoders: Decoders, seed: Seed) -> None:
        allowance = allowance_for(seed.shape, len(seed.frame))
        begun = time.monotonic()
        try:
            samples = decoders.decode(seed.frame, seed.shape)
        except LocalError as error:
            words = error.comment if error.comment.startswith("its decoder") else "is refused"
            is_frames = error.__cause__ is None
        else:
            words, is_frames = "is decoded", len(samples) == seed.shape.frame_bytes
        self.outcomes[words] += 1
        assert is_frames, "whatever the system does, the frame is decoded or refused"
        took_s = time.monotonic() - begun
        self.longest_s = max(self.longest_s, took_s)
        assert took_s < allowance.wall_s + limits.decoding_start_s, f"it took {took_s:.1f} s"
        assert len(decoders.idle_processes) <= limits.decoding_processes_max
        assert not decoders.busy_processes
        for pid in decoders.idle_processes:
            most = _helper_kib + allowance.memory_bytes // 1024
            peak = _kib(str(pid), "VmHWM")
            assert peak < most, f"its decoder took {peak} KiB"


def _kib(process: str, field: str) -> int:
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has left
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith(field)), 0)


def _until(end: float) -> Iterator[int]:
    turn = 0
    while time.monotonic() < end:
        turn += 1
        yield turn


def main() -> int:
    """The long run; 1 if a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    limits.decoding_cpu_s_base = 1  # type: ignore[misc]  # more frames, fewer waits
    with tempfile.TemporaryDirectory() as directory, Decoders() as decoders:
        trial = Trial(seeds(Path(directory)), arguments.seed)
        try:
            trial.run(decoders, _until(time.monotonic() + arguments.seconds))
        except AssertionError as error:
            kept = Path("build") / f"frame-{arguments.seed}-{trial.outcomes.total()}.jpg"
            kept.write_bytes(trial.frame)
            print(f"seed {arguments.seed}, frame {trial.outcomes.total()}: {error}; {kept}")
            return 1
        print(f"{trial.outcomes.total()} frames, the longest took {trial.longest_s:.1f} s")
        for words, count in trial.outcomes.most_common():
            print(f"{count:8} {words}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
