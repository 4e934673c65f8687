"""JPEG Lossless decoders side by side: `python -m benchmarks.compare_jpeg [--rounds 40]`.

Promises: one process on one core, processor time of one thread, the decoders in turn within each
round, so that whatever slows the machine slows all of them; ratios are taken round by round, and
every decoder's result is compared with the image before it is timed. Decoders that are not
installed are left out.
"""

import argparse
import os
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import thread_time
from typing import Any, Final

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames

from native import _core
from tests.material.jpeg_encoder import Form, encode

SECONDS_PER_TURN: Final = 0.004
REAL_FILES: Final = ("JPEG-LL.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm", "SC_rgb_jpeg_gdcm.dcm")

Decoder = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """A stream and what it must become."""

    name: str
    stream: bytes
    image: NDArray[Any]  # rows, columns, components


def slice_with_noise(deviation: float, correlated: bool) -> NDArray[np.uint16]:
    """A real 512x512 CT slice, shifted to positive values, with noise over its whole field.

    Soft kernels leave noise of 10 to 15 HU whose neighbours are alike (here: smoothed by 1-2-1 both
    ways, then scaled); sharp ones 30 HU and more, nearly white.
    """
    path = get_testdata_file("eCT_Supplemental.dcm", download=False)
    ct = pydicom.dcmread(str(path)).pixel_array[0].astype(float)
    noise = np.random.default_rng(1).normal(0, 1, ct.shape)
    if correlated:
        for axis in (0, 1):
            noise = np.roll(noise, 1, axis) + 2 * noise + np.roll(noise, -1, axis)
    noise *= deviation / noise.std()
    return np.asarray((ct + 1024 + noise).round().clip(0, 65535), np.uint16)[:, :, None]


def cases() -> Iterator[Case]:
    """CT as scanners make it, then the real JPEG Lossless files of pydicom and pydicom-data."""
    for name, deviation, correlated in (
        ("CT 512x512, no noise added", 0.001, False),
        ("CT 512x512, soft kernel, 12 HU", 12, True),
        ("CT 512x512, sharp kernel, 30 HU", 30, False),
    ):
        image = slice_with_noise(deviation, correlated)
        yield Case(name, encode(image, Form(16)), image)
    yield Case("the same, predictor 7", encode(image, Form(16, 7)), image)
    yield Case("the same, restart in each row", encode(image, Form(16, restart_rows=1)), image)
    for name in REAL_FILES:
        path = get_testdata_file(name, download=False)
        if path is None:
            continue
        data = pydicom.dcmread(str(path))
        stream = next(iter(generate_frames(data.PixelData, number_of_frames=1)))
        shape = (data.Rows, data.Columns, data.SamplesPerPixel)
        image = np.empty(shape, f"u{data.BitsAllocated // 8}")
        _core.jpeg_lossless_decode_frames([stream], image, *shape, data.BitsAllocated)
        yield Case(f"{name} {shape[0]}x{shape[1]}x{shape[2]}", stream, image)


def decoders(case: Case) -> dict[str, Decoder]:
    """By name; ours first. Each is shown to be right."""
    rows, columns, samples = case.image.shape
    bits = case.image.dtype.itemsize * 8
    ours, theirs = np.empty_like(case.image), np.empty_like(case.image).squeeze()
    found: dict[str, Decoder] = {
        "scai": lambda: _core.jpeg_lossless_decode_frames(
            [case.stream], ours, rows, columns, samples, bits
        )
    }
    found["scai"]()
    assert np.array_equal(ours, case.image)
    try:
        import imagecodecs
    except ImportError:
        pass
    else:
        same = "rgb" if samples == 3 else None
        found["libjpeg-turbo"] = lambda: imagecodecs.jpeg8_decode(
            case.stream, colorspace=same, outcolorspace=same, out=theirs
        )
        found["libjpeg-turbo"]()
        assert np.array_equal(theirs, case.image.squeeze()), f"libjpeg-turbo: {case.name}"
    try:
        from libjpeg.utils import decode
    except ImportError:
        pass
    else:
        found["pylibjpeg-libjpeg"] = lambda: decode(case.stream)
        assert np.array_equal(found["pylibjpeg-libjpeg"]().ravel(), case.image.ravel())
    return found


def seconds(decoder: Decoder, repeats: int) -> float:
    """Of one call, by the mean of `repeats`."""
    begun = thread_time()
    for _ in range(repeats):
        decoder()
    return (thread_time() - begun) / repeats


def compare(case: Case, rounds: int) -> None:
    """All decoders in turn, and what came of it."""
    chosen = decoders(case)
    repeats = {
        name: max(1, int(SECONDS_PER_TURN / min(seconds(decoder, 1) for _ in range(3))))
        for name, decoder in chosen.items()
    }
    times: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(rounds):
        for name, decoder in chosen.items():
            times[name].append(seconds(decoder, repeats[name]))
    bits = len(case.stream) * 8 / case.image.size
    print(f"\n{case.name}, {bits:.1f} bits a sample")
    for name, taken in times.items():
        ratios = [other / own for other, own in zip(taken, times["scai"], strict=True)]
        speed = case.image.nbytes / statistics.median(taken) / 1e6
        spread = f"{min(ratios):.2f} / {statistics.median(ratios):.2f} / {max(ratios):.2f}"
        print(f"  {name:18} {speed:7.0f} MB/s of pixels   ours is faster by {spread}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare_jpeg", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    chosen = parser.parse_args()
    os.sched_setaffinity(0, {chosen.core})
    print(f"{chosen.rounds} rounds on core {chosen.core}; ratios: least / median / greatest")
    for case in cases():
        compare(case, chosen.rounds)


if __name__ == "__main__":
    main()
