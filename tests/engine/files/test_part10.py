"""File heads: read by pydicom and DCMTK, and hostile ones read by ours."""

import struct
import subprocess
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from engine.errors import LocalError
from engine.files.part10 import Part10Head, part10_head, read_part10_head
from tests.material import wire

HEAD = part10_head(wire.CT_IMAGE, "1.2.3.45", wire.EXPLICIT, "CT-ROOM-1")


def test_read_by_pydicom() -> None:
    data = HEAD + wire.explicit_element(0x00080018, "UI", b"1.2.3.45")
    read = pydicom.dcmread(BytesIO(data))
    meta = read.file_meta
    assert data[:132] == bytes(128) + b"DICM"
    assert meta.FileMetaInformationGroupLength == len(HEAD) - 144
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert meta.MediaStorageSOPClassUID == UID(wire.CT_IMAGE)
    assert meta.MediaStorageSOPInstanceUID == "1.2.3.45"
    assert meta.TransferSyntaxUID == wire.EXPLICIT
    assert meta.ImplementationClassUID == "1.2.392.200036.9116.7.39"
    assert meta.ImplementationVersionName == "AP-1.0"
    assert meta.SourceApplicationEntityTitle == "CT-ROOM-1"
    assert len(meta) == 8
    assert read.SOPInstanceUID == "1.2.3.45"


@pytest.mark.skipif(not Path("/usr/bin/dcmdump").exists(), reason="DCMTK is not installed")
def test_read_by_dcmdump(tmp_path: Path) -> None:
    path = tmp_path / "head.dcm"
    path.write_bytes(HEAD + wire.explicit_element(0x00080018, "UI", b"1.2.3.45"))
    answer = subprocess.run(
        ["/usr/bin/dcmdump", "-q", "-Un", str(path)], capture_output=True, text=True, check=True
    )
    assert answer.stderr == ""
    for line in (
        f"(0002,0000) UL {len(HEAD) - 144}",
        "(0002,0001) OB 00\\01",
        f"(0002,0002) UI [{wire.CT_IMAGE}]",
        "(0002,0003) UI [1.2.3.45]",
        f"(0002,0010) UI [{wire.EXPLICIT}]",
        "(0002,0012) UI [1.2.392.200036.9116.7.39]",
        "(0002,0013) SH [AP-1.0]",
        "(0002,0016) AE [CT-ROOM-1]",
        "(0008,0018) UI [1.2.3.45]",
    ):
        assert line in answer.stdout


@pytest.mark.parametrize("instance", ["1.2", "1.23", "1." + "9" * 62])
@pytest.mark.parametrize("title", ["", "A", "SIXTEEN-LETTERS!"])
def test_own_head_is_read_back(instance: str, title: str) -> None:
    head = part10_head(wire.MR_IMAGE, instance, wire.JPEG_LOSSLESS, title)
    expected = Part10Head(wire.MR_IMAGE, instance, wire.JPEG_LOSSLESS, title, len(head))
    assert len(head) % 2 == 0
    assert read_part10_head(head) == expected
    assert read_part10_head(head + b"\x08\0\x05\0anything") == expected


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "JPEG-lossy.dcm"])
def test_foreign_files(name: str) -> None:
    path = get_testdata_file(name)
    content = Path(path).read_bytes()
    head = read_part10_head(content)
    read = pydicom.dcmread(path, stop_before_pixels=True)
    assert head.sop_class == read.file_meta.MediaStorageSOPClassUID
    assert head.sop_instance == read.file_meta.MediaStorageSOPInstanceUID
    assert head.transfer_syntax == read.file_meta.TransferSyntaxUID
    group_length = read.file_meta.FileMetaInformationGroupLength
    assert head.data_set_offset == 144 + group_length


def element(number: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """A short-form element of group 0002; its length may lie."""
    size = len(value) if length is None else length
    return struct.pack("<HH2sH", 2, number, vr, size) + value


def test_group_length_may_lie_or_be_missing() -> None:
    for group_length in (0, 3, 0xFFFFFFFF):
        lie = HEAD[:140] + struct.pack("<I", group_length) + HEAD[144:]
        assert read_part10_head(lie) == read_part10_head(HEAD)
    missing = HEAD[:132] + HEAD[144:]
    assert read_part10_head(missing).sop_instance == "1.2.3.45"


@pytest.mark.parametrize(
    "meta",
    [
        b"",
        b"\2\0",
        b"\2\0\x10\0UI",
        element(0x10, b"UI", b"1.2\0", 6),
        element(0x10, b"UI", b"1.2\0", 0xFFFF),
        struct.pack("<HH2sHI", 2, 1, b"OB", 0, 0xFFFFFFFF),
        struct.pack("<HH2sH", 2, 1, b"OB", 0),
        struct.pack("<HHI", 2, 0x10, 4) + b"1.2\0",
        element(0x10, b"UI", b"1.2\0") * 2,
        element(0x10, b"UI", b"1.2\0") + element(0x03, b"UI", b"1.2\0"),
        element(0x03, b"UI", b"../../x\0"),
        element(0x03, b"UI", b"1" * 66),
    ],
)
def test_hostile_meta_is_refused(meta: bytes) -> None:
    with pytest.raises(LocalError) as caught:
        read_part10_head(bytes(128) + b"DICM" + meta)
    assert len(caught.value.comment) <= 64


def test_other_files_are_refused() -> None:
    for content in (b"", b"DICM", bytes(131), b"\x7fELF" + bytes(300)):
        with pytest.raises(LocalError, match="DICM"):
            read_part10_head(content)


def test_every_truncation_is_refused_or_shorter() -> None:
    """A head that is cut between two elements cannot be told from a short one."""
    for end in range(len(HEAD)):
        try:
            read = read_part10_head(HEAD[:end])
        except LocalError:
            continue
        assert HEAD[read.data_set_offset : end] in (b"", b"\2")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damage_is_read_or_refused(data: st.DataObject) -> None:
    damaged = bytearray(HEAD)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(128, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = read_part10_head(bytes(damaged))
    except LocalError:
        return
    assert 132 < read.data_set_offset <= len(HEAD)
