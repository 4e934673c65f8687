"""What real receivers get: every SOP class and transfer syntax of Table 4.2-33, by the service.

Images come in by C-STORE and go on by a rule; what storage AEs do not take comes from the watched
folders, as local applications bring it. What DCMTK's storescp, Orthanc and pynetdicom kept is read
back by pydicom and compared with the original, element by element.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from engine.outbox.records import Delivery, State
from tests.material import samples, wire
from tests.material.samples import Sample
from tests.peers.peer import Peer
from tests.peers.receivers import AVAILABLE, Orthanc, Pynetdicom, Receiver, Storescp, remote
from tests.peers.tap import data_set_of_file
from tests.rigs.gateway import Gateway
from tests.rigs.outgoing_files import differences

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not (AVAILABLE and samples.available()), reason="no foreign receivers"),
]
IMPLICIT, EXPLICIT, JPEG_LOSSLESS = wire.IMPLICIT, wire.EXPLICIT, wire.JPEG_LOSSLESS
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
IMAGES = (wire.CT_IMAGE, wire.MR_IMAGE)
# Table 4.2-33, written down once more.
TABLE = {
    wire.CT_IMAGE: {IMPLICIT, EXPLICIT},
    wire.MR_IMAGE: {IMPLICIT, EXPLICIT},
    BASIC_TEXT_SR: {IMPLICIT},
    PRESENTATION_STATE: {IMPLICIT},
    SEGMENTATION: {IMPLICIT},
    ENCAPSULATED_PDF: {IMPLICIT},
    wire.SECONDARY_CAPTURE: {IMPLICIT, JPEG_BASELINE},
}
PIXEL_DATA = 0x7FE00010
# What decoding changes: of a lossy colour image also its colour space and the order of its planes.
DECODED: Mapping[str, frozenset[int]] = {
    IMPLICIT: frozenset(),
    EXPLICIT: frozenset(),
    JPEG_LOSSLESS: frozenset({PIXEL_DATA}),
    JPEG_BASELINE: frozenset({PIXEL_DATA, 0x00280004, 0x00280006}),
}

RECEIVED = (
    "ct-explicit",
    "ct-implicit",
    "ct-jpeg-lossless",
    "mr-explicit",
    "mr-implicit",
    "mr-jpeg-lossless",
    "secondary-capture-implicit",
    "secondary-capture-odd-size",
    "secondary-capture-decoded",
)
# name -> (source file, the DCMTK tool that makes it of that)
FROM_APPLICATIONS = {
    "report-explicit": ("reportsi.dcm", ()),
    "report-implicit": ("reportsi.dcm", ("dcmconv", "+ti")),
    "presentation-state-explicit": ("CT_small.dcm", ("dcmpsmk",)),
    "segmentation-explicit": ("liver_1frame.dcm", ()),
    "segmentation-implicit": ("liver_1frame.dcm", ("dcmconv", "+ti")),
    "document-explicit": ("", ("pdf2dcm",)),
    "secondary-capture-jpeg": ("SC_rgb_jpeg_dcmtk.dcm", ()),
    "secondary-capture-explicit": ("SC_rgb.dcm", ()),
}
RECEIVERS = (
    "storescp",
    "storescp-implicit",
    "storescp-lossless",
    "orthanc",
    "pynetdicom",
    "pynetdicom-explicit",
)


def made(name: str, directory: Path) -> Sample:
    """A file of a local application."""
    source, tool = FROM_APPLICATIONS[name]
    path = directory / f"{name}.dcm"
    if source:
        original = samples.original(source)
    else:
        original = directory / "report.pdf"
        original.write_bytes(b"%PDF-1.4\n" + bytes(range(256)) * 200 + b"\n%%EOF\n")
    if tool:
        command = [f"/usr/bin/{tool[0]}", *tool[1:], str(original), str(path)]
        subprocess.run(command, check=True, capture_output=True)
    else:
        shutil.copyfile(original, path)
    meta = pydicom.filereader.read_file_meta_info(path)
    plain = Sample(
        name,
        path,
        str(meta.MediaStorageSOPClassUID),
        str(meta.TransferSyntaxUID),
        str(meta.MediaStorageSOPInstanceUID),
    )
    renamed = samples.clone(plain, directory / f"renamed-{name}.dcm")
    return Sample(name, renamed.path, plain.sop_class, plain.syntax, renamed.sop_instance)


def expected_syntax(one: Sample, receiver: str) -> str:
    """What must arrive: the original where both sides take it, then Explicit, then Implicit. "":
    there is no way."""
    ours = set(TABLE[one.sop_class])
    theirs = {IMPLICIT, EXPLICIT, JPEG_BASELINE, JPEG_LOSSLESS}
    if receiver == "storescp-lossless":
        ours.add(JPEG_LOSSLESS)
    elif receiver.endswith("-implicit"):
        theirs = {IMPLICIT}
    elif receiver.endswith("-explicit"):
        theirs = {EXPLICIT}
    common = ours & theirs
    return next((it for it in (one.syntax, EXPLICIT, IMPLICIT) if it in common), "")


@dataclass
class Forwarded:
    """All that was sent, and what became of it."""

    gateway: Gateway
    receivers: Mapping[str, Receiver]
    samples: dict[str, Sample]
    deliveries: dict[tuple[str, str], Delivery]
    kept: dict[str, dict[str, Path]]


def start_receivers(directory: Path, stack: ExitStack) -> dict[str, Receiver]:
    everything = [IMPLICIT, EXPLICIT, JPEG_BASELINE]
    receivers: dict[str, Receiver] = {
        "storescp": Storescp(directory / "storescp", "+xa"),
        "storescp-implicit": Storescp(directory / "storescp-implicit", "+xi"),
        "storescp-lossless": Storescp(directory / "storescp-lossless", "+xa"),
        "orthanc": Orthanc(directory / "orthanc"),
        "pynetdicom": Pynetdicom(directory / "pynetdicom", [*TABLE], everything),
        "pynetdicom-explicit": Pynetdicom(directory / "pynetdicom-explicit", [*TABLE], [EXPLICIT]),
    }
    for receiver in receivers.values():
        stack.enter_context(closing(receiver))
    return receivers


# Who is told what corrected elements said before.
TOLD = ("storescp", "storescp-implicit", "storescp-lossless", "pynetdicom-explicit", "orthanc")


@pytest.fixture(scope="module")
def forwarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forwarded]:
    directory = tmp_path_factory.mktemp("forward")
    with ExitStack() as stack:
        receivers = start_receivers(directory, stack)
        remotes = []
        for name, receiver in receivers.items():
            (directory / f"folder-{name}").mkdir()
            more = {"outgoing_directory": str(directory / f"folder-{name}")}
            if name in TOLD:
                more["original_attributes"] = True
            if name == "storescp-lossless":
                more |= {"transfer_syntaxes": [JPEG_LOSSLESS], "associations": "reuse"}
            remotes.append(remote(name, receiver, **more))
        rule = {"name": "everywhere", "when": {}, "to": [*receivers]}
        settings = {"remotes": remotes, "rules": [rule]}
        gateway = stack.enter_context(closing(Gateway(directory / "gateway", settings)))
        gateway.start()
        all_samples = {
            name: samples.clone(samples.sample(name), directory / name) for name in RECEIVED
        }
        enhanced = samples.clone(samples.sample("enhanced-ct-explicit"), directory / "enhanced")
        store(gateway, [*all_samples.values(), enhanced])
        for name in FROM_APPLICATIONS:
            all_samples[name] = made(name, directory)
            for receiver_name in receivers:
                bring(all_samples[name].path, directory / f"folder-{receiver_name}")
        count = (len(all_samples) + 1) * len(receivers)
        all_samples["enhanced-ct"] = enhanced
        settled = gateway.wait_settled(90, count)
        assert len(settled) == count
        yield Forwarded(
            gateway,
            receivers,
            all_samples,
            {(each.destination, each.sop_instance_uid): each for each in settled},
            {name: receiver.kept() for name, receiver in receivers.items()},
        )


def store(gateway: Gateway, files: list[Sample]) -> None:
    """C-STORE of the very bytes of the files."""
    with Peer(gateway.address) as peer:
        assert peer.associate().kind == wire.ASSOCIATE_AC
        for one in files:
            data_set = data_set_of_file(one.path.read_bytes())
            assert peer.store(one.sop_class, one.sop_instance, data_set, one.syntax) == 0
        assert peer.release()


def bring(path: Path, folder: Path) -> None:
    """As an application does: complete, and then moved in under its name."""
    shutil.copyfile(path, folder / f"{path.name}.part")
    os.utime(folder / f"{path.name}.part", (0, 0))
    (folder / f"{path.name}.part").rename(folder / path.name)


@pytest.mark.parametrize("receiver", RECEIVERS)
@pytest.mark.parametrize("name", [*RECEIVED, *FROM_APPLICATIONS])
def test_received_as_it_was(forwarded: Forwarded, name: str, receiver: str) -> None:
    one = forwarded.samples[name]
    delivery = forwarded.deliveries[receiver, one.sop_instance]
    syntax = expected_syntax(one, receiver)
    if not syntax:
        assert (delivery.state, delivery.attempts) == (State.FAILED, 1), delivery.reason
        assert "context" in delivery.reason
        assert one.sop_instance not in forwarded.kept[receiver]
        return
    assert (delivery.state, delivery.attempts, delivery.reason) == (State.DELIVERED, 1, "")
    kept = forwarded.kept[receiver][one.sop_instance]
    received, original = pydicom.dcmread(kept), pydicom.dcmread(one.path)
    assert received.file_meta.TransferSyntaxUID == syntax
    assert received.file_meta.MediaStorageSOPClassUID == one.sop_class
    ignored = DECODED[one.syntax] if syntax != one.syntax else frozenset()
    assert differences(original, received, ignored) == []
    if syntax == one.syntax and receiver != "orthanc":  # which writes files anew
        assert data_set_of_file(kept.read_bytes()) == data_set_of_file(one.path.read_bytes())
    if ignored:
        assert_same_pixels(one, received)


def assert_same_pixels(one: Sample, received: Dataset) -> None:
    """As DCMTK decodes them; lossy ones within what rounding may do."""
    decoded = one.path.with_name(f"{one.path.name}.decoded")
    colour = ["+cn"] if one.syntax == JPEG_BASELINE else []
    command = ["/usr/bin/dcmdjpeg", *colour, str(one.path), str(decoded)]
    subprocess.run(command, check=True, capture_output=True)
    expected = pydicom.dcmread(decoded)
    if one.syntax == JPEG_LOSSLESS:
        assert received.PixelData == expected.PixelData
        return
    ours, theirs = (each.pixel_array.astype(int) for each in (received, expected))
    assert ours.shape == theirs.shape
    assert received.PhotometricInterpretation == expected.PhotometricInterpretation
    assert np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize("receiver", RECEIVERS)
def test_enhanced_ct_is_never_sent(forwarded: Forwarded, receiver: str) -> None:
    one = forwarded.samples["enhanced-ct"]
    delivery = forwarded.deliveries[receiver, one.sop_instance]
    assert (delivery.state, delivery.attempts, delivery.status) == (State.FAILED, 1, -1)
    assert delivery.reason.startswith("Enhanced CT Image Storage is received only and never sent")
    assert one.sop_instance not in forwarded.kept[receiver]


@pytest.mark.parametrize("name", ["ct-explicit", "ct-implicit", "ct-jpeg-lossless"])
def test_corrections_are_carried(forwarded: Forwarded, name: str, tmp_path: Path) -> None:
    """Also into a transfer syntax and a character set that the file does not have."""
    gateway = forwarded.gateway
    one = samples.clone(samples.sample(name), tmp_path / name)
    study = str(pydicom.dcmread(one.path).StudyInstanceUID)
    wanted = {
        "PatientName": "Jürgen^Ödön=山田^太郎",
        "StudyDescription": "Schädel",
        "PatientSex": "F",
    }
    assignments = [f"{keyword}={text}" for keyword, text in wanted.items()]
    edited = gateway.command("edit", "--study", study, "--yes", "--who", "tester", *assignments)
    assert edited.returncode == 0, edited.stdout + edited.stderr
    count = len(gateway.deliveries())
    store(gateway, [one])
    gateway.wait_settled(30, count + len(forwarded.receivers))
    changed = {int(pydicom.datadict.tag_for_keyword(keyword) or 0) for keyword in wanted}
    for label, receiver in forwarded.receivers.items():
        received = pydicom.dcmread(receiver.kept()[one.sop_instance])
        assert received.file_meta.TransferSyntaxUID == expected_syntax(one, label)
        assert (
            differences(
                pydicom.dcmread(one.path),
                received,
                frozenset({*changed, 0x00080005, 0x04000561, *DECODED[one.syntax]}),
            )
            == []
        )
        assert {keyword: str(received[keyword].value) for keyword in wanted} == wanted
        earlier = pydicom.dcmread(one.path)
        assert_told(received, {key: str(earlier.get(key, "")) for key in wanted}, label in TOLD)
        if one.syntax == JPEG_LOSSLESS and label != "storescp-lossless":
            assert_same_pixels(one, received)
    row = gateway.find("--sop-uid", one.sop_instance)[one.sop_instance]
    assert data_set_of_file(gateway.stored_file(row).read_bytes()) == data_set_of_file(
        one.path.read_bytes()
    ), "what was received stays as it was"


def assert_told(received: Dataset, earlier: dict[str, str], is_told: bool) -> None:
    """As table C.12.1.1.9-1 of PS3.3 has it: each element, its VR, and nothing else."""
    assert ("OriginalAttributesSequence" in received) == is_told
    if not is_told:
        return
    (item,) = received.OriginalAttributesSequence
    assert {each.keyword: each.VR for each in item} == {
        "ModifiedAttributesSequence": "SQ",
        "AttributeModificationDateTime": "DT",
        "ModifyingSystem": "LO",
        "SourceOfPreviousValues": "LO",
        "ReasonForTheAttributeModification": "CS",
    }
    assert re.fullmatch(r"\d{14}\.\d{6}\+0000", item.AttributeModificationDateTime)
    assert item.ModifyingSystem == "SCP_AE"
    assert item.ReasonForTheAttributeModification == "CORRECT"
    (modified,) = item.ModifiedAttributesSequence
    declared = modified.pop("SpecificCharacterSet", None)
    assert declared is not None, "the data set has another one now"
    assert {each.keyword: str(each.value or "") for each in modified} == earlier


def test_what_a_user_sends(forwarded: Forwarded, tmp_path: Path) -> None:
    """`scai send` of files to real receivers, of one that is never sent, and of a stored study."""
    gateway, names = forwarded.gateway, ("storescp", "orthanc", "pynetdicom")
    to = [word for name in names for word in ("--to", name)]
    # The presentation state belongs to the study that another test corrects.
    files = [made(name, tmp_path) for name in FROM_APPLICATIONS if "state" not in name]
    done = gateway.command("send", *to, *(str(one.path) for one in files))
    assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        kept = forwarded.receivers[name].kept()
        for one in files:
            received = pydicom.dcmread(kept[one.sop_instance])
            assert differences(pydicom.dcmread(one.path), received) == []
    enhanced = samples.clone(samples.sample("enhanced-ct-implicit"), tmp_path / "enhanced")
    refused = gateway.command("send", *to, str(enhanced.path))
    assert refused.returncode == 1
    assert "received only and never sent" in refused.stdout + refused.stderr
    mr = forwarded.samples["mr-jpeg-lossless"]
    study = str(pydicom.dcmread(mr.path).StudyInstanceUID)
    before = {each.number for each in gateway.deliveries()}
    done = gateway.command("send", "--to", "storescp-lossless", "--study", study)
    assert done.returncode == 0, done.stdout + done.stderr
    new = [each for each in gateway.deliveries() if each.number not in before]
    assert mr.sop_instance in {each.sop_instance_uid for each in new}
    assert {each.state for each in new} == {State.DELIVERED}
