"""The native layer's contract: all of native/src that Python may touch; checked by the tests."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview

# --- base
def crc32c(data: bytes, seed: int = 0) -> int: ...
def hand_on_no_capability() -> None: ...  # to the programs we start
def drop_privileges() -> None:
    """No capability is left or can be gained, no core is dumped, nobody looks into our memory."""

def restrict_files(readable: Sequence[str], writable: Sequence[str]) -> int:
    """Files are opened only beneath these from now on; Landlock's version, 0: there is none."""

def deny_calls(outside: bool) -> bool:
    """Calls that meddle with the kernel fail from now on, with `outside` also those that start
    programs or make sockets. False: the kernel has no filters."""

def tell_index_crashes(file: str, words: str, status: int) -> None:
    """A bus error in a mapped file whose path ends so, or a crash of LMDB, ends us with words."""

# --- spool: rings, files and the journal
# The kinds of completion of a Spool.
COMPLETION_STORED: Final[int]  # the instance survives a power cut (or a crash, if not durable)
COMPLETION_FAILED: Final[int]  # errno says why; nothing of it remains
COMPLETION_SPACE: Final[int]  # a full ring has room again
COMPLETION_FREE: Final[int]  # a cancelled slot is empty and may be used again
COMPLETION_SETTLED: Final[int]  # the journal has what settle() asked for, or errno says why not
LOST_RECORDS: Final[int]  # an inline_offset of JournalReader.read

def ring_segment_bytes(slots: int, ring_bytes: int) -> int:
    """How large the shared-memory segment behind a Spool's `ring_descriptor` must be."""

class Spool:
    """One worker's way to the disk: a ring and a writer thread for each slot, and the journal.
    Small instances travel inside their journal record, large ones in a file of their own. One
    committer writes and syncs all slots' records. Exclusive: it locks `journal_directory`."""

    def __init__(
        self,
        incoming_directory: str,
        journal_directory: str,
        ring_descriptor: int,
        slots: int,
        ring_bytes: int,
        inline_bytes_max: int,
        segment_bytes: int,
        segments_max: int,
        journal_wait_ms_max: int,
        durable: bool,
        wanted_tags: Sequence[int],
        limits: ModuleType,
    ) -> None:
        """`limits` is engine.limits, whose bounds are read by their names."""

    @property
    def completion_descriptor(self) -> int:
        """An eventfd, readable when completions() has something."""

    @property
    def durable_sequence(self) -> int: ...  # All journal records up to this one are durable.
    @property
    def acknowledged_sequence(self) -> int:
        """The journal has all that was acknowledged until now when it has this record."""

    def begin(self, slot: int, head: bytes, prologue: bytes, explicit_vr: bool) -> None:
        """An instance begins: `head` (preamble, file meta) goes ahead of its data set in the file,
        `prologue` is carried in its journal record."""

    def admit(self, any: bool) -> None:
        """Whether stores may begin without an event; no is what it begins with."""

    @property
    def unflushed(self) -> bool:
        """Small instances have ended that the committer does not know of yet."""

    def flush(self) -> None: ...  # Hand them over: one sync for all of them.
    def settle(self) -> bool:
        """Give sealed files their records; COMPLETION_SETTLED tells when. False: there are none."""

    def discard(self, slot: int) -> None: ...  # The data set that follows is read and dropped.
    def cancel(self, slot: int) -> bool:
        """The association is gone. True: the slot is empty. False: COMPLETION_FREE will come."""

    def completions(self) -> list[tuple[int, int, int, int, int]]:
        """(kind, slot, errno, file_bytes, sequence, 0 for a sealed file) since the last call."""

    def recovery(self) -> tuple[int, int, int, int]:
        """(records found, torn records dropped, incoming files removed, sealed ones adopted)."""

    def close(self) -> None: ...  # Finish what is committed, stop the threads, release the lock.

class JournalReader:
    """Reads a journal's records in order, from another process than its writer's."""

    def __init__(self, journal_directory: str, next_sequence: int) -> None:
        """`next_sequence` 0: begin with the oldest record there is."""

    def read(
        self, durable_sequence: int, count: int
    ) -> list[tuple[int, bytes, bytes, str, int, int, int]]:
        """(sequence, prologue, attributes, incoming_name, file_bytes, file_crc32c, inline_offset).
        An inline instance has no `incoming_name`, its Part-10 bytes stand at `inline_offset` until
        the next read(). `attributes` is a row of {u16 group, element, length, bytes}, in tag order.
        With LOST_RECORDS as the `inline_offset` `file_bytes` records are lost, up to this one."""

    def place_inline(self, inline_offset: int, file_bytes: int, path: str, durable: bool) -> None:
        """Create or replace `path` in one step with an inline instance's bytes, or OSError."""

    def release(self, before_sequence: int) -> int:
        """Give segments that end before this sequence back to the writer; how many."""

    @property
    def next_sequence(self) -> int: ...

def adopt_sealed(
    journal_directory: str,
    segment_bytes: int,
    segments_max: int,
    durable: bool,
    incoming_directory: str,
    limits: ModuleType,
    lock_wait_ms: int,
) -> int:
    """Mend a journal nobody writes any more, give sealed files their records in it; how many."""

def journal_damage(
    journal_directory: str, segment_bytes: int
) -> tuple[str, str, int, list[tuple[int, int]]] | None:
    """What a start would find damaged first: (the case, segment, byte, lost numbers from .. to)."""

def journal_last_sequence(journal_directory: str) -> int:
    """The last whole record's sequence of a journal that nobody writes; 0 when there is none."""

def scan_tags(
    data: bytes,
    explicit_vr: bool,
    wanted_tags: Sequence[int],
    attribute_bytes_max: int,
    attributes_bytes_max: int,
    sequence_depth_max: int,
    chunk_bytes: int = 0,
) -> tuple[bytes, int]:
    """Index attributes of a data set in memory: (row as in JournalReader.read, outcome).
    Outcome 0: the head was read to its end; 1: malformed, what came before is returned; 2: more
    bytes were needed. `chunk_bytes` > 0 feeds it in pieces of that size (the same result).
    """

# --- reception: the bytes of connections
# What PduCutter.receive() and PduCutter.feed() answer.
RECEIVED_EVENT: Final[int]  # an event lies ready: call next_event() until it returns None
RECEIVED_AGAIN: Final[int]  # the socket has no more bytes now
RECEIVED_BUDGET: Final[int]  # the turn's budget is used up; call again on the next turn
RECEIVED_FULL: Final[int]  # the ring is full; call again after a SPACE completion
RECEIVED_END: Final[int]  # the peer closed its side
RECEIVED_BROKEN: Final[int]  # what came is not to be trusted; TlsSession.fault says why

# The first field of what PduCutter.next_event() returns.
EVENT_PDU: Final[int]  # (EVENT_PDU, pdu_type, body: bytes) any PDU but P-DATA-TF
EVENT_COMMAND: Final[int]  # (EVENT_COMMAND, context_id, command_set: bytes)
EVENT_DATASET: Final[int]  # (EVENT_DATASET, context_id, data_set_bytes: int) the last fragment came
EVENT_FAULT: Final[int]  # (EVENT_FAULT, abort_reason, text: str) the stream is dead

# The kinds of notice of a Reception, and what each carries.
NOTICE_RECEIVED: Final[int]  # RECEIVED_EVENT, RECEIVED_END or RECEIVED_BROKEN
NOTICE_STORED: Final[int]  # the file's bytes; a store of the caller's is durable
NOTICE_FAILED: Final[int]  # errno; nothing of the instance remains, the caller answers
NOTICE_UNSENT: Final[int]  # bytes of an answer that the socket does not take
NOTICE_FREED: Final[int]  # a slot whose association has ended

class PduCutter:
    """One connection's inbound bytes: cuts PDUs and PDVs, lands data-set fragments in a ring.
    Resumable at any byte. Before attach() it takes association PDUs only, and holds few bytes."""

    def __init__(
        self,
        associate_bytes_max: int,
        command_bytes_max: int,
        pdata_bytes_max: int,
        pdata_bytes_advertised: int,
        uid_characters_max: int,
    ) -> None: ...
    def attach(self, spool: Spool, slot: int) -> None:
        """The association is accepted: P-DATA-TF is legal from now on, data goes to `slot`."""

    def expect_command(self) -> None:
        """The next message begins with a command (the state after attach())."""

    def expect_data(self, context_id: int) -> None:
        """A data set follows on this context; Spool.begin() or Spool.discard() came before."""

    def permit_store(
        self,
        context_id: int,
        sop_class: bytes,
        explicit_vr: bool,
        head_before: bytes,
        head_group_length: int,
        head_between: bytes,
        head_after: bytes,
        arrival_before: bytes,
        arrival_middle: bytes,
        arrival_after: bytes,
        response_sop_class: bytes,
    ) -> None:
        """Regular C-STORE-RQs on this context are begun without an event
        (engine/association/store_lane.py)."""

    def reveal_store(self) -> tuple[int, bytes, int, bool] | None:
        """Take over the store begun without an event, as if its events had been told:
        (context_id, command_set, data_set_bytes, whether the data set has ended)."""

    def finish_store(self) -> tuple[bytes, str, int, int] | None:
        """It is durable: (the response's PDU, SOP instance UID, when it began and when its data set
        ended in time.monotonic_ns())."""

    def receive(self, source: int | TlsSession, budget: int) -> int:
        """Read and cut until there is an event, no bytes, no room, or `budget` bytes are read.
        `source` is a socket's descriptor, or the secured session upon one."""

    def feed(self, data: bytes) -> int:
        """As receive(), from memory: takes all of `data`, keeping what it may not cut yet."""
    def next_event(
        self,
    ) -> tuple[int, int, bytes] | tuple[int, int, int] | tuple[int, int, str] | None: ...
    @property
    def received_bytes(self) -> int: ...
    @property
    def copied_bytes(self) -> int:
        """Data-set bytes that had to be copied since they did not come where they were expected."""

    @property
    def pdata_pdus_oversized(self) -> int:
        """P-DATA-TF PDUs longer than the limit advertised but within the tolerated one."""

class Reception:
    """A receiver's connections while there is nothing out of the ordinary about them.

    Watches their sockets and the spool's completions in the event loop's place. Answers what was
    begun without an event and is durable, reads what came, flushes the spool, and counts all that
    in `counters`, a block of words in which the numbers name places; a histogram's is its first
    place and its bounds in seconds.
    """

    def __init__(
        self,
        spool: Spool,
        counters: memoryview,
        *,
        received_bytes: int,
        ring_full: int,
        stored_instances: int,
        stored_bytes: int,
        store_success: int,
        journal_records: int,
        journal_groups: int,
        last_received: int,
        store_fault: int,
        durable_sequence: int,
        acknowledged_sequence: int,
        commit_duration: tuple[int, Sequence[float]],
        store_duration: tuple[int, Sequence[float]],
        turn_bytes: int,
        event_bytes: int,
        turn_us: int,
        progress_bytes: int,
    ) -> None:
        """`turn_bytes` are read of one connection, then the next one has its turn; an event counts
        for `event_bytes` of them. A turn goes on for `turn_us` while there is something to do."""

    @property
    def descriptor(self) -> int: ...  # Readable when a turn is due.
    def log(self, any: bool) -> None: ...  # Whether turns carry lines for the log; at first: no.
    def turn(self) -> tuple[int, bool, list[tuple[int, int, Any]], list[bytes]]:
        """(instances stored, whether the journal has settled, notices, lines). A notice is what the
        caller has to see to, in the order in which it happened: (kind, the inlet's key, what it
        carries). A line tells of an instance that was answered without, ahead of all notices."""

class Inlet:
    """One connection's place at a reception, from its beginning until leave()."""

    def __init__(
        self, reception: Reception, cutter: PduCutter, source: int | TlsSession
    ) -> None: ...
    @property
    def key(self) -> int: ...  # No other inlet of the reception ever has it.
    @property
    def quiet_since(self) -> float:
        """Since when it is the peer's turn, in time.monotonic() seconds: its last byte came then,
        or an answer went out, or reading went on after a pause. Now, while the ring is full and the
        disk is waited for. 0 before anything came."""

    @property
    def message(self) -> tuple[float, int]: ...  # since when one is under way (0: none), bytes
    @property
    def progress(self) -> tuple[float, int, int]: ...  # when last (0: never), data bytes, instances
    def attach(self, slot: int) -> None:
        """Data sets go to this slot of the spool from now on."""

    def log_as(self, before: bytes, after: bytes) -> None:
        """The log's line of each instance: what stands between its time and the instance's UID, and
        behind that; its bytes and seconds follow as further fields."""

    def receive(self) -> int:
        """Go on reading after a notice, as PduCutter.receive() does, within the turn's budget. What
        this ends short of goes on by itself, but for RECEIVED_EVENT, _END and _BROKEN."""

    def hold(self) -> None: ...  # nothing is read until release()
    def release(self) -> None: ...
    def leave(self) -> None: ...  # Before the socket is closed: nothing more is told of it.

# --- tls
def wipe(secret: bytes) -> None: ...  # Overwrites it in place; nobody else may hold it.
def overwrite_freed(on: bool) -> None: ...  # What is freed meanwhile; at the end, what was kept.

# What TlsSession.handshake() answers.
HANDSHAKE_DONE: Final[int]
HANDSHAKE_READS: Final[int]  # more bytes have to come
HANDSHAKE_WRITES: Final[int]  # the socket has to take more
HANDSHAKE_FAILED: Final[int]  # `fault` says why

class TlsServer:
    """What a secured listener offers: a TLS context with exactly the suites given."""

    def __init__(
        self,
        key: bytes,
        chain: Sequence[bytes],
        trust: Sequence[bytes],
        tls12: Sequence[str],
        tls13: Sequence[str],
        client_authentication: str,
        read_ahead_bytes: int,
        security_level: int,
        chain_certificates_max: int,
    ) -> None:
        """`key` is PKCS#8, certificates are DER, ours first; suites have OpenSSL's names and stand
        in the order of preference; no TLS 1.3 suite: TLS 1.2 is the highest version;
        `client_authentication` is "need", "want" or "none". ValueError: OpenSSL refuses something,
        or would offer anything but the suites asked for."""

    def open(self, descriptor: int) -> TlsSession:
        """The server's side of a new connection; its socket stays the caller's."""

    @property
    def suites(self) -> list[str]: ...  # What OpenSSL really offers, in the order of preference.

class TlsSession:
    """One secured connection, the server's side. Never waits."""

    def handshake(self) -> int: ...
    def widen(self) -> None:
        """The socket is read in pieces of `read_ahead_bytes` from now on."""

    def send(self, data: bytes | bytearray) -> int:
        """How many bytes were taken; 0: none now, offer them again. OSError: the peer is gone."""

    def say_end(self) -> None: ...  # Tell the peer that nothing more comes (close_notify).
    @property
    def fault(self) -> tuple[str, str]:
        """(kind, text) of what ended the session. Kinds: "" for none, "not_tls", "version",
        "suite", "no_certificate", "untrusted", "expired", "weak", "purpose", "peer_alert",
        "closed", "integrity", "renegotiation", "protocol"."""

    @property
    def alert(self) -> str:
        """The last alert, "sent: ..." or "received: ..."; empty if there was none."""

    @property
    def version(self) -> str: ...
    @property
    def suite(self) -> str: ...
    @property
    def peer_certificate(self) -> tuple[str, str]:
        """(subject, SHA-256 in hexadecimal) of a certificate that was verified; empty if none."""

# --- outgoing: the bytes to peers
# What DataSetSender.flush() and DataSetSender.send_file() answer.
SENDING_SENT: Final[int]  # all that was whole is with the kernel
SENDING_INPUT: Final[int]  # the peer says something, or has closed, in the middle of the message
SENDING_WOKEN: Final[int]  # the wake descriptor became readable
SENDING_LATE: Final[int]  # the peer took no byte for the whole time
SENDING_BROKEN: Final[int]  # the connection; socket_error says how

class DataSetSender:
    """A C-STORE-RQ on its way out: lays command and data set into PDUs in one reused buffer.
    A file is read straight between the PDUs' headers. Whoever writes to a plain socket calls
    flush() whenever append() took less than all; whoever does not (TLS) writes staged() instead.
    A file that cannot be read is an OSError: ENODATA, when it ends too early.
    """

    def __init__(self, buffer_bytes: int) -> None: ...
    def begin(self, context_id: int, pdu_bytes_max: int, command_set: Buffer) -> None:
        """A message begins. ValueError when the buffer is too small for two PDUs of that size."""

    def append(self, data: Buffer) -> int:
        """Lay data, or a part of a file; how many bytes there was room for."""

    def append_file(self, descriptor: int, offset: int, length: int) -> int: ...
    def finish(self) -> None:
        """The data set is complete: its last fragment may go, by a last flush() or staged()."""

    def flush(self, socket: int, wake: int, timeout_ms: int) -> int:
        """Write whole PDUs to a plain socket; `wake` -1: nothing but the peer is waited for."""

    def send_file(
        self, descriptor: int, offset: int, length: int, socket: int, wake: int, timeout_ms: int
    ) -> int:
        """append_file() and flush() in turns, until all of it is laid."""

    def complete(self, socket: int, wake: int, timeout_ms: int) -> int:
        """finish(), a last flush(), and waiting until the peer has most of it: SENDING_SENT then,
        or when it answers."""

    @staticmethod
    def wait_until_taken(socket: int, wake: int, timeout_ms: int, heeds_input: bool) -> int:
        """Wait while the kernel holds much of what was sent: SENDING_SENT, or what is in the way;
        with `heeds_input` SENDING_INPUT as soon as the peer says something."""

    def staged(self) -> memoryview:
        """What flush() would write; good until the next call of any other method."""

    def drop_staged(self) -> None: ...  # It was written by somebody else.
    @property
    def socket_error(self) -> int: ...  # The errno of the last SENDING_BROKEN.
    @property
    def sent_bytes(self) -> int: ...  # Of all messages, headers and all.

class FrameSender:
    """Frames of JPEG Lossless, decoded in rooms that are reused and sent as samples."""

    def __init__(self, frame_bytes_max: int) -> None: ...  # decoded
    def send(
        self,
        sender: DataSetSender,
        descriptor: int,
        fragments: Sequence[tuple[int, int]],
        rows: int,
        columns: int,
        samples: int,
        bits_allocated: int,
        socket: int,
        wake: int,
        timeout_ms: int,
    ) -> int:
        """One frame, whose fragments begin and end there in the file. Answers as send_file() does.
        Errors are those of jpeg_lossless_decode_frames(), and OSError where the file cannot be
        read; nothing of the frame has been sent then."""

def round_trip(socket: int, request: bytes, timeout_ms: int, bytes_max: int) -> tuple[int, bytes]:
    """Send `request` to a plain socket and read its answer once: (bytes sent, what came). Nothing
    comes when it was not all sent, too late, at the stream's end, and after an error."""

def find_fragments(
    descriptor: int, begin: int, end: int, items_max: int
) -> tuple[list[tuple[int, int]], int] | None:
    """(where each item of encapsulated pixel data begins and ends, where the next element begins)
    of the items from `begin` on; None when they are broken, lead beyond `end`, or are too many."""

class ElementRun:
    """Plain elements of Explicit VR written anew, as engine/outgoing/reencode.py writes them, but
    where native/src/outgoing/element_run.hpp says that it stops."""

    def __init__(
        self,
        explicit_out: bool,
        decodes: bool,
        value_max: int,
        kept: Sequence[int],
        stops: Sequence[int],
        depth_max: int,
    ) -> None: ...
    def pass_over(
        self, window: bytes, begin: int, end: int, depth: int, below: int
    ) -> tuple[int, bytes, list[tuple[int, bytes]]]:
        """The elements from `begin` on of a level that ends at `end` or behind it; `depth` 1: the
        data set's own, where tags from `below` on stop it. (Where the first one lies that was not
        taken, what the others became, (tag, up to 64 bytes of the value) of what is kept.)"""

# --- jpeg
# JPEG Lossless, process 14: what is broken, or disagrees with what is expected, is a ValueError
# that says where; what is merely of a kind not decoded here is a NotImplementedError.
def jpeg_lossless_decode_frames(
    frames: Sequence[Buffer],
    out: Any,
    rows: int,
    columns: int,
    samples: int,
    bits_allocated: int,
    threads: int = 1,
) -> None:
    """Frames, colour by pixel, little endian, one behind the other, into `out`: any writable buffer
    of exactly their size; `bits_allocated` is 8 or 16. After an error its content is undefined."""

def jpeg_lossless_validate(data: Buffer) -> tuple[int, int, int, int, int, int]:
    """Decodes all and keeps nothing: (rows, columns, components, precision, predictor, samples that
    lie outside the precision). Stricter than decoding: data left over is an error."""
