"""Whoever may write to a watched folder tries to have other files taken, moved or removed."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import limits
from engine.errors import OperatorError
from engine.outbox.records import State
from engine.outbox.spool import OUTBOX_DIRECTORY
from engine.outbox.writer import OutboxWriter
from engine.outgoing.outgoing import Taken
from tests.rigs.local_users import as_other, needs_root, open_to_all, other_ids
from tests.rigs.sending import ct_files
from workers.sender.folders import REJECTED, TAKEN, Folder, FolderWatch, Turn
from workers.sender.watched import Entry, OpenFolder

SERIES = "store/ab/1.2.3/1.2.3.4"


class Attacked:
    """A folder that everybody may write to, beside data that nobody else may see."""

    def __init__(self, directory: Path) -> None:
        self.images = ct_files(directory / "in", 3)
        self.data = directory / "data"
        self.data.mkdir(mode=0o700)
        self.series = self.data / SERIES
        self.series.mkdir(parents=True)
        for path in self.images:
            shutil.copy(path, self.series)
        self.path = directory / "outgoing"
        self.path.mkdir()
        self.path.chmod(0o777)
        self.writer = OutboxWriter(self.data)
        self.folder = Folder("pacs", self.path, Taken())
        self.watch = FolderWatch(self.data, lambda: self.writer)

    def put(self, name: str, source: Path | None = None) -> Path:
        """A file as an application leaves it."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((source or self.images[0]).read_bytes())
        self.age(target)
        return target

    def age(self, path: Path) -> None:
        """Its last change was long ago."""
        moment = time.time() - 10
        os.utime(path, (moment, moment), follow_symlinks=False)

    def look(self) -> Turn:
        """Two looks, far enough apart for what has to be seen twice."""
        first = self.watch.look(self.folder)
        time.sleep(limits.folder_quiet_s)
        second = self.watch.look(self.folder)
        collected, rejected = first.collected + second.collected, first.rejected + second.rejected
        return Turn(collected, rejected, second.fault)

    def untouched(self) -> None:
        """Nothing that was stored is gone or queued."""
        assert len(list(self.series.iterdir())) == 3
        assert (self.data / "index" / "data.mdb").stat().st_size

    def queued(self) -> int:
        """How many deliveries wait."""
        with self.writer.view() as outbox:
            return sum(1 for _ in outbox.deliveries(State.WAITING))


@pytest.fixture
def attacked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Attacked]:
    monkeypatch.setattr(limits, "folder_quiet_s", 0.1)
    with open_to_all() as directory:
        made = Attacked(directory)
        yield made
        made.writer.close()


@pytest.mark.parametrize("name", [TAKEN, REJECTED])
@pytest.mark.parametrize("where", [SERIES, "index", ".", "outbox"])
@needs_root
def test_what_is_ours_is_replaced_by_a_link(attacked: Attacked, name: str, where: str) -> None:
    attacked.put("first.dcm")
    (attacked.path / "bad").write_text("no image")
    attacked.age(attacked.path / "bad")
    assert attacked.watch.look(attacked.folder).collected == 1
    done = as_other(f"cd {attacked.path} && mv {name} x && ln -s {attacked.data}/{where} {name}")
    assert done.returncode == 0, done.stderr
    (attacked.path / "bad").write_text("no image again")
    attacked.age(attacked.path / "bad")
    fault: Exception | None = None
    try:
        fault = attacked.look().fault
    except OperatorError as error:
        fault = error
    assert str(attacked.path) in str(fault)
    assert f"{name}/ in it is not ours" in str(fault)
    attacked.untouched()
    assert (attacked.path / name).is_symlink()
    (attacked.path / name).unlink()
    assert attacked.look().rejected, "it goes on once the link is gone"


@pytest.mark.parametrize("mode", ["0777", "0700"])
@pytest.mark.parametrize("name", [TAKEN, REJECTED])
@needs_root
def test_what_is_ours_is_replaced_by_a_directory_of_theirs(
    attacked: Attacked, name: str, mode: str
) -> None:
    assert as_other(f"mkdir -m {mode} {attacked.path}/{name}").returncode == 0
    attacked.put("bad", attacked.data / "index" / "lock.mdb")
    fault: Exception | None = None
    try:
        fault = attacked.look().fault
    except OperatorError as error:
        fault = error
    assert f"its owner is {other_ids()[0]}" in str(fault)
    assert not list((attacked.path / name).iterdir())


def test_ours_that_others_may_write_to_is_not_used(attacked: Attacked) -> None:
    attacked.look()
    (attacked.path / TAKEN).chmod(0o770)
    with pytest.raises(OperatorError, match="its mode 0770"):
        attacked.look()


def test_what_was_claimed_and_moved_away_is_taken_all_the_same(attacked: Attacked) -> None:
    attacked.put("first.dcm")
    with OpenFolder(attacked.path, attacked.data) as opened:
        opened.claim(next(opened.files()))
    (attacked.path / TAKEN).rename(attacked.path / "x")
    assert attacked.look().collected == 1
    assert attacked.queued() == 1


def test_another_directory_of_ours_takes_the_place_of_the_claims(attacked: Attacked) -> None:
    """The copy's name is that of the claim: it must be one that we gave."""
    for number in (0, 1):
        (attacked.path / REJECTED).mkdir(mode=0o700)
        attacked.put(f"{REJECTED}/same.dcm", attacked.images[number])
        shutil.rmtree(attacked.path / TAKEN, ignore_errors=True)
        (attacked.path / REJECTED).rename(attacked.path / TAKEN)
        assert attacked.look().collected == 1
    copies = {path.name: path.read_bytes() for path in (attacked.data / "outbox").iterdir()}
    assert "same.dcm" not in copies
    assert sorted(copies.values()) == sorted(p.read_bytes() for p in attacked.images[:2])


# --- between the look and the claim ----------------------------------------------------------
def _link(path: Path, attacked: Attacked) -> None:
    path.unlink()
    path.symlink_to(next(attacked.series.iterdir()))


def _pipe(path: Path, _: Attacked) -> None:
    path.unlink()
    os.mkfifo(path)


def _second_name(path: Path, attacked: Attacked) -> None:
    path.unlink()
    path.hardlink_to(next(attacked.series.iterdir()))


def _directory(path: Path, _: Attacked) -> None:
    path.unlink()
    path.mkdir()


def _still_written(path: Path, attacked: Attacked) -> None:
    path.unlink()
    path.write_bytes(attacked.images[1].read_bytes()[:3000])


def _linked_above(path: Path, attacked: Attacked) -> None:
    path.parent.rename(path.parent.with_name("away"))
    path.parent.symlink_to(attacked.series)


def test_what_comes_in_the_place_of_a_file_waits_until_it_is_complete(
    attacked: Attacked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "folder_quiet_s", 60)
    path = attacked.put("one.dcm")
    os.utime(path, (0, 0))
    claim = OpenFolder.claim

    def late(opened: OpenFolder, entry: Entry) -> Entry:
        _still_written(path, attacked)
        return claim(opened, entry)

    monkeypatch.setattr(OpenFolder, "claim", late)
    turn = attacked.watch.look(attacked.folder)
    assert (turn.collected, turn.rejected) == (0, [])
    [claimed] = (attacked.folder.path / TAKEN).iterdir()
    claimed.write_bytes(attacked.images[1].read_bytes())
    os.utime(claimed, (0, 0))
    assert attacked.watch.look(attacked.folder).collected == 1


@pytest.mark.parametrize("swap", [_link, _pipe, _second_name, _directory, _linked_above])
def test_a_file_is_replaced_between_look_and_claim(
    attacked: Attacked, monkeypatch: pytest.MonkeyPatch, swap: Callable[[Path, Attacked], None]
) -> None:
    name = next(attacked.series.iterdir()).name
    path = attacked.put(f"sub/{name}")
    claim = OpenFolder.claim
    swapped = []

    def late(opened: OpenFolder, entry: object) -> object:
        if not swapped:
            swapped.append(True)
            swap(path, attacked)
        return claim(opened, entry)  # type: ignore[arg-type]

    monkeypatch.setattr(OpenFolder, "claim", late)
    turn = attacked.look()
    attacked.untouched()
    if swap is _linked_above:
        assert turn.collected == 1, "the file itself, under its folder's new name"
    else:
        assert (turn.collected, len(turn.rejected)) == (0, 1)
    kept = {path.stat().st_ino for path in attacked.series.iterdir()}
    outbox = attacked.data / OUTBOX_DIRECTORY
    assert not kept & {path.stat().st_ino for path in outbox.iterdir()}


@pytest.mark.parametrize("kind", ["hard link", "pipe"])
def test_hard_links_and_special_files_are_set_aside(attacked: Attacked, kind: str) -> None:
    path = attacked.path / "odd.dcm"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.hardlink_to(next(attacked.series.iterdir()))
    attacked.age(path)
    turn = attacked.look()
    assert (turn.collected, len(turn.rejected)) == (0, 1)
    words = (attacked.path / REJECTED / "odd.dcm.reason.txt").read_text()
    assert ("hard link" if kind == "hard link" else "no plain file") in words
    attacked.untouched()


def test_a_second_name_that_goes_soon_does_no_harm(attacked: Attacked) -> None:
    """Some applications link a finished file to its name, and then remove the other."""
    path = attacked.put("final.dcm")
    (attacked.path / ".writing").hardlink_to(path)
    assert attacked.watch.look(attacked.folder).collected == 0
    (attacked.path / ".writing").unlink()
    turn = attacked.look()
    assert (turn.collected, turn.rejected) == (1, [])


def test_who_still_has_the_file_open_changes_nothing_any_more(attacked: Attacked) -> None:
    path = attacked.put("open.dcm")
    with path.open("r+b") as theirs:
        assert attacked.watch.look(attacked.folder).collected == 1
        theirs.seek(0)
        theirs.write(b"X" * 4096)
    (copy,) = (attacked.data / OUTBOX_DIRECTORY).iterdir()
    assert copy.read_bytes() == attacked.images[0].read_bytes()
    assert copy.stat().st_uid == os.geteuid()
    assert copy.stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_emptied_does_not_keep_the_others(attacked: Attacked) -> None:
    attacked.put("a/one.dcm")
    attacked.put("b/two.dcm")
    real = os.rename

    def refuse(source: str, target: str, **keywords: int) -> None:
        if source == "one.dcm":
            raise PermissionError(13, "Permission denied")
        real(source, target, **keywords)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "rename", refuse)
        turn = attacked.watch.look(attacked.folder)
    assert turn.collected == 1
    assert isinstance(turn.fault, PermissionError)


def test_nesting_has_an_end(attacked: Attacked) -> None:
    deep = "/".join("d" * limits.folder_depth_max)
    attacked.put(f"{deep}/in.dcm")
    attacked.put(f"{deep}/d/out.dcm")
    assert attacked.look().collected == 1
    held = os.open(attacked.path, os.O_RDONLY)
    os.close(held)
    assert attacked.watch.look(attacked.folder).collected == 0
    again = os.open(attacked.path, os.O_RDONLY)
    os.close(again)
    assert held == again, "every descriptor was given back"


# --- folders that overlap with the data ------------------------------------------------------
@pytest.mark.parametrize("where", [".", "store", SERIES, "..", "/"])
@pytest.mark.parametrize("by_link", [False, True])
def test_a_folder_that_overlaps_with_the_data_is_not_looked_at(
    attacked: Attacked, where: str, by_link: bool
) -> None:
    path = Path(os.path.normpath(attacked.data / where))
    if by_link:
        link = attacked.data.parent / "way"
        link.symlink_to(path)
        path = link
    with pytest.raises(OperatorError, match="Give `outgoing_directory` a place of its own"):
        attacked.watch.look(Folder("pacs", path, Taken()))
    attacked.untouched()
    assert not (path / TAKEN).exists()


def test_a_store_on_another_disk_is_the_data_too(attacked: Attacked) -> None:
    elsewhere = attacked.data.parent / "elsewhere"
    (attacked.data / "store").rename(elsewhere)
    (attacked.data / "store").symlink_to(elsewhere)
    with pytest.raises(OperatorError, match="a place of its own"):
        attacked.watch.look(Folder("pacs", elsewhere / "ab", ()))
    attacked.untouched()


@needs_root
def test_the_folder_itself_becomes_a_link_of_theirs(attacked: Attacked) -> None:
    shared = attacked.data.parent / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    other = attacked.data.parent / "other"
    shutil.copytree(attacked.series, other)
    assert as_other(f"ln -s {other} {shared}/outgoing").returncode == 0
    with pytest.raises(OperatorError, match="name the directory itself"):
        attacked.watch.look(Folder("pacs", shared / "outgoing", ()))
    assert len(list(other.iterdir())) == 3
