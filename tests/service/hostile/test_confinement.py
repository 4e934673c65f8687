"""What a worker that a peer has taken over could still do: nothing but its own work."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rigs.gateway import ROOT, Gateway

pytestmark = pytest.mark.process

_TAKEN_OVER = """
import os, socket, subprocess, sys, threading
from pathlib import Path
from native import _core

own, other = map(Path, sys.argv[1:])
early = other / "early"
held = early.open("rb")
_core.drop_privileges()
if not _core.restrict_files([sys.prefix, sys.base_prefix, "/usr", "/lib", "/lib64"], [str(own)]):
    print("no Landlock")
    sys.exit()
if not _core.deny_calls(True):
    print("no seccomp")
    sys.exit()

def refused(what, *errors):
    try:
        what()
    except errors or (PermissionError,):
        return True
    return False

(own / "mine").write_bytes(b"1")
(own / "mine").rename(own / "moved")
assert (own / "moved").read_bytes() == b"1"
assert held.read() == b"held", "what was open before stays open"
assert refused(lambda: (other / "theirs").write_bytes(b"1"))
assert refused(lambda: early.read_bytes())
assert refused(lambda: os.listdir(other))
assert refused(lambda: (own / "moved").rename(other / "moved"), OSError)
assert refused(lambda: os.symlink("/etc/passwd", own / "link") or (own / "link").read_bytes())
assert refused(lambda: subprocess.run(["/usr/bin/true"]), OSError)
assert refused(lambda: os.fork(), OSError)
assert refused(lambda: os.execv("/usr/bin/true", ["true"]))
assert refused(lambda: socket.socket())
assert refused(lambda: os.setuid(1))
seen = []
thread = threading.Thread(target=lambda: seen.append(refused(lambda: socket.socket())))
thread.start()
thread.join()
assert seen == [True], "a thread starts, and is bound"
print("confined")
"""


def test_what_is_given_up_is_gone(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    (other / "early").write_bytes(b"held")
    done = subprocess.run(
        [sys.executable, "-c", _TAKEN_OVER, str(own), str(other)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if done.stdout.startswith("no "):
        pytest.skip(f"this kernel has {done.stdout.strip()}")
    assert done.stdout.strip() == "confined"


_BECOMES_NOBODY = """
import ctypes, os, sys
from native import _core
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
"""
_GIVES_UP_WHEN_TOLD = (
    _BECOMES_NOBODY
    + """
PR_SET_DUMPABLE = 4  # which a change of user takes away, and a service's start by its user does not
ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
for line in sys.stdin:
    if line.strip():
        _core.drop_privileges()
    print("done", flush=True)
"""
)
_LOOKS_INTO = (
    _BECOMES_NOBODY
    + """
for name in ("environ", "maps", "mem"):
    try:
        open(f"/proc/{sys.argv[1]}/{name}", "rb").read(1)
        print(name)
    except OSError:
        pass
"""
)


def test_a_process_of_the_same_user_cannot_look_into_a_worker() -> None:
    """Neither at what it was started with nor at its memory: PR_SET_DUMPABLE."""
    if os.geteuid() != 0:
        pytest.skip("only root can become a user of no privileges")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", _GIVES_UP_WHEN_TOLD],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        seen = []
        for told in ("", "give up"):
            worker.stdin.write(f"{told}\n")
            worker.stdin.flush()
            assert worker.stdout.readline() == "done\n"
            look = [sys.executable, "-c", _LOOKS_INTO, str(worker.pid)]
            done = subprocess.run(look, env=environment, capture_output=True, text=True, check=True)
            seen.append(done.stdout.split())
        worker.stdin.close()
    assert "environ" in seen[0]
    assert seen[1] == []


def test_every_worker_is_confined(gateway: Gateway) -> None:
    told = {line["process"]: line for line in gateway.log() if line["event"] == "confined"}
    for name, pid in gateway.processes().items():
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            assert int(status[kind], 16) == 0, (name, kind)
        assert status["NoNewPrivs"] == "1"
        if told[name]["calls"] == "filtered":
            assert status["Seccomp"] == "2"
        core = next(
            line
            for line in Path(f"/proc/{pid}/limits").read_text().splitlines()
            if line.startswith("Max core file size")
        )
        assert core.split()[4:6] == ["0", "0"], name
    assert told.keys() == gateway.processes().keys()


def test_the_operator_may_switch_it_off(gateway: Gateway, tmp_path: Path) -> None:
    free = Gateway(tmp_path / "free", {"confine": False})
    free.start()
    try:
        assert {line["event"] for line in free.log()} >= {"not_confined"}
        assert not [line for line in free.log() if line["event"] == "confined"]
    finally:
        free.close()


@pytest.mark.parametrize(
    ("drop_ins", "exposure"),
    [
        ([], "1.4"),
        (["private-networks.conf"], "1.3"),
        (["low-ports.conf"], "1.5"),
        (["low-ports.conf", "private-networks.conf"], "1.4"),
    ],
)
def test_the_unit_is_hardened(tmp_path: Path, drop_ins: list[str], exposure: str) -> None:
    """The figure of systemd's own judge is one of ten, and less is better."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian, Ubuntu: apt-get install systemd)")
    unit = tmp_path / "scai.service"
    text = (ROOT / "ops" / "systemd" / "scai.service").read_text()
    added = [(ROOT / "ops" / "systemd" / drop_in).read_text() for drop_in in drop_ins]
    unit.write_text("".join([text, *added]))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"LC_ALL": "C.UTF-8"},
    )
    assert f"exposure level for scai.service: {exposure} " in done.stdout, done.stdout + done.stderr
