"""How instances leave: portion by portion, each in an order that a crash may cut anywhere.

1. One transaction takes a portion out of the index, discards what was still to be sent of it (if
   the order is forced), lets the study's tombstone grow, and notes the paths in `removals`.
2. The index is synced: from here on the portion is gone, whatever happens.
3. The files are unlinked, and the directories that named them synced.
4. The next transaction forgets the notes.

Whoever takes the journals in at a start unlinks what is noted (engine/intake/intake.py), so a crash
behind 1 is gone on with there. The order itself lies on the disk until it is answered, and goes on
with what is left. A sync that failed leaves the notes: the files are unlinked again.

Nothing is removed that a replay could bring back: `settled` answers whether all journals have been
checkpointed since the record was taken in (`Intake.is_settled`).
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from engine.files.tree import StoreTree, sync_directory
from engine.index import tombstones
from engine.index.batch import Batch
from engine.index.environment import View
from engine.index.pins import drop_pin
from engine.index.records import Study
from engine.index.tombstones import Removed, Tombstone
from engine.index.writer import IndexWriter
from engine.limits import removal_portion_max
from engine.outbox.delivered import DELIVERED_INSTANCES, DeliveredOf, row_keys
from engine.outbox.outbox import Outbox
from engine.removal.obstacles import never_delivered, obstacles_of, open_deliveries
from engine.removal.orders import Meant, Order, Outcome, Progress, meant
from engine.rules.routing import PREFETCH

Settled = Callable[[str, int], bool]  # journal, sequence
_COULD_COME_AGAIN: Final = "a journal that cannot be read just now could bring it back"


class _Portion(NamedTuple):
    """What a transaction did. `paths`: the files that are to go."""

    outcome: Outcome
    paths: list[str]


class Remover:
    """The removals of one data directory; of the holder of the writer's lock."""

    def __init__(self, writer: IndexWriter, tree: StoreTree, settled: Settled) -> None:
        self._writer = writer
        self._reader = writer.reader()
        self._tree = tree
        self._settled = settled
        self._gone: list[str] = []  # out of the index; their files are still to go
        self._unlinked: list[str] = []  # durably; their notes are still to go
        self._order = ""  # of which the following was read
        self._delivered: dict[int, DeliveredOf] = {}  # by study
        self._up_to_ns = 0

    def step(self, order: Order, now_ns: int) -> Outcome:
        """Go on with an order by one portion. Errors of the disk and of LMDB leave as they are: the
        same step may be tried again."""
        self._unlink()
        if self._order != order.name:
            with self._reader.view() as view:
                answered = self._look(view, order)
            if answered is not None:
                return answered
            self._order = order.name
        forgotten = list(self._unlinked)

        def work(batch: Batch) -> _Portion:
            batch.forget_removals(forgotten)
            return self._portion(batch, order, now_ns)

        portion = self._writer.commit(work)
        del self._unlinked[: len(forgotten)]
        self._gone += portion.paths
        self._unlink()
        return portion.outcome

    def settle(self) -> None:
        """Let nothing be left of what was removed; for when no further step follows soon."""
        self._unlink()
        if self._unlinked:
            forgotten = list(self._unlinked)
            self._writer.commit(lambda batch: batch.forget_removals(forgotten))
            self._unlinked = []

    def _unlink(self) -> None:
        if not self._gone:
            return
        self._writer.sync()  # a power cut must not bring a row back whose file is gone
        with self._reader.view() as view:
            # Where the disk refused before, a new instance may have got the place meanwhile.
            self._gone = [path for path in self._gone if not view.lacks("removals", path.encode())]
        for path in self._gone:
            self._tree.remove(path)
        for directory in {_nearest(self._tree.root, path) for path in self._gone}:
            sync_directory(directory)
        self._unlinked += self._gone
        self._gone = []

    # --- before anything goes ---
    def _look(self, view: View, order: Order) -> Outcome | None:
        """All or nothing: the whole of it is looked at before the first of it goes."""
        begun = tombstones.removed_by(view, order.name)
        if begun is not None and (begun.uid, begun.patient) != (order.uid, order.patient):
            return Outcome(Progress.REFUSED, texts=("another order has had this name",))
        if begun is not None and begun.ended:
            return _outcome(Progress.DONE, begun)  # and a crash came before the answer
        found = list(meant(view, order))
        self._delivered = {}
        for number in {one.study_number for one in found}:
            study = view.study(number)
            self._delivered[number] = DeliveredOf(view, "" if study is None else study.uid)
        if begun is not None:
            self._up_to_ns = begun.up_to_ns
            return None
        if not found:
            return Outcome(Progress.REFUSED, texts=("there is nothing of it here",))
        self._up_to_ns = max(one.instance.received_ns for one in found)
        if order.up_to_ns and order.up_to_ns < self._up_to_ns:
            return Outcome(Progress.REFUSED, texts=("something of it has come meanwhile",))
        texts = self._against(view, order, found)
        return Outcome(Progress.REFUSED, texts=texts) if texts else None

    def _against(self, view: View, order: Order, found: Sequence[Meant]) -> tuple[str, ...]:
        """What stands against it, in words."""
        standing = obstacles_of(view, order, found)
        if not (order.forced or order.undelivered):
            standing += never_delivered(view, order, found, self._delivered)
        return tuple(one.text for one in standing if one.firm or not order.forced)

    # --- in the transaction ---
    def _portion(self, batch: Batch, order: Order, now_ns: int) -> _Portion:
        found = list(islice(self._meant(batch, order), removal_portion_max))
        removed = tombstones.removed_by(batch, order.name)
        if removed is None:
            removed = Removed(now_ns, order.who, order.why, order.level, order.uid, order.patient)
            removed.up_to_ns = self._up_to_ns
        texts = tuple(
            one.text for one in obstacles_of(batch, order, found) if one.firm or not order.forced
        )
        if texts:
            return _Portion(_outcome(Progress.REFUSED, removed, texts), [])
        if not all(self._settled(one.instance.journal, one.instance.sequence) for one in found):
            return _Portion(_outcome(Progress.WAITS, removed, (_COULD_COME_AGAIN,)), [])
        paths = self._take_out(batch, order, found, removed, now_ns)
        removed.ended = next(self._meant(batch, order), None) is None
        tombstones.note_removed(batch, order.name, removed)
        progress = Progress.DONE if removed.ended else Progress.GOES_ON
        return _Portion(_outcome(progress, removed), paths)

    def _meant(self, view: View, order: Order) -> Iterator[Meant]:
        """What is left of it; not what came since."""
        return (one for one in meant(view, order) if one.instance.received_ns <= self._up_to_ns)

    def _take_out(
        self, batch: Batch, order: Order, found: Sequence[Meant], removed: Removed, now_ns: int
    ) -> list[str]:
        paths = []
        open_ones = [one.number for one in open_deliveries(batch, order, found)]
        removed.discarded += len(Outbox.within(batch).discard(open_ones, now_ns))
        for number in dict.fromkeys(one.study_number for one in found):
            study = batch.study(number)
            assert study is not None, "an instance's study is in the index"
            stone = _stone(tombstones.tombstone_of(batch, study), order, study, now_ns)
            for one in found:
                if one.study_number == number:
                    paths.append(self._take_one(batch, order, one, stone, removed))
            stone.whole = not any(
                True for series, _ in batch.series_of(number) for _ in batch.instances_of(series)
            )
            tombstones.put_tombstone(batch, stone)
            if stone.whole:
                drop_pin(batch, study)
        return paths

    def _take_one(
        self, batch: Batch, order: Order, one: Meant, stone: Tombstone, removed: Removed
    ) -> str:
        """Take an instance out of the index; the path of its file, which is noted."""
        instance = one.instance
        path = batch.path_of(one.series, instance)
        stone.last_received_ns = max(stone.last_received_ns, instance.received_ns)
        stone.fetched |= instance.journal == PREFETCH
        delivered = self._delivered.get(one.study_number)
        times = {} if delivered is None else delivered.of(batch, instance, order.patient)
        for counted in (stone, removed):
            counted.instances += 1
            counted.file_bytes += instance.file_bytes
            tombstones.add_delivered(counted.delivered, times)
        for key in row_keys(instance.sop_instance_uid, order.patient):
            batch.drop_row(DELIVERED_INSTANCES, key)
        batch.remove_instance(instance.sop_instance_uid, instance.mark)
        batch.note_removal(path)
        return path


def _stone(before: Tombstone | None, order: Order, study: Study, now_ns: int) -> Tombstone:
    """The tombstone that grows: a new one, unless it is of another part of what was here."""
    if before is None or before.whole:
        stone = Tombstone(study, now_ns, order.who, order.why, order.name)
        if before is not None:
            stone.earlier = before.earlier | before.delivered
            stone.fetched = before.fetched
        return stone
    before.when_ns, before.who, before.why, before.order = now_ns, order.who, order.why, order.name
    return before


def _outcome(progress: Progress, removed: Removed, texts: tuple[str, ...] = ()) -> Outcome:
    return Outcome(
        progress,
        removed.instances,
        removed.file_bytes,
        removed.discarded,
        removed.delivered,
        texts,
    )


def _nearest(root: Path, path: str) -> Path:
    """The directory that named a file, or that named what was removed with it."""
    directory = (root / path).parent
    while directory != root and not directory.is_dir():
        directory = directory.parent
    return directory
