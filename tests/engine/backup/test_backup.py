"""A backup is one state of the index with every file it names, whatever goes on meanwhile."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.backup import backup as making
from engine.backup import bringing
from engine.backup import restore as restoring
from engine.backup.backup import Made, make_backup
from engine.backup.catalogue import chosen, newest
from engine.backup.files import Files
from engine.backup.restore import described, restore, restore_index
from engine.errors import OperatorError
from engine.index.environment import IndexReader, open_index_reader
from engine.outbox.records import NewDelivery, State
from engine.outbox.view import OutboxView
from engine.outbox.writer import OutboxWriter
from engine.verify.findings import VerifyReport
from engine.verify.verify import Verifier
from tests.rigs.stored_data import STUDY, StoredData, files_of, stored_data


@pytest.fixture
def data(tmp_path: Path) -> Iterator[StoredData]:
    with stored_data(tmp_path / "data", 4) as made:
        yield made


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "backups"
    directory.mkdir()
    return directory


def backed_up(data: StoredData, place: Path) -> Made:
    return make_backup(data.directory, data.writer.reader(), place, "test")


def checked(directory: Path) -> VerifyReport:
    with closing(open_index_reader(directory)) as reader:
        return Verifier(directory, reader, content=True).run(pause_s=0)


def during(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, do: Callable[[], None], after: bool
) -> None:
    """Have something done just before, or after, a step."""
    step = getattr(owner, name)

    def replacement(*arguments: Any, **named: Any) -> Any:
        if not after:
            do()
        result = step(*arguments, **named)
        if after:
            do()
        return result

    monkeypatch.setattr(owner, name, replacement)


def test_it_shares_the_files_of_the_store(data: StoredData, place: Path) -> None:
    made = backed_up(data, place)
    assert made.directory == newest(place) == chosen(place) == chosen(made.directory)
    assert (made.description.linked, made.description.copied, made.description.lost) == (4, 0, 0)
    assert files_of(made.directory) == data.files()
    path = next(iter(data.files()))
    assert (made.directory / "store" / path).samefile(data.tree.absolute(path))
    report = checked(made.directory)
    assert (report.instances, report.findings) == (4, [])
    assert oct((made.directory / "index/data.mdb").stat().st_mode)[-3:] == "600"
    assert not [*place.glob("*.part")]


def test_what_cannot_be_shared_is_copied_once(
    data: StoredData, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another file system a backup shares files with the one before."""
    linked = bringing.link
    store = str(data.directory)
    monkeypatch.setattr(
        bringing,
        "link",
        lambda source, target: not source.startswith(store) and linked(source, target),
    )
    first = backed_up(data, place)
    assert (first.description.linked, first.description.copied) == (0, 4)
    data.put(1, "replaced")
    data.put(7)
    second = backed_up(data, place)
    assert (second.description.shared, second.description.copied) == (3, 2)
    assert files_of(second.directory) == data.files()
    for made, count in ((first, 4), (second, 5)):
        report = checked(made.directory)
        assert (report.instances, report.findings) == (count, [])


@pytest.mark.parametrize("after", [False, True], ids=["before the files", "after them"])
@pytest.mark.parametrize("links", [True, False], ids=["linked", "copied"])
@pytest.mark.parametrize("change", ["replaced", "moved", "removed", "removed and back"])
def test_what_changes_meanwhile_is_one_thing_or_the_other(
    data: StoredData,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    links: bool,
    after: bool,
) -> None:
    if not links:
        monkeypatch.setattr(bringing, "link", lambda source, target: False)

    def do() -> None:
        if change.startswith("removed"):
            data.remove(2)
        if change == "removed and back":
            data.put(2, "again")
        elif change != "removed":
            data.put(2, change, f"{STUDY}.5" if change == "moved" else STUDY)

    during(monkeypatch, Files, "bring_all", do, after)
    made = backed_up(data, place)
    assert made.description.lost == 0
    report = checked(made.directory)
    assert not report.findings
    assert report.instances == (3 if change == "removed" and not after else 4)
    assert made.description.instances == report.instances
    untouched = {path: data_ for path, data_ in data.files().items() if f"{STUDY}.9.2" not in path}
    assert untouched.items() <= files_of(made.directory).items()


def test_what_was_lost_before_is_counted(data: StoredData, place: Path) -> None:
    gone, damaged, *_ = data.files()
    os.unlink(data.tree.absolute(gone))
    with open(data.tree.absolute(damaged), "r+b") as file:
        file.truncate(100)
    made = backed_up(data, place)
    assert (made.description.lost, made.description.instances) == (2, 2)
    assert len(checked(made.directory).findings) == 2


_STEPS = (
    (Files, "bring_copies"),
    (making, "copy_index"),
    (Files, "bring_all"),
    (making.Settling, "run"),
    (making, "describe"),
    (making, "_sync"),
    (os, "rename"),
    (making, "sync_directory"),
)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "name"), _STEPS, ids=[name for _, name in _STEPS])
def test_a_kill_leaves_the_backups_before(
    data: StoredData,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    after: bool,
) -> None:
    first = backed_up(data, place)
    data.put(9)
    data.writer.close()
    child = os.fork()
    if child == 0:
        during(monkeypatch, owner, name, lambda: os.kill(os.getpid(), signal.SIGKILL), after)
        with closing(open_index_reader(data.directory)) as reader:
            make_backup(data.directory, reader, place, "test")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    named = [path for path in place.iterdir() if path.is_dir() and path.suffix != ".part"]
    is_named = (name, after) == ("rename", True) or name == "sync_directory"
    assert len(named) == 1 + is_named
    assert first.directory in named
    for path in named:
        assert not checked(path).findings
    with closing(open_index_reader(data.directory)) as reader:
        last = make_backup(data.directory, reader, place, "test")
    assert not [*place.glob("*.part")]
    assert newest(place) == last.directory
    assert checked(last.directory).instances == 5


@pytest.mark.parametrize(("owner", "name"), _STEPS, ids=[name for _, name in _STEPS])
def test_a_fault_leaves_nothing_but_the_backups_before(
    data: StoredData, place: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    first = backed_up(data, place)

    def fail() -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        during(patched, owner, name, fail, after=False)
        with pytest.raises(OSError, match="No space"):
            backed_up(data, place)
    if name != "sync_directory":  # it has its name by then
        assert [path for path in place.iterdir() if path.is_dir()] == [first.directory]
    assert not checked(chosen(place)).findings


def test_one_at_a_time(data: StoredData, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def another() -> None:
        with pytest.raises(OperatorError, match="another backup is being made there"):
            make_backup(data.directory, data.writer.reader(), place, "test")

    with monkeypatch.context() as patched:
        during(patched, making, "describe", another, after=False)
        backed_up(data, place)


def queued(data: StoredData, name: str) -> NewDelivery:
    outbox = data.directory / "outbox"
    outbox.mkdir(exist_ok=True)
    (outbox / name).write_bytes(b"x" * 1000)
    return NewDelivery(
        "pacs", f"1.2.{name}", "1.3", "1.4", "1.5", "1.2.840.10008.1.2", 1000, "user", name
    )


def test_what_was_delivered_meanwhile_is_not_sent_again(
    data: StoredData, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = [queued(data, name) for name in ("waits", "goes", "late")]
    data.writer.close()
    with closing(OutboxWriter(data.directory)) as writer:
        waits, goes = (
            writer.commit(lambda outbox, one=one: outbox.enqueue(one, 1)) for one in new[:2]
        )

        def deliver() -> None:
            def end(outbox: Any) -> None:
                outbox.hold([waits], 2)
                outbox.lease("pacs", 1, 2)
                assert outbox.delivered(goes, 3)

            writer.commit(end)
            (data.directory / "outbox" / "goes").unlink()

        during(monkeypatch, making, "copy_index", deliver, after=True)
        made = make_backup(data.directory, IndexReader(writer._environment), place, "test")
    with closing(open_index_reader(made.directory)) as reader, reader.view() as view:
        left = list(OutboxView.within(view).deliveries())
    assert [(one.file, one.state) for one in left] == [("waits", State.WAITING)]
    assert (made.directory / "outbox" / "waits").read_bytes() == b"x" * 1000
    assert made.description.lost == 0


def test_it_is_restored_into_an_empty_directory_alone(
    data: StoredData, place: Path, tmp_path: Path
) -> None:
    queued(data, "copy")
    (data.directory / "set_aside").mkdir()
    (data.directory / "set_aside" / "scp-7.dcm").write_bytes(b"kept")
    made = backed_up(data, place)
    with pytest.raises(OperatorError, match="is not empty"):
        restore(made.directory, data.directory)
    new = tmp_path / "new"
    done = restore(made.directory, new)
    assert (done.instances, done.lost) == (4, 0)
    assert files_of(new) == data.files()
    assert not checked(new).findings
    assert (new / "set_aside" / "scp-7.dcm").read_bytes() == b"kept"
    assert (new / "outbox" / "copy").stat().st_size == 1000
    path = next(iter(data.files()))
    assert not (new / "store" / path).samefile(made.directory / "store" / path)
    assert sorted(os.listdir(new)) == ["index", "outbox", "set_aside", "store"]


def test_a_damaged_backup_is_told(data: StoredData, place: Path, tmp_path: Path) -> None:
    made = backed_up(data, place)
    path = made.directory / "store" / next(iter(data.files()))
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1] + b"\x55")
    assert len(checked(made.directory).findings) == 1
    assert restore(made.directory, tmp_path / "new").lost == 1
    index = made.directory / "index" / "data.mdb"
    content = index.read_bytes()
    index.write_bytes(content[:9000] + bytes([content[9000] ^ 1]) + content[9001:])
    for asked in (
        lambda: described(made.directory),
        lambda: restore(made.directory, tmp_path / "x"),
    ):
        with pytest.raises(OperatorError, match="its index is damaged"):
            asked()
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["copy_index", "_copy_directory", "sync_file_system"])
def test_a_restore_that_fails_leaves_nothing(
    data: StoredData, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made = backed_up(data, place)

    def fail() -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        during(patched, restoring, name, fail, after=False)
        with pytest.raises(OSError, match="No space"):
            restore(made.directory, tmp_path / "new")
    assert not os.listdir(tmp_path / "new")
    assert restore(made.directory, tmp_path / "new").instances == 4


def test_the_index_alone(data: StoredData, place: Path) -> None:
    made = make_backup(data.directory, data.writer.reader(), place, "test", index_only=True)
    assert not (made.directory / "store").exists()
    with pytest.raises(OperatorError, match="has the index alone"):
        restore(made.directory, place.parent / "new")
    with pytest.raises(OperatorError, match="there is an index"):
        restore_index(made.directory, data.directory)
    data.put(8)
    data.writer.close()
    (data.directory / "index").rename(data.directory / "damaged")
    assert restore_index(made.directory, data.directory) == 4
    (unknown,) = checked(data.directory).findings
    assert f"{STUDY}.9.8" in unknown.path


def test_it_waits_for_the_index(
    data: StoredData, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is acknowledged and not indexed yet would not be in it."""
    monkeypatch.setattr(making, "catch_up", lambda directory, wait_s: False)
    with pytest.raises(OperatorError, match="does not catch up"):
        backed_up(data, place)
    assert not [*place.iterdir()]


def test_only_what_a_backup_left_is_removed(data: StoredData, place: Path, tmp_path: Path) -> None:
    left = place / "20200101T000000Z.part"
    (left / "store").mkdir(parents=True)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (place / "20200101T000001Z.part").symlink_to(theirs)
    (place / "other.part").mkdir()
    backed_up(data, place)
    assert not left.exists()
    assert theirs.is_dir()
    assert (place / "other.part").is_dir()
