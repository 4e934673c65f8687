"""From the journal into tree and index: whatever is interrupted, nothing acknowledged is lost."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.files import tree
from engine.files.tree import StoreTree
from engine.index.writer import IndexWriter
from engine.intake import intake as index_intake
from engine.intake.journal import journals_on_disk
from engine.intake.step import Missing
from tests.rigs.indexer_box import LARGE, Box, data_set


@pytest.fixture
def make_box(tmp_path: Path) -> Iterator[Callable[..., Box]]:
    boxes: list[Box] = []

    def make(*names: str) -> Box:
        boxes.append(Box(tmp_path, names or ("scp",)))
        return boxes[-1]

    yield make
    for box in boxes:
        box.close()


@pytest.fixture
def box(make_box: Callable[..., Box]) -> Box:
    return make_box()


def test_small_and_large_instances_are_placed_and_indexed(box: Box) -> None:
    box.store("1.1")
    box.store("1.2", size=LARGE)
    assert box.index() == []
    assert box.content("1.1") == data_set("1.1")
    assert box.content("1.2") == data_set("1.2", size=LARGE)
    box.check()
    assert box.intake.reached("scp") == 2
    assert box.spools["scp"].instances_under_way() != []
    assert box.intake.checkpoint()
    assert not box.intake.checkpoint()
    assert box.spools["scp"].instances_under_way() == []
    box.check()


def test_only_what_is_durable_is_read(box: Box) -> None:
    for i in range(3):
        box.store(f"1.{i}")
    box.intake.step({"scp": 2})
    assert box.intake.reached("scp") == 2
    with box.reader.view() as view:
        assert view.instance("1.2") is None


def test_a_duplicate_replaces_file_and_record(box: Box) -> None:
    for size in (1000, LARGE, 900, LARGE + 2):
        box.store("1.1", size=size, fill=bytes([size % 250]))
        box.index()
        assert box.content("1.1") == data_set("1.1", size=size, fill=bytes([size % 250]))
        box.check()


def test_a_duplicate_in_another_study_takes_its_file_along(box: Box) -> None:
    box.store("1.1", study="1.2")
    box.index()
    box.store("1.1", study="9.9", size=LARGE)
    box.store("1.1", study="9.8")
    box.index()
    box.check()
    assert [path.name for path in box.intake.tree.root.glob("*/*")] == ["9.8"]


def test_after_a_crash_the_files_are_placed_again(box: Box) -> None:
    box.store("1.1")
    box.store("1.2", size=LARGE)
    box.index()
    for path in list(box.intake.tree.root.rglob("*.dcm")):
        if path.stem == "1.2":
            path.unlink()  # its bytes were synced before it was acknowledged, its name was not
        else:
            path.write_bytes(b"what a power cut leaves")
    box.crash()
    assert box.intake.reached("scp") == 0
    # Its writer may not be back yet: what was applied once is placed again nevertheless.
    assert box.intake.step({"scp": 0}).records == 2
    assert box.intake.reached("scp") == 2
    assert box.content("1.1") == data_set("1.1")
    assert box.content("1.2") == data_set("1.2", size=LARGE)
    box.check()


def test_an_interrupted_checkpoint_is_no_loss(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.store("1.1", size=LARGE)
    box.store("1.2")
    box.index()

    def fail(*_: object) -> None:
        raise OSError(5, "power went")

    with monkeypatch.context() as patched:
        patched.setattr(IndexWriter, "commit", fail)
        with pytest.raises(OSError, match="power went"):
            box.intake.checkpoint()
    assert box.spools["scp"].instances_under_way() == []
    box.crash()
    assert box.index() == []
    assert box.content("1.1") == data_set("1.1", size=LARGE)
    box.check()
    assert box.intake.checkpoint()


def test_a_later_placing_that_was_not_committed_is_no_false_alarm(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.store("1.1", size=LARGE)
    box.index()
    with monkeypatch.context() as patched:
        patched.setattr(IndexWriter, "commit", lambda *_: (_ for _ in ()).throw(OSError(5)))
        with pytest.raises(OSError):  # noqa: PT011
            box.intake.checkpoint()
        box.store("1.1", size=LARGE + 50)
        with pytest.raises(OSError):  # noqa: PT011
            box.index()
    box.crash()
    assert box.index() == []
    assert box.content("1.1") == data_set("1.1", size=LARGE + 50)
    box.check()


def test_a_file_loses_its_seal(box: Box) -> None:
    """It is cut to its length; one that is shorter than that is told of."""
    box.store("1.1", size=LARGE)
    box.store("1.2", size=LARGE)
    records = box.spools["scp"].reader(1).read(2, 2)
    first, second = (box.spools["scp"].incoming / record[3] for record in records)
    whole = records[0][4]
    assert first.stat().st_size > whole
    os.truncate(second, whole - 1)
    assert box.index() == [Missing("scp", 2, "1.2")]
    assert box.content("1.1") == data_set("1.1", size=LARGE)
    assert first.stat().st_size == whole


def test_bytes_that_are_nowhere_are_told(box: Box) -> None:
    box.store("1.1", size=LARGE)
    box.store("1.2", size=LARGE)
    name = box.spools["scp"].reader(1).read(1, 1)[0][3]
    (box.spools["scp"].incoming / name).unlink()
    assert box.index() == [Missing("scp", 1, "1.1")]
    assert box.content("1.2")
    box.intake.tree.remove(next(iter_paths(box)))
    for name in box.spools["scp"].instances_under_way():
        (box.spools["scp"].incoming / name).unlink()
    box.crash()
    assert box.index() == [Missing("scp", 1, "1.1"), Missing("scp", 2, "1.2")]


def test_after_a_failed_sync_all_is_placed_again(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may have dropped any of it, and the next sync would not say so."""
    box.store("1.1")
    box.store("1.2", size=LARGE)
    box.index()
    assert box.intake.checkpoint()
    before = next(path for path in box.intake.tree.root.rglob("*.dcm") if path.stem == "1.1")
    before.write_bytes(b"had its sync, and is not touched again")
    box.store("1.3")
    box.store("1.4", size=LARGE)
    box.index()
    told: list[int] = []

    def fail(descriptor: int, _: str) -> None:
        told.append(descriptor)
        if len(told) == 1:
            raise OSError(5, "told once")

    monkeypatch.setattr(tree, "sync_file_system", fail)
    with pytest.raises(OSError, match="told once"):
        box.intake.checkpoint()
    placed = next(path for path in box.intake.tree.root.rglob("*.dcm") if path.stem == "1.3")
    placed.write_bytes(b"what the disk has of it")
    assert not box.intake.checkpoint(), "nothing is believed before it is placed again"
    assert box.spools["scp"].instances_under_way() != []
    box.store("1.5")
    assert box.index() == []
    assert box.content("1.3") == data_set("1.3")
    assert before.read_bytes().startswith(b"had its sync")
    assert box.intake.checkpoint()
    assert box.spools["scp"].instances_under_way() == []
    assert len(set(told)) == 1, "one descriptor is told of all that fails"


def iter_paths(box: Box) -> Iterator[str]:
    root = box.intake.tree.root
    return (str(path.relative_to(root)) for path in root.rglob("*.dcm"))


def test_a_failing_disk_only_delays(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(4):
        box.store(f"1.{i}", size=LARGE if i % 2 else 100)
    with monkeypatch.context() as patched:
        patched.setattr(StoreTree, "place", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        for _ in range(3):
            with pytest.raises(OSError, match="full"):
                box.index()
            assert not box.intake.checkpoint()
    assert box.index() == []
    box.check()
    assert box.intake.reached("scp") == 4


def test_a_directory_removed_by_hand_is_made_again(box: Box) -> None:
    for size in (100, LARGE):
        box.store("1.1", size=size)
        box.index()
        box.intake.tree.remove(next(iter_paths(box)))
        box.intake.tree._directories.update({index_path_directory(box)})
        box.store("1.2", size=size)
        assert box.index() == []
        assert box.content("1.2") == data_set("1.2", size=size)
        box.store("1.1", size=size)
        box.index()
    box.check()


def index_path_directory(box: Box) -> str:
    from engine.files.tree import series_path

    return series_path("1.2", "")


def test_two_journals_of_one_instance_end_with_the_later_one(make_box: Callable[..., Box]) -> None:
    box = make_box("scp", "prefetch")
    box.store("1.1", size=LARGE)
    box.index()
    box.store("1.1", "prefetch", size=300)
    box.index()
    box.crash()
    assert box.index() == []
    assert box.content("1.1") == data_set("1.1", size=300)
    box.check()


def test_a_journal_that_cannot_be_read_does_not_stop_another(make_box: Callable[..., Box]) -> None:
    box = make_box("scp", "prefetch")
    for number in range(4):
        box.store(f"1.{number}")
        box.store(f"2.{number}", "prefetch")
    [segment] = box.spools["scp"].journal.glob("0*.wal")
    whole = segment.read_bytes()
    at = whole.index(data_set("1.2"))
    segment.write_bytes(whole[:at] + b"?" + whole[at + 1 :])
    steps = [box.intake.step(box.durable()) for _ in range(3)]
    assert [one.journal for one in steps[-1].unreadable] == ["scp"]
    assert "record 3 cannot be read" in str(steps[-1].unreadable[0].error)
    assert box.intake.reached("scp") == 2
    assert box.intake.reached("prefetch") == 4
    segment.write_bytes(whole)
    assert box.index() == []
    assert not box.intake.step(box.durable()).unreadable
    assert box.intake.reached("scp") == 4
    box.check()


def test_space_is_given_back(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(30):
        box.store(f"1.{i}", size=100_000)
    box.index()
    monkeypatch.setattr(index_intake, "journal_segment_bytes", 1 << 20)
    assert box.intake.checkpoint_is_due
    before = sorted(path.name for path in box.spools["scp"].journal.glob("*.wal"))
    box.intake.checkpoint()
    assert not box.intake.checkpoint_is_due
    after = sorted(path.name for path in box.spools["scp"].journal.glob("*.wal"))
    assert sum(name.startswith("free-") for name in after) > 0
    assert before != after
    box.crash()
    assert box.index() == []
    assert box.intake.reached("scp") == 30
    box.store("1.99")
    assert box.index() == []
    assert box.content("1.99")
    box.check()


def test_a_journal_that_lost_its_end_is_read_as_new(box: Box) -> None:
    for i in range(5):
        box.store(f"1.{i}")
    box.index()
    box.intake.checkpoint()
    box.writer.close()
    box.spools["scp"].spool.close()
    for path in box.spools["scp"].journal.iterdir():
        path.unlink()
    box.spools["scp"].open()
    for i in range(3, 7):
        box.store(f"1.{i}", size=50)
    box.open()
    step = box.intake.step(box.durable())
    assert step.renumbered == ["scp"]
    assert step.indexed == 4
    assert box.content("1.3") == data_set("1.3", size=50)
    assert box.content("1.6") == data_set("1.6", size=50)
    assert box.content("1.0") == data_set("1.0")
    box.check()
    box.crash()
    assert box.intake.step(box.durable()).renumbered == []


def test_random_crashes_lose_nothing(make_box: Callable[..., Box]) -> None:
    box = make_box("scp", "prefetch")
    source = random.Random(11)
    expected: dict[str, bytes] = {}
    for turn in range(120):
        chance = source.random()
        if chance < 0.5:
            sop, name = f"1.{source.randint(1, 12)}", source.choice(["scp", "prefetch"])
            more = {
                "study": source.choice(["1.2", "1.3"]),
                "size": source.choice([64, 2000, LARGE]),
                "fill": bytes([turn]),
            }
            if sop in expected:
                # Which of two journals' records is the later one is only known once one is indexed.
                assert box.index() == []
            box.store(sop, name, **more)
            expected[sop] = data_set(sop, **more)  # type: ignore[arg-type]
        elif chance < 0.7:
            assert box.intake.step(box.durable()).missing == []
        elif chance < 0.85:
            box.intake.checkpoint()
        else:
            box.crash()
    assert box.index() == []
    for sop, sent in expected.items():
        assert box.content(sop) == sent
    box.check()


def test_journals_on_disk(box: Box, tmp_path: Path) -> None:
    assert journals_on_disk(tmp_path) == ["scp"]
    assert journals_on_disk(tmp_path / "nowhere") == []
