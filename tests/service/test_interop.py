"""Foreign peers against the running service: DCMTK, pynetdicom and Orthanc, with real files.

Whatever a client sends goes through a tap. So "bit for bit" compares the stored data set with the
bytes that crossed the wire, and not with what the client may have read from its file.
"""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from tests.material import samples, wire
from tests.peers.orthanc import ORTHANC, Orthanc
from tests.peers.peer import Peer
from tests.peers.tap import Tap, data_set_of_file
from tests.rigs.dcmtk_store import run
from tests.rigs.gateway import Gateway

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not samples.available(), reason="DCMTK is not installed"),
]
SYNTAX_OPTION = {wire.IMPLICIT: "-xi", wire.EXPLICIT: "-xe", wire.JPEG_LOSSLESS: "-xs"}


def assert_stored(
    gateway: Gateway, sent: dict[str, bytes], expected: dict[str, tuple[str, ...]]
) -> None:
    """Each is found, its data set is what was sent, its file meta is right, DCMTK reads it.

    `expected`: SOP instance UID -> transfer syntaxes that may have been negotiated.
    """
    rows = gateway.find()
    for uid, syntaxes in expected.items():
        assert uid in rows, f"{uid} is not found"
        path = gateway.stored_file(rows[uid])
        content = path.read_bytes()
        assert content[:128] == bytes(128)
        assert data_set_of_file(content) == sent[uid], f"{uid}: other bytes than those sent"
        meta = pydicom.filereader.read_file_meta_info(path)
        assert meta.FileMetaInformationVersion == b"\0\1"
        assert meta.MediaStorageSOPInstanceUID == uid
        assert meta.TransferSyntaxUID in syntaxes
        assert meta.ImplementationClassUID == "1.2.392.200036.9116.7.39"
        assert meta.ImplementationVersionName == "AP-1.0"
        assert meta.SourceApplicationEntityTitle.strip()
        data_set = pydicom.dcmread(path, stop_before_pixels=True)
        assert data_set.SOPInstanceUID == uid
        assert data_set.SOPClassUID == meta.MediaStorageSOPClassUID
        run("/usr/bin/dcmdump", "+M", "-q", path)


def copies(directory: Path) -> list[samples.Sample]:
    """Every sample with a fresh UID."""
    return [samples.clone(one, directory / one.path.name) for one in samples.every_sample()]


def test_samples_cover_the_tables() -> None:
    found = {(one.sop_class, one.syntax) for one in samples.every_sample()}
    assert found == samples.PAIRS


@pytest.mark.parametrize("entity", ["SCP_AE", "PrefetchAP"])
def test_echoscu(gateway: Gateway, entity: str) -> None:
    port = gateway.port if entity == "SCP_AE" else gateway.prefetch_port
    run("/usr/bin/echoscu", "-aec", entity, "localhost", str(port))


@pytest.mark.parametrize("entity", ["SCP_AE", "PrefetchAP"])
def test_storescu_every_class_and_syntax(gateway: Gateway, tmp_path: Path, entity: str) -> None:
    target = gateway.address if entity == "SCP_AE" else gateway.prefetch_address
    expected = {}
    with Tap(target) as tap:
        for one in copies(tmp_path):
            option = SYNTAX_OPTION[one.syntax]
            port = str(tap.port)
            run("/usr/bin/storescu", "-R", option, "-aec", entity, "localhost", port, one.path)
            expected[one.sop_instance] = (one.syntax,)
        sent = tap.data_sets()
    assert set(sent) == set(expected)
    assert_stored(gateway, sent, expected)


def test_files_as_they_are(gateway: Gateway, tmp_path: Path) -> None:
    """No client in between: each file's own data set is sent, and is what is stored."""
    files = copies(tmp_path)
    with Peer(gateway.address) as peer:
        assert peer.associate().kind == wire.ASSOCIATE_AC
        for one in files:
            data_set = data_set_of_file(one.path.read_bytes())
            assert peer.store(one.sop_class, one.sop_instance, data_set, one.syntax) == 0
        assert peer.release()
    rows = gateway.find()
    for one in files:
        stored = gateway.stored_file(rows[one.sop_instance]).read_bytes()
        assert data_set_of_file(stored) == data_set_of_file(one.path.read_bytes())


def test_storescu_one_association_for_all(gateway: Gateway, tmp_path: Path) -> None:
    """Two series' worth of files over one association, largest PDU DCMTK can be told to send."""
    files = copies(tmp_path)
    uncompressed = [one for one in files if one.syntax != wire.JPEG_LOSSLESS]
    with Tap(gateway.address) as tap:
        paths = [str(one.path) for one in uncompressed]
        run(
            "/usr/bin/storescu", "--max-send-pdu", "131072", "-R", "-aec", "SCP_AE",
            "localhost", str(tap.port), *paths,
        )  # fmt: skip
        sent = tap.data_sets()
    assert set(sent) == {one.sop_instance for one in uncompressed}
    rows = gateway.find()
    for uid, data_set in sent.items():
        assert data_set_of_file(gateway.stored_file(rows[uid]).read_bytes()) == data_set


def test_dcmsend(gateway: Gateway, tmp_path: Path) -> None:
    files = copies(tmp_path)
    with Tap(gateway.address) as tap:
        run(
            "/usr/bin/dcmsend", "--decompress-never", "-aec", "SCP_AE", "localhost",
            str(tap.port), *(one.path for one in files),
        )  # fmt: skip
        sent = tap.data_sets()
    # It proposes all uncompressed ones in one context and converts to the one accepted.
    plain = (wire.IMPLICIT, wire.EXPLICIT)
    expected = {one.sop_instance: plain if one.syntax in plain else (one.syntax,) for one in files}
    assert_stored(gateway, sent, expected)


def test_pynetdicom(gateway: Gateway, tmp_path: Path) -> None:
    files = copies(tmp_path)
    with Tap(gateway.address) as tap:
        entity = AE("PYNETDICOM")
        entity.add_requested_context(Verification)
        for one in files:
            entity.add_requested_context(one.sop_class, one.syntax)
        association = entity.associate("127.0.0.1", tap.port, ae_title="SCP_AE")
        assert association.is_established
        assert association.send_c_echo().Status == 0
        for one in files:
            assert association.send_c_store(one.path).Status == 0
        association.release()
        sent = tap.data_sets()
    assert_stored(gateway, sent, {one.sop_instance: (one.syntax,) for one in files})


def test_character_sets_are_found(gateway: Gateway) -> None:
    """Names in every character set are found by the text pydicom decodes from them."""
    for one in samples.character_set_samples():
        port = str(gateway.port)
        run("/usr/bin/storescu", "-xi", "-aec", "SCP_AE", "localhost", port, one.path)
        name = pydicom.dcmread(one.path, stop_before_pixels=True).PatientName
        rows = gateway.find("--sop-uid", one.sop_instance)
        assert one.sop_instance in rows
        groups = [group for group in name.components if group]
        for group in groups:
            found = gateway.find("--patient-name", group)
            assert one.sop_instance in found, f"{one.name}: not found by {group!r}"


def test_duplicate_replaces(gateway: Gateway, tmp_path: Path) -> None:
    """The same SOP instance again, with other bytes, twice, small and large: the last ones stay."""
    one = samples.clone(samples.sample("enhanced-ct-explicit"), tmp_path / "one.dcm")
    data_set = data_set_of_file(one.path.read_bytes())
    with Peer(gateway.address) as peer:
        assert peer.associate().kind == wire.ASSOCIATE_AC
        small = wire.small_data_set(one.sop_instance)
        for changed in (data_set, data_set[:-500] + bytes(500), small):
            assert peer.store(one.sop_class, one.sop_instance, changed, one.syntax) == 0
            rows = gateway.find("--sop-uid", one.sop_instance)
            assert list(rows) == [one.sop_instance]
            stored = gateway.stored_file(rows[one.sop_instance]).read_bytes()
            assert data_set_of_file(stored) == changed
        assert peer.release()


@pytest.fixture
def orthanc_tap(gateway: Gateway, tmp_path: Path) -> Iterator[tuple[Orthanc, Tap]]:
    with Tap(gateway.address) as tap:
        directory = tmp_path / "orthanc"
        directory.mkdir()
        orthanc = Orthanc(directory, tap.port)
        yield orthanc, tap
        orthanc.close()


@pytest.mark.skipif(not shutil.which(ORTHANC), reason="Orthanc is not installed")
def test_orthanc(gateway: Gateway, tmp_path: Path, orthanc_tap: tuple[Orthanc, Tap]) -> None:
    """Orthanc's C-ECHO and C-STORE of every sample."""
    orthanc, tap = orthanc_tap
    orthanc.request("POST", "/modalities/gateway/echo", b"{}")
    files = copies(tmp_path)
    for one in files:
        answer = json.loads(orthanc.request("POST", "/instances", one.path.read_bytes()))
        result = json.loads(
            orthanc.request("POST", "/modalities/gateway/store", answer["ID"].encode())
        )
        assert result["FailedInstancesCount"] == 0, (one.name, result)
    time.sleep(0.1)
    orthanc.close()
    sent = tap.data_sets()
    assert_stored(gateway, sent, {one.sop_instance: (one.syntax,) for one in files})
