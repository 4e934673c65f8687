"""Copies of files that are to be sent: durable before they count, gone only after they do not."""

import os
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine import limits
from engine.outbox import files
from engine.outbox.files import copy_in, make_outbox
from engine.outbox.spool import remove_finished, spooled_path, sweep
from engine.outbox.writer import OutboxWriter


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[OutboxWriter]:
    make_outbox(tmp_path)
    with closing(OutboxWriter(tmp_path)) as made:
        yield made


def test_a_copy_is_its_users_alone_and_synced_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_outbox(tmp_path)
    source = tmp_path / "source"
    source.write_bytes(b"x" * 10_000)
    synced: list[int] = []
    monkeypatch.setattr(files.os, "fsync", lambda number: synced.append(os.fstat(number).st_size))
    before = os.umask(0)
    try:
        copy_in(source, tmp_path, "one.dcm")
    finally:
        os.umask(before)
    copy = spooled_path(tmp_path, "one.dcm")
    assert copy.read_bytes() == source.read_bytes()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700
    assert synced == [10_000]


def test_a_copy_goes_only_when_its_deliverys_end_is_durable(
    tmp_path: Path, writer: OutboxWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = spooled_path(tmp_path, "one.dcm")
    there: list[bool] = []
    monkeypatch.setattr(writer, "sync", lambda: there.append(copy.exists()))
    copy.write_bytes(b"x")
    remove_finished(writer, tmp_path, ["one.dcm"])
    assert there == [True], "synced once, before it is removed"
    assert not copy.exists()
    copy.write_bytes(b"x")
    late_ns = copy.stat().st_ctime_ns + (limits.outbox_orphan_s + 1) * 1_000_000_000
    assert sweep(writer, tmp_path, late_ns) == ["one.dcm"]
    assert there == [True, True]
    assert not copy.exists()


def test_a_sparse_file_that_is_longer_than_the_disk_is_not_begun(tmp_path: Path) -> None:
    """Copied as far as there is room, it would keep everybody else from storing meanwhile."""
    source = tmp_path / "sparse"
    with source.open("wb") as file:
        file.truncate(1 << 42)
    make_outbox(tmp_path)
    with pytest.raises(OSError, match="No space"):
        copy_in(source, tmp_path, "one.dcm")
    assert not list((tmp_path / "outbox").iterdir())
