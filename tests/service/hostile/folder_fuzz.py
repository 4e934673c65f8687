"""A watched folder whose file system changes at every step, by somebody who means harm.

    python -m tests.service.hostile.folder_fuzz --seconds 3600 --seed 1

Another user renames, links, truncates and replaces whatever he can reach in the folder, while it is
looked at again and again. Whatever he does: what is stored stays, nothing of it is queued, what is
not his is not touched, and what an honest application brings is queued. Runs as root, since it has
to be two users. A seed tries the same moves in the same order, not at the same moments.
"""

import argparse
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple

import lmdb
import pytest

from engine import limits
from engine.errors import OperatorError
from engine.outbox.files import make_outbox
from engine.outbox.writer import OutboxWriter
from engine.outgoing.outgoing import Taken
from tests.rigs.local_users import open_to_all, other_ids
from tests.rigs.sending import ct_files
from workers.sender.folders import Folder, FolderWatch

_SERIES: Final = "store/ab/1.2.3/1.2.3.4"
_ATTACKER: Final = """
import os, random, sys, time
folder, data, decoys, seed = sys.argv[1:]
chance = random.Random(int(seed))
image = open("/proc/self/fd/0", "rb").read()
names = ["a.dcm", "b.dcm", "sub", "sub/c.dcm", "sub/d", ".taken", "rejected", "x", "y", "honest",
         "elsewhere", "rejected/a.dcm", ".taken/a", "x/a.dcm", "y/b.dcm"]
targets = [data, f"{data}/index", f"{data}/outbox", f"{data}/store/ab/1.2.3/1.2.3.4", decoys,
           f"{decoys}/0.dcm", "/", "..", ".", f"{data}/index/data.mdb", "sub", "rejected", ".taken"]

def at(name):
    return f"{folder}/{name}"

def write(name):
    # Without waiting: it may be one of his own pipes.
    file = os.open(at(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o644)
    os.write(file, image[: chance.choice([0, 100, len(image), len(image)])])
    os.close(file)
    old = time.time() - 10
    os.utime(at(name), (old, old))

def cut(name):
    os.truncate(at(name), chance.choice([0, 300, 1 << 20]))

moves = [
    lambda: write(chance.choice(names)),
    lambda: write(chance.choice(names)),
    lambda: cut(chance.choice(names)),
    lambda: os.rename(at(chance.choice(names)), at(chance.choice(names))),
    lambda: os.rename(at(chance.choice(names)), at(chance.choice(names))),
    lambda: os.symlink(chance.choice(targets), at(chance.choice(names))),
    lambda: os.link(at(chance.choice(names)), at(chance.choice(names)), follow_symlinks=False),
    lambda: os.link(chance.choice(targets), at(chance.choice(names)), follow_symlinks=False),
    lambda: os.mkfifo(at(chance.choice(names))),
    lambda: os.mkdir(at(chance.choice(names)), chance.choice([0o700, 0o755, 0o777])),
    lambda: os.unlink(at(chance.choice(names))),
    lambda: os.unlink(at(chance.choice(names))),
    lambda: os.rmdir(at(chance.choice(names))),
    lambda: os.chmod(at(chance.choice(names)), chance.choice([0, 0o644, 0o777])),
]
print("begun", flush=True)
while True:
    try:
        chance.choice(moves)()
    except OSError:
        pass
"""


class Outcome(NamedTuple):
    """What a run came to."""

    looks: int
    collected: int
    rejected: int
    faults: Counter[str]


class _Scene:
    """Data, decoys beside it, and a folder that everybody may write to."""

    def __init__(self, directory: Path) -> None:
        self.theirs, *images = ct_files(directory / "images", 15)
        self.honest, stored, decoys = images[:8], images[8:11], images[11:]
        self.data = directory / "data"
        self.data.mkdir(mode=0o700)
        make_outbox(self.data)
        self.series = self.data / _SERIES
        self.series.mkdir(parents=True)
        self.decoys = directory / "closed"
        self.decoys.mkdir(mode=0o755)
        for number, path in enumerate(decoys):
            shutil.copy(path, self.decoys / f"{number}.dcm")
        for path in stored:
            shutil.copy(path, self.series)
        self.folder = directory / "outgoing"
        self.folder.mkdir()
        self.folder.chmod(0o777)
        self.kept = self.digests()

    def digests(self) -> dict[str, str]:
        """What must stay as it is."""
        paths = [*self.series.iterdir(), *self.decoys.iterdir()]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    def check(self) -> None:
        """Nothing that is not the attacker's is gone or changed."""
        assert self.digests() == self.kept
        assert sorted(os.listdir(self.data)) == ["index", "outbox", "store"]
        assert sorted(os.listdir(self.data / "index")) == ["data.mdb", "lock.mdb"]


def run(seconds: float, seed: int) -> Outcome:
    """Attack for so long. AssertionError: he got at something."""
    with open_to_all() as directory, pytest.MonkeyPatch.context() as patched:
        # Many short looks meet more of his moves than few long ones.
        patched.setattr(limits, "folder_quiet_s", 0.02)
        patched.setattr(limits, "folder_files_per_turn", 4)
        scene = _Scene(directory)
        user, group = other_ids()
        arguments = [str(scene.folder), str(scene.data), str(scene.decoys), str(seed)]
        with closing(OutboxWriter(scene.data)) as writer, scene.theirs.open("rb") as image:
            attacker = subprocess.Popen(
                ["/usr/bin/python3", "-c", _ATTACKER, *arguments],
                stdin=image,
                stdout=subprocess.PIPE,
                cwd="/",
                user=user,
                group=group,
                extra_groups=[],
                umask=0,
            )
            try:
                assert attacker.stdout is not None
                assert attacker.stdout.readline() == b"begun\n"
                outcome = _looks(scene, writer, attacker, time.monotonic() + seconds)
                assert attacker.poll() is None, "the attacker gave up"
            finally:
                attacker.kill()
                attacker.wait()
                if attacker.stdout is not None:
                    attacker.stdout.close()
            _bring_honest(scene, writer)
            scene.check()
        return outcome


def _looks(
    scene: _Scene, writer: OutboxWriter, attacker: subprocess.Popen[bytes], end: float
) -> Outcome:
    watch = FolderWatch(scene.data, lambda: writer)
    folder = Folder("pacs", scene.folder, Taken())
    looks = collected = rejected = 0
    faults: Counter[str] = Counter()
    descriptors = 0
    while time.monotonic() < end:
        looks += 1
        try:
            turn = watch.look(folder)
        except (OSError, OperatorError, lmdb.Error) as error:
            faults[type(error).__name__] += 1
            _mend(scene.folder)
        else:
            collected += turn.collected
            rejected += len(turn.rejected)
            faults[type(turn.fault).__name__] += 1
        scene.check()
        if looks == 10:
            descriptors = len(os.listdir("/proc/self/fd"))
        if looks % 20 == 0:
            _nothing_of_ours_is_queued(scene, writer)
            assert len(os.listdir("/proc/self/fd")) <= descriptors + 1, "descriptors are lost"
            # Else every name is soon that of a directory of ours, which he cannot remove.
            # He rests meanwhile. shutil.rmtree would wait for ever at a pipe.
            os.kill(attacker.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, attacker.pid, os.WSTOPPED)
            for path in scene.folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
            os.kill(attacker.pid, signal.SIGCONT)
    _nothing_of_ours_is_queued(scene, writer)
    return Outcome(looks, collected, rejected, faults)


def _nothing_of_ours_is_queued(scene: _Scene, writer: OutboxWriter) -> None:
    """His own may be longer or shorter by then; the beginning, with its UIDs, tells whose it is."""
    theirs = scene.theirs.read_bytes()[:1024]
    with writer.view() as outbox:
        files = [delivery.file for delivery in outbox.deliveries()]
    for file in files:
        with (scene.data / "outbox" / file).open("rb") as copy:
            begins = copy.read(1024)
        assert theirs.startswith(begins), "he had something of ours queued"


def _mend(folder: Path) -> None:
    """What the operator would do: move away what is not ours."""
    for name in (".taken", "rejected"):
        path = folder / name
        with suppress(OSError):  # he goes on meanwhile
            found = path.lstat()
            ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
            if not ours or found.st_mode & 0o022:
                path.rename(folder.with_name(f"away-{time.time_ns()}"))


def _bring_honest(scene: _Scene, writer: OutboxWriter) -> None:
    """When it is over, the folder works as ever."""
    _mend(scene.folder)
    place = scene.folder / f"honest-{time.time_ns()}"
    place.mkdir()
    for path in scene.honest:
        shutil.copy(path, place)
    watch = FolderWatch(scene.data, lambda: writer)
    end = time.monotonic() + 30
    while any(place.iterdir()):
        assert time.monotonic() < end, "the folder does not recover"
        watch.look(Folder("pacs", scene.folder, Taken()))
        time.sleep(limits.folder_quiet_s / 4)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("this has to be root, to act as another user")
    print(run(asked.seconds, asked.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
