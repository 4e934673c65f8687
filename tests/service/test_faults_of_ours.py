"""A fault of ours in a callback of the event loop ends the process, which is replaced; nobody waits
for ever, and no log shows the values that the fault had in hand."""

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.planted import PATIENT, planted, strike, struck
from tests.material import wire
from tests.material.waiting import eventually, within
from tests.rigs.secured import SecuredGateway

pytestmark = pytest.mark.process

SETTINGS = {
    "application_timeout_s": 1,
    "confine": False,  # the planted fault renames a file of the test
    "remotes": [{"name": "there", "ae_title": "THERE", "host": "127.0.0.1", "port": 9}],
}
PENDING = 'scai_connections_pending{ae="SCP_AE",process="storage_scp"}'
# An archive that nobody asks, so that there is a retriever.
PREFETCHING = """
[[prefetch]]
name = "priors"
archive = "there"
when = { Modality = "CT" }
"""
Make = Callable[..., SecuredGateway]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made = []

    def make(module: str, method: str, more: str = "") -> SecuredGateway:
        gateway = SecuredGateway(tmp_path / "gateway", SETTINGS)
        gateway.config_file.write_text(gateway.config_file.read_text() + more)
        gateway.environment |= planted(tmp_path, module, method)
        made.append(gateway)
        gateway.start()
        return gateway

    yield make
    for gateway in made:
        gateway.close()


def ends_and_is_replaced(gateway: SecuredGateway, name: str) -> None:
    def ended() -> bool:
        return any(
            (line["worker"], line["status"]) == (name, "exit code 4")
            for line in gateway.events("worker_ended")
        )

    eventually(ended, 10, gateway.log_tail())
    faults = [line for line in gateway.events("worker_fault") if line["process"] == name]
    assert [(line["kind"], "planted.py" in str(line["trace"])) for line in faults] == [
        ("RuntimeError", True)
    ]
    assert PATIENT not in gateway.log_file.read_text()
    eventually(gateway.ready, 20)


def hears_the_end(peer: socket.socket) -> bool:
    """Whether the connection of a peer ends rather than being left to wait."""
    peer.settimeout(within(10))
    try:
        return peer.recv(100) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    ("module", "method"),
    [
        ("workers.receiver.receiver", "Receiver._accept"),
        ("workers.receiver.connection", "Connection.take_received"),
        ("workers.receiver.connection", "Connection._timer_fired"),
        ("workers.receiver.receiver", "Receiver._refresh_admission"),
    ],
)
def test_a_receiver(make: Make, tmp_path: Path, module: str, method: str) -> None:
    gateway = make(module, method)
    with socket.create_connection(gateway.address) as peer:
        eventually(lambda: gateway.metrics()[PENDING])
        strike(tmp_path, "storage_scp")
        if method == "Receiver._accept":
            with socket.create_connection(gateway.address):
                eventually(lambda: struck(tmp_path))
        elif method == "Connection.take_received":
            peer.sendall(wire.pdu(wire.RELEASE_RQ, b"\0" * 4))
        assert hears_the_end(peer)
    ends_and_is_replaced(gateway, "storage_scp")


def test_a_handshake(make: Make, tmp_path: Path) -> None:
    gateway = make("workers.receiver.secured_listener", "Handshake.proceed")
    strike(tmp_path)
    with socket.create_connection(gateway.secured_address) as peer:
        peer.sendall(b"\x16")
        assert hears_the_end(peer)
    ends_and_is_replaced(gateway, "secured_scp")


@pytest.mark.parametrize("name", ["indexer", "sender", "stats", "prefetch_scp"])
def test_every_other_process(make: Make, tmp_path: Path, name: str) -> None:
    gateway = make("workers.frame.child", "Child._beat")
    strike(tmp_path, name)
    ends_and_is_replaced(gateway, name)


@pytest.mark.parametrize(
    ("module", "method"),
    [
        ("workers.frame.child", "Child._beat"),
        ("workers.retriever.retriever", "Retriever._watch"),
        ("workers.retriever.retriever", "Retriever._turn_now"),
    ],
)
def test_the_retriever(make: Make, tmp_path: Path, module: str, method: str) -> None:
    """In a callback, in the task beside its work, and in the thread that works jobs off."""
    if method.endswith("_watch"):
        strike(tmp_path)  # it is called once, at the beginning
    gateway = make(module, method, PREFETCHING)
    if not method.endswith("_watch"):
        strike(tmp_path, "retriever" if method.endswith("_beat") else "")
    ends_and_is_replaced(gateway, "retriever")


def test_a_lane_of_the_sender(make: Make, tmp_path: Path) -> None:
    """Also while its loop only waits: the fault is heard of at once."""
    gateway = make("engine.sending.schedule", "Schedule.take")
    strike(tmp_path)
    ends_and_is_replaced(gateway, "sender")


def test_the_supervisor(make: Make, tmp_path: Path) -> None:
    gateway = make("workers.supervision.supervisor", "Supervisor._note_reload")
    process = gateway.process
    assert process is not None
    strike(tmp_path)
    process.send_signal(signal.SIGHUP)
    assert process.wait(within(20)) == 4
    (fault,) = gateway.events("supervisor_fault")
    assert fault["kind"] == "RuntimeError"
    assert PATIENT not in gateway.log_file.read_text()
