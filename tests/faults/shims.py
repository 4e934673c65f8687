"""The C shims' other half: builds them, arms them, and takes the disk out after a power cut."""

import ctypes
import errno
import functools
import mmap
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
_BUILT = tempfile.TemporaryDirectory(prefix="shims-")

OPEN, WRITE, SYNC, RENAME, TRUNCATE, UNLINK, ALLOCATE, MKDIR = (1 << bit for bit in range(8))
EVERYTHING = 0xFF


def compiler() -> str | None:
    """The C compiler, or None: tests that need a shim are skipped without one."""
    return shutil.which("gcc") or shutil.which("cc") or shutil.which("clang-14")


@functools.cache
def library(name: str) -> Path:
    """tests/faults/<name>.c as a shared library."""
    target = Path(_BUILT.name) / f"{name}.so"
    compile_with = compiler()
    assert compile_with is not None
    subprocess.run(
        [
            compile_with, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared",
            "-fvisibility=hidden", "-o", str(target), str(HERE / f"{name}.c"), "-ldl", "-lpthread",
        ],
        check=True,
    )  # fmt: skip
    return target


class FailNth:
    """The control block of fail_nth.c: which operation under `prefix` fails, and how."""

    _LAYOUT = struct.Struct("<QQQIIiI480s")

    def __init__(self, directory: Path, prefix: Path, fresh: bool = True) -> None:
        """`fresh` false: the block of whoever started us under the shim."""
        path = directory / "fail-control"
        if fresh:
            path.write_bytes(bytes(self._LAYOUT.size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), self._LAYOUT.size)
        self.environment = {
            "LD_PRELOAD": str(library("fail_nth")),
            "FAIL_CONTROL": str(path),
            "FAIL_PREFIX": str(prefix),
        }

    def arm(
        self,
        number: int,
        code: int = errno.EIO,
        persistent: bool = False,
        kinds: int = EVERYTHING,
    ) -> None:
        """The `number`-th operation from now fails with `code` (0: a write stops half-way)."""
        self.heal()
        head = struct.pack("<QQQ", 0, 0, number)
        self._memory[0:24] = head
        self._memory[28:40] = struct.pack("<IiI", persistent, code, kinds)
        self._memory[40:] = bytes(self._LAYOUT.size - 40)
        self._memory[24:28] = struct.pack("<I", 1)

    def heal(self) -> None:
        """Nothing fails any more."""
        self._memory[24:28] = struct.pack("<I", 0)

    @property
    def seen(self) -> int:
        """Operations since it was armed."""
        return int(struct.unpack_from("<Q", self._memory)[0])

    @property
    def hits(self) -> int:
        """How many failed."""
        return int(struct.unpack_from("<Q", self._memory, 8)[0])

    @property
    def where(self) -> str:
        """The first that failed."""
        return self._memory[40:].split(b"\0")[0].decode(errors="replace")


class WallClock:
    """What wall_clock.c tells the processes that are started with its environment."""

    def __init__(self, directory: Path) -> None:
        path = directory / "wall-clock"
        path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8)
        self.environment = {"LD_PRELOAD": str(library("wall_clock")), "WALL_CLOCK": str(path)}

    def set(self, off_s: float) -> None:
        """From now on it is so far from the true time."""
        self._memory[:] = struct.pack("<q", int(off_s * 1_000_000_000))


class PowerCut:
    """The shadow kept by power_cut.c of the directory `live`."""

    _FAILING = struct.Struct("<QQQQ")

    def __init__(self, directory: Path, live: Path, ext4: bool = False) -> None:
        self.live = live
        self.shadow = directory / "shadow"
        for kind in ("content", "changed", "dropped", "entries"):
            (self.shadow / kind).mkdir(parents=True)
        control = self.shadow / "failing"
        control.write_bytes(bytes(self._FAILING.size))
        with control.open("r+b") as file:
            self._failing = mmap.mmap(file.fileno(), self._FAILING.size)
        live.mkdir(parents=True, exist_ok=True)
        self.environment = {
            "LD_PRELOAD": str(library("power_cut")),
            "POWER_CUT_LIVE": str(live),
            "POWER_CUT_SHADOW": str(self.shadow),
            "POWER_CUT_FAIL": str(control),
        }
        if ext4:
            self.environment["POWER_CUT_EXT4"] = "1"
        self._library = ctypes.CDLL(str(library("power_cut")))
        # Whatever is there already has long been on the disk.
        subprocess.run(["/bin/sync"], env={**os.environ, **self.environment}, check=True)

    def fail_sync(self, number: int, every: int = 0) -> None:
        """The `number`-th sync from now fails, drops what it was for, and says so once; with
        `every` each so many after it as well. 0: none fails any more."""
        self._failing[:] = self._FAILING.pack(0, 0, number, every)

    def heal(self) -> None:
        """None fails any more. What was dropped stays so until it is written again."""
        self._failing[16:] = bytes(16)

    def run(self, script: str, *arguments: str) -> str:
        """Run a script in a process of its own under the shim; what it prints."""
        root = str(HERE.parent.parent)
        done = subprocess.run(
            [sys.executable, "-c", script, str(self.live), *arguments],
            env={**os.environ, **self.environment, "PYTHONPATH": root},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout

    @property
    def failed_syncs(self) -> int:
        """How many failed since."""
        return int(self._FAILING.unpack(self._failing[:])[1])

    @property
    def syncs(self) -> int:
        """How many there were since."""
        return int(self._FAILING.unpack(self._failing[:])[0])

    def identity(self, path: Path) -> str:
        """How the shadow calls a file."""
        name = ctypes.create_string_buffer(64)
        self._library.power_cut_identity(str(path).encode(), name)
        return name.value.decode()

    def disk(
        self, target: Path, live_names: bool = False, torn: random.Random | None = None
    ) -> Path:
        """What is on the disk when power is back, laid out under `target`.

        Only what was made durable is there for certain. With `live_names` every name the kernel
        knew had reached the disk as well; with `torn` any page of what was written but not synced
        may have.
        """
        living = {self.identity(path): path for path in self.live.rglob("*") if path.is_file()}
        if live_names:
            self._take_live(self.live, target, torn)
        else:
            self._take_durable(self.identity(self.live), target, living, torn)
        return target

    def _take_durable(
        self, identity: str, target: Path, living: dict[str, Path], torn: random.Random | None
    ) -> None:
        target.mkdir(mode=0o700)
        names = self.shadow / "entries" / identity
        for row in names.read_bytes().split(b"\0") if names.exists() else []:
            if not row:
                continue
            kind, child, name = row.decode().split(" ", 2)
            if kind == "d":
                self._take_durable(child, target / name, living, torn)
            else:
                self._take_file(child, target / name, living.get(child), torn)

    def _take_live(self, source: Path, target: Path, torn: random.Random | None) -> None:
        target.mkdir(mode=0o700)
        for path in source.iterdir():
            if path.is_dir():
                self._take_live(path, target / path.name, torn)
            elif path.is_file():
                self._take_file(self.identity(path), target / path.name, path, torn)

    def _take_file(
        self, identity: str, target: Path, living: Path | None, torn: random.Random | None
    ) -> None:
        durable = self.shadow / "content" / identity
        if durable.exists():
            subprocess.run(["/bin/cp", "--sparse=always", str(durable), str(target)], check=True)
        else:
            target.touch()  # its name is durable, its bytes never were
        target.chmod(0o600)
        if torn is not None and living is not None:
            _tear(target, living, torn)


def fail_own_sync(number: int, every: int = 0) -> None:
    """In a process that runs under the shim: as `PowerCut.fail_sync()`, from now on."""
    with Path(os.environ["POWER_CUT_FAIL"]).open("r+b") as control:
        control.write(struct.pack("<QQQQ", 0, 0, number, every))


def _tear(target: Path, living: Path, choose: random.Random, page: int = 4096) -> None:
    """Let some of the pages that were written but not synced have reached the disk."""
    if choose.random() < 0.5:
        os.truncate(target, living.stat().st_size)
    with target.open("r+b") as disk, living.open("rb") as cache:
        end = os.fstat(disk.fileno()).st_size
        block = 256 * page
        for start in range(0, end, block):
            old, new = disk.read(block), cache.read(block)
            if old == new:
                continue
            for at in range(0, len(old), page):
                now = new[at : at + page]
                if old[at : at + page] != now and choose.random() < 0.5:
                    disk.seek(start + at)
                    disk.write(now[: end - start - at])
            disk.seek(start + block)
