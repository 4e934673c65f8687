"""Associations that we ask for: blocking, over `engine.association.requestor` and
`workers.scu.transport`.

Used from the sender's and the retriever's threads and from commands; one `ScuAssociation` belongs
to one thread, and only `interrupt()` may be called from another. Each step (name, connect, TLS,
association, response, release) has its own whole time-out (`engine.settings.timeouts.py`), and
ends in it, or in a `ScuFailure` that says what failed, or in what was asked for.
"""

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, NoReturn, Self

from engine import limits
from engine.association.requestor import Requestor
from engine.dictionary import uids
from engine.dimse.command_set import CommandOddity
from engine.dimse.commands import CommandField, Status
from engine.dimse.requests import (
    Message,
    Response,
    encode_echo_request,
    encode_message,
    message_id_max,
)
from engine.dimse.response_template import ResponseTemplate
from engine.errors import PeerError
from engine.settings.timeouts import Timeouts
from engine.upper_layer.failure import FailureKind, ScuFailure
from engine.upper_layer.pdus import AnsweredContext, ProposedContext
from engine.upper_layer.proposal import propose
from native import _core
from workers.scu.transport import Interruption, Peer, connect, tls_words

__all__ = ["FailureKind", "Interruption", "Peer", "ScuAssociation", "ScuFailure", "connect"]

_instant_s: Final = 0.01  # that a step may take longer than its time-out


class ScuAssociation:
    """An established association. Leaving its `with` block without release() aborts it.

    Every failure closes the connection, after the A-ABORT that is due; what had been answered
    before stands. `socket` may be written to by whoever lays out P-DATA-TF PDUs himself (its
    descriptor is non-blocking); what goes wrong there is told by fault().
    """

    def __init__(
        self,
        connection: socket.socket,
        peer: Peer,
        calling_ae_title: str,
        contexts: Sequence[ProposedContext],
        timeouts: Timeouts,
        order: Interruption | None = None,
    ) -> None:
        """Associate over an open connection, which is closed if that fails (ScuFailure), or if
        there is an order to leave off meanwhile."""
        proposal = propose(peer.ae_title, calling_ae_title, tuple(contexts))
        self.socket = connection
        self.peer = peer
        self.proposed = proposal.contexts
        self.timeouts = timeouts
        self._message_id = 0
        self._template = ResponseTemplate()
        self._interrupted = False
        self._closing = threading.Lock()  # between close() and interrupt(): a descriptor's reuse
        self._requestor = requestor = Requestor(proposal, timeouts, time.monotonic())
        with (order or Interruption()).waking(self.interrupt):
            self._read(requestor.connected(time.monotonic()))
            while requestor.peer is None:
                self._read()
        if not requestor.accepted:
            self._leave_without_context()

    @classmethod
    def open(
        cls,
        peer: Peer,
        calling_ae_title: str,
        contexts: Sequence[ProposedContext],
        timeouts: Timeouts,
        order: Interruption | None = None,
    ) -> Self:
        """Look up, connect, shake hands, associate; at least one context is accepted. The order,
        given before or meanwhile, ends it with INTERRUPTED."""
        connection = connect(peer, timeouts.connect_s, order)
        return cls(connection, peer, calling_ae_title, contexts, timeouts, order)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()

    # --- what was agreed -------------------------------------------------------------------------

    @property
    def accepted(self) -> dict[int, AnsweredContext]:
        """The contexts that may be used, by identifier."""
        return self._requestor.accepted

    @property
    def pdu_bytes_max(self) -> int:
        """The longest P-DATA-TF PDU, without its six bytes of header, that may be sent."""
        return self._requestor.pdu_bytes_max

    @property
    def implementation(self) -> tuple[str, str]:
        """The peer's implementation class UID and version name, as they came."""
        user = self._requestor.peer
        assert user is not None, "it was accepted"
        return user.implementation_class, user.implementation_version

    @property
    def oddities(self) -> frozenset[CommandOddity]:
        """What was odd in the peer's command sets so far."""
        return self._requestor.oddities

    def context(self, abstract_syntax: str, transfer_syntax: str) -> int | None:
        """The context in which both may be used."""
        for identifier, answer in self._requestor.accepted.items():
            if (
                answer.transfer_syntax == transfer_syntax
                and self.proposed[identifier].abstract_syntax == abstract_syntax
            ):
                return identifier
        return None

    def syntaxes(self, abstract_syntax: str) -> set[str]:
        """The transfer syntaxes in which this one may be used."""
        return {
            answer.transfer_syntax
            for identifier, answer in self._requestor.accepted.items()
            if self.proposed[identifier].abstract_syntax == abstract_syntax
        }

    def refusals(self) -> str:
        """Why contexts were not accepted, in words."""
        return "; ".join(
            f"{self.proposed[identifier].abstract_syntax} in "
            f"{', '.join(self.proposed[identifier].transfer_syntaxes)}: {words}"
            for identifier, words in self._requestor.refused.items()
        )

    def _leave_without_context(self) -> NoReturn:
        text = f"no presentation context was accepted: {self.refusals()}"
        with contextlib.suppress(ScuFailure):  # how it is left makes no difference to that
            self.release()
        raise ScuFailure(FailureKind.NO_CONTEXT, text, permanent=True)

    # --- messages --------------------------------------------------------------------------------

    def next_message_id(self) -> int:
        """1 to 65535, and again."""
        self._message_id = self._message_id % message_id_max + 1
        return self._message_id

    def send_message(self, context_id: int, command_set: bytes, data: bytes | None) -> None:
        """A message with a small data set or none, in one write."""
        pdus = encode_message(context_id, command_set, data, self._requestor.pdu_bytes_max)
        self.announce_data()
        self._send(pdus, self.timeouts.response_s)

    def announce_data(self) -> None:
        """Before the caller writes P-DATA-TF PDUs to `socket`: ScuFailure if that cannot be."""
        if self._requestor.over:
            self._raise()
        self._requestor.data_request()

    @property
    def has_input(self) -> bool:
        """Whether receive_message() has something although `socket` may have nothing to read: a
        message that came with the one before it, what TLS has deciphered, or the failure that
        closed the connection."""
        if self._requestor.messages or self._requestor.over:
            return True
        return isinstance(self.socket, ssl.SSLSocket) and self.socket.pending() > 0

    def receive_message(self, timeout_s: float | None = None) -> Message:
        """The next message, whole within this time (None: the time-out of responses)."""
        requestor = self._requestor
        if not requestor.messages:
            seconds = self.timeouts.response_s if timeout_s is None else timeout_s
            requestor.expect(time.monotonic(), seconds)
            while not requestor.messages:
                self._read()
        return requestor.messages.popleft()

    def receive_response(
        self, field: CommandField, message_id: int, timeout_s: float | None = None
    ) -> Response:
        """The response to this request of ours; anything else is the peer's PROTOCOL failure."""
        message = self.receive_message(timeout_s)
        try:
            response = Response(message)
            response.check_answers(field, message_id)
        except PeerError as error:
            self._end(self._requestor.refuse(error))
            self._raise()
        return response

    def receive_stored(self, message_id: int, sop_instance_uid: str) -> tuple[int, str]:
        """The response to this C-STORE: (status, the peer's comment)."""
        requestor, whole, data = self._requestor, False, b""
        if not requestor.midway and not requestor.messages:
            requestor.expect(time.monotonic(), self.timeouts.response_s)
            data = self._take()
            if self._template.is_answer(data, message_id, sop_instance_uid):
                return Status.SUCCESS, ""
            self._hear(data)
            whole = len(requestor.messages) == 1 and not requestor.midway and not requestor.over
        response = self.receive_response(CommandField.C_STORE, message_id)
        if whole and response.status == Status.SUCCESS:
            self._template.learn(data, message_id, sop_instance_uid)
        return response.status, response.comment

    def echo(self) -> int:
        """C-ECHO; the status. Verification must be among the contexts accepted."""
        context_id = next(
            identifier
            for identifier in self._requestor.accepted
            if self.proposed[identifier].abstract_syntax == uids.verification
        )
        message_id = self.next_message_id()
        self.send_message(context_id, encode_echo_request(message_id), None)
        return self.receive_response(CommandField.C_ECHO, message_id).status

    def has_heard(self) -> bool:
        """While the caller writes to `socket`, which has something to read: whether it is a message
        (for receive_message()) or the end. ScuFailure if the peer aborted or broke the protocol.
        What TLS has to say to itself is neither."""
        try:
            data = self._read_at_once()
        except OSError as error:
            self._lose(error)
            return True
        if data is None:
            return False
        if data:
            self._hear(data)
        else:
            self._lose(None)
        return bool(self._requestor.messages) or self._requestor.over

    def still_open(self) -> bool:
        """Whether an idle association can be used: the peer has said and closed nothing."""
        requestor = self._requestor
        if requestor.over:
            return False
        try:
            data = self._read_at_once()
        except OSError as error:
            self.fault(error)
            return False
        if data is None:
            return True
        if not data:
            self._lose(None)
            return False
        answer = requestor.receive(data, time.monotonic())
        if requestor.messages and not requestor.over:
            answer += requestor.refuse(PeerError("a message came that nobody asked for"))
        if requestor.over:
            self._end(answer)
        return not requestor.over

    # --- the end ---------------------------------------------------------------------------------

    def release(self) -> None:
        """Release and close. ScuFailure when the peer does not answer as it should."""
        requestor = self._requestor
        if requestor.over:
            self._raise()
        self._read(requestor.release(time.monotonic()))
        while not requestor.over:
            self._read()
        self._close()

    def abort(self) -> None:
        """A-ABORT and close; nothing if it is over already."""
        failure = ScuFailure(FailureKind.INTERRUPTED, "the association was aborted by us")
        if not self._requestor.over:
            self._end(self._requestor.abort(failure))

    def interrupt(self) -> None:
        """From another thread: what it waits for ends now, with INTERRUPTED."""
        self._interrupted = True
        with self._closing, contextlib.suppress(OSError):  # closed already
            # Not SSLSocket.shutdown(), after which its owner would go on in plain text.
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)

    def fault(self, error: OSError | None) -> ScuFailure:
        """What an error on `socket` means (None: it was closed); the connection is closed.

        What the peer still said counts more: an abort, or, for the next receive_message(), a
        response that came before its time.
        """
        requestor = self._requestor
        if not requestor.over:
            error = self._hear_last_words(error)
        if not requestor.over:
            self._lose(error)
        assert requestor.failure is not None, "an association that broke has a failure"
        return requestor.failure

    # --- reading and writing ---------------------------------------------------------------------

    def _send(self, data: bytes, seconds: float) -> None:
        try:
            self._be_patient(seconds)
            self.socket.sendall(data)
        except TimeoutError:
            text = f"the peer takes no data for {seconds:g} s"
            self._end(self._requestor.abort(ScuFailure(FailureKind.TIMEOUT, text)))
            self._raise()
        except OSError as error:
            raise self.fault(error) from error

    def _read(self, request: bytes = b"") -> None:
        """Send a request, if there is one, and read once, until the step's deadline. ScuFailure if
        that ended the association."""
        self._hear(self._take(request))

    def _take(self, request: bytes = b"") -> bytes:
        """What comes next, as it is; first a request is sent, if there is one."""
        requestor = self._requestor
        if requestor.failure is not None:
            self._raise()
        if not isinstance(self.socket, ssl.SSLSocket):
            wait_ms = max(0, int((requestor.deadline - time.monotonic()) * 1000))
            sent, data = _core.round_trip(
                self.socket.fileno(), request, wait_ms, limits.answer_bytes_per_read
            )
            if data:
                return data
            request = request[sent:]
        if request:
            associated = requestor.peer is not None
            seconds = self.timeouts.release_s if associated else self.timeouts.association_s
            self._send(request, seconds)
        remaining = requestor.deadline - time.monotonic()
        try:
            if remaining <= 0:
                raise TimeoutError
            self._be_patient(remaining)
            # A peer with Nagle's algorithm that writes an answer in two pieces sends the second
            # once we acknowledge the first, which Linux would put off for 40 ms.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            data = self.socket.recv(limits.answer_bytes_per_read)
        except TimeoutError:
            self._end(requestor.expired(time.monotonic()))
            self._raise()
        except OSError as error:
            self._lose(error)
            self._raise()
        if not data:
            self._lose(None)
            self._raise()
        return data

    def _read_at_once(self) -> bytes | None:
        """What is there already; None: nothing is. Afterwards the socket does not block."""
        try:
            self.socket.settimeout(0)
            return self.socket.recv(limits.answer_bytes_per_read)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None

    def _be_patient(self, seconds: float) -> None:
        """Set the socket's time-out, unless it is that already but for an instant: most steps begin
        with the whole of it, and setting it is a system call and a turn of the interpreter's lock.
        """
        known = self.socket.gettimeout()
        if not known or abs(known - seconds) > _instant_s:  # 0: it does not wait at all
            self.socket.settimeout(seconds)

    def _hear(self, data: bytes) -> None:
        requestor = self._requestor
        answer = requestor.receive(data, time.monotonic())
        if requestor.failure is not None:
            self._end(answer)
            if not requestor.messages:
                self._raise()
        elif answer:
            self._send(answer, self.timeouts.release_s)

    def _raise(self) -> NoReturn:
        failure = self._requestor.failure
        if failure is None:
            failure = ScuFailure(FailureKind.LOST, "the association has been released")
        raise failure

    def _lose(self, error: OSError | None) -> None:
        """The transport ended: without a word (None), with an error, or by interrupt()."""
        kind, words = FailureKind.LOST, "the peer closed the connection"
        if self._interrupted:
            kind, words = FailureKind.INTERRUPTED, "interrupted by us"
        elif isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            # With TLS 1.3 this is where the peer's verdict on our certificate arrives.
            kind, words = FailureKind.TLS, f"TLS failed: {tls_words(error)},"
        elif isinstance(error, ConnectionResetError | BrokenPipeError):
            words = "the peer broke the connection"
        elif error is not None:
            reason = os.strerror(error.errno) if error.errno else str(error)
            words = f"the connection broke ({reason})"
        self._requestor.lost(words, kind)
        self._close()

    def _hear_last_words(self, error: OSError | None) -> OSError | None:
        """What the peer sent before the connection broke is still there to be read; what TLS says
        of it tells more than the error of the socket."""
        requestor = self._requestor
        try:
            self.socket.settimeout(0)
            while not requestor.over:
                data = self.socket.recv(limits.answer_bytes_per_read)
                if not data:
                    return error
                answer = requestor.receive(data, time.monotonic())
                if requestor.over:
                    self._end(answer)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLEOFError):
            return error  # it said no more than that
        except OSError as last:
            return last if isinstance(last, ssl.SSLError) else error
        return error

    def _end(self, last_words: bytes) -> None:
        """Send what is due (an A-ABORT), give it a moment to arrive, close."""
        if last_words:
            deadline = time.monotonic() + limits.abort_linger_s
            with contextlib.suppress(OSError):  # the peer is gone: nobody is there to be told
                self.socket.settimeout(limits.abort_linger_s)
                self.socket.sendall(last_words)
                # Closed with bytes unread, the kernel would reset the connection, and the reset
                # would overtake the abort.
                socket.socket.shutdown(self.socket, socket.SHUT_WR)
                while (remaining := deadline - time.monotonic()) > 0:
                    self.socket.settimeout(remaining)
                    if not self.socket.recv(limits.answer_bytes_per_read):
                        break
            self._requestor.lost()
        self._close()

    def _close(self) -> None:
        with self._closing:
            if isinstance(self.socket, ssl.SSLSocket) and self.socket.fileno() >= 0:
                with contextlib.suppress(OSError):  # its own close_notify is not waited for
                    self.socket.settimeout(0)
                    self.socket.unwrap()
            self.socket.close()
