"""Broken images are named with frame and reason; what is not decoded here is counted apart."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydicom.encaps import encapsulate

from engine.files.tree import StoreTree, instance_path
from engine.index.writer import IndexWriter
from engine.pixels import check as image_check
from engine.pixels import transcode
from engine.pixels.check import Checked, check_image, image_checks
from engine.pixels.libjpeg import decode_by_libjpeg
from engine.verify.findings import FindingKind
from engine.verify.repair import read_entry
from engine.verify.verify import Verifier
from tests.material.jpeg_encoder import Form, encode, picture
from tests.rigs.encapsulated_files import COLUMNS, JPEG_LOSSLESS, ROWS, file_of, stream
from tools.commands import verify as verify_command
from tools.face.terminal import Exit


def check(content: bytes) -> Checked:
    return check_image(memoryview(content), JPEG_LOSSLESS, decode_by_libjpeg)


def test_the_broken_frames_of_many_are_named() -> None:
    streams = [stream(seed) for seed in range(5)]
    streams[2] = streams[2][:-40]
    assert check(file_of(encapsulate(streams), 5)).fault.startswith("frame 3 of 5: ")
    streams[4] = b"no image"
    checked = check(file_of(encapsulate(streams), 5))
    assert checked.frames == 5
    assert checked.fault.startswith("frame 3 of 5: ")
    assert checked.fault.endswith("; 2 frames are broken")


@pytest.mark.parametrize(
    ("rows", "columns", "components", "precision", "said"),
    [
        (ROWS + 1, COLUMNS, 1, 12, "10 rows, 14 columns, 1 components; the data set says 9, 14, 1"),
        (ROWS, COLUMNS + 2, 1, 12, "9 rows, 16 columns"),
        (ROWS, COLUMNS, 3, 8, "3 components"),
    ],
)
def test_frames_and_data_set_must_agree(
    rows: int, columns: int, components: int, precision: int, said: str
) -> None:
    frame = encode(picture(rows, columns, components, precision), Form(precision))
    assert said in check(file_of(encapsulate([frame]), 1)).fault


def test_more_bits_than_are_allocated() -> None:
    content = file_of(encapsulate([stream(1)]), 1)
    allocated = struct.pack("<HH2sHH", 0x0028, 0x0100, b"US", 2, 16)
    assert content.count(allocated) == 1
    narrow = content.replace(allocated, allocated[:-2] + b"\x08\0")
    assert "12 bits, 8 are allocated" in check(narrow).fault


def subsampled() -> bytes:
    """Of a kind the native decoder refuses, and the other one reads."""
    made = bytearray(encode(picture(ROWS, COLUMNS, 3, 8), Form(8)))
    for component in range(3):
        made[made.index(b"\xff\xc3") + 11 + 3 * component] = 0x22
    return bytes(made)


def colour() -> bytes:
    return encode(picture(ROWS, COLUMNS, 3, 8), Form(8))


def test_other_kinds_are_decoded_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def decode(frames: list[bytes], *others: object, **named: object) -> bytearray:
        decoded.append(len(frames))
        return original(frames, *others, **named)  # type: ignore[arg-type]

    original = transcode.decode_frames
    monkeypatch.setattr(image_check, "decode_frames", decode)
    good = check(file_of(encapsulate([subsampled(), colour()]), 2, 3))
    assert (good.frames, good.frames_unchecked, good.fault) == (2, 0, "")
    assert decoded == [1]
    cut = check(file_of(encapsulate([subsampled()[:-30]]), 1, 3))
    assert "no end" in cut.fault


def test_what_is_too_large_is_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_check, "_decoded_bytes_max", 100)
    checked = check(file_of(encapsulate([subsampled(), colour()]), 2, 3))
    assert (checked.frames, checked.frames_unchecked, checked.fault) == (2, 1, "")
    monkeypatch.setattr("engine.pixels.encapsulated._joined_bytes_max", 100)
    parts = encapsulate([stream(1), stream(2)], fragments_per_frame=2)
    checked = check(file_of(parts, 2))
    assert (checked.frames, checked.frames_unchecked, checked.fault) == (2, 2, "")


def test_no_image_is_no_fault() -> None:
    content = file_of(encapsulate([stream(1)]), 1)
    head_only = content[: content.rindex(struct.pack("<HH", 0x7FE0, 0x0010))]
    assert check(head_only) == Checked()
    assert check(b"").fault == "not a DICOM file: no DICM prefix"


def store_images(data: Path, images: dict[str, bytes]) -> None:
    """Files and index rows that agree, whatever the images are."""
    tree = StoreTree(data)
    writer = IndexWriter(data)
    for sop, content in images.items():
        path = instance_path("", "", sop)
        Path(tree.prepare(path)).write_bytes(content.replace(b"1.2.3\0", sop.encode() + b"\0"))
        entry = read_entry(tree, path)
        assert entry.path == path
        writer.commit(lambda batch, entry=entry: batch.put_instance(entry))  # type: ignore[misc]
    writer.close()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    broken = stream(2)[:60] + b"\xff\xd9"
    store_images(
        tmp_path,
        {
            "1.2.4": file_of(encapsulate([stream(1)]), 1),
            "1.2.5": file_of(encapsulate([stream(1), broken]), 2),
            "1.2.6": file_of(encapsulate([subsampled()]), 1, 3),
        },
    )
    return tmp_path


def test_broken_images_are_differences(images: Path) -> None:
    writer = IndexWriter(images)
    verifier = Verifier(images, writer.reader(), images=image_checks(decode_by_libjpeg))
    report = verifier.run(pause_s=0)
    writer.close()
    (finding,) = report.findings
    assert finding.kind is FindingKind.PIXELS
    assert finding.path == instance_path("", "", "1.2.5")
    assert finding.text.startswith("frame 2 of 2: ")
    assert finding.action is None
    assert (report.images, report.frames, report.frames_unchecked) == (3, 4, 0)


def test_a_damaged_disk_comes_before_a_broken_image(images: Path) -> None:
    path = images / "store" / instance_path("", "", "1.2.4")
    content = bytearray(path.read_bytes())
    content[-30] ^= 0x10
    path.write_bytes(content)
    writer = IndexWriter(images)
    report = Verifier(images, writer.reader(), images=image_checks(decode_by_libjpeg)).run(
        pause_s=0
    )
    writer.close()
    assert {finding.kind for finding in report.findings} == {
        FindingKind.WRONG_BYTES,
        FindingKind.PIXELS,
    }
    assert report.images == 2


def run(data: Path, *arguments: str) -> tuple[object, str]:
    result = CliRunner().invoke(
        verify_command.command, arguments, env={"SCAI_DATA": str(data)}, standalone_mode=False
    )
    assert result.exception is None, result.exception
    return result.return_value, result.stdout


def test_the_command(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(images)[0] == Exit.OK
    code, said = run(images, "--pixels")
    assert code == Exit.NEGATIVE
    assert "images checked          3\nframes checked          4\nframes not checked      0" in said
    assert "1 x an image that cannot be decoded (remedy: none" in said
    assert f"{instance_path('', '', '1.2.5')}: frame 2 of 2: " in said
    monkeypatch.setattr(image_check, "_decoded_bytes_max", 100)
    assert "frames checked          3\nframes not checked      1" in run(images, "--pixels")[1]


def test_the_file_is_mapped_and_let_go(images: Path) -> None:
    """A hundred broken files leave no mapping behind."""
    path = images / "store" / instance_path("", "", "1.2.5")
    count: Callable[[], int] = lambda: Path("/proc/self/maps").read_text().count("1.2.5.dcm")  # noqa: E731
    with path.open("rb") as file:
        for _ in range(100):
            assert image_checks(decode_by_libjpeg)[JPEG_LOSSLESS](file.fileno()).fault
    assert count() == 0
