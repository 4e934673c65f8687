"""From the journals into the tree and the index: what the indexer does, without its process.

Every step reads what is durable in the journals, gives each file its place, and commits the records
together with the position reached. A checkpoint makes the placed files durable and only then lets
the journal and the incoming files go. So at any moment either the journal still has an instance, or
the tree has it for good; and after a crash the way from the last checkpoint is simply gone again:

- a record whose index row is its own was applied before: its file is placed again, for it may not
  have reached the disk; the index is left alone;
- one whose row is another's, of the same patient, has been replaced since: nothing is done;
- one that has no row is applied as if it were new, unless it was set aside.

A step that failed may be repeated as it is, and so may a checkpoint; but when the sync of the tree
failed, all that was placed since the last checkpoint is placed again first, as after a crash: the
kernel may have dropped any of it (docs/decisions/0024-a-failed-sync-is-not-believed.md).

A record that the process died of again and again is set aside: its file is kept in `set_aside/` and
told, and what stands behind it is taken in.

Two patients' instances of one SOP Instance UID have a file each (engine/index/records.py): which of
them has the plain name is decided before they are placed, by the index and what waits to enter it.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from engine.files.arrival import Arrival, decode_arrival
from engine.files.tree import FILE_SUFFIX, SET_ASIDE_DIRECTORY, StoreTree, component
from engine.index.batch import Batch, Entry, Put, choose_mark
from engine.index.environment import INDEX_FAULTS, View
from engine.index.records import Position
from engine.index.writer import IndexWriter
from engine.intake.dispatch import Dispatcher
from engine.intake.in_hand import NobodyCounts, RecordsInHand
from engine.intake.journal import FollowedJournal, Record
from engine.intake.policies import Policies
from engine.intake.replacing import Standing, replacements
from engine.intake.step import Apart, Lost, Missing, Replacement, SetAside, Step, Unreadable
from engine.limits import index_batch_max, index_checkpoint_files_max, journal_segment_bytes


class Intake:
    """The journals of one data directory on their way into its tree and its index."""

    def __init__(
        self,
        data_directory: Path,
        writer: IndexWriter,
        durable: bool = True,
        in_hand: RecordsInHand | None = None,
    ) -> None:
        # What rules make of an instance; it may be exchanged between two steps.
        self.dispatcher: Dispatcher | None = None
        # What may replace, by journal, as configured; likewise. None: whatever comes.
        self.replace: Mapping[str, str] | None = None
        self._policies = Policies(writer)
        self._data_directory = data_directory
        self._writer = writer
        self._reader = writer.reader()
        self._durable = durable
        self.tree = StoreTree(data_directory)
        self.tree.begin()
        self._aside = StoreTree(data_directory, SET_ASIDE_DIRECTORY)
        self._in_hand = in_hand or NobodyCounts()
        self._journals: dict[str, FollowedJournal] = {}
        with self._reader.view() as view:
            self._removals = view.removals()
        self._removed: list[str] = []
        self._settled: dict[str, int] | None = None  # by journal; see is_settled()
        # {SOP Instance UID: {patient's mark: mark}} of what is placed and not committed.
        self._marks: dict[str, dict[str, str]] = {}
        self._standing = Standing()  # likewise
        self._remove_replaced()

    def reached(self, journal: str) -> int:
        """The last record of a journal that is in the index and has its file."""
        return self._journal(journal).reached

    def step(self, durable: Mapping[str, int]) -> Step:
        """Take in at most a batch of what is durable: {journal: last durable record}."""
        try:
            return self._step(durable)
        except INDEX_FAULTS:  # of the disk or the index, not of a record
            self._in_hand.put_down()
            raise

    def _step(self, durable: Mapping[str, int]) -> Step:
        done = Step()
        self._marks = {}
        self._standing = Standing()
        self._remove_replaced()
        self._policies.configure(self.replace)
        journals = [journal for journal in map(self._journal, durable) if self._open(journal, done)]
        count = max(1, index_batch_max // max(1, len(journals)))
        work: list[tuple[FollowedJournal, list[Entry]]] = []
        # What was applied before was durable then, whether its writer has said so again or not.
        ends = {
            journal.name: max(durable[journal.name], journal.replayed_to) for journal in journals
        }
        for journal in list(journals):
            try:
                journal.take(ends[journal.name], count)
            except OSError as error:
                journal.stuck = journal.reached, error
                journal.reader = None
                journals.remove(journal)
                continue
            if journal.pending:
                work.append((journal, self._place_all(journal, done)))
        if work:
            self._commit(work, done)
        for journal in self._journals.values():
            # It is opened anew and comes to the same place again, unless somebody has mended it.
            if journal.stuck is not None and journal.reached > journal.stuck[0]:
                journal.stuck = None
            if journal.stuck is not None:
                done.unreadable.append(Unreadable(journal.name, journal.stuck[1]))
        for journal in journals:
            assert journal.reader is not None
            if journal.reader.next_sequence <= ends[journal.name]:
                done.behind = True
            else:
                done.missing += journal.doubtful.values()
                journal.doubtful.clear()
        self._remove_replaced()
        return done

    def _journal(self, name: str) -> FollowedJournal:
        journal = self._journals.get(name)
        if journal is None:
            with self._reader.view() as view:
                position = view.position(name)
            journal = self._journals[name] = FollowedJournal(name, self._data_directory, position)
        return journal

    def _open(self, journal: FollowedJournal, done: Step) -> bool:
        before = journal.position.applied
        try:
            opened = journal.open()
        except OSError as error:
            done.unreadable.append(Unreadable(journal.name, error))
            return False
        if journal.position.applied != before:
            done.renumbered.append(journal.name)
        return opened

    # --- placing ---
    def _place_all(self, journal: FollowedJournal, done: Step) -> list[Entry]:
        """Place the files of the pending records; the entries that the index is to take in."""
        entries: list[Entry] = []
        with self._reader.view() as view:
            for record in journal.pending:
                if record.is_gap:
                    self._note_lost(journal, record, done)
                    continue
                arrival = self._arrival_of(journal, record, done)
                if arrival is None:
                    continue
                aside = _path_aside(journal.name, record.sequence, arrival.sop_instance_uid)
                if self._is_aside(journal, record, aside):
                    self._put_aside(journal, record, arrival, aside, done)
                    continue
                self._in_hand.take(journal.name, record.sequence)
                entry = Entry(
                    arrival,
                    record.attributes,
                    record.file_bytes,
                    record.file_crc32c,
                    journal.name,
                    record.sequence,
                )
                known = (
                    self._known(view, journal, entry)
                    if record.sequence <= journal.replayed_to
                    else self._known_by_time(view, entry)
                    if record.sequence <= journal.known_to
                    else None
                )
                if known == "replaced":
                    continue
                if known is None:
                    policy = self._policies.of(journal.name)
                    came_back = journal.gave_back(record)
                    before = self._standing.refuser(view, entry, policy, came_back)
                    if before is not None:
                        self._refuse(journal, record, entry, before, done)
                        continue
                    self._mark(view, entry)
                if not self._place(journal, record, entry.path):
                    missing = Missing(journal.name, record.sequence, arrival.sop_instance_uid)
                    if known is None:
                        done.missing.append(missing)
                    else:
                        journal.doubtful[_whose(entry)] = missing
                    continue
                if known is None:
                    self._standing.note(entry)
                    entries.append(entry)
        self._in_hand.put_down()
        return entries

    def _arrival_of(self, journal: FollowedJournal, record: Record, done: Step) -> Arrival | None:
        """Whose it is. None: nobody can tell; what there is of it is kept aside, and it is told.

        The checksums hold, and it was none of our receivers that wrote it: where a journal was
        damaged, what a peer sent was looked through for records (native journal_survivors.hpp).
        """
        try:
            return decode_arrival(record.prologue)
        except msgspec.DecodeError:
            path = f"{journal.name}/{record.sequence}-unknown{FILE_SUFFIX}"
            self._keep_aside(journal, record, "", path, done)
            if record.sequence > journal.replayed_to:
                done.lost.append(Lost(journal.name, record.sequence, record.sequence, False))
            return None

    def _refuse(
        self, journal: FollowedJournal, record: Record, entry: Entry, before: str, done: Step
    ) -> None:
        """What may not replace is set aside, durably before the position says that it is done: a
        replay finds it there (`_is_aside`), whatever the policy is by then."""
        uid, title = entry.arrival.sop_instance_uid, entry.arrival.calling_ae_title
        path = _path_aside(journal.name, record.sequence, uid)
        if not self._keep_aside(journal, record, uid, path, done):
            return
        where = f"{SET_ASIDE_DIRECTORY}/{path}"
        done.refused.append(
            Replacement(journal.name, record.sequence, uid, entry.study_uid, before, title, where)
        )

    # --- what kills ---
    def _is_aside(self, journal: FollowedJournal, record: Record, aside: str) -> bool:
        """Whether the process died of it too often, in this life of the machine or before."""
        if self._in_hand.is_deadly(journal.name, record.sequence):
            return True
        is_replayed = record.sequence <= journal.replayed_to
        return is_replayed and self._aside.size(aside) == record.file_bytes

    def _put_aside(
        self, journal: FollowedJournal, record: Record, arrival: Arrival, path: str, done: Step
    ) -> None:
        """Keep its file, and tell it once."""
        uid = arrival.sop_instance_uid
        if not self._keep_aside(journal, record, uid, path, done):
            return
        if record.sequence <= journal.replayed_to:
            return  # it was told then
        where = f"{SET_ASIDE_DIRECTORY}/{path}"
        done.set_aside.append(SetAside(journal.name, record.sequence, uid, where))

    def _keep_aside(
        self, journal: FollowedJournal, record: Record, uid: str, path: str, done: Step
    ) -> bool:
        """Keep its file, durably, where nothing looks into it; False: there are no bytes of it."""
        self._aside.begin()
        if not self._place(journal, record, path, self._aside):
            done.missing.append(Missing(journal.name, record.sequence, uid))
            return False
        if self._durable:
            self._aside.sync()
        return True

    def _known(self, view: View, journal: FollowedJournal, entry: Entry) -> str | None:
        """What the index says of a record that was applied before: "own" row, "replaced", none."""
        uid = entry.arrival.sop_instance_uid
        for _, instance in view.instances_of_uid(uid):
            if (instance.journal, instance.sequence) == (journal.name, entry.sequence):
                entry.mark_as(instance.mark)
                return "own"
        return "replaced" if entry.patient_mark in view.marks_of(uid) else None

    def _known_by_time(self, view: View, entry: Entry) -> str | None:
        """The same by when it came, where the numbers of the journal say nothing."""
        uid, received_ns = entry.arrival.sop_instance_uid, entry.arrival.received_ns
        mark = view.marks_of(uid).get(entry.patient_mark)
        found = None if mark is None else view.instance(uid, mark)
        if found is None or found[1].received_ns < received_ns:
            return None
        entry.mark_as(found[1].mark)
        return "own" if found[1].received_ns == received_ns else "replaced"

    def _note_lost(self, journal: FollowedJournal, gap: Record, done: Step) -> None:
        """A gap, parted where the index has what is lost; of one record it may say which it was."""
        first, applied = max(gap.first, journal.position.checkpointed + 1), journal.replayed_to
        if gap.prologue and gap.sequence > applied:
            with suppress(msgspec.DecodeError):  # then its number has to do
                uid = decode_arrival(gap.prologue).sop_instance_uid
                done.missing.append(Missing(journal.name, gap.sequence, uid))
                return
        if first <= applied:
            done.lost.append(Lost(journal.name, first, min(applied, gap.sequence), True))
        if gap.sequence > applied:
            done.lost.append(Lost(journal.name, max(first, applied + 1), gap.sequence, False))

    def _mark(self, view: View, entry: Entry) -> None:
        """Decide which file of its SOP Instance UID an instance gets."""
        uid, patient = entry.arrival.sop_instance_uid, entry.patient_mark
        marks = self._marks.get(uid)
        if marks is None:
            marks = self._marks[uid] = view.marks_of(uid)
        marks[patient] = mark = choose_mark(marks, patient)
        if mark:
            entry.mark_as(mark)
        else:
            entry.mark = mark

    def _place(
        self, journal: FollowedJournal, record: Record, relative: str, tree: StoreTree | None = None
    ) -> bool:
        """Whether the file is in its place now."""
        tree = tree or self.tree
        try:
            return self._place_once(journal, record, relative, tree)
        except FileNotFoundError:
            # Somebody removed the directory since we made it.
            tree.forget_directories()
            return self._place_once(journal, record, relative, tree)

    @staticmethod
    def _place_once(
        journal: FollowedJournal, record: Record, relative: str, tree: StoreTree
    ) -> bool:
        if not record.incoming_name:
            assert journal.reader is not None
            path = tree.prepare(relative)
            journal.reader.place_inline(record.inline_offset, record.file_bytes, path, False)
            return True
        source = f"{journal.incoming}/{record.incoming_name}"
        length = _length(source)
        if length is not None and length >= record.file_bytes:
            if length > record.file_bytes:
                # It was written in whole pages, and its writer has not cut it yet, or died.
                os.truncate(source, record.file_bytes)
            tree.place(source, relative)
            return True
        # A checkpoint was interrupted after it had let the incoming file go.
        return tree.size(relative) == record.file_bytes

    # --- indexing ---
    def _commit(self, work: list[tuple[FollowedJournal, list[Entry]]], done: Step) -> None:
        positions = [journal.position_after_pending() for journal, _ in work]
        entries = [entry for _, of_journal in work for entry in of_journal]

        def apply(batch: Batch) -> tuple[list[Put], list[str]]:
            puts = []
            for entry in entries:
                self._in_hand.take(entry.journal, entry.sequence)
                puts.append(batch.put_instance(entry))
            if self.dispatcher is not None:
                for entry in entries:
                    self._in_hand.take(entry.journal, entry.sequence)
                    self.dispatcher.arrived(batch, entry, entry.arrival.received_ns)
            self._in_hand.put_down()
            for (journal, _), position in zip(work, positions, strict=True):
                batch.set_position(journal.name, position)
            return puts, [put.removed_path for put in puts if put.removed_path is not None]

        if entries or any(
            journal.position != position
            for (journal, _), position in zip(work, positions, strict=True)
        ):
            puts, elsewhere = self._writer.commit(apply)
            done.replaced = replacements(entries, puts)
            done.apart += [
                Apart(put.apart, entry.study_uid, entry.arrival.sop_instance_uid)
                for put, entry in zip(puts, entries, strict=True)
                if put.apart
            ]
            if elsewhere:
                with self._reader.view() as view:
                    self._removals = view.removals()
        for entry in entries:
            for journal in self._journals.values():
                journal.doubtful.pop(_whose(entry), None)
        for (journal, _), position in zip(work, positions, strict=True):
            done.records += len(journal.pending)
            for record in journal.pending:
                if record.incoming_name:
                    journal.incoming_names.append(record.incoming_name)
                elif not record.is_gap:
                    journal.bytes_since_checkpoint += record.file_bytes
            journal.position = position
            journal.reached = journal.pending[-1].sequence
            journal.pending = []
        done.indexed = len(entries)

    def _remove_replaced(self) -> None:
        """Remove the files that replaced instances left elsewhere in the tree."""
        while self._removals:
            self.tree.remove(self._removals[-1])
            self._removed.append(self._removals.pop())

    # --- checkpoints ---
    @property
    def checkpoint_is_due(self) -> bool:
        """Enough was placed that the journal's space is worth having back."""
        return any(
            journal.bytes_since_checkpoint >= journal_segment_bytes
            or len(journal.incoming_names) >= index_checkpoint_files_max
            for journal in self._journals.values()
        )

    def checkpoint(self) -> bool:
        """Make all that was placed durable and let the journals' space go; False: nothing to do."""
        journals = [
            journal
            for journal in self._journals.values()
            if journal.position.applied > journal.position.checkpointed
            and journal.reader is not None
            and journal.reader.next_sequence > journal.replayed_to
            and not journal.pending
        ]
        if not journals:
            self._note_settled()
            return False
        removed = list(self._removed)
        try:
            self._sync(tree=True)
        except OSError:
            for journal in self._journals.values():
                journal.go_back()
            raise
        for journal in journals:
            for name in journal.incoming_names:
                with suppress(FileNotFoundError):
                    os.unlink(f"{journal.incoming}/{name}")
        positions = {
            journal.name: Position(
                journal.position.applied, journal.position.applied, journal.position.identity
            )
            for journal in journals
        }

        def apply(batch: Batch) -> None:
            _set_positions(batch, positions.items())
            batch.forget_removals(removed)  # the tree was synced without them

        self._writer.commit(apply)
        del self._removed[: len(removed)]
        self._sync(tree=False)
        for journal in journals:
            journal.position = positions[journal.name]
            journal.incoming_names = []
            journal.bytes_since_checkpoint = 0
            assert journal.reader is not None
            journal.reader.release(journal.position.checkpointed + 1)
        self._note_settled()
        return True

    def _note_settled(self) -> None:
        positions = {name: journal.position for name, journal in self._journals.items()}
        if all(each.applied == each.checkpointed for each in positions.values()):
            self._settled = {name: each.checkpointed for name, each in positions.items()}

    def is_settled(self, journal: str, sequence: int) -> bool:
        """Whether no replay can bring this record's instance back once it is removed: all journals
        were checkpointed together after it was taken in. Another journal, which cannot be read just
        now, may have an older record of the same instance."""
        if self._settled is None:
            return False
        if journal not in self._journals or sequence > self._journals[journal].position.applied:
            return True  # of a journal that is there no more
        return sequence <= self._settled.get(journal, 0)

    def _sync(self, tree: bool) -> None:
        if not self._durable:
            return
        if tree:
            self.tree.sync()
        self._writer.sync()

    def close(self) -> None:
        """Give back what is held open."""
        self.tree.close()
        self._aside.close()


def _whose(entry: Entry) -> tuple[str, str]:
    """What a later record of the same instance has alike."""
    return entry.arrival.sop_instance_uid, entry.patient_mark


def _path_aside(journal: str, sequence: int, sop_instance_uid: str) -> str:
    return f"{journal}/{sequence}-{component(sop_instance_uid)}{FILE_SUFFIX}"


def _length(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None


def _set_positions(batch: Batch, positions: Iterable[tuple[str, Position]]) -> None:
    for journal, position in positions:
        batch.set_position(journal, position)
