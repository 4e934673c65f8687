"""JPEG Lossless: bit for bit what went in, and what every other decoder makes of it.

Streams come from the reference encoder of these tests, from libjpeg-turbo (imagecodecs, where it is
installed), from DCMTK, and from real files; damaged ones must be told, and never hang or crash.
"""

import itertools
import random
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames

from native import _core
from tests.material.jpeg_encoder import Form, encode, picture

LOSSLESS_SYNTAXES = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")


def decode_one(stream: bytes, rows: int, columns: int, samples: int, bits: int) -> bytearray:
    """One frame."""
    pixels = bytearray(rows * columns * samples * (bits // 8))
    _core.jpeg_lossless_decode_frames([stream], pixels, rows, columns, samples, bits)
    return pixels


def decode(stream: bytes, image: NDArray[Any], bits_allocated: int = 16) -> NDArray[Any]:
    """Decoded to the shape of `image`."""
    rows, columns, components = image.shape
    pixels = decode_one(stream, rows, columns, components, bits_allocated)
    return np.frombuffer(pixels, f"u{bits_allocated // 8}").reshape(image.shape)


def by_libjpeg(stream: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
    """What pylibjpeg's decoder makes of it."""
    libjpeg = pytest.importorskip("libjpeg")
    return np.asarray(libjpeg.decode(stream)).reshape(shape)


@pytest.mark.parametrize("precision", range(2, 17))
@pytest.mark.parametrize("predictor", range(1, 8))
def test_every_depth_and_predictor(precision: int, predictor: int) -> None:
    image = picture(37, 53, 1, precision)
    stream = encode(image, Form(precision, predictor))
    assert np.array_equal(decode(stream, image), image)
    if precision <= 8:
        assert np.array_equal(decode(stream, image, 8), image)
    assert _core.jpeg_lossless_validate(stream) == (37, 53, 1, precision, predictor, 0)


@pytest.mark.parametrize("precision", [2, 8, 12, 16])
def test_libjpeg_agrees(precision: int) -> None:
    for predictor, components in itertools.product(range(1, 8), (1, 3)):
        image = picture(40, 61, components, precision)
        stream = encode(image, Form(precision, predictor))
        assert np.array_equal(by_libjpeg(stream, image.shape), decode(stream, image))


@pytest.mark.parametrize("components", [1, 2, 3, 4])
@pytest.mark.parametrize("own_tables", [False, True])
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("size", [(9, 7), (96, 120)])
def test_components(
    components: int, own_tables: bool, interleaved: bool, size: tuple[int, int]
) -> None:
    """The larger ones are long enough to be decoded at several positions at once."""
    image = picture(*size, components, 12)
    for predictor in (1, 6):
        form = Form(12, predictor, own_tables=own_tables, interleaved=interleaved)
        assert np.array_equal(decode(encode(image, form), image), image)


@pytest.mark.parametrize("restart_rows", [1, 2, 7, 40])
@pytest.mark.parametrize("fill_bytes", [0, 3])
def test_restart_intervals(restart_rows: int, fill_bytes: int) -> None:
    for predictor, components in itertools.product((1, 2, 7), (1, 3)):
        image = picture(41, 64, components, 10)
        form = Form(10, predictor, restart_rows=restart_rows, fill_bytes=fill_bytes)
        assert np.array_equal(decode(encode(image, form), image), image)


@pytest.mark.parametrize("point_transform", [1, 4, 11])
def test_point_transform(point_transform: int) -> None:
    image = picture(33, 40, 1, 12)
    for predictor in (1, 5):
        stream = encode(image, Form(12, predictor, point_transform))
        expected = image >> point_transform << point_transform
        assert np.array_equal(decode(stream, image), expected)


def test_the_difference_of_32768_has_no_extra_bits() -> None:
    image = np.zeros((4, 64, 1), np.uint16)
    image[:, 1::2] = 32768
    assert np.array_equal(decode(encode(image, Form(16)), image), image)


@pytest.mark.parametrize("columns", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("rows", [1, 2])
def test_slim_images(rows: int, columns: int) -> None:
    for predictor in range(1, 8):
        image = picture(rows, columns, 1, 16)
        assert np.array_equal(decode(encode(image, Form(16, predictor)), image), image)


@pytest.mark.parametrize("noise", [0, 1, 30, 3000, 30000])
@pytest.mark.parametrize("long_codes", [False, True])
def test_long_streams_of_every_kind(noise: int, long_codes: bool) -> None:
    """From one bit for each sample to thirty: where pieces fall into step early, late and never."""
    random_numbers = np.random.default_rng(noise)
    image = (20000 + random_numbers.normal(0, noise + 0.01, (160, 211, 1))).clip(0, 65535)
    image[40:80] = 20000
    image = image.round().astype(np.uint16)
    stream = encode(image, Form(16, long_codes=long_codes))
    assert np.array_equal(decode(stream, image), image)
    assert _core.jpeg_lossless_validate(stream)[5] == 0


def test_what_archives_hold() -> None:
    image = picture(30, 50, 1, 12)
    whole = encode(image, Form(12))
    open_ended = encode(image, Form(12, end_marker=False))
    comment = b"\xff\xfe\x00\x04ab" + b"\xff\xe0\x00\x02" + b"\xff\xdb\x00\x03\x00"
    for stream in (
        whole + b"\0",
        whole + bytes(300),
        whole + b"\xff" * 5,
        open_ended,
        open_ended + bytes(64),
        encode(image, Form(12, extra_segments=comment, fill_bytes=2)),
    ):
        assert np.array_equal(decode(stream, image), image)
        assert np.array_equal(decode(memoryview(bytearray(stream)), image), image)


def test_a_header_that_understates_its_precision() -> None:
    """Sixteen bits are kept; the check counts what should not be there."""
    image = picture(20, 30, 1, 16)
    stream = bytearray(encode(image, Form(16)))
    frame = stream.index(b"\xff\xc3")
    stream[frame + 4] = 12
    decoded = decode(bytes(stream), image)
    shift = np.uint16(32768 - 2048)
    assert np.array_equal(decoded + shift, image)
    assert _core.jpeg_lossless_validate(bytes(stream))[5] == int((decoded > 4095).sum())


def test_expectations_are_checked_first() -> None:
    stream = encode(picture(20, 30, 1, 12), Form(12))
    for rows, columns, samples, bits in (
        (21, 30, 1, 16),
        (20, 29, 1, 16),
        (20, 30, 3, 16),
        (20, 30, 1, 8),
    ):
        with pytest.raises(ValueError, match="of the data set"):
            decode_one(stream, rows, columns, samples, bits)
    for rows, columns, samples, bits in (
        (0, 30, 1, 16),
        (20, 65536, 1, 16),
        (20, 30, 5, 16),
        (20, 30, 1, 12),
    ):
        with pytest.raises(ValueError, match=r"rows and columns|bits allocated"):
            decode_one(stream, rows, columns, samples, bits)
    frame = stream.index(b"\xff\xc3")
    huge = stream[: frame + 5] + b"\x0f\xff\x0f\xff" + stream[frame + 9 :]
    with pytest.raises(ValueError, match="cannot hold"):
        decode_one(huge, 4095, 4095, 1, 16)
    with pytest.raises(ValueError, match="wrong size"):
        _core.jpeg_lossless_decode_frames([stream], bytearray(1199), 20, 30, 1, 16)
    with pytest.raises(BufferError):
        _core.jpeg_lossless_decode_frames([stream], bytes(1200), 20, 30, 1, 16)


def test_every_truncation_is_told() -> None:
    image = picture(12, 16, 1, 12)
    stream = encode(image, Form(12, end_marker=False))
    for length in range(len(stream) - 1):
        with pytest.raises(ValueError, match=r"byte \d+ of|cannot hold"):
            decode(stream[:length], image)


def test_a_long_stream_cut_short_says_where() -> None:
    image = picture(128, 128, 1, 16)
    stream = encode(image, Form(16))
    with pytest.raises(ValueError, match=r"ends before the image does \(row 6\d, column"):
        decode(stream[: len(stream) // 2], image)


def test_restart_markers_out_of_order_are_told() -> None:
    image = picture(16, 40, 1, 12)
    stream = encode(image, Form(12, restart_rows=2))
    with pytest.raises(ValueError, match="restart marker is missing or out of order"):
        decode(stream.replace(b"\xff\xd2", b"\xff\xd3"), image)
    with pytest.raises(ValueError, match=r"left over \(row 6"):
        _core.jpeg_lossless_validate(stream.replace(b"\xff\xd2", b""))


def test_data_left_over_is_an_error_of_the_check_only() -> None:
    image = picture(40, 64, 1, 12)
    stream = encode(image, Form(12))
    longer = stream[:-2] + bytes(5000) + stream[-2:]
    assert np.array_equal(decode(longer, image), image)
    with pytest.raises(ValueError, match=r"50\d\d bytes of data are left over"):
        _core.jpeg_lossless_validate(longer)


def test_other_kinds_are_not_called_broken() -> None:
    stream = bytearray(encode(picture(8, 8, 3, 8), Form(8)))
    frame = stream.index(b"\xff\xc3")
    baseline, subsampled, open_rows = (bytearray(stream) for _ in range(3))
    baseline[frame + 1] = 0xC0
    subsampled[frame + 11] = 0x22
    open_rows[frame + 5 : frame + 7] = b"\0\0"
    for kind in (baseline, subsampled, open_rows):
        with pytest.raises(NotImplementedError):
            _core.jpeg_lossless_validate(bytes(kind))


def test_damage_is_told_or_decoded_but_never_fatal() -> None:
    """Bits turned at random: an error or an image of the right size, quickly."""
    chance = random.Random(7)
    image = picture(60, 80, 3, 12)
    for form in (Form(12), Form(12, 7, restart_rows=4), Form(12, own_tables=True, long_codes=True)):
        stream = encode(image, form)
        told = 0
        for _ in range(300):
            damaged = bytearray(stream)
            for _ in range(chance.randint(1, 6)):
                damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
            try:
                decode(bytes(damaged), image)
            except (ValueError, NotImplementedError):
                told += 1
        assert told > 20


def test_frames_on_several_threads() -> None:
    images = [picture(64, 80, 1, 12, seed) for seed in range(9)]
    streams = [encode(image, Form(12)) for image in images]
    for threads in (1, 2, 5, 1000):
        out = np.zeros((9, 64, 80, 1), np.uint16)
        _core.jpeg_lossless_decode_frames(streams, out, 64, 80, 1, 16, threads)
        assert np.array_equal(out, np.stack(images))
    streams[4] = streams[4][: len(streams[4]) // 2]
    with pytest.raises(ValueError, match=r"frame 5: the data ends .* \(row \d+"):
        _core.jpeg_lossless_decode_frames(streams, bytearray(92160), 64, 80, 1, 16, 3)


def test_callers_may_decode_at_once() -> None:
    """The interpreter is released, and each thread has its own room."""
    images = [picture(96, 96, 1, 14, seed) for seed in range(4)]
    streams = [encode(image, Form(14)) for image in images]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(30):
            if not np.array_equal(decode(streams[index], images[index]), images[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_libjpeg_turbo_as_the_encoder(bits: int) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    kind = np.uint8 if bits == 8 else np.uint16
    for predictor, components in itertools.product(range(1, 8), (1, 3)):
        image = picture(130, 170, components, bits).astype(kind)
        stream = imagecodecs.jpeg8_encode(
            image.squeeze(), lossless=True, predictor=predictor, bitspersample=bits,
            colorspace="rgb" if components == 3 else None,
            outcolorspace="rgb" if components == 3 else None,
        )  # fmt: skip
        assert np.array_equal(decode(stream, image, kind().itemsize * 8), image)


def lossless_files(directory: Path) -> list[Path]:
    """Real files, and CT and MR that DCMTK compresses with every selection value."""
    names = ("JPEG-LL.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm", "SC_rgb_jpeg_gdcm.dcm")
    found = [get_testdata_file(name, download=False) for name in names]
    tool = shutil.which("dcmcjpeg")
    for name in ("CT_small.dcm", "MR_small.dcm", "SC_rgb.dcm", "eCT_Supplemental.dcm"):
        source = get_testdata_file(name, download=False)
        for option in ("+e1", *(f"+sv{value}" for value in range(1, 8))) if source and tool else ():
            target = directory / f"{name}{option}"
            how = ["+e1"] if option == "+e1" else ["+el", "+sv", option[3:]]
            subprocess.run(
                [str(tool), *how, "+cn", str(source), str(target)], check=True, capture_output=True
            )
            found.append(target)
    return [Path(path) for path in found if path]


def test_real_files_and_dcmtk(tmp_path: Path) -> None:
    files = lossless_files(tmp_path)
    assert len(files) >= 3
    for path in files:
        data = pydicom.dcmread(path)
        assert data.file_meta.TransferSyntaxUID in LOSSLESS_SYNTAXES
        shape = (data.Rows, data.Columns, data.SamplesPerPixel)
        count = int(data.get("NumberOfFrames", 1))
        for stream in generate_frames(data.PixelData, number_of_frames=count):
            header = _core.jpeg_lossless_validate(stream)
            assert header[:3] == shape
            decoded = np.frombuffer(
                decode_one(stream, *shape, data.BitsAllocated),
                f"u{data.BitsAllocated // 8}",
            )
            assert np.array_equal(decoded.reshape(shape), by_libjpeg(stream, shape)), path.name
