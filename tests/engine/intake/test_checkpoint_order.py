"""The order of a checkpoint and a replay: nothing goes before its successor is durable."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.files import tree
from engine.files.tree import StoreTree
from tests.rigs.indexer_box import LARGE, Box, data_set


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path)
    yield made
    made.close()


def test_segments_are_let_go_only_when_the_position_is_durable(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        box.store(f"1.{number}", size=100_000)
    box.index()
    seen: list[tuple[int, int]] = []

    def free() -> int:
        return len(list(box.spools["scp"].journal.glob("free-*")))

    before = free()
    sync = box.writer.sync

    def synced() -> None:
        sync()
        with box.reader.view() as view:
            seen.append((view.position("scp").checkpointed, free() - before))

    monkeypatch.setattr(box.writer, "sync", synced)
    assert box.intake.checkpoint()
    assert free() > before
    assert seen[-1] == (30, 0), "the last sync is of the new position, and before any segment goes"


def test_what_was_replaced_is_not_placed_again(tmp_path: Path) -> None:
    """The older version's journal is replayed after the newer one's."""
    box = Box(tmp_path, ("newer", "older"))
    try:
        box.store("1.1", "older", size=LARGE)
        box.index()
        box.store("1.1", "newer", size=300)
        box.index()
        box.crash()
        assert box.intake.step({"newer": 1}).records == 1
        assert box.intake.step({"newer": 1, "older": 1}).records == 1
        assert box.content("1.1") == data_set("1.1", size=300)
        box.check()
    finally:
        box.close()


def test_a_file_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every call the old or the new one stands under the name, whole."""
    stored = StoreTree(tmp_path)
    relative = "ab/1/2/3.dcm"
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    stored.place(str(old), relative)
    target = Path(stored.absolute(relative))
    seen: list[bytes] = []

    def watched(call: object) -> object:
        def run(*arguments: object) -> None:
            try:
                call(*arguments)  # type: ignore[operator]
            finally:
                seen.append(target.read_bytes() if target.exists() else b"")

        return run

    for name in ("link", "unlink", "replace", "rename"):
        monkeypatch.setattr(tree.os, name, watched(getattr(os, name)))
    stored.place(str(new), relative)
    assert seen[-1] == b"new"
    assert b"" not in seen
