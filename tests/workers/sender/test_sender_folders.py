"""Watched folders: taken when complete, queued once, never lost, bad files set aside with words."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import limits
from engine.outbox.files import fresh_name
from engine.outbox.outbox import Outbox
from engine.outbox.records import TAKEN as TAKEN_NOTE
from engine.outbox.records import State
from engine.outbox.spool import OUTBOX_DIRECTORY
from engine.outbox.writer import OutboxWriter
from engine.outgoing.outgoing import Taken
from tests.material import samples
from tests.rigs.gateway import ROOT
from tests.rigs.sending import ct_files
from workers.sender import folders as sender_folders
from workers.sender.folders import REJECTED, TAKEN, Folder, FolderWatch
from workers.sender.watched import OpenFolder


class Watched:
    """A folder, and the outbox it is watched for."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.data.mkdir()
        self.path = directory / "outgoing"
        self.path.mkdir()
        self.writer = OutboxWriter(self.data)
        self.folder = Folder("pacs", self.path, Taken())
        self.watch = FolderWatch(self.data, lambda: self.writer)

    def put(self, source: Path, name: str, age_s: float = 10.0) -> Path:
        """A file as an application leaves it."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        moment = time.time() - age_s
        os.utime(target, (moment, moment))
        return target

    def queued(self) -> list[str]:
        """The SOP instances that wait."""
        with self.writer.view() as outbox:
            found = [*outbox.deliveries(State.WAITING, "pacs")]
        for delivery in found:
            assert (self.data / OUTBOX_DIRECTORY / delivery.file).stat().st_size
            assert delivery.origin == "folder"
        return [delivery.sop_instance_uid for delivery in found]

    def left(self) -> set[str]:
        """What is in the folder now."""
        found = (path for path in self.path.rglob("*") if path.is_file())
        return {str(path.relative_to(self.path)) for path in found}


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    made.writer.close()


def test_complete_files_are_taken(watched: Watched, tmp_path: Path) -> None:
    for number, path in enumerate(ct_files(tmp_path / "in", 3)):
        watched.put(path, f"sub/{number}.dcm" if number else "first")
    turn = watched.watch.look(watched.folder)
    assert (turn.collected, turn.rejected) == (3, [])
    assert len(watched.queued()) == 3
    assert watched.left() == set()
    assert watched.watch.look(watched.folder).collected == 0


def test_what_is_still_written_is_left_alone(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = ct_files(tmp_path / "in", 1)
    target = watched.put(path, "growing.dcm", age_s=0)
    for name in ("a.dcm.part", "b.TMP", ".hidden"):
        watched.put(path, name)
    (watched.path / "link").symlink_to(path)
    assert watched.watch.look(watched.folder).collected == 0
    with target.open("ab") as file:
        file.write(bytes(2))
    assert watched.watch.look(watched.folder).collected == 0
    later = time.monotonic() + limits.folder_quiet_s + 0.1
    monkeypatch.setattr(sender_folders.time, "monotonic", lambda: later)
    target.touch()  # something changed after all
    assert watched.watch.look(watched.folder).collected == 0
    monkeypatch.setattr(sender_folders.time, "monotonic", lambda: later + 2.1)
    assert watched.watch.look(watched.folder).collected == 1
    assert watched.left() == {"a.dcm.part", "b.TMP", ".hidden", "link"}


@pytest.mark.parametrize("name", ["{}.dcm.part", "bad/{}.dcm", "rejected/{}.dcm"])
def test_many_files_that_lie_there_take_a_hundredth_of_a_core(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Some are not finished, some change all the time, some were set aside."""
    for number in range(3000):
        path = watched.path / name.format(number)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    now = time.monotonic()
    monkeypatch.setattr(sender_folders.time, "monotonic", lambda: now)
    monkeypatch.setattr(limits, "folder_quiet_s", 1e9)
    looks, began, used_s = 0, now, 0.0
    while now < began + 60:
        if watched.watch.is_due(watched.folder):
            before = time.thread_time()
            assert watched.watch.look(watched.folder).collected == 0
            used_s += time.thread_time() - before
            looks += 1
        now += limits.folder_poll_s
    assert used_s / 60 < 1.5 * limits.folder_share
    assert looks >= 60 / limits.folder_poll_s_max
    if name.startswith("rejected"):
        assert looks == 60 / limits.folder_poll_s, "as often as ever: they are not looked at"


def test_a_folder_with_work_is_looked_at_each_time(watched: Watched, tmp_path: Path) -> None:
    assert watched.watch.is_due(watched.folder)
    watched.put(*ct_files(tmp_path / "in", 1), "a.dcm")
    assert watched.watch.look(watched.folder).collected == 1
    assert watched.watch.is_due(watched.folder)


def test_a_clock_that_is_wrong_does_not_hurry(watched: Watched, tmp_path: Path) -> None:
    (path,) = ct_files(tmp_path / "in", 1)
    watched.put(path, "future.dcm", age_s=-3600)
    assert watched.watch.look(watched.folder).collected == 0


def test_bad_files_are_set_aside_with_the_reason(watched: Watched, tmp_path: Path) -> None:
    good = ct_files(tmp_path / "in", 1)[0]
    enhanced = samples.original("eCT_Supplemental.dcm")
    text = tmp_path / "text"
    text.write_bytes(b"no image at all")
    cut = tmp_path / "cut"
    cut.write_bytes(good.read_bytes()[:200])
    other = tmp_path / "other"
    other.write_bytes(good.read_bytes().replace(b"1.2.826.0.1.3680043.10.1.1", b"1" * 26, 1))
    for name, source in (
        ("report.txt", text),
        ("cut.dcm", cut),
        ("enhanced.dcm", enhanced),
        ("other.dcm", other),
        ("good.dcm", good),
    ):
        watched.put(source, name)
    (watched.path / REJECTED).mkdir()
    (watched.path / REJECTED / "cut.dcm").write_bytes(b"an older one")
    turn = watched.watch.look(watched.folder)
    assert (turn.collected, len(turn.rejected)) == (1, 4)
    rejected = watched.path / REJECTED
    reasons = {path.name: path.read_text() for path in rejected.glob("*.reason.txt")}
    assert set(reasons) == {
        "report.txt.reason.txt",
        "2-cut.dcm.reason.txt",
        "enhanced.dcm.reason.txt",
        "other.dcm.reason.txt",
    }
    assert "never sent" in reasons["enhanced.dcm.reason.txt"]
    assert "another SOP instance" in reasons["other.dcm.reason.txt"]
    assert (rejected / "report.txt").read_bytes() == b"no image at all"
    assert (rejected / "cut.dcm").read_bytes() == b"an older one"
    assert len(watched.queued()) == 1


def test_names_of_any_kind(watched: Watched, tmp_path: Path) -> None:
    paths = ct_files(tmp_path / "in", 3)
    names = ["n" * 255, "a~b\n\x1b[31m", os.fsdecode(b"\xff\xfe")]
    for path, name in zip(paths, names, strict=True):
        watched.put(path, name)
    (tmp_path / "bad").write_bytes(b"bad")
    watched.put(tmp_path / "bad", "x" * 255)
    turn = watched.watch.look(watched.folder)
    assert (turn.collected, len(turn.rejected)) == (3, 1)
    assert watched.left() & set(names) == set()


def test_the_outbox_in_another_file_system(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = ct_files(tmp_path / "in", 1)
    watched.put(path, "a.dcm")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    assert watched.watch.look(watched.folder).collected == 1
    with watched.writer.view() as outbox:
        (delivery,) = outbox.deliveries()
    copy = watched.data / OUTBOX_DIRECTORY / delivery.file
    assert copy.read_bytes() == path.read_bytes()


def test_a_full_disk_leaves_the_file_for_another_time(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = ct_files(tmp_path / "in", 1)
    watched.put(path, "a.dcm")
    with monkeypatch.context() as patched:

        def refuse(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        patched.setattr(os, "copy_file_range", refuse)
        with pytest.raises(OSError, match="No space"):
            watched.watch.look(watched.folder)
    assert watched.queued() == []
    assert not list((watched.data / OUTBOX_DIRECTORY).iterdir())
    assert watched.watch.look(watched.folder).collected == 1


def test_a_file_that_grows_while_it_is_copied_waits(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = ct_files(tmp_path / "in", 1)
    target = watched.put(path, "a.dcm")
    real = os.copy_file_range

    def grow(*arguments: int) -> int:
        with next((watched.path / TAKEN).iterdir()).open("ab") as file:
            file.write(b"more")
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(os, "copy_file_range", grow)
        turn = watched.watch.look(watched.folder)
    assert (turn.collected, turn.rejected) == (0, [])
    assert not list((watched.data / OUTBOX_DIRECTORY).iterdir())
    assert not target.exists()
    now = time.monotonic() + limits.folder_quiet_s + 0.1
    assert watched.watch.look(watched.folder).collected == 0, "it changed a moment ago"
    monkeypatch.setattr(sender_folders.time, "monotonic", lambda: now)
    assert watched.watch.look(watched.folder).collected == 1


def test_notes_are_forgotten_by_a_commit_that_succeeds(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that fails has forgotten nothing: they go with the next."""

    def notes() -> int:
        with watched.writer.view() as outbox:
            return sum(1 for _ in outbox.keys_with_prefix("outbox", TAKEN_NOTE))

    def look() -> int:
        watched.put(path, f"{fresh_name()}.dcm")
        return watched.watch.look(watched.folder).collected

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    (path,) = ct_files(tmp_path / "in", 1)
    assert (look(), notes()) == (1, 1)
    with monkeypatch.context() as patched:
        patched.setattr(watched.writer, "commit", refuse)
        with pytest.raises(OSError, match="Input/output"):
            look()
    assert notes() == 1
    assert look() == 2
    assert notes() == 2, "the first is forgotten, what came with these is not yet"
    with monkeypatch.context() as patched:
        calls = iter([OpenFolder.sync_claimed, refuse])
        patched.setattr(OpenFolder, "sync_claimed", lambda opened: next(calls)(opened))
        with pytest.raises(OSError, match="Input/output"):
            look()
    assert notes() == 1
    assert (look(), notes()) == (1, 2), "what was removed may come back, until that is durable"
    assert (look(), notes()) == (1, 1)


def test_what_a_predecessor_left_noted_is_forgotten(watched: Watched, tmp_path: Path) -> None:
    """But not what may still lie in a folder: in this one, or in another that is not looked at."""

    def notes() -> list[str]:
        with watched.writer.view() as outbox:
            return outbox.taken_from(os.fsencode(watched.path))

    (path,) = ct_files(tmp_path / "in", 1)
    for number in range(3):
        watched.put(path, f"{number}.dcm")
        watched.watch.look(watched.folder)
    assert len(notes()) == 1, "of the last one, until the next commit"
    (kept,) = (f"{fresh_name()}~kept.dcm",)
    watched.put(path, f".taken/{kept}")
    elsewhere = fresh_name()

    def note(outbox: Outbox) -> None:
        outbox.note_taken(kept.partition("~")[0], os.fsencode(watched.path))
        outbox.note_taken(elsewhere, b"/another")

    watched.writer.commit(note)
    queued = len(watched.queued())
    successor = sender_folders.FolderWatch(watched.data, lambda: watched.writer)
    assert successor.look(watched.folder).collected == 0
    assert len(watched.queued()) == queued, "and nothing is queued twice"
    assert notes() == [kept.partition("~")[0]]
    with watched.writer.view() as outbox:
        assert outbox.was_taken(elsewhere)
    again = sender_folders.FolderWatch(watched.data, lambda: watched.writer)
    again.look(watched.folder)
    assert notes() == []


# --- crashes -------------------------------------------------------------------------------------
_CHILD = """
import os, sys
from pathlib import Path
from engine.outbox.writer import OutboxWriter
from engine.outgoing.outgoing import Taken
from workers.sender import folders as sender_folders
from workers.sender.folders import Folder, FolderWatch

data, folder, stop = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
calls = 0

def counted(real):
    def call(*arguments, **keywords):
        global calls
        calls += 1
        if calls == stop:
            os.kill(os.getpid(), 9)
        return real(*arguments, **keywords)
    return call

for name in ("copy_file_range", "rename", "replace", "fsync", "unlink"):
    setattr(os, name, counted(getattr(os, name)))
writer = OutboxWriter(data)
writer.commit = counted(writer.commit)
writer.sync = counted(writer.sync)
FolderWatch(data, lambda: writer).look(Folder("pacs", folder, Taken()))
"""


def test_killed_at_any_step_each_file_is_queued_once(tmp_path: Path) -> None:
    paths = ct_files(tmp_path / "in", 2)
    stop = 0
    finished = False
    while not finished:
        stop += 1
        place = tmp_path / str(stop)
        place.mkdir()
        watched = Watched(place)
        for path in paths:
            watched.put(path, path.name)
        watched.writer.close()
        child = subprocess.run(
            [sys.executable, "-c", _CHILD, str(watched.data), str(watched.path), str(stop)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
            timeout=60,
        )
        finished = child.returncode == 0
        assert finished or child.returncode == -signal.SIGKILL
        watched.writer = OutboxWriter(watched.data)
        # What the crash left is sent meanwhile: its name must not make it wait again.
        with watched.writer.view() as outbox:
            already = [*outbox.deliveries()]
        for delivery in already:
            watched.writer.commit(lambda outbox: outbox.lease("pacs", 9, time.time_ns()))
            watched.writer.commit(
                lambda outbox, number=delivery.number: outbox.delivered(number, time.time_ns())
            )
        watched.watch.look(watched.folder)
        assert len(watched.queued()) + len(already) == 2, f"killed at step {stop}"
        assert watched.left() == set()
        assert not list((watched.path / TAKEN).iterdir())
        watched.writer.close()
    assert stop > 12, "the steps were not met"
