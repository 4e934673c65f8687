"""What a watched folder claims is durable before it is queued: a power cut undoes no claim."""

import os
import time
from contextlib import closing
from pathlib import Path

import pytest

from engine.outbox.spool import OUTBOX_DIRECTORY
from engine.outbox.writer import OutboxWriter
from engine.outgoing.outgoing import Taken
from tests.rigs.sending import ct_files
from workers.sender import folders
from workers.sender.folders import TAKEN, Folder, FolderWatch
from workers.sender.watched import OpenFolder


def test_claims_and_copies_are_synced_before_they_are_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, outgoing = tmp_path / "data", tmp_path / "outgoing"
    data.mkdir()
    outgoing.mkdir()
    [source] = ct_files(tmp_path, 1)
    put = outgoing / "one.dcm"
    put.write_bytes(source.read_bytes())
    moment = time.time() - 10
    os.utime(put, (moment, moment))
    done: list[str] = []
    with closing(OutboxWriter(data)) as writer:
        commit, sync = writer.commit, writer.sync

        def committed(work: object) -> object:
            done.append("committed")
            return commit(work)  # type: ignore[arg-type]

        def synced() -> None:
            done.append(f"outbox with {len(list((outgoing / TAKEN).iterdir()))} in {TAKEN}")
            sync()

        monkeypatch.setattr(writer, "commit", committed)
        monkeypatch.setattr(writer, "sync", synced)
        monkeypatch.setattr(OpenFolder, "sync_claimed", lambda opened: done.append(TAKEN))
        monkeypatch.setattr(folders, "sync_copies", lambda _: done.append(OUTBOX_DIRECTORY))
        assert (
            FolderWatch(data, lambda: writer).look(Folder("pacs", outgoing, Taken())).collected == 1
        )
    assert done == [TAKEN, OUTBOX_DIRECTORY, "committed", f"outbox with 1 in {TAKEN}", TAKEN]
