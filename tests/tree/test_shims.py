"""The fault shims themselves: what they promise must hold before their verdicts count."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import shims

pytestmark = pytest.mark.skipif(shims.compiler() is None, reason="no C compiler")


def run(environment: dict[str, str], program: str, *arguments: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return answer.stdout.strip()


ATTEMPTS = """
import os, sys
directory = sys.argv[1]
outcomes = []
def attempt(name, call):
    try:
        outcomes.append(f"{name}={call()}")
    except OSError as error:
        outcomes.append(f"{name}!{error.errno}")
fd = os.open(directory + "/a", os.O_RDWR | os.O_CREAT)
attempt("write", lambda: os.write(fd, b"x" * 100))
attempt("pwrite", lambda: os.pwrite(fd, b"x" * 100, 0))
attempt("sync", lambda: os.fdatasync(fd))
attempt("rename", lambda: os.rename(directory + "/a", directory + "/b"))
attempt("outside", lambda: os.write(os.open("/dev/null", os.O_WRONLY), b"x"))
print(" ".join(outcomes))
"""


@pytest.mark.parametrize(
    ("number", "persistent", "code", "expected"),
    [
        (2, False, 28, "write!28 pwrite=100 sync=None rename=None outside=1"),
        (2, False, 0, "write=50 pwrite=100 sync=None rename=None outside=1"),
        (3, True, 5, "write=100 pwrite!5 sync!5 rename!5 outside=1"),
        (4, False, 5, "write=100 pwrite=100 sync!5 rename=None outside=1"),
        (9, False, 5, "write=100 pwrite=100 sync=None rename=None outside=1"),
    ],
)
def test_the_nth_operation_fails(
    tmp_path: Path, number: int, persistent: bool, code: int, expected: str
) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    fail = shims.FailNth(tmp_path, directory)
    fail.arm(number, code, persistent)
    assert run(fail.environment, ATTEMPTS, str(directory)) == expected
    assert fail.seen == 5
    assert fail.hits == (3 if persistent else int(number < 9))


FILES = """
import os, sys
live = sys.argv[1]
def put(name, data, sync):
    fd = os.open(live + "/" + name, os.O_RDWR | os.O_CREAT)
    os.write(fd, data)
    if sync:
        os.fdatasync(fd)
    return fd
def sync_directory(name):
    os.fsync(os.open(live + name, os.O_RDONLY))
os.mkdir(live + "/sub")
put("sub/both", b"both", True)
put("sub/name-only", b"lost", False)
sync_directory("/sub")
sync_directory("")
put("sub/bytes-only", b"bytes", True)
big = put("big", b"1" * (3 << 20), True)
sync_directory("")
os.pwrite(big, b"2" * 8192, 2 << 20)
os.fdatasync(big)
os.pwrite(big, b"3" * 8192, 1 << 20)
put("renamed", b"renamed", True)
sync_directory("")
os.rename(live + "/renamed", live + "/sub/renamed")
synchronous = os.open(live + "/synchronous", os.O_RDWR | os.O_CREAT | os.O_DSYNC)
os.write(synchronous, b"at once")
"""


def seen(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


BIG = b"1" * (2 << 20) + b"2" * 8192 + b"1" * ((1 << 20) - 8192)


def test_only_what_was_synced_survives(tmp_path: Path) -> None:
    live = tmp_path / "live"
    cut = shims.PowerCut(tmp_path, live)
    run(cut.environment, FILES, str(live))
    assert seen(cut.disk(tmp_path / "disk")) == {
        "sub/both": b"both",
        "sub/name-only": b"",
        "big": BIG,
        "renamed": b"renamed",
    }


def test_names_may_outrun_bytes(tmp_path: Path) -> None:
    live = tmp_path / "live"
    cut = shims.PowerCut(tmp_path, live)
    run(cut.environment, FILES, str(live))
    assert seen(cut.disk(tmp_path / "disk", live_names=True)) == {
        "sub/both": b"both",
        "sub/name-only": b"",
        "sub/bytes-only": b"bytes",
        "sub/renamed": b"renamed",
        "big": BIG,
        "synchronous": b"at once",
    }


def test_unsynced_pages_may_or_may_not_be_there(tmp_path: Path) -> None:
    live = tmp_path / "live"
    cut = shims.PowerCut(tmp_path, live)
    run(cut.environment, FILES, str(live))
    outcomes = set()
    for seed in range(12):
        torn = seen(cut.disk(tmp_path / f"disk-{seed}", torn=random.Random(seed)))
        assert torn["sub/both"] == b"both"
        assert torn["sub/name-only"] in (b"", b"lost", bytes(4))
        big = torn["big"]
        assert len(big) == 3 << 20
        pages = (big[(1 << 20) : (1 << 20) + 4096], big[(1 << 20) + 4096 : (1 << 20) + 8192])
        assert all(page in (b"1" * 4096, b"3" * 4096) for page in pages)
        outcomes.add((torn["sub/name-only"], *pages))
    assert len(outcomes) > 3


def test_ext4_makes_a_synced_files_name_durable(tmp_path: Path) -> None:
    live = tmp_path / "live"
    cut = shims.PowerCut(tmp_path, live, ext4=True)
    run(cut.environment, FILES, str(live))
    found = seen(cut.disk(tmp_path / "disk"))
    assert found["sub/bytes-only"] == b"bytes"


def test_a_whole_file_system_sync_keeps_everything(tmp_path: Path) -> None:
    live = tmp_path / "live"
    cut = shims.PowerCut(tmp_path, live)
    run(cut.environment, FILES + "\nos.sync()\n", str(live))
    assert seen(cut.disk(tmp_path / "disk")) == seen(live)


def test_what_was_there_before_is_on_the_disk(tmp_path: Path) -> None:
    """A second life: large and small files of the first are whole, new bytes in them are not."""
    live = tmp_path / "live"
    (live / "sub").mkdir(parents=True)
    content = random.Random(1).randbytes(3 << 20)
    (live / "sub" / "large").write_bytes(content)
    (live / "small").write_bytes(b"small")
    cut = shims.PowerCut(tmp_path, live)
    program = "import os, sys; fd = os.open(sys.argv[1], os.O_RDWR); os.pwrite(fd, b'new', 2 << 20)"
    run(cut.environment, program, str(live / "sub" / "large"))
    assert seen(cut.disk(tmp_path / "disk")) == {"sub/large": content, "small": b"small"}
