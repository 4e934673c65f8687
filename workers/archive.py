"""An archive as a prefetch asks it, over the network, with the index beside it.

The blocking half of the retriever: each query and each retrieval is an association of its own
(4.2.5), in the retriever's one thread. What waits here wakes for three things: the archive's word,
the silence that is too long, and the order to stop, which sends a C-CANCEL and gives the archive a
moment to answer it. A retrieval is not silent as long as bytes arrive at `prefetch_scp`.
"""

import os
import select
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from engine import limits, query_identifiers
from engine.associate import ProposedContext
from engine.counters import CounterBlock
from engine.dimse import CommandField
from engine.dimse_requests import (
    Outcome,
    Response,
    encode_cancel_request,
    encode_find_request,
    encode_move_request,
    status_words,
)
from engine.metrics import Counter, Gauge
from engine.prefetch_records import Job
from engine.prefetch_store import PrefetchStore
from engine.query import QueryLevel
from engine.retrieval import Moved
from engine.retrieval_plan import AskFailure, status_failure
from engine.uids import explicit_vr_little_endian, implicit_vr_little_endian, is_explicit_vr
from workers.scu import FailureKind, Peer, ScuAssociation, ScuFailure

_CONTEXT: Final = 1
_SYNTAXES: Final = (implicit_vr_little_endian, explicit_vr_little_endian)  # table 4.2-42
_OPTIONAL_KEYS_IGNORED: Final = 0xFF01
_look_s: Final = 0.05
_tick_s: Final = 0.5
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


class Interrupted(Exception):  # noqa: N818 - an order, not an error
    """The retriever is to end: the job is given back."""


class Stop:
    """The order to end, for a thread that waits for sockets. Given once."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def set(self) -> None:
        self._event.set()
        os.eventfd_write(self.descriptor, 1)

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        return self._event.wait(seconds)

    def close(self) -> None:
        os.close(self.descriptor)


class Terms(NamedTuple):
    """How archives are asked: titles and patience."""

    calling_ae_title: str
    destination_ae_title: str
    association_timeout_s: float
    query_timeout_s: float
    retrieve_timeout_s: float


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
    ) -> None:
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
        with conversation.association:
            try:
                command = encode_find_request(conversation.message_id, conversation.sop_class)
                self._ask(conversation, CommandField.C_FIND, command, level, keys)
                for response in conversation.responses():
                    if response.outcome is Outcome.PENDING:
                        if len(matches) >= limits.find_matches_max:
                            conversation.cancel()
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
                    elif response.outcome is not Outcome.SUCCESS:
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
        with conversation.association:
            try:
                command = encode_move_request(
                    conversation.message_id,
                    conversation.sop_class,
                    self._terms.destination_ae_title,
                )
                self._ask(conversation, CommandField.C_MOVE, command, level, keys)
                for response in conversation.responses():
                    moved = _counted(response, moved)
                    if response.outcome is Outcome.PENDING:
                        left = response.remaining
                        self._job.progress.step = (
                            f"{step}: {sum(moved)} sub-operations"
                            f"{'' if left is None else f' of {sum(moved) + left}'}"
                        )
                        self.show()
                    elif response.outcome not in (Outcome.SUCCESS, Outcome.WARNING):
                        raise self._failure("C-MOVE", level, response)
                    elif response.status:
                        self._note(f"a C-MOVE ended with {status_words(response.status)}")
            except ScuFailure as failure:
                raise _in_words(f"C-MOVE on {level.name.lower()} level", failure) from failure
            conversation.release()
        if moved.failed:
            self._note(f"the archive could not send {moved.failed} instances")
        self._job.progress.step = step
        return moved

    def _open(
        self, sop_class: str, silence_s: float, signs: Callable[[], int] | None = None
    ) -> "Conversation":
        if self._stop.is_set():
            raise Interrupted
        context = ProposedContext(_CONTEXT, sop_class, _SYNTAXES)
        try:
            association = ScuAssociation.open(
                self._peer,
                self._terms.calling_ae_title,
                (context,),
                self._terms.association_timeout_s,
            )
        except ScuFailure as failure:
            raise _in_words(f"{self._peer.name} could not be asked", failure) from failure
        return Conversation(association, sop_class, silence_s, signs, self._stop)

    def _ask(
        self,
        conversation: "Conversation",
        field: CommandField,
        command: bytes,
        level: QueryLevel,
        keys: Mapping[int, str],
    ) -> None:
        identifier = query_identifiers.encode_identifier(
            level, keys, conversation.explicit_vr, self._job.ask.character_set
        )
        conversation.ask(field, command, identifier)

    def _failure(self, operation: str, level: QueryLevel, response: Response) -> Exception:
        if response.outcome is Outcome.CANCEL and self._stop.is_set():
            return Interrupted()
        return status_failure(operation, level, response.status, response.comment)

    # --- the index -------------------------------------------------------------------------------
    def here(self, uids: Collection[str]) -> set[str]:
        """Which of these instances the index has, with what was acknowledged until now."""
        deadline = time.monotonic() + limits.index_wait_s
        acknowledged = self._receiving.get(Gauge.JOURNAL_DURABLE_SEQUENCE)
        while self._receiving.get(Gauge.JOURNAL_APPLIED_SEQUENCE) < acknowledged:
            if time.monotonic() > deadline or self._stop.wait(_look_s):
                break
        return self._indexed(uids)

    def arrived(self, uids: Collection[str]) -> set[str]:
        """As here(), once all came, or nothing has come for a while and nothing is on its way.

        Raises AskFailure when the index does not get on: then nobody knows what came.
        """
        found: set[str] = set()
        wanted = set(uids)
        last, quiet_since = -1, time.monotonic()
        deadline = quiet_since + self._terms.retrieve_timeout_s
        while True:
            acknowledged = self._receiving.get(Gauge.JOURNAL_DURABLE_SEQUENCE)
            arrivals = self._arrivals()
            behind = self._receiving.get(Gauge.JOURNAL_APPLIED_SEQUENCE) < acknowledged
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
            return {uid for uid in uids if view.instance_key(uid) is not None}

    def _arrivals(self) -> int:
        """Grows with every byte that arrives at PrefetchAP."""
        return self._receiving.get(Counter.RECEIVED_BYTES)

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


class Conversation:
    """One request and its responses on an association of its own."""

    def __init__(
        self,
        association: ScuAssociation,
        sop_class: str,
        silence_s: float,
        signs: Callable[[], int] | None,
        stop: Stop,
    ) -> None:
        self.association = association
        self.sop_class = sop_class
        self.explicit_vr = is_explicit_vr(association.accepted[_CONTEXT].transfer_syntax)
        self.message_id = association.next_message_id()
        self._silence_s = silence_s
        self._signs = signs  # of life, beside responses: a number that changes
        self._stop = stop
        self._field = CommandField.C_FIND
        self._cancelled = False

    def ask(self, field: CommandField, command: bytes, identifier: bytes) -> None:
        """Send the request."""
        self._field = field
        self.association.send_message(_CONTEXT, command, identifier)

    def responses(self) -> Iterator[Response]:
        """All responses, the final one last. AskFailure after too long a silence."""
        while True:
            left_s = self._await()
            response = self.association.receive_response(self._field, self.message_id, left_s)
            if self._stop.is_set() and not self._cancelled:
                self.cancel()
            yield response
            if response.outcome is not Outcome.PENDING:
                return

    def cancel(self) -> None:
        """Ask the archive to leave off; what it says to it is still waited for, but not long."""
        self._cancelled = True
        self.association.send_message(_CONTEXT, encode_cancel_request(self.message_id), None)

    def release(self) -> None:
        """The final response came: how the archive takes its leave makes no difference to it."""
        with suppress(ScuFailure):
            self.association.release()

    def _await(self) -> float:
        """Until something can be read; the seconds that are left for it to be a whole message."""
        signs = self._signs() if self._signs is not None else 0
        deadline = time.monotonic() + self._patience()
        while not self.association.has_input:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                self._give_up()
            if self._stop.is_set() and not self._cancelled:
                self.cancel()
                deadline = time.monotonic() + self._patience()
                continue
            if self._readable(min(left_s, _tick_s)):
                break
            now_signs = self._signs() if self._signs is not None else 0
            if now_signs != signs and not self._cancelled:
                signs, deadline = now_signs, time.monotonic() + self._patience()

        return max(deadline - time.monotonic(), _tick_s)

    def _readable(self, seconds: float) -> bool:
        """Wait for the archive, and for the order to stop unless it has been heeded already."""
        connection = self.association.socket.fileno()
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        if not self._cancelled:
            poll.register(self._stop.descriptor, select.POLLIN)
        return any(descriptor == connection for descriptor, _ in poll.poll(seconds * 1000))

    def _patience(self) -> float:
        return limits.cancel_timeout_s if self._cancelled else self._silence_s

    def _give_up(self) -> None:
        """Tables 4.2-44 and 4.2-47: the association is aborted."""
        self.association.abort()
        if self._stop.is_set():
            raise Interrupted
        raise AskFailure(
            f"{self._field.name.replace('_', '-')}: no response within {self._silence_s:g} s; "
            "the association was aborted"
        )


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
