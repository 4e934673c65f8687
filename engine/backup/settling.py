"""Bringing the index of a backup into agreement with the files that the backup has.

While files were brought the service went on: what was replaced has its new bytes here, and its new
record is taken; what was removed has no row any more; what a delivery from the outbox has brought
to its peer is not to be sent again by whoever restores. What then has no file, or other bytes than
were stored, is lost in the data directory too, and is counted.
"""

from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec

from engine.backup.files import PORTION, Files
from engine.files.tree import StoreTree
from engine.index.environment import IndexReader
from engine.index.portions import portions
from engine.index.records import Instance
from engine.index.writer import IndexWriter
from engine.limits import outbox_portion_max
from engine.outbox.outbox import Outbox
from engine.outbox.records import State
from engine.outbox.spool import spooled_path
from engine.outbox.view import OutboxView
from engine.outbox.writer import OutboxWriter
from engine.verify.repair import checksum, read_entry


class Settling:
    """Of one backup, `part`, against the index of the service, `live`."""

    def __init__(self, part: Path, live: IndexReader, files: Files) -> None:
        self._part = part
        self._tree = StoreTree(part)
        self._live = live
        self._files = files

    def run(self) -> None:
        """All of it; the backup's index is on the disk afterwards."""
        with closing(IndexWriter(self._part)) as writer:
            for portion in portions(writer.reader(), PORTION):
                for instance, path in self._doubtful(portion):
                    self._settle(writer, instance, path)
            writer.sync()
            with writer.reader().view() as view:
                brought = self._files.brought
                brought.instances = view.count("instances") - brought.lost
                brought.file_bytes = sum(study.file_bytes for _, study in view.studies())
        with closing(OutboxWriter(self._part)) as outbox:
            self._settle_deliveries(outbox)
            outbox.sync()

    def _doubtful(self, portion: list[tuple[Instance, str]]) -> list[tuple[Instance, str]]:
        """Of a portion, what was not the same throughout."""
        found = []
        with self._live.view() as live:
            for instance, path in portion:
                now = live.instance(instance.sop_instance_uid, instance.mark)
                size = self._tree.size(path)
                if (
                    now is None
                    or now[1] != instance
                    or size != instance.file_bytes
                    or path in self._files.suspect
                ):
                    found.append((instance, path))
        return found

    def _settle(self, writer: IndexWriter, instance: Instance, path: str) -> None:
        if self._bytes_of(path) == (instance.file_crc32c, instance.file_bytes):
            return
        with self._live.view() as live:
            found = live.instance(instance.sop_instance_uid, instance.mark)
            now = None if found is None else found[1]
            path_now = "" if found is None else live.path_of(*found)
        if now is None:  # removed meanwhile
            writer.commit(
                lambda batch: batch.remove_instance(instance.sop_instance_uid, instance.mark)
            )
            if self._tree.size(path) is not None:
                self._tree.remove(path)
            return
        if self._tree.size(path_now) is None:
            self._files.bring(now, path_now)
        if now != instance and self._bytes_of(path_now) == (now.file_crc32c, now.file_bytes):
            self._take(writer, now, path_now)
            if path_now != path:
                self._tree.remove(path)
        else:
            self._files.brought.lost += 1

    def _bytes_of(self, path: str) -> tuple[int, int] | None:
        if self._tree.size(path) is None:
            return None
        try:
            with open(self._tree.absolute(path), "rb") as file:
                return checksum(file.fileno())
        except OSError:
            return None

    def _take(self, writer: IndexWriter, now: Instance, path: str) -> None:
        """The record of what has replaced an instance, as the service's index has it."""
        entry = read_entry(self._tree, path)
        entry.arrival = msgspec.structs.replace(
            entry.arrival,
            calling_ae_title=now.calling_ae_title,
            called_ae_title=now.called_ae_title,
            peer=now.peer,
            received_ns=now.received_ns,
        )
        entry.journal, entry.sequence = now.journal, now.sequence
        writer.commit(lambda batch: batch.put_instance(entry))

    def _settle_deliveries(self, writer: OutboxWriter) -> None:
        """Of copies in the outbox alone: what was stored may be sent again, and is here."""
        writer.commit(lambda outbox: outbox.return_leases())
        for state in (State.WAITING, State.RETRYING, State.FAILED, State.HELD):
            after = 0
            while True:
                with writer.view() as outbox:
                    portion = list(
                        outbox.deliveries(state=state, after=after, limit=outbox_portion_max)
                    )
                if not portion:
                    break
                after = portion[-1].number
                ended = self._ended([one.number for one in portion if one.file])
                gone = [
                    one.number
                    for one in portion
                    if one.file and not spooled_path(self._part, one.file).is_file()
                ]
                self._files.brought.lost += len(set(gone) - set(ended))
                if ended:
                    writer.commit(partial(_discard, ended))

    def _ended(self, numbers: list[int]) -> list[int]:
        with self._live.view() as live:
            outbox = OutboxView.within(live)
            found = {number: outbox.delivery(number) for number in numbers}
        return [
            number for number, one in found.items() if one is None or one.state is State.DELIVERED
        ]


def _discard(numbers: list[int], outbox: Outbox) -> None:
    outbox.discard(numbers, 0)
