"""The storage servers that are compared: how each is started, tuned and known to be ready.

Promises: each peer is run as its users would run it for speed, from its own documented switches,
and its command is there to be printed. A server is a process group of its own, pinned to one core,
and is ended by the end of `with`, however that comes.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
    MRImageStorage,
)

from benchmarks.load_wire import IMPLICIT, VERIFICATION, associate_request
from benchmarks.native_build import program

START_SECONDS: Final = 30
STOP_SECONDS: Final = 30
CALLED: Final = "SCP_AE"
ROOT: Final = Path(__file__).parent.parent


class PeerError(Exception):
    """A server did not start, or did not stay; the text says which and shows its last words."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one server runs: its own directory and ports; `wire_bytes` of one instance."""

    directory: Path
    port: int
    second_port: int
    wire_bytes: int
    core: int


@dataclass(frozen=True, slots=True)
class Launch:
    """What is to be executed."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    ready_url: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """One kind of server. `keeps`: what is acknowledged must be found in its directory."""

    name: str
    durable: str
    launch: Callable[[Place], Launch]
    needs: str = ""
    keeps: bool = True


def _dcmtk_environment() -> dict[str, str]:
    # Without it every answer waits 40 ms for the other side's delayed acknowledgement.
    return {"TCP_NODELAY": "1"}


def _ours(durability: str, command: Sequence[str] = ()) -> Callable[[Place], Launch]:
    def launch(place: Place) -> Launch:
        text = f"""data_directory = "{place.directory / "data"}"
durability = "{durability}"
[storage_scp]
ae_title = "{CALLED}"
address = "127.0.0.1"
port = {place.port}
core = {place.core}
[prefetch_scp]
enabled = false
[index]
core = {place.core}
[stats]
address = "127.0.0.1"
port = {place.second_port}
"""
        file = place.directory / "scai.toml"
        file.write_text(text)
        return Launch(
            [*(command or (sys.executable, "-m", "tools.cli")), "run", "-c", str(file)],
            ready_url=f"http://127.0.0.1:{place.second_port}/readyz",
        )

    return launch


def _storescp(place: Place) -> Launch:
    command = ["/usr/bin/storescp", "--fork", "+B", "+xa", "-od", str(place.directory)]
    return Launch([*command, str(place.port)], _dcmtk_environment())


def _dcmrecv(place: Place) -> Launch:
    syntaxes = (ExplicitVRLittleEndian, IMPLICIT, JPEGLosslessSV1)
    classes = (VERIFICATION, CTImageStorage, MRImageStorage, EnhancedCTImageStorage)
    lines = ["[[TransferSyntaxes]]", "[All]"]
    lines += [f"TransferSyntax{number} = {uid}" for number, uid in enumerate(syntaxes, 1)]
    lines += ["[[PresentationContexts]]", "[Storage]"]
    lines += [f"PresentationContext{number} = {uid}\\All" for number, uid in enumerate(classes, 1)]
    lines += ["[[Profiles]]", "[Default]", "PresentationContexts = Storage"]
    file = place.directory / "dcmrecv.cfg"
    if place.directory.is_dir():
        file.write_text("\n".join(lines) + "\n")
    command = ["/usr/bin/dcmrecv", "+B", "-dhl", "-xf", str(file), "Default"]
    return Launch([*command, "-od", str(place.directory), str(place.port)], _dcmtk_environment())


def _orthanc(sync: bool) -> Callable[[Place], Launch]:
    def launch(place: Place) -> Launch:
        settings = {
            "Name": "BENCHMARK",
            "StorageDirectory": str(place.directory),
            "IndexDirectory": str(place.directory),
            "SyncStorageArea": sync,
            "StorageCompression": False,
            "StoreMD5ForAttachments": False,
            "HttpServerEnabled": False,
            "DicomServerEnabled": True,
            "DicomAet": CALLED,
            "DicomCheckCalledAet": False,
            "DicomPort": place.port,
            "DicomThreadsCount": 8,  # its default of 4 would leave the fifth association waiting
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "OverwriteInstances": True,
            "SaveJobs": False,
            "MetricsEnabled": False,
            "Plugins": [],
        }
        file = place.directory / "orthanc.json"
        file.write_text(json.dumps(settings, indent=1))
        return Launch(["/usr/sbin/Orthanc", str(file)], _dcmtk_environment())

    return launch


def _pynetdicom(place: Place) -> Launch:
    command = [sys.executable, "-m", "pynetdicom", "storescp", str(place.port), "-q"]
    return Launch([*command, "-ba", "127.0.0.1", "-od", str(place.directory)])


def _sink(mode: str) -> Callable[[Place], Launch]:
    def launch(place: Place) -> Launch:
        command = [str(program("sink")), mode, str(place.port), str(place.wire_bytes)]
        return Launch([*command, str(place.directory)])

    return launch


PEERS: Final = {
    peer.name: peer
    for peer in (
        Peer("ours-sync", "file and index record", _ours("sync"), "tools/cli.py"),
        Peer("ours-os", "no", _ours("os"), "tools/cli.py"),
        Peer("storescp", "no", _storescp, "/usr/bin/storescp"),
        Peer("dcmrecv", "no", _dcmrecv, "/usr/bin/dcmrecv"),
        Peer("orthanc-sync", "file only", _orthanc(True), "/usr/sbin/Orthanc"),
        Peer("orthanc", "no", _orthanc(False), "/usr/sbin/Orthanc"),
        Peer("pynetdicom", "no", _pynetdicom),
        Peer("sink-file", "no", _sink("file")),
        Peer("sink-sync", "file only", _sink("sync")),
        Peer("sink-discard", "nothing is kept", _sink("discard"), keeps=False),
    )
}


def of_checkout(checkout: Path) -> Peer:
    """`ours-sync` of another checkout, as its own virtual environment `.venv` runs it."""
    command = checkout.absolute() / ".venv" / "bin" / "scai"
    return Peer("ours-before", "file and index record", _ours("sync", [str(command)]), str(command))


def missing(peer: Peer) -> str:
    """What this machine lacks for that peer; empty when it can run."""
    return peer.needs if peer.needs and not (ROOT / peer.needs).exists() else ""


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def grants_association(port: int, timeout: float = 5.0) -> bool:
    """Whether an association for Verification is granted; it is released again at once."""
    request = associate_request(CALLED, "LOAD", [(1, VERIFICATION, IMPLICIT)], 16378)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as link:
            link.sendall(request)
            answer = b""
            while len(answer) < 6 or len(answer) < 6 + struct.unpack(">L", answer[2:6])[0]:
                piece = link.recv(4096)
                if not piece:
                    return False
                answer += piece
            if answer[0] != 2:
                return False
            link.sendall(b"\x05\0\0\0\0\x04\0\0\0\0")
            return link.recv(10)[:1] == b"\x06"  # who asked for the release closes the connection
    except OSError:
        return False  # not there yet; the caller decides how long that may go on


def _ready(launch: Launch, port: int) -> bool:
    if launch.ready_url:
        try:
            with urllib.request.urlopen(launch.ready_url, timeout=2) as answer:
                if answer.status != 200:
                    return False
        except (urllib.error.URLError, OSError):
            return False  # not there yet
    return grants_association(port)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Its whole group, gently first."""
    for number, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
        if number == signal.SIGKILL:
            break
    process.wait()


def running(peer: Peer, place: Place) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """The server, ready to be sent to."""
    log = place.directory.with_name(place.directory.name + ".log")
    return started(peer.name, peer.launch(place), place.port, str(place.core), log)


@contextmanager
def started(
    name: str, launch: Launch, port: int, cores: str, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A server, on cores as taskset has them, once it grants associations on its port."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", cores, *launch.command],
            env=os.environ | launch.environment,
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _ready(launch, port):
            if process.poll() is not None or time.monotonic() > deadline:
                words = log.read_bytes()[-400:].decode(errors="replace")
                raise PeerError(f"{name} is not ready: {words}")
            time.sleep(0.1)
        yield process
    finally:
        _end(process)


def shown_command(peer: Peer) -> str:
    """The command as a person would type it, without this run's directory and ports."""
    place = Place(Path("DIR"), 11112, 9104, 525588, 0)
    if peer.name == "ours-before":
        return f'taskset -c 0 {peer.needs} run -c FILE  # durability = "sync"'
    if peer.name.startswith("ours"):
        return f'taskset -c 0 scai run -c FILE  # durability = "{peer.name.partition("-")[2]}"'
    if peer.name.startswith("orthanc"):
        sync = str(peer.name == "orthanc-sync").lower()
        return (
            f"taskset -c 0 TCP_NODELAY=1 /usr/sbin/Orthanc FILE  # SyncStorageArea {sync},"
            " StorageCompression false, StoreMD5ForAttachments false, DicomThreadsCount 8,"
            " HttpServerEnabled false"
        )
    launch = peer.launch(place)
    variables = [f"{name}={value}" for name, value in launch.environment.items()]
    words = [Path(word).name if word.startswith(str(ROOT)) else word for word in launch.command]
    return " ".join(["taskset -c 0", *variables, *words])
