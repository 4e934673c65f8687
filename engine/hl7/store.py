"""Taking a message: what it changes is committed, and only then is there an answer AA.

One transaction of the index's LMDB holds all corrections of a message, their history, what is kept
for studies that may come, and the message's identifier, so that a replay is known. It is synced
before the answer is given: LMDB lets one process write at a time, so transactions here are short.
Used by one thread.

    table             key                            value
    hl7_messages      sender, NUL, MSH-10            Remembered
    hl7_message_ages  u64 of the time in ns, u32     key in `hl7_messages`
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from engine import limits
from engine.errors import OperatorError
from engine.files.tree import sync_directory
from engine.hl7.applying import apply
from engine.hl7.instructions import Terms, instructions_of
from engine.hl7.message import Message, read_message
from engine.hl7.refusal import ErrorCode, RefusedError
from engine.hl7.sheet import Sheet
from engine.index.batch import Batch
from engine.index.beside import BesideIndexer
from engine.index.corrections import EDIT_KEY
from engine.index.environment import INDEX_DIRECTORY, Environment, View
from engine.index.expected import Expectation, decode_expectation
from engine.index.keys import lmdb_key
from engine.index.rows import decoder

_DIGEST_BYTES: Final = 16


class Remembered(msgspec.Struct, frozen=True, array_like=True):
    """A message that was taken."""

    digest: bytes
    age: bytes


class Taken(NamedTuple):
    """What came of a message."""

    message: Message
    happened_ns: int
    replayed: bool = False
    edits: int = 0
    studies: int = 0  # corrected
    matched: int = 0  # studies that it was about
    kept: int = 0  # for studies that may come
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """For the sender and the log; without a patient's data."""
        if self.replayed:
            return "was taken before: nothing is changed"
        said = ["1 study corrected" if self.studies == 1 else f"{self.studies} studies corrected"]
        if not self.matched and self.kept:
            said = ["no study is here: kept for those that come"]
        return "; ".join([*said, *dict.fromkeys(self.notes)])


decode_remembered: Final = decoder(Remembered)
encode: Final = msgspec.msgpack.Encoder().encode


def read(content: bytes, terms: Terms) -> Message:
    """A message as these terms have it. RefusedError: what is wrong."""
    return read_message(content, terms.character_set)


def written(view: View, message: Message, terms: Terms, now_ns: int) -> Sheet:
    """The sheet of a message: what it would change. RefusedError: it is not taken."""
    sheet = Sheet(view, message.header.sender or "HL7", now_ns)
    apply(sheet, instructions_of(message, terms), message.happened_ns(now_ns))
    try:
        sheet.check_sayable(terms.outgoing_sets)
    except OperatorError as error:
        raise RefusedError(error.text, ErrorCode.DATA_TYPE) from error
    return sheet


class MessageStore(BesideIndexer):
    """Raises OperatorError when the index cannot be opened."""

    def __init__(self, data_directory: Path) -> None:
        # The directory is the supervisor's to make: our process may write within it alone.
        super().__init__(Environment(data_directory, writable=True))
        sync_directory(data_directory / INDEX_DIRECTORY)

    def take(self, content: bytes, message: Message, terms: Terms, now_ns: int) -> Taken:
        """Do what a message wants, durably. RefusedError: nothing was done."""
        taken = self.change(lambda batch: _take(batch, content, message, terms, now_ns))
        self.sync()
        return taken

    def prune(self, before_ns: int) -> int:
        """Forget what was kept before then, a portion of it; how many rows went."""
        return self.change(lambda batch: _prune(batch, before_ns))

    def forget(self, kept: Sequence[Expectation]) -> list[Expectation]:
        """Forget what an operator has seen and does not want, durably; what was. What a message
        has said anew meanwhile stays."""
        forgotten = self.change(lambda batch: _forget(batch, kept))
        self.sync()
        return forgotten


def expectations(view: View) -> Iterator[Expectation]:
    """What is kept for studies that may come, the oldest first."""
    for _, key in view.keys_from("expected_ages", b""):
        stored = view.stored("expected", key)
        if stored is not None:
            yield decode_expectation(stored)


def _forget(batch: Batch, kept: Sequence[Expectation]) -> list[Expectation]:
    forgotten = []
    for each in kept:
        stored = batch.stored("expected", each.key)
        if stored is not None and decode_expectation(stored).age == each.age:
            dropped = batch.drop_expected(each.key)
            assert dropped is not None, "it was there in this transaction"
            batch.forget_alias(dropped)
            forgotten.append(dropped)
    return forgotten


def _take(batch: Batch, content: bytes, message: Message, terms: Terms, now_ns: int) -> Taken:
    happened_ns = message.happened_ns(now_ns)
    key = lmdb_key(b"m", f"{message.header.sender}\0{message.header.control_id}")
    digest = _digest(content, message)
    known = batch.stored("hl7_messages", key)
    before = None if known is None else decode_remembered(known)
    if before is not None and before.digest == digest:
        return Taken(message, happened_ns, replayed=True)
    sheet = written(batch, message, terms, now_ns)
    new = sum(1 for each in sheet.kept if batch.lacks("expected", each.key))
    if new and batch.count("expected") + new > limits.hl7_expected_max:
        raise RefusedError("too much is kept already for studies to come", ErrorCode.INTERNAL)
    sheet.carry_over(batch)
    _remember(batch, key, digest, now_ns, before)
    return Taken(
        message,
        happened_ns,
        edits=len(sheet.edits),
        studies=len(sheet.studies),
        matched=len(sheet.matched),
        kept=len(sheet.kept),
        notes=tuple(sheet.notes),
    )


def _digest(content: bytes, message: Message) -> bytes:
    """Of everything but MSH, whose time a sender may write anew when it sends again."""
    header = message.header
    _, _, rest = content.replace(b"\n", b"\r").partition(b"\r")
    text = header.kind.encode("utf-8", "surrogatepass") + b"\0" + rest.strip()
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()


def _remember(
    batch: Batch, key: bytes, digest: bytes, now_ns: int, before: Remembered | None
) -> None:
    if before is not None:
        batch.drop_row("hl7_message_ages", before.age)
    elif batch.count("hl7_messages") >= limits.hl7_messages_remembered_max:
        # Times still tell an old message from a new one.
        for age, oldest in batch.keys_from("hl7_message_ages", b""):
            batch.drop_row("hl7_messages", oldest)
            batch.drop_row("hl7_message_ages", age)
            break
    age = batch.free_moment("hl7_message_ages", now_ns)
    batch.put_row("hl7_message_ages", age, key)
    batch.put_row("hl7_messages", key, encode(Remembered(digest, age)))


def _prune(batch: Batch, before_ns: int) -> int:
    gone = 0
    old = [key for age, key in _older(batch, "expected_ages", before_ns)]
    for key in old:
        expectation = batch.drop_expected(key)
        if expectation is not None:
            batch.forget_alias(expectation)
        gone += 1
    for age, key in list(_older(batch, "hl7_message_ages", before_ns)):
        batch.drop_row("hl7_messages", key)
        batch.drop_row("hl7_message_ages", age)
        gone += 1
    return gone


def _older(batch: Batch, table: str, before_ns: int) -> Iterator[tuple[bytes, bytes]]:
    """The oldest rows of a table of ages, at most a portion."""
    for number, (age, key) in enumerate(batch.keys_from(table, b"")):
        if number >= limits.hl7_prune_count or EDIT_KEY.unpack(age)[0] >= before_ns:
            return
        yield age, key
