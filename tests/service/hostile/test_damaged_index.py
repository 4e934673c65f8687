"""Whatever is in the pages of an index, a command ends with an exit code and says what helps.

The long run is `python -m tests.service.hostile index`.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from engine.index import records, rows
from engine.index.damage import INDEX_CUT, IndexDamagedError
from engine.index.environment import Environment, create_environment
from tests.rigs.damaged_index import PAGE, DamagedIndex
from tests.rigs.gateway import ROOT

# Found by the long run: a page says of another that it lies behind the map's end, a bus error.
_FOUND = (129, 157)
_GATE = range(12)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> DamagedIndex:
    return DamagedIndex(tmp_path_factory.mktemp("index"))


@pytest.mark.parametrize("number", [*_FOUND, *_GATE])
def test_no_command_falls(index: DamagedIndex, number: int) -> None:
    assert list(index.faults(number)) == []


def test_a_whole_index_is_no_damage(index: DamagedIndex) -> None:
    """So that the commands above do something."""
    index.lay(index.whole)
    for words in (("find", "--format", "json"), ("queue", "--json"), ("prefetch", "--json")):
        outcome = index.run(*words)
        assert (outcome.code, outcome.error) == (0, ""), words


def _without_root(content: bytearray) -> None:
    """The root of all tables, wherever it lies, is a leaf that has nothing on it."""
    for at in range(2 * PAGE, len(content), PAGE):
        if b"delivery_queue" in content[at : at + PAGE]:
            content[at + 12 : at + 14] = (16).to_bytes(2, "little")  # its first node's place


def _backwards(content: bytearray) -> None:
    """The places of the nodes of each leaf that holds instances, in the other order."""
    for at in range(2 * PAGE, len(content), PAGE):
        flags, lower = content[at + 10], int.from_bytes(content[at + 12 : at + 14], "little")
        if flags == 2 and b"1.2.840.10008.1.2" in content[at : at + PAGE]:
            places = [content[at + n : at + n + 2] for n in range(16, lower, 2)]
            content[at + 16 : at + lower] = b"".join(reversed(places))


@pytest.mark.parametrize(
    ("harm", "words", "found"),
    [
        (_without_root, ["find"], "none of its tables"),
        (_without_root, ["queue", "--json"], "none of its tables"),
        (_without_root, ["verify", "--repair"], "none of its tables"),
        (_backwards, ["verify"], "a row that is not found by its key"),
    ],
)
def test_what_is_said(
    index: DamagedIndex, harm: Callable[[bytearray], None], words: list[str], found: str
) -> None:
    content = bytearray(index.whole)
    harm(content)
    index.lay(bytes(content))
    outcome = index.run(*words)
    assert outcome.code == 2
    assert outcome.error.endswith(f"scai: {INDEX_CUT}. Found: {found}\n")


def test_a_new_index_has_no_tables_yet(tmp_path: Path) -> None:
    """Of a writer that was killed before its first commit."""
    (tmp_path / "index").mkdir()
    lmdb.open(str(tmp_path / "index"), max_dbs=9).close()
    create_environment(tmp_path).close()
    environment = Environment(tmp_path, writable=False)
    assert set(environment.tables) == set(records.TABLES)
    environment.close()


def test_what_is_no_row_is_told_without_its_values() -> None:
    secret = b"Doe^Jane"
    for read in (
        lambda: rows.Packing(">I").unpack(secret),
        lambda: rows.Packing(">QQ").unpack_from(secret, 3),
        lambda: records.decode_study(secret),
        lambda: rows.text_of(b"\xff" + secret),
        lambda: rows.present(None, "it was promised"),
        lambda: list(rows.ascending([(b"b", secret), (b"a", secret)])),
        lambda: list(rows.ascending([(b"b", secret), (b"b", secret)])),
    ):
        with pytest.raises(IndexDamagedError, match="scai rebuild") as caught:
            read()
        assert "Doe" not in str(caught.value)


_SCRIPT = """
import ctypes, mmap, os, signal, sys
import lmdb.cpython
from native import _core

_core.tell_index_crashes(sys.argv[2], "told\\n", 2)
library = ctypes.CDLL(lmdb.cpython.__file__)
name = next(name for name in ("mdb09_env_", "mdb_env_") if hasattr(library, name + "create"))
kind = sys.argv[3]
if kind == "mapped":
    with open(sys.argv[1], "w+b") as file:
        file.truncate(8192)
        mapped = mmap.mmap(file.fileno(), 8192)
        file.truncate(0)
        mapped[5000]
elif kind == "lmdb":
    library[name + "create"](None)
elif kind == "called":  # the C library falls, of what LMDB gave it
    environment = ctypes.c_void_p()
    library[name + "create"](ctypes.byref(environment))
    library[name + "open"](environment, ctypes.c_void_p(8), 0, 0o600)
elif kind == "ours":
    ctypes.string_at(8)
elif kind == "killed":
    os.kill(os.getpid(), signal.SIGSEGV)
elif kind == "abort":
    os.abort()
"""


@pytest.mark.parametrize(
    ("kind", "end", "code"),
    [
        ("mapped", "/file", 2),
        ("mapped", "/other", -7),
        ("lmdb", "/other", 2),
        ("called", "/other", 2),
        ("ours", "/file", -11),
        ("killed", "/file", -11),
        ("abort", "/file", -6),
    ],
)
def test_any_other_crash_is_what_it_was(tmp_path: Path, kind: str, end: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path / "file"), end, kind],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, "told\n" if code == 2 else "")
