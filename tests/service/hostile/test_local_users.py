"""Local users (another, one of the service's group, the owner) at every path of a service's data:
nothing is read, changed or removed that should not be.

The service runs as root here, as tests do; another user stands for everybody who is not the
service's. What the owner may do is shown too, so that a matrix in which nothing works at all does
not pass.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.material.waiting import eventually
from tests.peers.peer_scripts import Scp
from tests.peers.scripted_peer import ScriptedPeer
from tests.rigs.dcmtk_store import store
from tests.rigs.gateway import Gateway
from tests.rigs.local_users import as_user, needs_root, open_to_all, other_ids
from tests.rigs.sending import ct_files

pytestmark = [pytest.mark.process, needs_root]

# Everything a running service has in its data directory, as patterns.
PATHS = [
    "",
    "index",
    "index/data.mdb",
    "index/lock.mdb",
    "incoming/storage_scp",
    "journal/storage_scp",
    "journal/storage_scp/*",
    "outbox",
    "outbox/*",
    "run",
    "run/lock",
    "run/control.sock",
    "run/supervisor.json",
    "run/*.alive",
    "store",
    "store/*/*/*/*.dcm",
]
# {path} is what is tried; each says with 0 that it worked.
ACTIONS = {
    "list": "ls {path}/ >/dev/null",
    "read": "head -c 1 {path} >/dev/null",
    "append": "printf x >> {path}",
    "truncate": "truncate -s 0 {path}",
    "make": "touch {path}/made",
    "rename": "mv {path} {path}.moved",
    "remove": "rm -rf {path} && ! test -e {path}",
    "link": "ln {path} /tmp/scai-link-$$ && rm -f /tmp/scai-link-$$",
    "chmod": "chmod 777 {path}",
    "connect": "python3 -c \"import socket; socket.socket(socket.AF_UNIX).connect('{path}')\"",
    "signal": "kill -0 $(tr -dc 0-9 < {path})",
}


@pytest.fixture(scope="module")
def served() -> Iterator[Gateway]:
    """A service that has received, indexed and queued, in a directory that everybody gets to."""
    with open_to_all() as directory, ScriptedPeer(Scp(fault="hang")) as peer:
        remote = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": peer.port}
        gateway = Gateway(
            directory / "gateway",
            {"remotes": [remote], "rules": [{"name": "all", "to": ["pacs"]}]},
        )
        (directory / "gateway").chmod(0o755)
        gateway.start()
        try:
            files = ct_files(directory / "in", 2)
            assert gateway.command("send", "--to", "pacs", "--no-wait", *map(str, files))
            store(gateway, *files)
            eventually(lambda: any(gateway.data.glob("store/*/*/*/*.dcm")), 20, "it is stored")
            eventually(lambda: any((gateway.data / "outbox").iterdir()), 10, "something waits")
            yield gateway
        finally:
            gateway.close()


def state(data: Path) -> dict[str, tuple[int, int]]:
    """What lies there: its mode, and whose it is. Sizes are the service's to change."""
    found = {}
    for path in [data, *data.rglob("*")]:
        if "lost" not in path.name and path.name != "supervisor.new":
            try:
                seen = path.lstat()
            except FileNotFoundError:
                continue
            found[str(path.relative_to(data))] = (seen.st_mode, seen.st_uid)
    return found


def places(data: Path, pattern: str) -> list[Path]:
    """The paths that a pattern stands for."""
    return sorted(data.glob(pattern)) if pattern else [data]


def tried(path: Path, user: int, group: int) -> set[str]:
    """Which actions worked."""
    lines = [
        f"({action.format(path=path)}) >/dev/null 2>&1 && echo {name}"
        for name, action in ACTIONS.items()
    ]
    return set(as_user("\n".join(lines), user, group).stdout.split())


@pytest.mark.parametrize("pattern", PATHS)
@pytest.mark.parametrize("who", ["group", "other"])
def test_nobody_else_gets_anywhere(served: Gateway, who: str, pattern: str) -> None:
    user, group = other_ids()
    if who == "group":
        group = os.getegid()
    before = state(served.data)
    found = places(served.data, pattern)
    assert found, "the pattern is of something that is there"
    for path in found:
        assert tried(path, user, group) == set(), path
    after = state(served.data)
    assert {name: after.get(name) for name in before} == before


def test_no_file_of_ours_is_open_to_others(served: Gateway) -> None:
    """Whatever stands in the way above it: each is closed by its own mode or its directory's."""
    for name, (mode, user) in state(served.data).items():
        assert user == os.geteuid(), name
        assert mode & 0o022 == 0 or mode & 0o170000 == 0o120000, name
        if mode & 0o170000 == 0o040000:
            assert mode & 0o077 == 0, name


def test_the_owner_gets_to_his_own(served: Gateway, tmp_path: Path) -> None:
    """So that it is the modes that keep others out, and not a test that tries nothing."""
    data = served.data
    script = f"ls {data}/store >/dev/null && head -c 1 {data}/index/data.mdb >/dev/null"
    assert as_user(script, os.geteuid(), os.getegid()).returncode == 0
    file, directory = tmp_path / "file", tmp_path / "directory"
    file.write_text("x")
    directory.mkdir()
    done = tried(file, os.geteuid(), os.getegid())
    assert done >= {"read", "append", "truncate", "rename"}
    assert tried(directory, os.geteuid(), os.getegid()) >= {"list", "make", "rename"}
    assert served.ready()


@pytest.mark.parametrize("who", ["group", "other"])
def test_processes_cannot_be_looked_into_or_signalled(served: Gateway, who: str) -> None:
    user, group = other_ids()
    if who == "group":
        group = os.getegid()
    assert served.process is not None
    for pid in [served.process.pid, *served.processes().values()]:
        for action in (
            f"kill -0 {pid}",
            f"cat /proc/{pid}/environ",
            f"ls /proc/{pid}/fd/",
            f"head -c 1 /proc/{pid}/mem",
            f"cat /proc/{pid}/maps",
        ):
            assert as_user(action, user, group).returncode != 0, action
    assert served.ready()
