"""Local users at every path of a service: nothing is read, changed or removed that should not be.

The service runs as a user and a group of its own, as its unit has it. Three look at it: its owner
(another program of the same user), a member of its group, and another user.
"""

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import pytest

from tests.material.waiting import eventually
from tests.peers.peer_scripts import Scp
from tests.peers.scripted_peer import ScriptedPeer
from tests.rigs.dcmtk_store import store
from tests.rigs.gateway import ROOT, Gateway
from tests.rigs.local_users import as_user, needs_root, open_to_all
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
# Of what belongs to the service's user he may try these without breaking it for the others.
HARMLESS = ("list", "read", "connect", "signal")
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


# Nobody's in /etc/passwd: what the tests' own users may do elsewhere does not count.
SERVICE, STRANGER = (64_911, 64_912), (64_921, 64_922)
WHO = {"owner": SERVICE, "group": (STRANGER[0], SERVICE[1]), "other": STRANGER}


def _usable_interpreter(directory: Path) -> str:
    """Ours, if the service's user may run it, else the system's with what is installed for ours."""
    made = directory / "venv"
    site = made / "lib" / f"python3.{sys.version_info.minor}"
    site.mkdir(parents=True)
    (made / "bin").mkdir()
    (made / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (made / "bin" / "python").symlink_to(f"/usr/bin/python3.{sys.version_info.minor}")
    (site / "site-packages").symlink_to(Path(click.__file__).parent.parent)
    for name in (sys.executable, str(made / "bin" / "python")):
        tries = f"cd {ROOT} && {name} -c 'import tools.cli, native._core'"
        if not as_user(tries, *SERVICE).returncode:
            return name
    pytest.skip("there is no interpreter here that another user may run")


@pytest.fixture(scope="module")
def served() -> Iterator[Gateway]:
    """A service that has received, indexed and queued, in a directory that everybody gets to."""
    with open_to_all() as directory, ScriptedPeer(Scp(fault="hang")) as peer:
        interpreter = _usable_interpreter(directory)
        remote = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": peer.port}
        gateway = Gateway(
            directory / "gateway",
            {"remotes": [remote], "rules": [{"name": "all", "to": ["pacs"]}]},
            ids=SERVICE,
            interpreter=interpreter,
        )
        (directory / "gateway").chmod(0o755)
        keys = directory / "gateway" / "keys.p12"  # as docs/security.md has it
        keys.touch()
        os.chown(keys, 0, SERVICE[1])
        keys.chmod(0o640)
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


def tried(path: Path, user: int, group: int, names: Iterable[str] = ACTIONS) -> set[str]:
    """Which actions worked."""
    lines = [
        f"({ACTIONS[name].format(path=path)}) >/dev/null 2>&1 && echo {name}" for name in names
    ]
    return set(as_user("\n".join(lines), user, group).stdout.split())


@pytest.mark.parametrize("pattern", PATHS)
@pytest.mark.parametrize("who", ["group", "other"])
def test_nobody_else_gets_anywhere(served: Gateway, who: str, pattern: str) -> None:
    before = state(served.data)
    found = places(served.data, pattern)
    assert found, "the pattern is of something that is there"
    for path in found:
        assert tried(path, *WHO[who]) == set(), path
    after = state(served.data)
    assert {name: after.get(name) for name in before} == before


@pytest.mark.parametrize("pattern", PATHS)
def test_the_owner_gets_to_his_own(served: Gateway, pattern: str) -> None:
    """So that it is the modes that keep others out, and not a test that tries nothing."""
    for path in places(served.data, pattern):
        able = tried(path, *WHO["owner"], HARMLESS)
        kind = path.lstat().st_mode
        if stat.S_ISDIR(kind):
            assert able == {"list"}, path
        elif stat.S_ISSOCK(kind):
            assert able == {"connect"}, path
        else:
            assert "read" in able, path
    assert served.ready()


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("scai.toml", {"owner": {"read"}, "group": {"read"}, "other": {"read"}}),
        ("keys.p12", {"owner": {"read"}, "group": {"read"}, "other": set()}),
    ],
)
@pytest.mark.parametrize("who", WHO)
def test_what_is_roots_is_changed_by_nobody(
    served: Gateway, who: str, name: str, may: dict[str, set[str]]
) -> None:
    """Not by the service's own user either. Whether a link may be made is the machine's choice."""
    path = served.directory / name
    before = path.stat()
    assert tried(path, *WHO[who]) - {"link"} == may[who]
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_size) == (
        before.st_mode,
        before.st_uid,
        before.st_size,
    )


def test_no_file_of_ours_is_open_to_others(served: Gateway) -> None:
    """Whatever stands in the way above it: each is closed by its own mode or its directory's."""
    for name, (mode, user) in state(served.data).items():
        assert user == SERVICE[0], name
        assert mode & 0o022 == 0 or mode & 0o170000 == 0o120000, name
        if mode & 0o170000 == 0o040000:
            assert mode & 0o077 == 0, name


LOOKS = ("cat {proc}/environ", "ls {proc}/fd/", "head -c 1 {proc}/mem", "cat {proc}/maps")


@pytest.mark.parametrize("who", WHO)
def test_processes_cannot_be_looked_into(served: Gateway, who: str) -> None:
    """Nor by a program of the same user: what a worker holds is out of his reach. The supervisor
    is not closed to him, since commands find the counters through it."""
    assert served.process is not None
    own = who == "owner"
    for pid in [*([] if own else [served.process.pid]), *served.processes().values()]:
        for action in (*(() if own else (f"kill -0 {pid}",)), *LOOKS):
            words = action.format(proc=f"/proc/{pid}")
            assert as_user(words, *WHO[who]).returncode != 0, words
    assert served.ready()


def test_the_service_is_nobody_special(served: Gateway) -> None:
    """No process of it has a capability but the right to low ports, which the supervisor keeps
    where it was given it."""
    assert served.process is not None
    for pid in [served.process.pid, *served.processes().values()]:
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        assert status["Uid"].split() == [str(SERVICE[0])] * 4
        assert status["Gid"].split() == [str(SERVICE[1])] * 4
        assert int(status["CapEff"], 16) == 0
