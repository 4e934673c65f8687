"""Real receivers on free loopback ports: DCMTK's storescp, Orthanc, and pynetdicom.

Each takes what it is told to take, and what it kept can be read back as DICOM files, by SOP
instance UID. `close` ends it; `Storescp` may be killed and started again on its port.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pydicom
from pynetdicom import AE, evt

from tests.material.waiting import eventually, free_ports

STORESCP = "/usr/bin/storescp"
ORTHANC = "/usr/sbin/Orthanc"
AVAILABLE = all(map(shutil.which, (STORESCP, ORTHANC)))


class Receiver(Protocol):
    """What the tests know of each."""

    ae_title: str
    port: int

    def kept(self) -> dict[str, Path]:
        """SOP instance UID -> file."""

    def close(self) -> None:
        """End it."""


def remote(name: str, receiver: Receiver, **more: Any) -> dict[str, Any]:
    """A receiver as an entry of `[[remotes]]`."""
    entity = {"name": name, "ae_title": receiver.ae_title, "port": receiver.port}
    return {**entity, "host": "127.0.0.1", **more}


def is_listening(port: int) -> bool:
    """Whether somebody takes connections."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def by_instance(directory: Path) -> dict[str, Path]:
    """The DICOM files that are whole, by the UID in their meta information."""
    found = {}
    for path in directory.iterdir():
        with contextlib.suppress(pydicom.errors.InvalidDicomError, EOFError, OSError):
            meta = pydicom.filereader.read_file_meta_info(path)
            found[str(meta.MediaStorageSOPInstanceUID)] = path
    return found


class Storescp:
    """DCMTK's storescp. It keeps data sets byte by byte, and serves one association at a time."""

    def __init__(self, directory: Path, *options: str, port: int = 0) -> None:
        self.ae_title = "STORESCP"
        self.directory = directory
        self.store = directory / "store"
        self.options = options
        self.port = port or free_ports(1)[0]
        self.process: subprocess.Popen[bytes] | None = None
        self.store.mkdir(parents=True)
        self.start()

    def start(self) -> "Storescp":
        """Listen, again if it has been killed."""
        command = [STORESCP, "-aet", self.ae_title, "+B", "-od", str(self.store), *self.options]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, str(self.port)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        eventually(lambda: is_listening(self.port), 20, "storescp listens")
        return self

    def kill(self) -> None:
        """SIGKILL: whatever it was doing, it does no more."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def kept(self) -> dict[str, Path]:
        """SOP instance UID -> file."""
        return by_instance(self.store)

    def close(self) -> None:
        """End the process."""
        self.kill()


class Orthanc:
    """Orthanc with its REST interface."""

    def __init__(self, directory: Path) -> None:
        self.ae_title = "ORTHANC"
        self.fetched = directory / "fetched"
        self.fetched.mkdir(parents=True)
        self.http, self.port = free_ports(2)
        configuration = {
            "Name": "receiver",
            "StorageDirectory": str(directory / "store"),
            "IndexDirectory": str(directory / "store"),
            "Plugins": [],
            "HttpPort": self.http,
            "DicomPort": self.port,
            "DicomAet": self.ae_title,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "OverwriteInstances": True,
        }
        path = directory / "orthanc.json"
        path.write_text(json.dumps(configuration))
        with (directory / "log").open("ab") as log:
            self.process = subprocess.Popen([ORTHANC, str(path)], stdout=log, stderr=log)
        eventually(lambda: is_listening(self.port) and is_listening(self.http), 30, "Orthanc")

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=20) as answer:
            content: bytes = answer.read()
        return content

    def kept(self) -> dict[str, Path]:
        """SOP instance UID -> file, as Orthanc gives it out."""
        for name in json.loads(self._get("/instances")):
            (self.fetched / name).write_bytes(self._get(f"/instances/{name}/file"))
        return by_instance(self.fetched)

    def close(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait(30)


class Pynetdicom:
    """pynetdicom's Storage SCP, in threads of this process, for these classes and syntaxes. It
    aborts the first `aborts` associations when it has kept the instance, and says no more; it
    answers `takes_s` after it has kept one. `came`: each instance as often as it came."""

    def __init__(
        self,
        directory: Path,
        classes: Sequence[str],
        syntaxes: Sequence[str],
        aborts: int = 0,
        takes_s: float = 0.0,
    ) -> None:
        self.ae_title = "PYNETDICOM"
        self.store = directory / "store"
        self.store.mkdir(parents=True)
        self.aborts = aborts
        self.takes_s = takes_s
        self.came: list[str] = []
        entity = AE(self.ae_title)
        for sop_class in classes:
            entity.add_supported_context(sop_class, list(syntaxes))
        (self.port,) = free_ports(1)
        handlers = [(evt.EVT_C_STORE, self._take)]
        self.server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers
        )

    def _take(self, event: evt.Event) -> int:
        path = self.store / str(event.request.AffectedSOPInstanceUID)
        path.write_bytes(event.encoded_dataset())
        self.came.append(path.name)
        if self.aborts:
            self.aborts -= 1
            event.assoc.abort()
        time.sleep(self.takes_s)
        return 0

    def kept(self) -> dict[str, Path]:
        """SOP instance UID -> file."""
        return by_instance(self.store)

    def close(self) -> None:
        """End the server."""
        self.server.shutdown()
