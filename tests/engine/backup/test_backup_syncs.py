"""A backup, and what is restored, are synced by a descriptor from before their first byte.

One that is opened for the sync misses an error of the disk that the service was told of meanwhile:
docs/decisions/0024-a-failed-sync-is-not-believed.md.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from engine.backup import backup as making
from engine.backup import restore as restoring
from engine.backup.backup import make_backup
from engine.backup.restore import restore
from tests.rigs.stored_data import stored_data


def watched(monkeypatch: pytest.MonkeyPatch, owner: Any) -> list[bool]:
    """For each sync of a file system, whether its descriptor was open before anything was there."""
    opened: dict[int, int] = {}
    early: list[bool] = []
    fill, sync = owner._fill, owner.sync_file_system

    def filling(*arguments: Any) -> Any:
        for name in os.listdir("/proc/self/fd"):
            try:
                opened[int(name)] = os.fstat(int(name)).st_ino
            except OSError:
                continue  # the listing's own
        return fill(*arguments)

    def syncing(descriptor: int, path: str) -> None:
        early.append(opened.get(descriptor) == os.fstat(descriptor).st_ino)
        sync(descriptor, path)

    monkeypatch.setattr(owner, "_fill", filling)
    monkeypatch.setattr(owner, "sync_file_system", syncing)
    return early


def test_syncs_miss_no_error_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "backups"
    place.mkdir()
    made_early, restored_early = watched(monkeypatch, making), watched(monkeypatch, restoring)
    with stored_data(tmp_path / "data", 2) as data:
        made = make_backup(data.directory, data.writer.reader(), place, "test")
    assert made_early == [True]
    assert restore(made.directory, tmp_path / "new").instances == 2
    assert restored_early == [True]
