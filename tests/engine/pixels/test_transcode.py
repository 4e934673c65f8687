"""Compressed frames become the expected samples or an error; never part of an image."""

from functools import partial

import libjpeg
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames

from engine.errors import LocalError
from engine.pixels import transcode
from engine.pixels.libjpeg import decode_by_libjpeg
from tests.material.jpeg_encoder import Form, encode, picture

JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
decode_frames = partial(transcode.decode_frames, other=decode_by_libjpeg)


def test_decodes_what_it_is_given() -> None:
    image = picture(50, 60, 1, 12)
    streams = [encode(image, Form(12, predictor)) for predictor in (1, 4)]
    shape = transcode.Shape(50, 60, 1, 16)
    decoded = decode_frames(streams, JPEG_LOSSLESS, shape)
    assert bytes(decoded) == image.tobytes() * 2
    with pytest.raises(LocalError, match="frame 1"):
        decode_frames([streams[0][:300]], JPEG_LOSSLESS, shape)


def test_leaves_other_kinds_to_pylibjpeg() -> None:
    path = get_testdata_file("SC_rgb_jpeg.dcm", download=False)
    data = pydicom.dcmread(str(path))
    assert data.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50"
    shape = transcode.Shape(data.Rows, data.Columns, data.SamplesPerPixel, 8)
    streams = list(generate_frames(data.PixelData, number_of_frames=1))
    decoded = decode_frames(streams, data.file_meta.TransferSyntaxUID, shape)
    assert bytes(decoded) == np.asarray(libjpeg.decode(streams[0])).tobytes()
    with pytest.raises(LocalError, match="not decoded"):
        decode_frames(streams, "1.2.840.10008.1.2.4.90", shape)


def test_a_subsampled_lossless_stream_goes_to_pylibjpeg() -> None:
    """Sampling factors of 2x2 for all components: the same samples, in another order."""
    image = picture(16, 16, 3, 8)
    stream = bytearray(encode(image, Form(8)))
    frame = stream.index(b"\xff\xc3")
    for index in range(3):
        stream[frame + 11 + 3 * index] = 0x22
    decoded = decode_frames([bytes(stream)], JPEG_LOSSLESS, transcode.Shape(16, 16, 3, 16))
    expected = np.asarray(libjpeg.decode(bytes(stream))).astype("<u2")
    assert bytes(decoded) == expected.tobytes()


def test_the_data_set_and_the_frame_must_agree() -> None:
    data = pydicom.dcmread(str(get_testdata_file("SC_rgb_jpeg.dcm", download=False)))
    frame = next(iter(generate_frames(data.PixelData, number_of_frames=1)))
    syntax = data.file_meta.TransferSyntaxUID
    for rows, columns, samples in ((1, 100, 3), (100, 1, 3), (100, 100, 1)):
        with pytest.raises(LocalError, match="rows, columns, components"):
            decode_frames([frame], syntax, transcode.Shape(rows, columns, samples, 8))
    shape = transcode.Shape(data.Rows, data.Columns, 3, 8)
    for length in (500, 1000, len(frame.rstrip(b"\0")) - 1):
        with pytest.raises(LocalError, match="frame 1 has no end"):
            decode_frames([frame[:length]], syntax, shape)
    with pytest.raises(LocalError, match="frame 1: libjpeg"):
        decode_frames([b"\xff\xd8\xff\xc0\0\1" + frame[2:]], syntax, shape)
    for each in (syntax, JPEG_LOSSLESS):
        with pytest.raises(LocalError, match="cannot hold"):
            decode_frames([frame], each, transcode.Shape(65535, 65535, 3, 16))
