"""`scai verify --pixels` on what a stranger stored: bounded memory, a reason, and the others pass.

What is watched is the memory of its own that the command and its decoders have together, twenty
times a second; a libjpeg that looks for the end of an image without rows took 4 GiB in 8 s.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import generate_frames

from tests.material import wire
from tests.material.hostile_frames import COLUMNS, ROWS, open_rows
from tests.material.jpeg_encoder import Form, encode, picture
from tests.peers.peer import Peer
from tests.rigs.encapsulated_files import write_colour
from tests.rigs.gateway import COMMAND, ROOT, Gateway, resident_kib

pytestmark = pytest.mark.process
# The command and two decoders: numpy, libjpeg and an index reader take 35 to 60 MB each.
PROCESSES_KIB = 256 * 1024
UID = "1.2.826.0.1.3680043.10.14.2"


def image(
    uid: str, pieces: Iterator[bytes], shape: tuple[int, int, int, int, int]
) -> Iterator[bytes]:
    """A data set; `shape`: frames, rows, columns, samples, bits allocated."""
    frames, rows, columns, samples, bits = shape
    yield wire.small_data_set(uid)[:-12]
    for tag, number in [
        (0x00280002, samples),
        (0x00280010, rows),
        (0x00280011, columns),
        (0x00280100, bits),
    ]:
        if tag == 0x00280010:
            yield wire.explicit_element(0x00280008, "IS", str(frames).encode())
        yield wire.explicit_element(tag, "US", number.to_bytes(2, "little"))
    yield bytes.fromhex("e07f10004f420000ffffffff")
    yield from pieces


def fragments(frame: bytes, count: int) -> Iterator[bytes]:
    """The same frame again and again, with an empty offset table."""
    one = bytes.fromhex("feff00e0") + len(frame).to_bytes(4, "little") + frame
    yield bytes.fromhex("feff00e000000000")
    for _ in range(count):
        yield one
    yield bytes.fromhex("feffdde000000000")


def store(
    gateway: Gateway, number: int, frame: bytes, shape: tuple[int, int, int, int, int]
) -> str:
    uid = f"{UID}.{number}"
    frame += bytes(len(frame) % 2)
    with Peer(gateway.address, timeout=120) as peer:
        assert peer.associate().kind == wire.ASSOCIATE_AC
        data_set = image(uid, fragments(frame, shape[0]), shape)
        assert peer.store(wire.CT_IMAGE, uid, data_set, wire.JPEG_LOSSLESS) == 0
        assert peer.release()
    return uid


def family(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
            found += [int(child) for child in children.split()]
    return found


def verify(gateway: Gateway, limit_s: float = 120) -> tuple[str, int]:
    """What `scai verify --pixels` says, and the KiB it had at its peak."""
    command = [*COMMAND, "verify", "--pixels", "-c", str(gateway.config_file)]
    peak = 0
    with subprocess.Popen(
        command, cwd=ROOT, env=gateway.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        begun = time.monotonic()
        while process.poll() is None:
            assert time.monotonic() - begun < limit_s, "it does not come to an end"
            now = 0
            for pid in family(process.pid):
                # It may have ended since.
                with suppress(OSError, AssertionError):
                    now += resident_kib(pid)
            peak = max(peak, now)
            time.sleep(0.05)
        assert process.stdout is not None
        return process.stdout.read(), peak


@pytest.mark.parametrize("say_so", [False, True])
def test_an_image_without_rows(start_gateway: Callable[..., Gateway], say_so: bool) -> None:
    """Twice as large as documented it would already fail."""
    gateway = start_gateway()
    uid = store(gateway, 1, open_rows(say_so), (1, ROWS, COLUMNS, 1, 16))
    good = encode(picture(ROWS, COLUMNS, 1, 12), Form(12))
    store(gateway, 2, good, (1, ROWS, COLUMNS, 1, 16))
    gateway.find()  # both are indexed
    said, peak = verify(gateway)
    assert uid in said
    assert f"{UID}.2" not in said
    assert peak < PROCESSES_KIB, f"{peak // 1024} MiB"


@pytest.mark.parametrize(
    "shape",
    [
        (1, 65535, 65535, 3, 16),
        (1, 65535, 65535, 1, 8),
        (999_999, ROWS, COLUMNS, 1, 16),
        (1, 0, 0, 0, 0),
    ],
    ids=["rows and columns", "one sample", "frames", "nothing"],
)
def test_what_an_image_says_of_itself_is_not_believed(
    start_gateway: Callable[..., Gateway], shape: tuple[int, int, int, int, int]
) -> None:
    """A small frame for the other decoder, and a data set that claims to be huge."""
    gateway = start_gateway()
    uid = f"{UID}.1"
    frame = open_rows(True)
    with Peer(gateway.address) as peer:
        assert peer.associate().kind == wire.ASSOCIATE_AC
        data_set = b"".join(image(uid, fragments(frame + bytes(len(frame) % 2), 1), shape))
        assert peer.store(wire.CT_IMAGE, uid, data_set, wire.JPEG_LOSSLESS) == 0
    gateway.find()
    said, peak = verify(gateway)
    assert uid in said or "unchecked" in said or "not checked" in said, said
    assert peak < PROCESSES_KIB, f"{peak // 1024} MiB"


def colour_frame(directory: Path, rows: int) -> bytes:
    """JPEG Lossless in colour, by DCMTK."""
    y, x = np.mgrid[0:rows, 0:rows]
    pixels = np.stack([x >> 4, y >> 4, x * y >> 12], -1).astype(np.uint8)
    native, coded = directory / "native.dcm", directory / "coded.dcm"
    write_colour(native, pixels)
    subprocess.run(["/usr/bin/dcmcjpeg", "+e1", native, coded], check=True)
    return next(iter(generate_frames(dcmread(coded).PixelData, number_of_frames=1)))


def test_a_large_colour_image_and_many_frames_pass(
    start_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start_gateway()
    frame = colour_frame(tmp_path, 4096)
    store(gateway, 1, frame, (1, 4096, 4096, 3, 8))
    small = colour_frame(tmp_path, 512)
    store(gateway, 2, small, ((64 << 20) // len(small), 512, 512, 3, 8))
    gateway.find()
    said, peak = verify(gateway)
    assert "index and files agree" in said, said
    assert peak < PROCESSES_KIB, f"{peak // 1024} MiB"


@pytest.mark.slow
def test_two_gibibytes_of_frames_pass(
    start_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start_gateway()
    frame = colour_frame(tmp_path, 1024)
    store(gateway, 1, frame, ((2 << 30) // len(frame), 1024, 1024, 3, 8))
    gateway.find()
    said, peak = verify(gateway, 540)
    assert "index and files agree" in said, said
    assert peak < PROCESSES_KIB, f"{peak // 1024} MiB"
