"""The real service under test: started as a user starts it, asked as a user asks, killed at will.

`Gateway` owns one data directory and may be started, stopped and killed any number of times.
Everything it starts ends with it.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from engine.index.environment import open_index_reader
from engine.outbox.records import Delivery, State
from engine.outbox.view import OutboxView
from tests.material.waiting import eventually, free_ports, within

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = [sys.executable, "-m", "tools.cli"]
INDEX_WAIT_S = 20.0
Settings = Mapping[str, Mapping[str, Any] | Any]


def toml(settings: Settings) -> str:
    """Settings as TOML: single values, tables, and lists of tables such as `remotes`."""
    lines, tables = [], []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            tables += [f"[{key}]", *(f"{name} = {literal(it)}" for name, it in value.items())]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for entry in value:
                tables += [f"[[{key}]]", *(f"{name} = {literal(it)}" for name, it in entry.items())]
        else:
            lines.append(f"{key} = {literal(value)}")
    return "\n".join(lines + tables) + "\n"


def literal(value: Any) -> str:
    """A value in TOML: JSON's, but for tables and the lists they stand in."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {literal(it)}' for key, it in value.items())} }}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(literal(it) for it in value)}]"
    return json.dumps(value)


class Gateway:
    """One service on its own directory and ports."""

    def __init__(
        self,
        directory: Path,
        settings: Settings | None = None,
        environment: Mapping[str, str] | None = None,
        data_directory: Path | None = None,
        ids: tuple[int, int] | None = None,
        interpreter: str = sys.executable,
    ) -> None:
        """`ids`: user and group that the service runs as, and that its data are given to;
        `interpreter`: one that they may run."""
        self.ids, self.interpreter = ids, interpreter
        self.directory = directory
        self.data = data_directory or directory / "data"
        self.log_file = directory / "service.log"
        self.config_file = directory / "scai.toml"
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        self.port, self.prefetch_port, self.stats_port = free_ports(3)
        self.process: subprocess.Popen[bytes] | None = None
        self.settings = self._merged(settings or {})
        directory.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(toml(self.settings))
        if ids is not None:
            self.data.mkdir(mode=0o700)
            os.chown(self.data, *ids)

    def _merged(self, settings: Settings) -> dict[str, Any]:
        merged: dict[str, Any] = {
            # A preloaded shim has files of its own, which a confined worker could not open.
            "confine": "LD_PRELOAD" not in self.environment,
            "data_directory": str(self.data),
            "reserve_mib": 16,
            "storage_scp": {"port": self.port, "address": "127.0.0.1"},
            "prefetch_scp": {"port": self.prefetch_port, "address": "127.0.0.1"},
            "stats": {"port": self.stats_port},
        }
        for key, value in settings.items():
            if isinstance(value, Mapping):
                merged[key] = {**merged.get(key, {}), **value}
            else:
                merged[key] = value
        return merged

    @property
    def address(self) -> tuple[str, int]:
        """Where SCP_AE listens."""
        return ("127.0.0.1", self.port)

    @property
    def prefetch_address(self) -> tuple[str, int]:
        """Where PrefetchAP listens."""
        return ("127.0.0.1", self.prefetch_port)

    def start(self, wait_s: float = 30.0) -> "Gateway":
        """Start the service and wait until it says it is ready."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [self.interpreter, *COMMAND[1:], "run", "-c", str(self.config_file)],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as_whom(),
            )
        self.wait_ready(wait_s)
        return self

    def _as_whom(self) -> dict[str, Any]:
        if self.ids is None:
            return {}
        user, group = self.ids
        return {"user": user, "group": group, "extra_groups": []}

    def ready(self) -> bool:
        """What /readyz says now."""
        url = f"http://127.0.0.1:{self.stats_port}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def metrics(self) -> dict[str, float]:
        """The samples of /metrics by their full name with labels."""
        url = f"http://127.0.0.1:{self.stats_port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if line and not line.startswith("#")]
        return {name: float(value) for name, value in pairs}

    def wait_ready(self, wait_s: float = 30.0) -> None:
        """Until /readyz is 200."""
        assert self.process is not None
        deadline = time.monotonic() + wait_s
        while not self.ready():
            code = self.process.poll()
            if code is not None:
                raise AssertionError(f"the service ended with {code}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not ready after {wait_s} s:\n{self.log_tail()}")
            time.sleep(0.05)

    def stop(self, wait_s: float = 45.0) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(wait_s)
        self.process = None
        return code

    def kill_everything(self) -> None:
        """SIGKILL to the supervisor and all it started, as nearly at once as can be."""
        assert self.process is not None
        group = self.process.pid
        for _ in range(50):  # until the group is empty: a member may just be starting another
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                break
            if self.process.poll() is not None and not group_members(group):
                break
            time.sleep(0.01)
        self.process.wait(10)
        self.process = None

    def kill_supervisor(self) -> None:
        """SIGKILL to the supervisor alone; its children are left to themselves."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        self.process = None

    def close(self) -> None:
        """Whatever still runs ends now."""
        if self.process is not None:
            self.kill_everything()

    def command(self, *arguments: str, wait_s: float = 60) -> subprocess.CompletedProcess[str]:
        """A `scai` command on this service's configuration."""
        name, *rest = arguments
        return subprocess.run(
            [*COMMAND, name, "-c", str(self.config_file), *rest],
            cwd=ROOT,
            env={**self.environment, "LD_PRELOAD": ""},
            capture_output=True,
            text=True,
            timeout=wait_s,
            check=False,
        )

    def status(self) -> dict[str, Any]:
        """`scai status --json`."""
        answer = self.command("status", "--json")
        assert answer.returncode == 0, f"{answer.stdout}\n{answer.stderr}"
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    def processes(self) -> dict[str, int]:
        """Name -> pid of every worker, asked on the control socket: quicker than the command."""
        directory = os.open(self.data / "run", os.O_RDONLY)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                # Through the descriptor: a test's directory may be too long for a socket's name.
                connection.connect(f"/proc/self/fd/{directory}/control.sock")
                connection.sendall(b'{"command":"status"}\n')
                answer = json.loads(connection.makefile("rb").readline())
        finally:
            os.close(directory)
        return {entry["name"]: entry["pid"] for entry in answer["processes"]}

    def pid(self, name: str) -> int:
        """A worker's pid, as soon as there is one."""
        pid: int = eventually(lambda: self.processes()[name], 10, f"{name} runs")
        return pid

    def find(self, *arguments: str) -> dict[str, dict[str, Any]]:
        """`scai find --level image --format json`, by SOP instance UID. On a slow machine it may
        say that the index is behind: then it is asked again."""
        deadline = time.monotonic() + within(INDEX_WAIT_S)
        while True:
            answer = self.command("find", "--level", "image", "--format", "json", *arguments)
            assert answer.returncode in (0, 1), f"{answer.stdout}\n{answer.stderr}"
            if "the index is behind" not in answer.stderr or time.monotonic() > deadline:
                break
        rows = [json.loads(line) for line in answer.stdout.splitlines() if line.strip()]
        return {row["sop_instance_uid"]: row for row in rows}

    def deliveries(self) -> list[Delivery]:
        """Everything in the outbox, read beside the service as `scai queue` does."""
        with closing(open_index_reader(self.data)) as reader, reader.view() as view:
            return [*OutboxView.within(view).deliveries(limit=1_000_000)]

    def delivery_counts(self) -> dict[tuple[str, State], int]:
        """How many deliveries to each destination are in each state."""
        with closing(open_index_reader(self.data)) as reader, reader.view() as view:
            return OutboxView.within(view).counts()

    def wait_settled(self, wait_s: float, count: int = 0) -> list[Delivery]:
        """All deliveries, once there are so many and nothing more will happen by itself."""
        moving = {State.WAITING, State.SENDING, State.RETRYING}
        begun = time.monotonic()
        while True:
            counts = self.delivery_counts()
            if sum(counts.values()) >= count and not moving & {state for _, state in counts}:
                return self.deliveries()
            late = time.monotonic() - begun > within(wait_s)
            assert not late, f"not settled: {counts}\n{self.log_tail(10)}"
            time.sleep(0.05)

    def stored_file(self, row: Mapping[str, Any]) -> Path:
        """The file of a row that find() gave."""
        return self.data / "store" / row["path"]

    def log(self) -> list[dict[str, Any]]:
        """Every JSON line logged so far."""
        found = []
        for line in self.log_file.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                try:
                    found.append(json.loads(line))
                except json.JSONDecodeError:
                    continue  # the line being written at this moment
        return found

    def log_tail(self, lines: int = 30) -> str:
        """The end of the log, for a failure's message."""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])


def under_way(incoming: Path) -> list[Path]:
    """Files of instances that arrive now or were left over; those made ahead of them are empty."""
    found = []
    for path in sorted(incoming.rglob("*")):
        with suppress(FileNotFoundError):  # placed, or cleared away, while it was looked at
            if path.is_file() and path.stat().st_size > 0:
                found.append(path)
    return found


def group_members(group: int) -> list[int]:
    """Living processes of a process group, zombies left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[2]) == group and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


def resident_kib(pid: int, kind: str = "RssAnon") -> int:
    """One of the Rss lines of /proc/<pid>/status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(kind + ":"):
            return int(line.split()[1])
    raise AssertionError(f"no {kind} for {pid}")


def assert_memory_settles(
    pid: int, burst: Callable[[], object], rounds: int, back: int, slack_kib: int
) -> None:
    """After one of the bursts a process has hardly more than so many bursts `back`.

    The collector of cyclic garbage and the allocator's arenas move the level up and down, and a
    burst may lift it for good. What leaks lifts it each time.
    """
    levels: list[int] = []
    for _ in range(rounds):
        burst()
        levels.append(resident_kib(pid))
        if len(levels) > back and levels[-1] < levels[-1 - back] + slack_kib:
            return
    raise AssertionError(f"memory grows: {levels} KiB")
