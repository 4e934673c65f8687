"""Messages, one after another: read, written into the index, answered. Runs in one thread.

A fault of disk or index is answered AE and published; the message's sender has it still and sends
it again, and the index is opened anew for it.
"""

import time
from pathlib import Path
from typing import Final, NamedTuple

from engine import limits
from engine.dictionary.attributes import BY_TAG, PATIENT_NAME
from engine.hl7.answer import answer_to
from engine.hl7.instructions import MERGES, ORDERS, UPDATES
from engine.hl7.message import Delimiters, Header, read_header
from engine.hl7.refusal import Answer, ErrorCode, RefusedError
from engine.hl7.store import MessageStore, Taken, read
from engine.hl7.terms import terms_of
from engine.index.corrections import check_value
from engine.index.environment import INDEX_FAULTS, fault_code
from engine.telemetry.metrics import Counter, Gauge, Histogram
from workers.frame.child import Child
from workers.frame.spec import Hl7Spec

_day_ns: Final = 86_400 * 10**9
_UNREADABLE: Final = Header(Delimiters("|", "^", "~", "\\", "&"))


class Answered(NamedTuple):
    """One message's end: what goes back, and what the log has of it."""

    content: bytes
    level: str
    fields: dict[str, object]


def kind_of(header: Header) -> str:
    """What a message counts as."""
    if header.kind in ORDERS:
        return "ORDER"
    return "UPDATE" if header.kind in UPDATES else "MERGE" if header.kind in MERGES else "OTHER"


class Desk:
    """The state of the thread."""

    def __init__(self, child: Child[Hl7Spec]) -> None:
        self._child = child
        self._counters = child.counters
        self._store: MessageStore | None = None
        self._fault = 0
        self._pruned = 0.0
        self._kept_published = 0.0

    def answer(self, content: bytes) -> Answered:
        """Take a message, whatever it is."""
        started = time.monotonic()
        header = _UNREADABLE
        terms = terms_of(self._child.spec.settings, self._child.spec.outgoing_sets)
        now_ns = time.time_ns()
        try:
            header = read_header(content, terms.character_set)
            message = read(content, terms)
            header = message.header
            taken = self._open().take(content, message, terms, now_ns)
        except RefusedError as refused:
            return self._refused(header, refused, started)
        except INDEX_FAULTS as error:
            self._note_fault(error)
            text = "the index cannot be written now: send it again"
            return self._refused(header, RefusedError(text, ErrorCode.INTERNAL), started)
        self._note_success()
        self._count(taken, now_ns)
        fields: dict[str, object] = {"text": taken.text, "corrections": taken.edits}
        fields |= {"studies": taken.studies, "kept": taken.kept}
        return self._end(header, "AA", taken.text, started, fields)

    def _refused(self, header: Header, refused: RefusedError, started: float) -> Answered:
        answer: Answer = "AR" if header is _UNREADABLE else refused.answer
        fields: dict[str, object] = {"text": str(refused), "error": int(refused.code)}
        return self._end(header, answer, str(refused), started, fields, refused)

    def _end(
        self,
        header: Header,
        answer: Answer,
        text: str,
        started: float,
        fields: dict[str, object],
        refused: RefusedError | None = None,
    ) -> Answered:
        seconds = time.monotonic() - started
        self._counters.add(Counter[f"HL7_{kind_of(header)}_{answer}"])
        self._counters.observe(Histogram.HL7_DURATION, seconds)
        known: dict[str, object] = {
            "answer": answer,
            "kind": header.kind,
            "sender": header.sender,
            "control_id": header.control_id,
            "seconds": round(seconds, 6),
        }
        content = answer_to(header, answer, text, time.time_ns(), refused)
        return Answered(content, "info" if answer == "AA" else "warning", known | fields)

    def _count(self, taken: Taken, now_ns: int) -> None:
        counters = self._counters
        counters.set(Gauge.HL7_LAST, now_ns)
        counters.set(Gauge.HL7_LAG, max(0, now_ns - taken.happened_ns))
        counters.add(Counter.HL7_CORRECTIONS, taken.edits)
        if taken.replayed:
            counters.add(Counter.HL7_REPLAYED)
        elif taken.kept and not taken.matched:
            counters.add(Counter.HL7_UNMATCHED)

    # --- the index ---
    def _open(self) -> MessageStore:
        if self._store is None:
            self._store = MessageStore(Path(self._child.spec.data_directory))
        return self._store

    def warm(self) -> None:
        """What the first message would wait for: the library that checks values takes its time."""
        check_value(BY_TAG[PATIENT_NAME], "A")

    def keep_house(self) -> None:
        """Forget what was kept for long enough, and publish how much there is."""
        try:
            store = self._open()
            if time.monotonic() - self._pruned > limits.hl7_prune_s or not self._pruned:
                days = self._child.spec.settings.keep_unmatched_days
                if store.prune(time.time_ns() - days * _day_ns) == 0:
                    self._pruned = time.monotonic()
            with store.view() as view:
                self._counters.set(Gauge.HL7_KEPT, view.count("expected"))
        except INDEX_FAULTS as error:
            self._note_fault(error)
        else:
            self._note_success()

    def close(self) -> None:
        """Give the index back."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _note_fault(self, error: Exception) -> None:
        self.close()  # LMDB may be in any state after an error: only opening it anew tells
        code = fault_code(error)
        self._counters.set(Gauge.HL7_FAULT, code)
        if self._fault != code:
            self._fault = code
            kind = type(error).__name__
            self._child.log.error("hl7_fault", errno=code, kind=kind, text=str(error))

    def _note_success(self) -> None:
        if self._fault:
            self._fault = 0
            self._counters.set(Gauge.HL7_FAULT, 0)
            self._child.log.info("hl7_recovered")
