"""A frame may do to its decoder what it likes: whoever asked gets samples or a reason, in time."""

import os
import resource
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import libjpeg
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames

from engine import limits
from engine.errors import LocalError
from engine.pixels import allowance
from engine.pixels.check import check_image
from engine.pixels.transcode import Shape, decode_frames
from tests.material.hostile_frames import COLUMNS, ROWS, open_rows
from tests.material.jpeg_encoder import Form, encode, picture
from tests.material.waiting import eventually
from tests.rigs.encapsulated_files import JPEG_LOSSLESS, file_of, write_colour
from workers.decoding.decoders import Decoders

SHAPE = Shape(ROWS, COLUMNS, 1, 16)


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    with Decoders() as made:
        yield made


@pytest.fixture
def one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "decoding_cpu_s_base", 1)


def good(seed: int = 0) -> tuple[bytes, Shape, bytes]:
    image = picture(16, 20, 3, 8, seed)
    stream = bytearray(encode(image, Form(8)))
    for component in range(3):
        stream[stream.index(b"\xff\xc3") + 11 + 3 * component] = 0x22
    return bytes(stream), Shape(16, 20, 3, 8), np.asarray(libjpeg.decode(bytes(stream))).tobytes()


def large_baseline(directory: Path) -> tuple[bytes, Shape]:
    """Encoded by DCMTK."""
    rows = 4096
    y, x = np.mgrid[0:rows, 0:rows]
    pixels = np.stack([x >> 4, y >> 4, x * y >> 12], -1).astype(np.uint8)
    write_colour(directory / "native.dcm", pixels)
    command = ["/usr/bin/dcmcjpeg", "+eb", directory / "native.dcm", directory / "jpeg.dcm"]
    subprocess.run(command, check=True)
    made = pydicom.dcmread(directory / "jpeg.dcm")
    return next(iter(generate_frames(made.PixelData, number_of_frames=1))), Shape(rows, rows, 3, 8)


def test_samples_come_as_libjpeg_makes_them(decoders: Decoders) -> None:
    for seed in range(3):
        frame, shape, samples = good(seed)
        assert decoders.decode(frame, shape) == samples
    assert len(decoders.idle_processes) == 1


def test_a_frame_without_rows_is_refused_before_anybody_decodes_it(decoders: Decoders) -> None:
    with pytest.raises(LocalError, match="frame 1: its frame header leaves the number of rows"):
        decode_frames([open_rows()], JPEG_LOSSLESS, SHAPE, other=decoders.decode)
    assert decoders.idle_processes == []


def test_an_endless_decoder_is_killed_and_named(decoders: Decoders, one_second: None) -> None:
    with pytest.raises(LocalError, match=r"frame 1: its decoder (took|wanted) more|gave up"):
        decode_frames([open_rows(True)], JPEG_LOSSLESS, SHAPE, other=decoders.decode)
    frame, shape, samples = good()
    assert decoders.decode(frame, shape) == samples


def test_verify_names_the_image_and_goes_on(decoders: Decoders, one_second: None) -> None:
    frames = [encode(picture(ROWS, COLUMNS, 1, 12), Form(12)), open_rows(True)]
    checked = check_image(
        memoryview(file_of(encapsulate(frames), 2)), JPEG_LOSSLESS, decoders.decode
    )
    assert checked.frames == 2
    assert checked.fault.startswith("frame 2 of 2: ")


def test_memory_is_bounded_and_the_reason_says_so(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "decoding_memory_bytes_max", 1024 * 1024)
    image = picture(400, 400, 3, 8)
    stream = bytearray(encode(image, Form(8)))
    for component in range(3):
        stream[stream.index(b"\xff\xc3") + 11 + 3 * component] = 0x22
    with pytest.raises(LocalError, match="memory"):
        decoders.decode(bytes(stream), Shape(400, 400, 3, 8))
    frame, shape, samples = good()
    monkeypatch.undo()
    assert decoders.decode(frame, shape) == samples


def test_one_that_stands_still_is_killed(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, shape, samples = good()
    decoders.decode(frame, shape)
    (pid,) = decoders.idle_processes
    monkeypatch.setattr(limits, "decoding_wall_factor", 0.1)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(LocalError, match=r"took more than 0\.5 s"):
        decoders.decode(frame, shape)
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    monkeypatch.undo()
    assert decoders.decode(frame, shape) == samples


def test_one_that_died_while_nobody_asked_is_replaced(decoders: Decoders) -> None:
    frame, shape, samples = good()
    decoders.decode(frame, shape)
    (pid,) = decoders.idle_processes
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: " Z " in Path(f"/proc/{pid}/stat").read_text())
    assert decoders.decode(frame, shape) == samples


def test_it_ends_when_it_is_not_needed_any_more() -> None:
    frame, shape, _ = good()
    decoders = Decoders()
    decoders.decode(frame, shape)
    (pid,) = decoders.idle_processes
    decoders.close()
    assert not Path(f"/proc/{pid}").exists()


def test_what_is_under_way_ends_with_the_rest() -> None:
    decoders = Decoders()
    reasons: list[str] = []

    def ask() -> None:
        try:
            decode_frames([open_rows(True)], JPEG_LOSSLESS, SHAPE, other=decoders.decode)
        except LocalError as error:
            reasons.append(error.comment)

    thread = threading.Thread(target=ask)
    thread.start()
    eventually(lambda: decoders.busy_processes)
    decoders.close()
    thread.join(20)
    assert not thread.is_alive()
    assert reasons


def test_many_threads_share_few_processes(decoders: Decoders) -> None:
    wrong: list[int] = []

    def ask(seed: int) -> None:
        frame, shape, samples = good(seed)
        if decoders.decode(frame, shape) != samples:
            wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert 1 <= len(decoders.idle_processes) <= limits.decoding_processes_max


def test_a_large_colour_image_passes(decoders: Decoders, tmp_path: Path) -> None:
    """4096 x 4096 in colour, JPEG Baseline; what asks for it does not grow by more than its
    samples, as they are received and as they are given out."""
    frame, shape = large_baseline(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(decoders.decode(frame, shape)) == shape.frame_bytes
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < 3 * shape.frame_bytes


def test_the_allowance_grows_with_the_image_to_a_bound() -> None:
    small, large = (allowance.allowance_for(Shape(rows, rows, 3, 8), 1000) for rows in (64, 4096))
    assert small.cpu_s == limits.decoding_cpu_s_base
    assert large.cpu_s > small.cpu_s
    assert large.memory_bytes > small.memory_bytes > limits.decoding_memory_bytes_base
    most = allowance.allowance_for(Shape(16384, 16384, 1, 16), 2**30)
    assert most.memory_bytes == limits.decoding_memory_bytes_max
