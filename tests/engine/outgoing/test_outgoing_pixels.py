"""Encapsulated images go out native: DCMTK compresses and decompresses, and has to agree."""

import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames

from engine.errors import LocalError
from engine.outgoing import pixels as outgoing_pixels
from engine.outgoing.oddities import Oddity
from engine.outgoing.outgoing import FileRange, open_outgoing
from engine.pixels.check import Checked, check_image
from tests.material import samples, wire
from tests.material.jpeg_encoder import Form, encode, picture
from tests.rigs.outgoing_files import (
    EXPLICIT,
    IMPLICIT,
    differences,
    dumped,
    pieces,
    read_back,
    sent,
)
from tests.rigs.outgoing_images import JPEG_LOSSLESS, image

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
PIXEL_DATA = 0x7FE00010
PHOTOMETRIC_INTERPRETATION = 0x00280004

needs_dcmtk = pytest.mark.skipif(not samples.available(), reason="DCMTK is not installed")


def dcmtk(tool: str, *options: str, source: Path, to: Path) -> Path:
    subprocess.run([f"/usr/bin/{tool}", *options, str(source), str(to)], check=True)
    return to


@needs_dcmtk
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("CT_small.dcm", ("+e1",)),
        ("MR_small.dcm", ("+e1",)),
        ("eCT_Supplemental.dcm", ("+e1",)),  # two frames
        ("eCT_Supplemental.dcm", ("+e1", "-ot")),
        ("eCT_Supplemental.dcm", ("+e1", "+fs", "2")),  # fragments of 2 kB
        ("eCT_Supplemental.dcm", ("+e1", "+fs", "2", "-ot")),
        ("SC_rgb.dcm", ("+e1",)),
        ("SC_rgb_small_odd.dcm", ("+e1",)),  # an odd number of bytes
    ],
)
def test_lossless_images_come_back(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    """The same samples and attributes as before they were compressed."""
    source = samples.original(name)
    compressed = dcmtk("dcmcjpeg", *options, source=source, to=tmp_path / "compressed.dcm")
    before = pydicom.dcmread(compressed)
    for syntax in (EXPLICIT, IMPLICIT):
        out = sent(compressed, syntax)
        read = read_back(out, syntax)
        assert read.PixelData == pydicom.dcmread(source).PixelData
        assert differences(before, read, frozenset({PIXEL_DATA})) == []
        dumped(out, syntax, tmp_path)


@needs_dcmtk
def test_baseline_images_are_what_dcmtk_makes_of_them(tmp_path: Path) -> None:
    """Halved chroma is whole again, and called so; nothing else changes."""
    for name in ("SC_rgb_dcmtk_+eb+cy+np.dcm", "SC_rgb_dcmtk_+eb+cr.dcm", "SC_rgb_jpeg_dcmtk.dcm"):
        source = samples.original(name)
        before = pydicom.dcmread(source)
        assert before.file_meta.TransferSyntaxUID == JPEG_BASELINE
        read = read_back(sent(source, IMPLICIT), IMPLICIT)
        changing = frozenset({PIXEL_DATA, PHOTOMETRIC_INTERPRETATION})
        assert differences(before, read, changing) == []
        assert read.PhotometricInterpretation == before.PhotometricInterpretation.replace(
            "YBR_FULL_422", "YBR_FULL"
        )
        native = dcmtk("dcmdjpeg", "+cn", source=source, to=tmp_path / "native.dcm")
        theirs = np.frombuffer(pydicom.dcmread(native).PixelData, np.uint8).astype(int)
        ours = np.frombuffer(read.PixelData, np.uint8).astype(int)
        assert np.abs(ours - theirs).max() <= 2  # two decoders' cosine transforms


def test_planes_stay_apart_where_the_data_set_says_so(tmp_path: Path) -> None:
    pictures = [picture(20, 30, 3, 8, seed).astype(np.uint8) for seed in (1, 2)]
    frames = [encode(each.astype(np.uint16), Form(8)) for each in pictures]
    for planar in (0, 1):
        path = image(
            tmp_path,
            frames,
            (20, 30, 3, 8),
            PlanarConfiguration=planar,
            PhotometricInterpretation="RGB",
        )
        read = read_back(sent(path, EXPLICIT), EXPLICIT)
        order = (2, 0, 1) if planar else (0, 1, 2)
        expected = b"".join(each.transpose(order).tobytes() for each in pictures)
        assert read.PlanarConfiguration == planar
        assert read.PixelData == expected


def test_many_frames_are_decoded_in_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [picture(16, 16, 1, 12, seed) for seed in range(11)]
    path = image(tmp_path, [encode(each, Form(12)) for each in pictures], (16, 16, 1, 16))
    monkeypatch.setattr(outgoing_pixels, "_portion_bytes", 3 * 512 + 100)
    with open_outgoing(path) as outgoing:
        made = list(pieces(outgoing, EXPLICIT, {}, threads=2))
        sizes = [len(piece) for piece in made if isinstance(piece, bytearray)]
    assert sizes == [1536, 1536, 1536, 1024]
    read = read_back(sent(path, EXPLICIT), EXPLICIT)
    assert read.PixelData == b"".join(each.tobytes() for each in pictures)


def test_offset_tables_of_frames_that_are_no_more_are_left_out(tmp_path: Path) -> None:
    each = picture(16, 16, 1, 12)
    frames = [encode(each, Form(12))] * 2
    path = image(tmp_path, frames, (16, 16, 1, 16))
    made = pydicom.dcmread(path)
    made.PixelData, made.ExtendedOffsetTable, made.ExtendedOffsetTableLengths = (
        encapsulate_extended(frames)
    )
    made["PixelData"].VR = "OB"
    made.save_as(path)
    read = read_back(sent(path, EXPLICIT), EXPLICIT)
    assert "ExtendedOffsetTable" not in read
    assert "ExtendedOffsetTableLengths" not in read
    assert read["PixelData"].VR == "OW"
    assert read.PixelData == each.tobytes() * 2


def icon(pixel_data: bytes, undefined: bool, **values: object) -> Dataset:
    made = Dataset()
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows = made.Columns = 8
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    for keyword, value in values.items():
        setattr(made, keyword, value)
    made.PixelData = pixel_data
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = undefined
    return made


def test_icons_are_decoded_too(tmp_path: Path) -> None:
    """Their pixel data are encapsulated or not, whatever the image's are (PS3.5 A.4)."""
    small, large = picture(8, 8, 1, 8), picture(16, 16, 1, 12)
    native = small.astype(np.uint8).tobytes()
    compressed = icon(encapsulate([encode(small, Form(8))]), True)
    path = image(
        tmp_path,
        [encode(large, Form(12))],
        (16, 16, 1, 16),
        IconImageSequence=[compressed, icon(native, False)],
    )
    for syntax in (EXPLICIT, IMPLICIT):
        read = read_back(sent(path, syntax), syntax)
        assert [each.PixelData for each in read.IconImageSequence] == [native, native]
        assert read.PixelData == large.tobytes()
    halved = icon(native * 2, False, PhotometricInterpretation="YBR_FULL_422")
    path = image(tmp_path, [], (16, 16, 1, 16), IconImageSequence=[halved])
    with pytest.raises(LocalError, match="halved chroma"):
        sent(path, EXPLICIT)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"Rows": 17}, "rows"),
        ({"Rows": 0}, "0 rows"),
        ({"BitsAllocated": 32}, "32 bits"),
        ({"BitsAllocated": 8}, "precision"),
        ({"NumberOfFrames": 3}, "2 frames are there, the data set says 3"),
        ({"NumberOfFrames": -1}, "2 frames are there, the data set says nothing"),
        ({"Rows": 65535, "Columns": 65535}, "too large decoded"),
        ({"Rows": 6000, "Columns": 6000}, "cannot hold"),
    ],
)
def test_images_that_do_not_agree_with_their_data_set(
    values: dict[str, int], words: str, tmp_path: Path
) -> None:
    frames = [encode(picture(16, 16, 1, 12), Form(12))] * 2
    with pytest.raises(LocalError, match=words):
        sent(image(tmp_path, frames, (16, 16, 1, 16), **values), EXPLICIT)


def test_broken_frames_end_in_words(tmp_path: Path) -> None:
    frame = encode(picture(16, 16, 1, 12), Form(12))
    with pytest.raises(LocalError, match="frame 2"):
        sent(image(tmp_path, [frame, frame[:60]], (16, 16, 1, 16)), EXPLICIT)
    path = image(tmp_path, [frame], (16, 16, 1, 16))
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    with pytest.raises(LocalError, match="cut off"):
        sent(path, EXPLICIT)
    path.write_bytes(content.replace(encapsulate([frame])[:16], bytes(16)))
    with pytest.raises(LocalError, match="broken"):
        sent(path, EXPLICIT)


def test_compressed_images_go_as_they_are_with_corrections(tmp_path: Path) -> None:
    """Only the head is written anew; the frames stay a range of the file."""
    frame = encode(picture(16, 16, 1, 12), Form(12))
    path = image(tmp_path, [frame], (16, 16, 1, 16))
    with open_outgoing(path) as outgoing:
        *_, last = pieces(outgoing, JPEG_LOSSLESS, {0x00100010: "Other^Name"})
        assert isinstance(last, FileRange)
        assert last.offset + last.length == outgoing.file_bytes
    read = read_back(sent(path, JPEG_LOSSLESS, {0x00100010: "Other^Name"}), JPEG_LOSSLESS)
    assert read.PatientName == "Other^Name"
    assert next(generate_frames(read.PixelData, number_of_frames=1)).startswith(frame)
    before = pydicom.dcmread(path)
    assert differences(before, read, frozenset({0x00100010})) == []
    out = read_back(sent(path, IMPLICIT, {0x00100010: "Other^Name"}), IMPLICIT)
    assert out.PatientName == "Other^Name"
    assert out.SOPClassUID == wire.CT_IMAGE


@needs_dcmtk
@pytest.mark.parametrize("padding", [b"\xff", b" ", b"A", b"\0\0", b"\xff\xff\xff"])
@pytest.mark.parametrize("option", ["+el", "+e1", "+eb", "+ee"])
@pytest.mark.parametrize("pieces_of_frame", [1, 3])
def test_any_padding_behind_a_frame(
    padding: bytes, option: str, pieces_of_frame: int, tmp_path: Path
) -> None:
    """PS3.5 A.4 wants 00; in every kind of JPEG, in one fragment and in several."""
    name = "SC_rgb.dcm" if option == "+eb" else "CT_small.dcm"
    compressed = dcmtk("dcmcjpeg", option, source=samples.original(name), to=tmp_path / "c.dcm")
    expected = sent(compressed, EXPLICIT)
    read = pydicom.dcmread(compressed)
    (frame,) = generate_frames(read.PixelData, number_of_frames=1)
    frame = frame[: frame.rindex(b"\xff\xd9") + 2]
    if (len(frame) + len(padding)) % 2:
        frame = frame[:2] + b"\xff\xfe\0\3A" + frame[2:]  # a comment of one letter
    frame += padding
    step = -(-len(frame) // pieces_of_frame // 2) * 2
    parts = [frame[at : at + step] for at in range(0, len(frame), step)]
    read.PixelData = b"".join(
        b"\xfe\xff\x00\xe0" + len(part).to_bytes(4, "little") + part for part in [b"", *parts]
    )
    read["PixelData"].is_undefined_length = True
    padded = tmp_path / "padded.dcm"
    read.save_as(padded)
    assert sent(padded, EXPLICIT) == expected
    if option in ("+el", "+e1"):
        syntax = str(read.file_meta.TransferSyntaxUID)
        assert check_image(memoryview(padded.read_bytes()), syntax) == Checked(1)


@needs_dcmtk
@pytest.mark.parametrize("number", [b"", b"0 ", b"x "])
def test_one_frame_whatever_its_number_says(number: bytes, tmp_path: Path) -> None:
    compressed = dcmtk(
        "dcmcjpeg", "+e1", source=samples.original("CT_small.dcm"), to=tmp_path / "c.dcm"
    )
    content = compressed.read_bytes()
    element = b"\x28\0\x08\0IS" + len(number).to_bytes(2, "little") + number
    at = content.index(b"\x28\0\x10\0US")
    odd = tmp_path / "odd.dcm"
    odd.write_bytes(content[:at] + element + content[at:])
    out = sent(odd, EXPLICIT)
    assert out.replace(element, b"", 1) == sent(compressed, EXPLICIT)
    with open_outgoing(odd) as outgoing:
        list(pieces(outgoing, IMPLICIT, {}))
        assert outgoing.oddities.kinds == (Oddity.FRAME_COUNT,)
    assert check_image(memoryview(odd.read_bytes()), JPEG_LOSSLESS) == Checked(1)
