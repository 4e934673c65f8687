"""Orthanc as a peer: its configuration, its process, its store."""

import json
import subprocess
import urllib.request
from pathlib import Path

from tests.material.waiting import eventually, free_ports

ORTHANC = "/usr/sbin/Orthanc"


class Orthanc:
    """Orthanc with its REST interface on loopback and the service as a known modality."""

    def __init__(self, directory: Path, port: int) -> None:
        self.http, dicom = free_ports(2)
        configuration = {
            "Name": "peer",
            "StorageDirectory": str(directory),
            "IndexDirectory": str(directory),
            "Plugins": [],
            "HttpPort": self.http,
            "DicomPort": dicom,
            "DicomAet": "ORTHANC",
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomModalities": {"gateway": ["SCP_AE", "127.0.0.1", port]},
        }
        path = directory / "orthanc.json"
        path.write_text(json.dumps(configuration))
        self.log = (directory / "orthanc.log").open("wb")
        self.process = subprocess.Popen([ORTHANC, str(path)], stdout=self.log, stderr=self.log)
        eventually(self.answers, 20, "Orthanc answers")

    def answers(self) -> bool:
        """Whether the REST interface is up."""
        try:
            self.request("GET", "/system")
        except OSError:
            return False
        return True

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """One REST call."""
        url = f"http://127.0.0.1:{self.http}{path}"
        request = urllib.request.Request(url, data=body or None, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            content: bytes = answer.read()
        return content

    def close(self) -> None:
        """End the process and its log."""
        self.process.terminate()
        self.process.wait(20)
        self.log.close()
