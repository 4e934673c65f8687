"""Real archives for prefetching: Orthanc and DCMTK's dcmqrscp, filled with patients' studies.

Studies are made of pydicom's CT, cut small; `send` gives them to whoever listens, with DCMTK.
"""

import copy
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tests.material import samples
from tests.material.waiting import eventually, free_ports
from tests.rigs.gateway import Gateway

ORTHANC = "/usr/sbin/Orthanc"
QRSCP = "/usr/bin/dcmqrscp"
STORESCU = "/usr/bin/storescu"
ECHOSCU = "/usr/bin/echoscu"
AVAILABLE = all(map(shutil.which, (ORTHANC, QRSCP, STORESCU, ECHOSCU)))


@dataclass
class MadeStudy:
    """A study as files. `images`: SeriesInstanceUID -> SOPInstanceUIDs."""

    directory: Path
    uid: str
    patient_id: str
    date: str
    images: dict[str, list[str]] = field(default_factory=dict)

    @property
    def uids(self) -> set[str]:
        """All instances."""
        return {uid for uids in self.images.values() for uid in uids}


def make_study(
    directory: Path,
    patient_id: str,
    date: str,
    modalities: Sequence[str] = ("CT",),
    images: int = 3,
    character_set: str = "ISO_IR 100",
    patient_name: str = "PRIOR^TEST",
) -> MadeStudy:
    """Files of one study, `images` in each of as many series as there are modalities."""
    original = pydicom.dcmread(samples.original("CT_small.dcm"))
    made = MadeStudy(directory, generate_uid(), patient_id, date)
    directory.mkdir(parents=True, exist_ok=True)
    for number, modality in enumerate(modalities, 1):
        series = generate_uid()
        made.images[series] = []
        for image in range(1, images + 1):
            instance = copy.deepcopy(original)
            instance.SpecificCharacterSet = character_set.split("\\")
            instance.PatientID, instance.PatientName = patient_id, patient_name
            instance.StudyInstanceUID, instance.StudyDate = made.uid, date
            instance.StudyID, instance.SeriesNumber, instance.InstanceNumber = "1", number, image
            instance.SeriesInstanceUID, instance.Modality = series, modality
            instance.SeriesDate, instance.SeriesTime = date, "101500"
            instance.SOPInstanceUID = generate_uid()
            instance.Rows = instance.Columns = 16
            instance.PixelData = bytes(16 * 16 * 2)
            del instance[0xFFFCFFFC]
            instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
            instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            made.images[series].append(str(instance.SOPInstanceUID))
            instance.save_as(directory / f"{number}-{image:03}.dcm")
    return made


def send(study: MadeStudy, port: int, called: str = "SCP_AE") -> None:
    """C-STORE of all files of a study on one association."""
    command = [STORESCU, "-aec", called, "-aet", "MODALITY", "+sd", "127.0.0.1", str(port)]
    subprocess.run([*command, str(study.directory)], check=True, capture_output=True, timeout=60)


class _Archive:
    """What both are: a process that answers on a port until it is ended."""

    ae_title: str

    def __init__(self, command: Sequence[str], port: int, directory: Path) -> None:
        self.port = port
        self._log = (directory / "log").open("wb")
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        eventually(self._answers, 20, f"{command[0]} answers")

    def _answers(self) -> bool:
        command = [ECHOSCU, "-aec", self.ae_title, "127.0.0.1", str(self.port)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def close(self) -> None:
        """End the process and its log."""
        self.process.terminate()
        self.process.wait(20)
        self._log.close()


class Qrscp(_Archive):
    """DCMTK's archive. It compares bytes, and knows no ModalitiesInStudy."""

    name = "qrscp"
    ae_title = "ARCHIVE"

    def __init__(self, directory: Path, gateway_port: int) -> None:
        directory.mkdir(parents=True)
        (port,) = free_ports(1)
        (directory / "store").mkdir()
        configuration = directory / "dcmqrscp.cfg"
        configuration.write_text(
            f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
            f"HostTable BEGIN\ngateway = (PrefetchAP, 127.0.0.1, {gateway_port})\nHostTable END\n"
            "VendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\n{self.ae_title} {directory / 'store'} RW (200, 1024mb) ANY\n"
            "AETable END\n"
        )
        super().__init__([QRSCP, "-c", str(configuration), "-d"], port, directory)


class Orthanc(_Archive):
    """Orthanc, which knows PrefetchAP and lets everybody ask."""

    name = "orthanc"
    ae_title = "ORTHANC"

    def __init__(self, directory: Path, gateway_port: int) -> None:
        directory.mkdir(parents=True)
        http, port = free_ports(2)
        configuration = {
            "Name": "archive",
            "StorageDirectory": str(directory / "store"),
            "IndexDirectory": str(directory / "store"),
            "Plugins": [],
            "HttpPort": http,
            "DicomPort": port,
            "DicomAet": self.ae_title,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            # What it answers in: with Latin-1, its default, Japanese Patient IDs come back empty.
            "DefaultEncoding": "Utf8",
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowMove": True,
            "DicomModalities": {"prefetch": ["PrefetchAP", "127.0.0.1", gateway_port]},
        }
        path = directory / "orthanc.json"
        path.write_text(json.dumps(configuration))
        super().__init__([ORTHANC, "--verbose", str(path)], port, directory)


def prefetching(gateway: Gateway, port: int, ae_title: str, rule: str, more: str = "") -> Gateway:
    """The gateway's configuration with an archive and one rule about CTs."""
    text = gateway.config_file.read_text()
    gateway.config_file.write_text(
        f"{more}\n{text}\n"
        f'[[remotes]]\nname = "archive"\nae_title = "{ae_title}"\nhost = "127.0.0.1"\n'
        f"port = {port}\n"
        '[[prefetch]]\nname = "priors"\narchive = "archive"\nwhen = { Modality = "CT" }\n'
        f"{rule}\n"
    )
    return gateway
