"""One C-STORE-RQ onto an association: its command, and a data set that is given part by part.

The bytes go from the file to the socket in the native sender, frames of JPEG Lossless are decoded
and sent natively as well; where TLS is spoken all goes through OpenSSL. A peer that answers in the
middle, or leaves, is no failure here: what it said is read next.
"""

import ssl
from collections.abc import Iterator, Sequence

from engine import limits
from engine.outgoing.outgoing import FileRange, Frames, Piece
from engine.outgoing.pixels import placed
from engine.pixels.encapsulated import Span
from engine.upper_layer.failure import FailureKind, ScuFailure
from native import _core
from workers.scu.association import ScuAssociation
from workers.scu.transport import send_secured


class DataSetWriter:
    """Writes message after message, with buffers that are reused. One thread's own."""

    def __init__(self) -> None:
        self._native = _core.DataSetSender(limits.send_buffer_bytes)
        self._frames = _core.FrameSender(limits.decoded_frame_bytes_max)
        self._sent_before = 0
        self._is_secured_begun = False

    @property
    def sent_bytes(self) -> int:
        """So far, with all headers of the P-DATA-TF PDUs."""
        return self._native.sent_bytes

    @property
    def has_begun(self) -> bool:
        """Whether anything of the last message went out, or may have: of what is handed to OpenSSL
        nobody knows how far it came."""
        return self._is_secured_begun or self.sent_bytes > self._sent_before

    def write(
        self,
        association: ScuAssociation,
        context_id: int,
        command: bytes,
        parts: Iterator[Piece | Frames],
        descriptor: int,
    ) -> bool:
        """All of it, until the peer has most of it. False: the peer has answered already, or is
        gone. `descriptor`: the file that ranges and frames lie in. ScuFailure, and the association
        aborted, when the peer takes nothing any more; LocalError or OSError of the file's."""
        self._sent_before, self._is_secured_begun = self.sent_bytes, False
        self._native.begin(context_id, association.pdu_bytes_max, command)
        for part in parts:
            if not self._put(association, part, descriptor):
                return False
        return self._complete(association)

    def _put(self, association: ScuAssociation, part: Piece | Frames, descriptor: int) -> bool:
        if isinstance(part, FileRange):
            return self._put_range(association, part, descriptor)
        if isinstance(part, Frames):
            return self._put_frames(association, part, descriptor)
        left = memoryview(part)
        while left := left[self._native.append(left) :]:
            if not self._flush(association):
                return False
        return True

    def _put_range(self, association: ScuAssociation, part: FileRange, descriptor: int) -> bool:
        if not _is_secured(association):
            return self._heed(
                association,
                self._native.send_file(descriptor, part.offset, part.length, *_way(association)),
            )
        done = self._native.append_file(descriptor, part.offset, part.length)
        while done < part.length:
            if not self._flush(association):
                return False
            done += self._native.append_file(descriptor, part.offset + done, part.length - done)
        return True

    # --- frames ----------------------------------------------------------------------------------
    def _put_frames(self, association: ScuAssociation, frames: Frames, descriptor: int) -> bool:
        if _is_secured(association) or not frames.is_plain:
            return self._put_decoded(association, frames, 0, descriptor)
        for number in range(len(frames.groups)):
            spans = frames.spans(number)
            try:
                outcome = self._put_frame(association, frames, spans, descriptor)
            except NotImplementedError:  # a rarer kind of lossless JPEG
                return self._put_decoded(association, frames, number, descriptor)
            except ValueError as error:
                raise placed(f"pixel data: frame {number + 1}: {error}", spans[0][0]) from error
            except MemoryError as error:
                raise placed("not enough memory to decode the image", spans[0][0]) from error
            if not self._heed(association, outcome):
                return False
        return self._put(association, frames.padding, descriptor)

    def _put_frame(
        self,
        association: ScuAssociation,
        frames: Frames,
        spans: Sequence[Span],
        descriptor: int,
    ) -> int:
        shape = frames.shape
        return self._frames.send(
            self._native,
            descriptor,
            spans,
            shape.rows,
            shape.columns,
            shape.samples,
            shape.bits_allocated,
            *_way(association),
        )

    def _put_decoded(
        self, association: ScuAssociation, frames: Frames, first: int, descriptor: int
    ) -> bool:
        return all(self._put(association, part, descriptor) for part in frames.decoded(first))

    # --- the socket ------------------------------------------------------------------------------
    def _flush(self, association: ScuAssociation) -> bool:
        secured = association.socket
        if not isinstance(secured, ssl.SSLSocket):
            return self._heed(association, self._native.flush(*_way(association)))
        self._is_secured_begun = True
        try:
            with self._native.staged() as staged:
                if not send_secured(
                    secured, staged, association.timeouts.response_s, association.has_heard
                ):
                    return False
        except TimeoutError:
            raise _late(association) from None
        except OSError as error:
            association.fault(error)
            return False
        self._native.drop_staged()
        return True

    def _heed(self, association: ScuAssociation, outcome: int) -> bool:
        """Whether the data set may go on. False: the peer has answered already, or is gone."""
        if outcome == _core.SENDING_SENT:
            return True
        if outcome == _core.SENDING_LATE:
            raise _late(association)
        if outcome == _core.SENDING_BROKEN:
            association.fault(OSError(self._native.socket_error, ""))
        return False  # what the peer said, or how it left, is read next

    def _complete(self, association: ScuAssociation) -> bool:
        """A response is only due once the peer has what we sent, which a slow line may delay."""
        if not _is_secured(association):
            return self._heed(association, self._native.complete(*_way(association)))
        self._native.finish()
        if not self._flush(association):
            return False
        outcome = self._native.wait_until_taken(*_way(association), heeds_input=False)
        return self._heed(association, outcome)


def _is_secured(association: ScuAssociation) -> bool:
    return isinstance(association.socket, ssl.SSLSocket)


def _way(association: ScuAssociation) -> tuple[int, int, int]:
    """Socket, nothing that wakes, time-out in milliseconds: as the native sender wants them."""
    return association.socket.fileno(), -1, int(association.timeouts.response_s * 1000)


def _late(association: ScuAssociation) -> ScuFailure:
    association.abort()
    text = f"the peer takes no data for {association.timeouts.response_s:g} s"
    return ScuFailure(FailureKind.TIMEOUT, text)
