"""A replay after a crash, and a step that failed: nothing is entered twice, nothing is dropped."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.files.tree import sync_file_system
from tests.rigs.indexer_box import Box, data_set


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path)
    yield made
    made.close()


def test_what_is_replayed_is_not_entered_again(box: Box) -> None:
    """Else rules would look at it again, and everything would be sent twice."""
    box.store("1.1")
    box.store("1.2")
    box.index()
    box.crash()
    step = box.intake.step(box.durable())
    assert (step.records, step.indexed, step.replaced) == (2, 0, [])


def test_a_batch_that_failed_is_gone_on_with_before_the_next(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.store("1.1")
    with monkeypatch.context() as patched:

        def fails(_: object) -> None:
            raise OSError(errno.EIO, "of the disk")

        patched.setattr(box.writer, "commit", fails)
        with pytest.raises(OSError, match="of the disk"):
            box.intake.step(box.durable())
    box.store("1.2")
    assert box.index() == []
    assert box.content("1.1") == data_set("1.1")
    assert box.content("1.2") == data_set("1.2")


def test_another_journal_with_the_same_numbers_is_read_as_new(box: Box) -> None:
    box.store("1.1")
    box.store("1.2")
    box.index()
    assert box.intake.checkpoint()
    spool = box.spools["scp"]
    spool.spool.close()
    for path in spool.journal.iterdir():
        path.unlink()
    spool.open()
    box.store("2.1")
    box.store("2.2")
    box.crash()
    assert box.index() == []
    assert box.content("2.1") == data_set("2.1")
    assert box.content("2.2") == data_set("2.2")


def test_a_sync_that_fails_is_told(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    os.close(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        sync_file_system(descriptor, str(tmp_path))
