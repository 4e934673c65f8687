"""One question to an archive: an association of its own, a request, the responses to it.

For the retriever's one thread. Whatever waits here wakes for three things: the archive's word, the
silence that is too long, and the order to stop. Where a request is under way, the order sends a
C-CANCEL and gives the archive a moment to heed it. Where an association is only being opened, or
released, there is nothing to cancel, and it is left at once.
"""

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from engine import limits
from engine.dictionary.uids import (
    explicit_vr_little_endian,
    implicit_vr_little_endian,
    is_explicit_vr,
)
from engine.dimse.commands import CommandField
from engine.dimse.requests import Response, StatusClass, encode_cancel_request
from engine.prefetch.plan import AskFailure
from engine.settings.timeouts import Timeouts
from engine.upper_layer.pdus import ProposedContext
from workers.scu.association import FailureKind, Interruption, Peer, ScuAssociation, ScuFailure

_CONTEXT: Final = 1
_SYNTAXES: Final = (implicit_vr_little_endian, explicit_vr_little_endian)  # table 4.2-42
_tick_s: Final = 0.5


class Interrupted(Exception):  # noqa: N818 - an order, not an error
    """The retriever is to end: the job is given back."""


class Stop(Interruption):
    """The order to end, for a thread that waits for sockets too. Given once."""

    def __init__(self) -> None:
        super().__init__()
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def set(self) -> None:
        super().set()
        os.eventfd_write(self.descriptor, 1)

    def close(self) -> None:
        os.close(self.descriptor)


def open_association(
    peer: Peer, calling_ae_title: str, sop_class: str, timeouts: Timeouts, stop: Stop
) -> ScuAssociation:
    """With one context. ScuFailure: there is none to be had. Interrupted: by the order to stop."""
    context = ProposedContext(_CONTEXT, sop_class, _SYNTAXES)
    try:
        return ScuAssociation.open(peer, calling_ae_title, (context,), timeouts, stop)
    except ScuFailure as failure:
        if failure.kind is FailureKind.INTERRUPTED:
            raise Interrupted from failure
        raise


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
            if response.outcome is not StatusClass.PENDING:
                return

    def cancel(self) -> None:
        """Ask the archive to leave off; what it says to it is still waited for, but not long."""
        self._cancelled = True
        self.association.send_message(_CONTEXT, encode_cancel_request(self.message_id), None)

    def cancel_and_release(self) -> None:
        """Leave off in the middle of the answers: what still comes is passed over, but not long."""
        self.cancel()
        deadline = time.monotonic() + limits.cancel_timeout_s
        for response in self.responses():
            if response.outcome is not StatusClass.PENDING:
                self.release()
            elif time.monotonic() > deadline:
                return  # whoever holds the association aborts it

    def release(self) -> None:
        """The final response came: how the archive takes its leave makes no difference to it."""
        with suppress(ScuFailure), self._stop.waking(self.association.interrupt):
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
