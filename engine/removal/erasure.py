"""What the index knows of a patient besides what is stored of him: erased, when he wants it.

Once his studies are removed there are left: corrections with their history, what messages said of
him, tombstones and the history of removals, deliveries with their copies, and prefetches. He is
meant by one identifier with its issuer, as it was received. What is shown under that identifier by
a correction, but was received under another, is another patient here: it is told, not touched.

What is to go is looked for in a view, which keeps nobody waiting, and goes in portions. Each may be
repeated; what came meanwhile is found by looking once more.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from engine.dictionary import matching
from engine.dictionary.patient_mark import patient_identity, patient_mark
from engine.files.tree import sync_directory
from engine.index import corrections, expected, tombstones
from engine.index.batch import Batch
from engine.index.corrections import Target
from engine.index.environment import View
from engine.index.records import PATIENT_ID_WORD, word_prefix
from engine.index.tombstones import Removed
from engine.index.writer import IndexWriter
from engine.limits import removal_portion_max
from engine.outbox.delivered import DELIVERED_INSTANCES
from engine.outbox.outbox import Outbox
from engine.outbox.records import Delivery, State, decode_delivery
from engine.outbox.spool import OUTBOX_DIRECTORY, spooled_path
from engine.outbox.view import OutboxView
from engine.prefetch.jobs import PrefetchJobs
from engine.prefetch.records import ENDED
from engine.removal.orders import Order, Outcome, Progress

Work = Callable[[Batch], None]
CORRECTIONS: Final = "corrections"
HISTORY: Final = "lines of their history"
MESSAGES: Final = "notes of messages"
TOMBSTONES: Final = "tombstones"
REMOVALS: Final = "lines of the history of removals"
DELIVERIES: Final = "deliveries"
COPIES: Final = "copies in outbox/"
PREFETCHES: Final = "prefetches"


class _Piece(NamedTuple):
    """One thing that goes. `file`: the copy that a delivery names."""

    kind: str
    work: Work
    file: str = ""


class Eraser:
    """For the holder of the writer's lock."""

    def __init__(self, data_directory: Path, writer: IndexWriter) -> None:
        self._data_directory = data_directory
        self._writer = writer
        self._reader = writer.reader()
        self._copies: set[str] = set()  # their deliveries are gone
        self._order = ""
        self._erased: dict[str, int] = {}
        self._pieces: list[_Piece] = []

    def step(self, order: Order, now_ns: int) -> Outcome:
        """Go on with an order of the level "patient" by one portion."""
        if self._order != order.name:
            self._order, self._erased, self._pieces = order.name, {}, []
        if not self._pieces:
            with self._reader.view() as view:
                texts = tuple(_against(view, order))
                self._pieces = [] if texts else list(_pieces(view, order))
            if texts:
                return Outcome(Progress.REFUSED, texts=texts, erased=self._erased)
        portion = self._pieces[:removal_portion_max]

        def work(batch: Batch) -> None:
            for piece in portion:
                piece.work(batch)
            batch.advance_generation()  # records that others keep may show what was corrected
            if not portion:
                # That it was done is kept, and nothing of whom.
                line = Removed(now_ns, order.who, "", "patient", "", "", ended=True)
                tombstones.note_removed(batch, order.name, line)

        self._writer.commit(work)
        if not portion:
            self._writer.sync()  # what is said to be gone does not come back
        del self._pieces[: len(portion)]
        for piece in portion:
            self._erased[piece.kind] = self._erased.get(piece.kind, 0) + 1
        self._copies |= {piece.file for piece in portion if piece.file}
        self._drop_copies()
        progress = Progress.GOES_ON if portion else Progress.DONE
        return Outcome(progress, erased=self._erased)

    def _drop_copies(self) -> None:
        """As engine/outbox/spool.py does it: no delivery comes back whose copy is gone."""
        if not self._copies:
            return
        with self._reader.view() as view:
            outbox = OutboxView.within(view)
            finished = [file for file in self._copies if not outbox.names_file(file)]
        self._writer.sync()
        for file in finished:
            with suppress(FileNotFoundError):
                spooled_path(self._data_directory, file).unlink()
                self._erased[COPIES] = self._erased.get(COPIES, 0) + 1
        if finished:
            sync_directory(self._data_directory / OUTBOX_DIRECTORY)
        self._copies.clear()


# --- what stands against it ----------------------------------------------------------------------
def _against(view: View, order: Order) -> Iterator[str]:
    if view.patient_number(order.uid, order.issuer) is not None:
        yield "something of this patient is stored: remove that first"
    sending = sum(1 for one in _deliveries(view, order) if one.state is State.SENDING)
    if sending:
        yield f"{sending} deliveries are under way"
    for job in PrefetchJobs.within(view).unfinished():
        if job.ask.patient_id == matching.pid(order.uid):
            yield f"prefetch {job.number} has not ended"


# --- what there is -------------------------------------------------------------------------------
def _pieces(view: View, order: Order) -> Iterator[_Piece]:
    """All that is known of a patient, a piece at a time; tombstones last, for they say which
    studies were his."""
    yield from _corrected(view, order)
    yield from _said(view, order)
    for delivery in _deliveries(view, order):
        yield _Piece(DELIVERIES, _discarding(delivery.number), delivery.file)
    ending = b"\0" + order.patient.encode("ascii")
    for key, _ in view.keys_from(DELIVERED_INSTANCES, b""):
        if key.endswith(ending):
            yield _Piece(DELIVERIES, _dropping(DELIVERED_INSTANCES, key))
    for job in PrefetchJobs.within(view).jobs():
        if job.ask.patient_id == matching.pid(order.uid) and job.state in ENDED:
            yield _Piece(PREFETCHES, _forgetting_job(job.number))
    for key, value in view.keys_from("removed", b""):
        if tombstones.decode_removed(value).patient == order.patient:
            yield _Piece(REMOVALS, _dropping("removed", key))
    for key, value in view.keys_from("tombstones", b""):
        if tombstones.decode_tombstone(value).study.patient_mark == order.patient:
            yield _Piece(TOMBSTONES, _dropping_tombstone(key))


def _dropping(table: str, key: bytes) -> Work:
    return lambda batch: batch.drop_row(table, key)


def _discarding(number: int) -> Work:
    def discard(batch: Batch) -> None:
        Outbox.within(batch).discard([number], 0)

    return discard


def _forgetting_job(number: int) -> Work:
    return lambda batch: PrefetchJobs.within(batch).forget(number)


def _dropping_tombstone(key: bytes) -> Work:
    return lambda batch: tombstones.drop_tombstone(batch, key)


def _forgetting_expected(key: bytes) -> Work:
    def forget(batch: Batch) -> None:
        batch.drop_expected(key)

    return forget


def _studies_of(view: View, order: Order) -> set[str]:
    """UIDs of studies that were his alone, by what is remembered of them."""
    own: set[str] = set()
    for _, value in view.keys_from("tombstones", b""):
        study = tombstones.decode_tombstone(value).study
        stones = tombstones.tombstones_of_uid(view, study.uid)
        alone = all(stone.study.patient_mark == order.patient for stone in stones)
        if alone and study.uid and not view.studies_of_uid(study.uid):
            own.add(study.uid)
    return own


def _deliveries(view: View, order: Order) -> Iterator[Delivery]:
    """His, by his mark; what 0.2.0 queued, by the study."""
    own = _studies_of(view, order)
    for _, value in view.keys_from("deliveries", b""):
        delivery = decode_delivery(value)
        if delivery.patient == order.patient or (
            not delivery.patient and delivery.study_uid in own
        ):
            yield delivery


def _corrected(view: View, order: Order) -> Iterator[_Piece]:
    """Corrections, before the history that says of whom they are: a crash may come between."""
    identity = patient_identity(order.uid, order.issuer)
    own = _studies_of(view, order)
    keys: set[bytes] = {corrections.key_of(Target("patient", order.uid, order.issuer))}
    history: list[_Piece] = []
    for key, value in view.keys_from("edits", b""):
        target = corrections.decode_edit(value).target
        whose = target.identifier if target.whose == "patient" else target.patient
        unnamed = whose is None and target.whose == "study" and target.identifier in own
        if unnamed or (whose is not None and patient_identity(whose, target.issuer) == identity):
            keys.add(corrections.key_of(target))
            history.append(_Piece(HISTORY, _dropping("edits", key)))
    for key, uid in view.keys_with_prefix("given_studies", corrections.given_prefix(identity)):
        keys.add(corrections.key_of(Target("study", uid.decode(), order.issuer, order.uid)))
        history.append(_Piece(CORRECTIONS, _dropping("given_studies", key)))
    for key in sorted(keys):
        for table in ("corrections", "correction_times"):
            if not view.lacks(table, key):
                yield _Piece(CORRECTIONS, _dropping(table, key))
    yield from history


def _said(view: View, order: Order) -> Iterator[_Piece]:
    """What messages said of him, and of whom he is."""
    keys = [expected.patient_key(order.uid, order.issuer)]
    prefix = expected.order_prefix(order.uid, order.issuer)
    keys += [key for key, _ in view.keys_with_prefix("expected", prefix)]
    for key in keys:
        if not view.lacks("expected", key):
            yield _Piece(MESSAGES, _forgetting_expected(key))
    identity = patient_identity(order.uid, order.issuer)
    prefix = expected.alias_prefix(order.uid, order.issuer)
    for key, value in view.keys_from("patient_aliases", b""):
        if key.startswith(prefix) or patient_identity(*expected.decode_alias(value)) == identity:
            yield _Piece(MESSAGES, _dropping("patient_aliases", key))


def shown_as(view: View, patient_id: str, issuer: str) -> list[tuple[str, str]]:
    """(Patient ID, issuer) as received, of studies of others that a correction shows under this
    identifier."""
    prefix = word_prefix(PATIENT_ID_WORD, matching.pid(patient_id)) + b"\0"
    own = patient_mark(patient_id, issuer)
    studies = [view.study(number) for number in view.study_numbers(prefix)]
    others = [study for study in studies if study is not None and study.patient_mark != own]
    patients = [corrections.patient_of(study) for study in others]
    return list(dict.fromkeys((patient.identifier, patient.issuer) for patient in patients))
