"""One attempt to deliver one instance: its file, an association, a C-STORE, the peer's answer.

Every attempt ends in a `Verdict`; only a fault of ours is an exception. By default each instance
has an association of its own (section 4.2.4); an association that is reused is tried once more anew
when it turns out to have ended while nobody used it.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from engine import limits
from engine.dimse.command_set import CommandOddity
from engine.dimse.requests import encode_store_request, status_words
from engine.errors import LocalError
from engine.index.occasions import Occasion
from engine.outbox.records import Delivery
from engine.outgoing.contexts import SENT
from engine.outgoing.oddities import Oddities
from engine.outgoing.original_attributes import Originals
from engine.outgoing.outgoing import (
    CannotSend,
    Outgoing,
    Taken,
    choose,
    open_outgoing,
    parts,
    proposals,
)
from engine.pixels.transcode import OtherDecoder, no_other
from engine.sending.verdict import Ending, Verdict, answered, impossible, unanswered
from engine.settings.timeouts import Timeouts
from engine.upper_layer.failure import FailureKind, ScuFailure
from engine.upper_layer.pdus import ProposedContext
from workers.scu.association import Interruption, Peer, ScuAssociation
from workers.sender.given_syntaxes import GivenSyntaxes
from workers.sender.writer import DataSetWriter


class Destination(NamedTuple):
    """A remote AE, and how it is sent to."""

    peer: Peer
    calling_ae_title: str
    timeouts: Timeouts
    taken: Taken  # beyond the conformance statement's table
    reuses: bool
    character_sets: tuple[str, ...] = ()  # beyond the conformance statement's, likewise
    original_attributes: bool = False  # are told


class Errand(NamedTuple):
    """A delivery that is leased, and where what it sends lies. `problem`: why it cannot be sent.
    `occasions`: when it was corrected."""

    delivery: Delivery
    path: str
    corrections: Mapping[int, str]
    problem: str = ""
    occasions: tuple[Occasion, ...] = ()


class Sender:
    """What one lane sends with: a buffer, and at most one association. One thread's own, but for
    interrupt()."""

    def __init__(self, other: OtherDecoder = no_other) -> None:
        self._other = other  # of images that we do not decode ourselves
        self._writer = DataSetWriter()
        self._association: ScuAssociation | None = None
        self._destination: Destination | None = None
        self._given = GivenSyntaxes()
        self._order = Interruption()  # to open no association any more
        self._is_interrupted = False
        self._is_writing = False  # the instance, in this attempt
        self.associations = 0  # opened so far
        self.oddities = Oddities()  # of the instance of the last attempt
        # In the answers of the last attempt, and in those of its association that were told before.
        self.odd_answers: frozenset[CommandOddity] = frozenset()
        self._odd_before: frozenset[CommandOddity] = frozenset()

    @property
    def held(self) -> str:
        """Whom there is an association with; "": nobody."""
        return "" if self._destination is None else self._destination.peer.name

    @property
    def sent_bytes(self) -> int:
        """So far, with all headers of the P-DATA-TF PDUs."""
        return self._writer.sent_bytes

    def attempt(self, destination: Destination, errand: Errand) -> Verdict:
        """Send it now, once."""
        self._is_writing = False
        self.oddities, self.odd_answers = Oddities(), frozenset()
        if errand.problem:
            return impossible(errand.problem)
        try:
            with open_outgoing(errand.path) as outgoing:
                self.oddities = outgoing.oddities
                return self._send(destination, errand, outgoing)
        except CannotSend as error:
            return impossible(error.reason)
        except ScuFailure as failure:
            return unanswered(failure, self._is_writing and self._writer.has_begun)
        except LocalError as error:
            if self._is_interrupted:  # with whatever decoded it
                return Verdict(Ending.RETURNED, reason=error.comment)
            if isinstance(error.__cause__, OSError):  # the disk's: another day it may be read
                return Verdict(Ending.REFUSED, reason=error.comment)
            return impossible(error.comment)
        except OSError as error:
            return Verdict(Ending.REFUSED, reason=f"the file cannot be read: {error.strerror}")

    def stop_opening(self) -> None:
        """From another thread: an association that is being opened is given up, none is opened."""
        self._order.set()

    def interrupt(self) -> None:
        """From another thread: what is under way ends at once."""
        self._is_interrupted = True
        self._order.set()
        association = self._association
        if association is not None:
            association.interrupt()

    # --- associations --------------------------------------------------------------------------
    def release(self) -> None:
        """End an association that was kept; what it taught is forgotten."""
        self._given.forget()
        self._leave()

    def _lose(self) -> None:
        """It has ended, with whatever the peer was."""
        self._association = self._destination = None
        self._given.forget()

    def _leave(self) -> None:
        """End it for one that carries the next instance better."""
        association, self._association, self._destination = self._association, None, None
        if association is not None:
            with contextlib.suppress(ScuFailure):  # what was answered before stands
                association.release()

    def _send(self, destination: Destination, errand: Errand, outgoing: Outgoing) -> Verdict:
        offered = proposals(outgoing.sop_class_uid, outgoing.transfer_syntax_uid, destination.taken)
        if self._destination is not None:
            if self._destination != destination:
                self.release()
            elif not self._may_go_on(outgoing, offered):
                self._leave()
            else:
                try:
                    return self._store(errand, outgoing, offered)
                except ScuFailure as failure:
                    if failure.kind not in (FailureKind.LOST, FailureKind.ABORTED):
                        raise
                    # Most likely the peer had ended what was idle; a new one will tell.
                    self._is_writing = False
        self._open(destination, outgoing.sop_class_uid, offered)
        verdict = self._store(errand, outgoing, offered)
        if not destination.reuses:
            self.release()
        return verdict

    def _may_go_on(self, outgoing: Outgoing, offered: list[tuple[str, ...]]) -> bool:
        """Whether the association that is kept lives, and carries the instance in the syntax that
        one of its own would have given it."""
        association = self._association
        assert association is not None
        if not association.still_open():
            self._lose()
            return False
        accepted = association.syntaxes(outgoing.sop_class_uid)
        return self._given.is_as_fresh(outgoing.sop_class_uid, offered, accepted)

    def _open(
        self, destination: Destination, sop_class_uid: str, offered: list[tuple[str, ...]]
    ) -> None:
        self._order.check()
        wanted = [(sop_class_uid, syntaxes) for syntaxes in offered]
        if destination.reuses:
            wanted = _with_the_table(wanted, destination.taken)
        contexts = [
            ProposedContext(2 * index + 1, abstract, syntaxes)
            for index, (abstract, syntaxes) in enumerate(wanted)
        ]
        self.associations += 1
        self._odd_before = frozenset()
        self._association = ScuAssociation.open(
            destination.peer,
            destination.calling_ae_title,
            contexts,
            destination.timeouts,
            self._order,
        )
        self._destination = destination
        if destination.reuses:
            accepted = self._association.syntaxes(sop_class_uid)
            self._given.learn(sop_class_uid, offered, accepted)
        if self._is_interrupted:  # it came while the association was not there to be interrupted
            self._association.interrupt()

    # --- one C-STORE ---------------------------------------------------------------------------
    def _store(self, errand: Errand, outgoing: Outgoing, offered: list[tuple[str, ...]]) -> Verdict:
        association = self._association
        assert association is not None
        try:
            with _abort_on_error(association):
                return self._exchange(association, errand, outgoing, offered)
        except BaseException:
            self._lose()
            raise
        finally:
            self.odd_answers |= association.oddities - self._odd_before
            self._odd_before = association.oddities

    def _exchange(
        self,
        association: ScuAssociation,
        errand: Errand,
        outgoing: Outgoing,
        offered: list[tuple[str, ...]],
    ) -> Verdict:
        by_syntax = {
            syntax: association.context(outgoing.sop_class_uid, syntax)
            for syntaxes in offered
            for syntax in syntaxes
        }
        accepted = {syntax for syntax, context in by_syntax.items() if context is not None}
        syntax = choose(outgoing.transfer_syntax_uid, accepted)
        context_id = by_syntax[syntax]
        assert context_id is not None
        message_id = association.next_message_id()
        command = encode_store_request(
            message_id, outgoing.sop_class_uid, outgoing.sop_instance_uid
        )
        association.announce_data()
        destination = self._destination
        assert destination is not None
        originals = None
        if destination.original_attributes and errand.corrections:
            originals = Originals(destination.calling_ae_title, errand.occasions)
        given = parts(
            outgoing,
            syntax,
            errand.corrections,
            other=self._other,
            character_sets=destination.character_sets,
            originals=originals,
        )
        self._is_writing = True
        complete = self._writer.write(association, context_id, command, given, outgoing.descriptor)
        status, comment = association.receive_stored(message_id, outgoing.sop_instance_uid)
        return self._judge(association, status, comment, complete)

    def _judge(
        self, association: ScuAssociation, status: int, comment: str, complete: bool
    ) -> Verdict:
        verdict = answered(status, comment)
        if not complete:
            # Answered in the middle of the data set: whatever it says, it does not have it all.
            association.abort()
            self._lose()
            reason = f"answered before it had the whole data set: {status_words(status)}"
            return verdict._replace(ending=Ending.REFUSED, reason=reason)
        return verdict


@contextlib.contextmanager
def _abort_on_error(association: ScuAssociation) -> Iterator[None]:
    try:
        yield
    except BaseException:
        association.abort()
        raise


_first_contexts: Final = limits.presentation_contexts_max


def _with_the_table(
    wanted: list[tuple[str, tuple[str, ...]]], taken: Taken
) -> list[tuple[str, tuple[str, ...]]]:
    """What an association is opened for, and all that it may be used for later (Table 4.2-33), in
    an order that does not depend on the first instance."""
    table = [
        (abstract, (syntax,))
        for abstract in dict.fromkeys((*SENT, *taken.sop_classes))
        for syntax in taken.syntaxes(abstract)
    ]
    return [*dict.fromkeys((*wanted, *table))][:_first_contexts]
