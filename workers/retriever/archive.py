"""An archive as a prefetch asks it, over the network, with the index beside it.

The blocking half of the retriever: each query and each retrieval is an association of its own
(4.2.5, `workers/retriever/conversation.py`), in the retriever's one thread. A retrieval is not
silent as long as bytes arrive at `prefetch_scp`.
"""

import time
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final, NamedTuple

from engine import limits
from engine.dictionary.query_level import QueryLevel
from engine.dimse import identifiers as query_identifiers
from engine.dimse.command_set import CommandOddity
from engine.dimse.commands import CommandField
from engine.dimse.requests import (
    Response,
    StatusClass,
    encode_find_request,
    encode_move_request,
    status_words,
)
from engine.index.freshness import Mark
from engine.intake.prefetched import Arrivals, instance_of_patient
from engine.prefetch.jobs import PrefetchJobs
from engine.prefetch.plan import AskFailure, status_failure
from engine.prefetch.records import Job, StudyProgress
from engine.prefetch.retrieval import Moved
from engine.prefetch.store import PrefetchStore
from engine.settings.timeouts import Timeouts
from engine.telemetry.counters import CounterBlock
from engine.telemetry.metrics import Counter
from workers.retriever.conversation import Conversation, Interrupted, Stop, open_association
from workers.scu.association import FailureKind, Peer, ScuFailure

_OPTIONAL_KEYS_IGNORED: Final = 0xFF01
_look_s: Final = 0.05
# An archive that cannot be talked to at all; after anything else the next job may fare better.
_UNREACHABLE: Final = frozenset(
    {
        FailureKind.NAME,
        FailureKind.UNREACHABLE,
        FailureKind.REFUSED,
        FailureKind.TIMEOUT,
        FailureKind.TLS,
        FailureKind.REJECTED,
    }
)


class Terms(NamedTuple):
    """How archives are asked: titles and patience; who gets what they send."""

    calling_ae_title: str
    destination_ae_title: str
    timeouts: Timeouts
    query_timeout_s: float  # for the next response of a C-FIND
    retrieve_timeout_s: float
    to: tuple[str, ...]  # names of remote AEs
    character_sets: tuple[str, ...] = ()  # that it is asked in, beyond the statement's


class RemoteArchive:
    """One archive during one attempt at one job."""

    def __init__(
        self,
        peer: Peer,
        terms: Terms,
        job: Job,
        store: PrefetchStore,
        receiving: CounterBlock,
        stop: Stop,
        tell_odd: Callable[[frozenset[CommandOddity]], None],
    ) -> None:
        self._tell_odd = tell_odd  # what was odd in the answers on one association
        self._peer = peer
        self._terms = terms
        self._job = job
        self._store = store
        self._receiving = receiving  # of prefetch_scp
        self._stop = stop
        self._shown = 0.0

    # --- asking ----------------------------------------------------------------------------------
    def find(self, level: QueryLevel, keys: Mapping[int, str]) -> list[dict[int, str]]:
        """One C-FIND: all answers. AskFailure for whatever else comes of it."""
        matches: list[dict[int, str]] = []
        conversation = self._open(query_identifiers.study_root_find, self._terms.query_timeout_s)
        with self._heard(conversation):
            try:
                command = encode_find_request(conversation.message_id, conversation.sop_class)
                self._ask(conversation, CommandField.C_FIND, command, level, keys)
                for response in conversation.responses():
                    if response.outcome is StatusClass.PENDING:
                        if len(matches) >= limits.find_matches_max:
                            conversation.cancel_and_release()
                            raise AskFailure(
                                f"C-FIND on {level.name.lower()} level has more than "
                                f"{limits.find_matches_max} answers",
                                permanent=True,
                            )
                        if response.status == _OPTIONAL_KEYS_IGNORED:
                            self._note("the archive does not support all keys (FF01)")
                        data = response.data or b""
                        matches.append(
                            query_identifiers.decode_identifier(data, conversation.explicit_vr)
                        )
                    elif response.outcome is not StatusClass.SUCCESS:
                        conversation.release()
                        raise self._failure("C-FIND", level, response)
            except ScuFailure as failure:
                raise _in_words(f"C-FIND on {level.name.lower()} level", failure) from failure
            conversation.release()
        return matches

    def move(self, level: QueryLevel, keys: Mapping[int, str]) -> Moved:
        """One C-MOVE to PrefetchAP, followed to its end."""
        moved = Moved(0, 0, 0)
        step = self._job.progress.step
        conversation = self._open(
            query_identifiers.study_root_move, self._terms.retrieve_timeout_s, self._arrivals
        )
        with self._heard(conversation):
            try:
                command = encode_move_request(
                    conversation.message_id,
                    conversation.sop_class,
                    self._terms.destination_ae_title,
                )
                self._ask(conversation, CommandField.C_MOVE, command, level, keys)
                for response in conversation.responses():
                    moved = _counted(response, moved)
                    if response.outcome is StatusClass.PENDING:
                        left = response.remaining
                        self._job.progress.step = (
                            f"{step}: {sum(moved)} sub-operations"
                            f"{'' if left is None else f' of {sum(moved) + left}'}"
                        )
                        self.show()
                    elif response.outcome not in (StatusClass.SUCCESS, StatusClass.WARNING):
                        conversation.release()
                        raise self._failure("C-MOVE", level, response)
                    elif response.status:
                        self._note(f"a C-MOVE ended with {status_words(response.status)}")
            except ScuFailure as failure:
                raise _in_words(f"C-MOVE on {level.name.lower()} level", failure) from failure
            conversation.release()
        if moved.failed:
            self._note(f"instances that the archive could not send: {moved.failed}")
        self._job.progress.step = step
        return moved

    def _open(
        self, sop_class: str, silence_s: float, signs: Callable[[], int] | None = None
    ) -> Conversation:
        try:
            association = open_association(
                self._peer,
                self._terms.calling_ae_title,
                sop_class,
                self._terms.timeouts,
                self._stop,
            )
        except ScuFailure as failure:
            raise _in_words(f"{self._peer.name} could not be asked", failure) from failure
        return Conversation(association, sop_class, silence_s, signs, self._stop)

    @contextmanager
    def _heard(self, conversation: Conversation) -> Iterator[None]:
        """The conversation, and what is told of its answers afterwards, however it ended."""
        try:
            with conversation.association:
                yield
        finally:
            self._tell_odd(conversation.association.oddities)

    def _ask(
        self,
        conversation: Conversation,
        field: CommandField,
        command: bytes,
        level: QueryLevel,
        keys: Mapping[int, str],
    ) -> None:
        identifier = query_identifiers.encode_identifier(
            level,
            keys,
            conversation.explicit_vr,
            self._job.ask.character_set,
            self._terms.character_sets,
        )
        conversation.ask(field, command, identifier)

    def _failure(self, operation: str, level: QueryLevel, response: Response) -> Exception:
        if response.outcome is StatusClass.CANCEL and self._stop.is_set():
            return Interrupted()
        return status_failure(operation, level, response.status, response.comment)

    # --- the index -------------------------------------------------------------------------------
    def here(self, uids: Collection[str]) -> set[str]:
        """Which of these instances the index has, with what was acknowledged until now."""
        self._wait_for_index()
        return self._indexed(uids)

    def _wait_for_index(self) -> None:
        deadline = time.monotonic() + limits.index_wait_s
        mark = Mark(self._receiving)
        while not mark.is_reached():
            if time.monotonic() > deadline or self._stop.wait(_look_s):
                return

    def arrived(self, uids: Collection[str]) -> set[str]:
        """As here(), once all came, or nothing has come for a while and nothing is on its way.

        Raises AskFailure when the index does not get on: then nobody knows what came.
        """
        found: set[str] = set()
        wanted = set(uids)
        last, quiet_since = -1, time.monotonic()
        deadline = quiet_since + self._terms.retrieve_timeout_s
        while True:
            mark = Mark(self._receiving)
            arrivals = self._arrivals()
            behind = not mark.is_reached()
            found |= self._indexed(wanted - found)
            now = time.monotonic()
            if found == wanted or self._stop.is_set():
                return found
            if arrivals != last or behind:
                last, quiet_since = arrivals, now
            if now - quiet_since >= limits.prefetch_settle_s:
                return found
            if behind and now > deadline:
                raise AskFailure("the index does not take in what arrived")
            self._stop.wait(_look_s)

    def _indexed(self, uids: Collection[str]) -> set[str]:
        with self._store.view() as view:
            patient_id = self._job.ask.patient_id
            return {uid for uid in uids if instance_of_patient(view, uid, patient_id)}

    def _arrivals(self) -> int:
        """Grows with every byte that arrives at PrefetchAP."""
        return self._receiving.get(Counter.RECEIVED_BYTES)

    def refused(self) -> dict[str, int]:
        """What PrefetchAP has refused, by SOP class."""
        return self._receiving.refused()

    # --- what arrives and where it goes ----------------------------------------------------------
    def expect(self, study: StudyProgress) -> None:
        """From now on what arrives of a study goes where the rule says."""
        number, uid, to = self._job.number, study.study_uid, self._terms.to
        for name in self._job.ask.to:
            if name not in to:
                self._note(f"{name!a} is no remote AE any more: nothing is queued for it")
        # The time is taken inside: nothing may be indexed before it that was received after it.
        self._store.commit(
            lambda jobs: Arrivals.within(jobs).expect(number, uid, to, time.time_ns())
        )

    def pass_on(self, study: StudyProgress, uids: Collection[str]) -> None:
        """Queue what was here of these, a portion in one transaction with how far that has come:
        a crash neither repeats nor forgets one."""
        if not self._terms.to:
            return
        left = sorted(uid for uid in uids if uid > study.queued_to)
        for start in range(0, len(left), limits.outbox_portion_max):
            if self._stop.is_set():
                raise Interrupted
            portion = left[start : start + limits.outbox_portion_max]
            self._store.commit(partial(self._queue_portion, study, portion, study.queued))

    def _queue_portion(
        self, study: StudyProgress, uids: list[str], queued: int, jobs: PrefetchJobs
    ) -> None:
        now_ns = time.time_ns()
        made = Arrivals.within(jobs).queue_here(self._job, study, uids, now_ns)
        study.queued, study.queued_to = queued + made, uids[-1]
        jobs.record(self._job, now_ns)

    def unasked(self, promised: Container[str]) -> Iterator[str]:
        """What else PrefetchAP received while the job was under way."""
        self._wait_for_index()
        number, more = self._job.number, True
        while more:
            taken, more = self._store.commit(
                lambda jobs: Arrivals.within(jobs).take_arrivals(number, limits.outbox_portion_max)
            )
            yield from (uid for uid in taken if uid not in promised)

    # --- the job's progress ----------------------------------------------------------------------
    def record(self) -> None:
        """Write the job down."""
        now_ns = time.time_ns()
        self._store.commit(lambda jobs: jobs.record(self._job, now_ns))
        self._shown = time.monotonic()

    def show(self) -> None:
        """The same for those who look, not more often than they can."""
        if time.monotonic() - self._shown >= limits.prefetch_progress_s:
            self.record()

    def _note(self, text: str) -> None:
        notes = self._job.progress.notes
        if text not in notes and len(notes) < limits.prefetch_notes_max:
            notes.append(text)


def _counted(response: Response, before: Moved) -> Moved:
    """The archive's counts, where it sent some."""
    counts = (response.completed, response.failed, response.warnings)
    return Moved(*(old if new is None else new for new, old in zip(counts, before, strict=True)))


def _in_words(what: str, failure: ScuFailure) -> AskFailure:
    """A failure of the association as the job's."""
    return AskFailure(
        f"{what}: {failure.text}",
        permanent=failure.permanent,
        unreachable=failure.kind in _UNREACHABLE,
    )
