"""Guards the JPEG Lossless decoder: a CT slice, a colour image, and the check without pixels.

How it compares with other decoders is `python -m benchmarks.compare_jpeg`.
"""

import numpy as np
import pytest

from benchmarks.compare_jpeg import slice_with_noise
from benchmarks.conftest import Guard
from native import _core
from tests.material.jpeg_encoder import Form, encode

FRAMES = 8


@pytest.mark.parametrize("predictor", [1, 7])
def test_jpeg_lossless_ct(guard: Guard, predictor: int) -> None:
    image = slice_with_noise(12, True)
    streams = [encode(image, Form(16, predictor))] * FRAMES
    out = np.zeros((FRAMES, *image.shape), np.uint16)
    guard(
        lambda: _core.jpeg_lossless_decode_frames(streams, out, 512, 512, 1, 16), "copy", rounds=30
    )
    assert np.array_equal(out[-1], image)


def test_jpeg_lossless_colour(guard: Guard) -> None:
    grey = slice_with_noise(12, True) >> 3
    image = np.concatenate([grey, grey // 2, grey // 3], axis=2)[:256]
    streams = [encode(image, Form(8, own_tables=True))] * FRAMES
    out = np.zeros((FRAMES, *image.shape), np.uint8)
    guard(
        lambda: _core.jpeg_lossless_decode_frames(streams, out, 256, 512, 3, 8), "copy", rounds=30
    )


def test_jpeg_lossless_check(guard: Guard) -> None:
    stream = encode(slice_with_noise(12, True), Form(16))
    guard(lambda: _core.jpeg_lossless_validate(stream), "compute", rounds=100)
