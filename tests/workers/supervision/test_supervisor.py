"""The supervisor with real processes of a fake role: deaths, hangs, reloads, drains, takeovers."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.index.damage import INDEX_CUT
from engine.telemetry.counters import CounterSegment, open_counters, read_run_file
from engine.telemetry.metrics import Counter, Gauge
from tests.material.waiting import free_ports, within
from tests.rigs.gateway import ROOT, toml
from workers.supervision.machine import Activity, Liveness, Pulse, judge
from workers.supervision.status import ProcessStatus, Status, ask_status

pytestmark = pytest.mark.process


class Service:
    """One supervisor of fake roles on its own data directory."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.port, self.prefetch_port, self.stats_port = free_ports(3)
        self.file = directory / "scai.toml"
        self.log = directory / "log"
        self.data = directory / "data"
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {**os.environ}
        self.configure()

    def configure(self, **changes: object) -> None:
        settings: dict[str, object] = {
            "data_directory": str(self.data),
            "drain_timeout_s": 5,
            "storage_scp": {"port": self.port, "address": "127.0.0.1"},
            "prefetch_scp": {"port": self.prefetch_port, "address": "127.0.0.1"},
            "stats": {"port": self.stats_port, "enabled": False},
        }
        self.file.write_text(toml({**settings, **changes}))

    def spawn(self) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.rigs.fake_service", str(self.file)],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def start(self) -> "Service":
        self.process = self.spawn()
        self.until(lambda: (status := self.status()) is not None and status.state == "ready")
        return self

    def until(self, condition: object, seconds: float = 10.0) -> float:
        """How long it took."""
        start = time.monotonic()
        while not condition():  # type: ignore[operator]
            assert time.monotonic() - start < within(seconds), self.log.read_text()
            time.sleep(0.01)
        return time.monotonic() - start

    def status(self) -> Status | None:
        return ask_status(self.data)

    def worker(self, name: str = "storage_scp") -> ProcessStatus:
        status = self.status()
        assert status is not None
        return next(process for process in status.processes if process.name == name)

    def counters(self) -> CounterSegment:
        segment = open_counters(self.data)
        assert segment is not None
        return segment

    def connect(self, port: int = 0) -> tuple[socket.socket, int, str]:
        """(connection, the worker's pid, the AE title it has now)."""
        connection = socket.create_connection(("127.0.0.1", port or self.port), timeout=5)
        pid, title = connection.makefile().readline().split()
        return connection, int(pid), title

    def events(self, name: str) -> list[dict[str, object]]:
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [one for one in map(json.loads, lines) if one["event"] == name]

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        assert self.process is not None
        return self.process.wait(15)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            status = self.status()
            self.process.kill()
            self.process.wait()
            for process in status.processes if status else []:
                if process.pid:
                    _end(process.pid)


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    yield service
    service.close()


def test_starts_says_where_and_ends_with_nothing_left(service: Service) -> None:
    service.start()
    line = service.log.read_text()
    assert f"SCP_AE on port {service.port}" in line
    assert service.connect(service.prefetch_port)[2] == "PrefetchAP"
    run = read_run_file(service.data)
    assert run is not None
    assert service.process is not None
    assert run.pid == service.process.pid
    pids = [process.pid for process in service.status().processes]  # type: ignore[union-attr]
    assert len(pids) == 3
    assert service.stop() == 0
    assert read_run_file(service.data) is None
    assert service.status() is None
    assert open_counters(service.data) is None
    assert not any(_is_running(pid) for pid in pids)
    assert (service.data.stat().st_mode & 0o777) == 0o700


@pytest.mark.parametrize("word", ["die", "fault"])
def test_a_dead_worker_is_replaced_and_its_counts_go_on(service: Service, word: str) -> None:
    service.start()
    connection, first, _ = service.connect()
    block = service.counters().block(service.worker().counters_block)
    before = block.get(Counter.CONNECTIONS)
    start = time.monotonic()
    connection.sendall(word.encode())
    connection.recv(1)
    # Accepted by the kernel while nobody lives, answered by the replacement.
    _, second, _ = service.connect()
    assert time.monotonic() - start < within(1.0)
    assert second != first
    service.until(lambda: service.worker().restarts == 1)
    assert block.get(Counter.CONNECTIONS) == before + 1
    assert service.counters().head(service.worker().counters_block).restarts == 1
    assert service.worker("prefetch_scp").restarts == 0
    service.until(lambda: service.worker().state == "ready")
    assert service.worker().last_fault, "said on, though it works again"


def test_killed_again_and_again_it_is_back_at_once(service: Service) -> None:
    service.start()
    for _ in range(3):
        _, pid, _ = service.connect()
        start = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        while service.connect()[1] == pid:
            time.sleep(0.01)
        assert time.monotonic() - start < within(1.0)
        time.sleep(2.0)


@pytest.mark.parametrize("word", ["stop", "hang", "spin"])
def test_a_hung_worker_is_replaced_within_a_second(service: Service, word: str) -> None:
    service.start()
    taken = []
    # On a machine that is busy otherwise a process may not be given the time: three attempts.
    bound = within(1.0)
    while not taken or (min(taken) > bound and len(taken) < 3):
        connection, first, _ = service.connect()
        start = time.monotonic()
        if word == "stop":
            os.kill(first, signal.SIGSTOP)
        else:
            connection.sendall(word.encode())
        service.until(lambda first=first: service.worker().pid not in (0, first))
        service.until(lambda: service.worker().state == "ready")
        taken.append(time.monotonic() - start)
        assert service.connect()[1] != first
    assert min(taken) <= bound
    assert "no heartbeat" in str(service.events("worker_ended")[0]["text"])


def test_starved_is_not_hung() -> None:
    before = Activity("R", 10.0)
    assert judge(0.4, before, Activity("S", 10.0)) is Liveness.ALIVE
    assert judge(0.6, before, Activity("R", 10.1)) is Liveness.STARVED
    assert judge(0.6, before, Activity("R", 10.5)) is Liveness.HUNG
    assert judge(0.6, before, Activity("D", 10.0)) is Liveness.STARVED
    for state in "STt":
        assert judge(0.6, before, Activity(state, 10.0)) is Liveness.HUNG
    assert judge(10.1, before, Activity("R", 10.0)) is Liveness.HUNG


def test_silence_counts_from_the_last_change_of_state() -> None:
    pulse = Pulse()
    pulse.look(1, 0.05)
    for _ in range(18):
        pulse.look(1, 0.05)  # busy starting
    assert pulse.silent_s == pytest.approx(0.9)
    assert pulse.judge(Activity("S", 1.0)) is Liveness.HUNG
    pulse.renew()  # it said that it is ready
    assert pulse.judge(Activity("S", 1.0)) is Liveness.ALIVE
    for _ in range(11):
        pulse.look(1, 0.05)
    assert pulse.judge(Activity("S", 1.0)) is Liveness.HUNG, "it may not hang for that"
    pulse.look(2, 0.05)
    assert pulse.silent_s == 0.0


def test_one_that_cannot_start_is_tried_ever_more_slowly(service: Service) -> None:
    service.configure(prefetch_scp={"port": service.prefetch_port, "ae_title": "BROKEN"})
    service.process = service.spawn()
    service.until(lambda: len(service.events("worker_ended")) >= 3)
    delays = [event["replaced_in"] for event in service.events("worker_ended")][:3]
    assert delays == [0.25, 0.5, 1.0]
    broken = service.worker("prefetch_scp")
    assert "journal cannot be read" in broken.last_fault
    assert service.connect()[2] == "SCP_AE", "the other AE is not concerned"
    status = service.status()
    assert status is not None
    assert status.state == "starting"
    assert service.stop() == 0


def test_what_the_index_fells_is_told_and_blames_nothing_in_hand(service: Service) -> None:
    """LMDB crashed: it would again at once, and no instance or delivery was the death of it."""
    service.start()
    in_hand = service.data / "run" / "receiver.inhand"
    in_hand.write_bytes(b"a record")
    connection, *_ = service.connect()
    connection.sendall(b"index")
    connection.recv(1)
    service.until(lambda: service.events("worker_ended"))
    (ended,) = service.events("worker_ended")
    assert INDEX_CUT in ended["text"]
    assert ended["replaced_in"] == 0.25
    assert not in_hand.exists()
    assert service.counters().any_set(Gauge.INDEX_CUT)


def test_reload_changes_policy_without_a_restart(service: Service) -> None:
    service.start()
    connection, pid, _ = service.connect()
    service.configure(storage_scp={"port": service.port, "address": "127.0.0.1", "ae_title": "NEW"})
    service.signal(signal.SIGHUP)
    service.until(lambda: service.connect()[2] == "NEW")
    assert service.connect()[1] == pid
    connection.settimeout(0.2)
    with pytest.raises(TimeoutError):
        connection.recv(1)  # the old connection lives on


def test_reload_opens_and_closes_ports(service: Service) -> None:
    service.start()
    old, pid, _ = service.connect(service.prefetch_port)
    kept = service.connect()[1]
    (new_port,) = free_ports(1)
    service.configure(prefetch_scp={"port": new_port, "address": "127.0.0.1"})
    service.signal(signal.SIGHUP)
    service.until(lambda: service.events("reloaded"))
    old.close()
    connection, replaced, _ = service.connect(new_port)
    assert replaced != pid
    with pytest.raises(ConnectionRefusedError):
        service.connect(service.prefetch_port)
    connection.close()
    service.configure(prefetch_scp={"enabled": False})
    service.signal(signal.SIGHUP)
    service.until(lambda: len(service.status().processes) == 2)  # type: ignore[union-attr]
    assert service.connect()[1] == kept, "the AE that did not change was not touched"


def test_a_reload_is_whole_or_not_at_all(service: Service) -> None:
    service.start()
    (taken,) = free_ports(1)
    for changes in (
        {"storage_scp": {"port": service.port, "ae_title": "NEW"}, "nonsense": 1},
        {"storage_scp": {"port": service.port, "ae_title": "NEW"}, "data_directory": "/elsewhere"},
        {"storage_scp": {"port": taken, "ae_title": "NEW", "address": "127.0.0.1"}},
        {"storage_scp": {"port": service.port, "ae_title": "NEW", "core": 4095}},
    ):
        count = len(service.events("reload_refused"))
        with socket.create_server(("127.0.0.1", taken)):
            service.configure(**changes)
            service.signal(signal.SIGHUP)
            service.until(lambda count=count: len(service.events("reload_refused")) > count)
        assert service.connect()[2] == "SCP_AE"
    assert not service.events("reloaded")
    assert service.worker().restarts == 0


def test_drain_lets_associations_finish(service: Service) -> None:
    service.start()
    connection, pid, _ = service.connect()
    service.signal(signal.SIGTERM)
    service.until(lambda: service.worker().state == "draining")
    time.sleep(0.3)
    assert service.process is not None
    assert service.process.poll() is None
    assert _is_running(pid)
    connection.close()
    assert service.process.wait(5) == 0


def test_a_late_client_is_refused_while_associations_finish(
    service: Service, tmp_path: Path
) -> None:
    service.start()
    connection, _, _ = service.connect()
    service.signal(signal.SIGTERM)
    service.until(lambda: service.worker().state == "draining")
    for port in (service.port, service.prefetch_port):
        service.until(lambda port=port: _is_refused(port))
    # Nothing is left of the ports: another service may take them while this one still drains.
    other = Service(tmp_path / "other")
    other.port, other.prefetch_port = service.port, service.prefetch_port
    other.configure()
    try:
        other.start()
        assert other.connect()[2] == "SCP_AE"
        assert service.process is not None
        assert service.process.poll() is None
        connection.close()
        assert service.process.wait(5) == 0
        assert other.connect()[2] == "SCP_AE"
        assert other.stop() == 0
    finally:
        other.close()


def test_drain_is_bounded_and_a_second_signal_ends_at_once(service: Service) -> None:
    service.configure(drain_timeout_s=60)
    service.start()
    _, pid, _ = service.connect()
    service.signal(signal.SIGTERM)
    service.until(lambda: service.worker().state == "draining")
    start = time.monotonic()
    service.signal(signal.SIGTERM)
    assert service.process is not None
    assert service.process.wait(5) == 0
    assert time.monotonic() - start < within(2.5)
    assert not _is_running(pid)


def test_the_drain_time_is_kept(service: Service) -> None:
    service.configure(drain_timeout_s=1)
    service.start()
    _connection = service.connect()
    start = time.monotonic()
    assert service.stop() == 0
    assert 0.9 < time.monotonic() - start < within(4)


def test_a_second_supervisor_on_the_same_data_is_refused(service: Service) -> None:
    service.start()
    second = service.spawn()
    assert second.wait(10) == 2
    assert "already runs on this data" in service.log.read_text()
    assert service.connect()[2] == "SCP_AE"


def test_a_taken_port_is_a_message(service: Service) -> None:
    with socket.create_server(("127.0.0.1", service.port)):
        assert service.spawn().wait(10) == 2
    assert "in use by another program" in service.log.read_text()


def test_a_killed_supervisor_leaves_nobody_and_its_successor_starts_at_once(
    service: Service,
) -> None:
    service.start()
    _connection, pid, _ = service.connect()
    assert service.process is not None
    service.process.kill()
    service.process.wait()
    service.start()
    assert service.connect()[1] != pid
    service.until(lambda: not _is_running(pid), 4.0)
    assert service.stop() == 0


def test_a_hung_worker_of_a_killed_supervisor_is_got_rid_of(service: Service) -> None:
    service.start()
    pid = service.worker().pid
    assert service.process is not None
    os.kill(pid, signal.SIGSTOP)
    service.process.kill()
    service.process.wait()
    service.start()
    assert not _is_running(pid)
    assert service.connect()[1] != pid
    assert service.stop() == 0


def test_a_worker_has_only_the_descriptors_of_its_spec(service: Service) -> None:
    service.start()
    targets = [os.readlink(entry) for entry in Path(f"/proc/{service.worker().pid}/fd").iterdir()]
    sockets = [target for target in targets if target.startswith("socket:")]
    # The letterbox, the listener, and a pair by which the loop wakes itself for signals.
    assert len(sockets) <= 4
    segments = {target for target in targets if target.startswith("/memfd:")}
    assert segments == {
        "/memfd:scai-counters (deleted)",
        "/memfd:scai-ring-storage_scp (deleted)",
    }
    assert not any("lock" in target for target in targets)


def test_the_service_manager_is_told(service: Service, tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(10)
        service.environment |= {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "600000"}
        service.start()
        words = []
        while "WATCHDOG=1" not in words or not any("READY=1" in word for word in words):
            words.append(manager.recv(4096).decode())
        service.signal(signal.SIGHUP)
        while not manager.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC="):
            pass
        while not manager.recv(4096).startswith(b"READY=1"):
            pass
        service.signal(signal.SIGTERM)
        while not manager.recv(4096).startswith(b"STOPPING=1"):
            pass
    assert service.process is not None
    assert service.process.wait(10) == 0
