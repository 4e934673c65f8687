"""The table of everything the product counts: one row for each counter, gauge and histogram.

A new number is one new line here. The enum's value is the slot of the number in a process's block
of the shared segment (`engine/telemetry/counters.py`), so counting is one addition in memory. What
is shown outside (`tools/stats/stats.py`) takes names, help and labels from here; names carry no
prefix. No label ever holds patient data or anything a peer chose.
"""

from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from typing import Final, Self

from engine.dictionary.sop_classes import STORAGE_SOP_CLASSES

# The first sixteen slots of a block are its header, written by the supervisor alone.
HEADER_SLOTS: Final = 16
SLOT_BYTES: Final = 8
_SLOTS_PER_LINE: Final = 8


@dataclass(frozen=True, slots=True)
class Row:
    """What is shown of one slot. Times are kept in nanoseconds and shown in seconds."""

    family: str  # empty: kept for ourselves, never shown
    text: str
    label: str = ""  # "name=value"
    resets: bool = False  # a gauge that says nothing about the successor of a dead process

    @property
    def in_nanoseconds(self) -> bool:
        return self.family.removesuffix("_total").endswith("_seconds")


def _next_line(slot: int) -> int:
    return -(-slot // _SLOTS_PER_LINE) * _SLOTS_PER_LINE


class Counter(IntEnum):
    """Only ever grows; goes on where it was when a process is replaced."""

    row: Row

    def __new__(cls, family: str, text: str, label: str = "") -> Self:
        slot = HEADER_SLOTS + len(cls.__members__)
        member = int.__new__(cls, slot)
        member._value_ = slot
        member.row = Row(family, text, label)
        return member

    CONNECTIONS = "connections_total", "TCP connections taken."
    CONNECTIONS_CROWDED_OUT = (
        "connections_crowded_out_total",
        "Silent connections closed to make room for newer ones.",
    )
    ASSOCIATIONS_ACCEPTED = "associations_total", "Associations by outcome.", "result=accepted"
    ASSOCIATIONS_REJECTED_LIMIT = "associations_total", "", "result=rejected_limit"
    ASSOCIATIONS_REJECTED_CALLING = "associations_total", "", "result=rejected_calling"
    ASSOCIATIONS_REJECTED_CALLED = "associations_total", "", "result=rejected_called"
    ASSOCIATIONS_REJECTED_OTHER = "associations_total", "", "result=rejected_other"
    ASSOCIATIONS_RELEASED = "associations_ended_total", "Associations by end.", "end=released"
    ABORTS_RECEIVED = "associations_ended_total", "", "end=aborted_by_peer"
    CONNECTIONS_LOST = "associations_ended_total", "", "end=connection_lost"
    ABORTS_SENT_PROTOCOL = "aborts_sent_total", "A-ABORTs sent by cause.", "cause=protocol"
    ABORTS_SENT_SERVICE = "aborts_sent_total", "", "cause=service"
    ABORTS_SENT_IDLE = "aborts_sent_total", "", "cause=idle"
    ABORTS_SENT_DRAIN = "aborts_sent_total", "", "cause=drain"
    ABORTS_SENT_MESSAGE = "aborts_sent_total", "", "cause=message"
    ABORTS_SENT_GAVE_WAY = "aborts_sent_total", "", "cause=gave_way"
    ARTIM_EXPIRED = "artim_expired_total", "Connections closed since no request came in time."
    IDLE_EXPIRED = "idle_expired_total", "Associations ended since nothing came for too long."
    ECHO_SUCCESS = "requests_total", "Requests answered.", "operation=c_echo,status=success"
    ECHO_FAILURE = "requests_total", "", "operation=c_echo,status=failure"
    STORE_SUCCESS = "requests_total", "", "operation=c_store,status=success"
    STORE_FAILURE = "requests_total", "", "operation=c_store,status=failure"
    OTHER_FAILURE = "requests_total", "", "operation=other,status=failure"
    CANCELS_IGNORED = "cancels_ignored_total", "C-CANCEL requests, for which there is no work."
    RECEIVED_BYTES = "received_bytes_total", "Bytes read from connections."
    STORED_BYTES = "stored_bytes_total", "Bytes of instances made durable."
    STORED_INSTANCES = "stored_instances_total", "Instances made durable and acknowledged."
    CANCELLED_INSTANCES = "cancelled_instances_total", "Instances given up before their end."
    PDUS_OVERSIZED = "pdus_oversized_total", "P-DATA-TF longer than advertised, tolerated."
    RING_FULL = "ring_full_total", "Times a connection had to wait for the disk."
    JOURNAL_GROUPS = "journal_groups_total", "Groups of journal records made durable together."
    JOURNAL_RECORDS = "journal_records_total", "Records made durable in the journal."
    JOURNAL_RECOVERED = "journal_recovered_total", "Journal records found at start."
    JOURNAL_TORN = "journal_torn_total", "Torn journal records dropped at start."
    INCOMING_REMOVED = "incoming_removed_total", "Unacknowledged files removed at start."
    INCOMING_ADOPTED = "incoming_adopted_total", "Sealed files given their records at start."
    INDEXED_INSTANCES = "indexed_instances_total", "Instances placed and entered in the index."
    INDEX_REPLACED_BY_SAME = (
        "index_duplicates_total",
        "Instances that replaced an older one, of the same calling AE title or another.",
        "sender=same",
    )
    INDEX_REPLACED_BY_ANOTHER = "index_duplicates_total", "", "sender=another"
    INDEX_REPLACEMENTS_REFUSED = (
        "index_replacements_refused_total",
        "Instances that might not replace an older one, and were set aside.",
    )
    INDEX_COMMITS = "index_commits_total", "Commits of the index."
    INDEX_ERRORS = "index_errors_total", "Attempts to place or index that failed."
    INDEX_CHECKPOINTS = "index_checkpoints_total", "Checkpoints of the index."
    INDEX_KEPT_APART = (
        "index_kept_apart_total",
        "Studies and instances kept apart from another patient's of the same UID.",
    )
    INDEX_MISSING = "index_missing_total", "Journal records whose file was nowhere to be found."
    INDEX_SET_ASIDE = (
        "index_set_aside_total",
        "Instances set aside because the indexer died of them again and again.",
    )
    REMOVED_INSTANCES = "removed_instances_total", "Stored instances removed by operators."
    REMOVED_BYTES = "removed_bytes_total", "Bytes of them."
    EVICTED_UNUSED = "evicted_studies_total", "Studies removed by retention.", "reason=unused"
    EVICTED_DELIVERED = "evicted_studies_total", "", "reason=delivered"
    EVICTED_UNDELIVERED = "evicted_studies_total", "", "reason=undelivered"
    EVICTED_BYTES_UNUSED = "evicted_bytes_total", "Bytes of them.", "reason=unused"
    EVICTED_BYTES_DELIVERED = "evicted_bytes_total", "", "reason=delivered"
    EVICTED_BYTES_UNDELIVERED = "evicted_bytes_total", "", "reason=undelivered"
    LOG_LINES_DROPPED = "log_lines_dropped_total", "Log lines dropped, the reader being slow."
    HANDSHAKES_DONE = "tls_handshakes_total", "TLS handshakes by result.", "result=done"
    HANDSHAKES_NOT_TLS = "tls_handshakes_total", "", "result=not_tls"
    HANDSHAKES_VERSION = "tls_handshakes_total", "", "result=version"
    HANDSHAKES_SUITE = "tls_handshakes_total", "", "result=suite"
    HANDSHAKES_NO_CERTIFICATE = "tls_handshakes_total", "", "result=no_certificate"
    HANDSHAKES_UNTRUSTED = "tls_handshakes_total", "", "result=untrusted"
    HANDSHAKES_EXPIRED = "tls_handshakes_total", "", "result=expired"
    HANDSHAKES_WEAK = "tls_handshakes_total", "", "result=weak"
    HANDSHAKES_PURPOSE = "tls_handshakes_total", "", "result=purpose"
    HANDSHAKES_PEER_ALERT = "tls_handshakes_total", "", "result=peer_alert"
    HANDSHAKES_CLOSED = "tls_handshakes_total", "", "result=closed"
    HANDSHAKES_PROTOCOL = "tls_handshakes_total", "", "result=protocol"
    HANDSHAKES_TIMEOUT = "tls_handshakes_total", "", "result=timeout"
    HANDSHAKES_CROWDED_OUT = "tls_handshakes_total", "", "result=crowded_out"
    BROKEN_INTEGRITY = (
        "tls_sessions_broken_total",
        "Secured connections ended for what came over them, by cause.",
        "cause=integrity",
    )
    BROKEN_RENEGOTIATION = "tls_sessions_broken_total", "", "cause=renegotiation"
    BROKEN_PEER_ALERT = "tls_sessions_broken_total", "", "cause=peer_alert"
    BROKEN_PROTOCOL = "tls_sessions_broken_total", "", "cause=protocol"
    SENT_SUCCESS = "sent_attempts_total", "Attempts to deliver, by outcome.", "outcome=success"
    SENT_WARNING = "sent_attempts_total", "", "outcome=warning"
    SENT_REFUSED = "sent_attempts_total", "", "outcome=refused"
    SENT_BROKEN = "sent_attempts_total", "", "outcome=no_answer"
    SENT_AWAY = "sent_attempts_total", "", "outcome=not_reached"
    SENT_IMPOSSIBLE = "sent_attempts_total", "", "outcome=impossible"
    SENT_RETURNED = "sent_attempts_total", "", "outcome=put_off"
    SENT_GIVEN_UP = "sent_given_up_total", "Deliveries that failed for good."
    SENT_BYTES = "sent_bytes_total", "Bytes of P-DATA-TF PDUs sent to remote AEs."
    SENT_ASSOCIATIONS = "sent_associations_total", "Associations asked for to deliver."
    SENT_ODD_META_IN_DATA_SET = (
        "sent_oddities_total",
        "Deliveries of instances that are not as the standard has it, by what was odd.",
        "kind=meta_in_data_set",
    )
    SENT_ODD_OTHER_ENCODING = "sent_oddities_total", "", "kind=other_encoding"
    SENT_ODD_UNKNOWN_VR = "sent_oddities_total", "", "kind=unknown_vr"
    SENT_ODD_IMPLICIT_ELEMENT = "sent_oddities_total", "", "kind=implicit_element"
    SENT_ODD_DELIMITER = "sent_oddities_total", "", "kind=delimiter"
    SENT_ODD_BEHIND_END = "sent_oddities_total", "", "kind=behind_end"
    SENT_ODD_SEQUENCE_VALUE = "sent_oddities_total", "", "kind=sequence_value"
    SENT_ODD_OFFSET_TABLE = "sent_oddities_total", "", "kind=offset_table"
    SENT_ODD_FRAME_COUNT = "sent_oddities_total", "", "kind=frame_count"
    SENT_ODD_EMPTY_FRAGMENT = "sent_oddities_total", "", "kind=empty_fragment"
    ODD_COMMAND_GROUP_LENGTH = (
        "command_oddities_total",
        "Associations whose peer writes command sets otherwise than the standard, by what is odd.",
        "kind=group_length",
    )
    ODD_COMMAND_ODD_LENGTH = "command_oddities_total", "", "kind=odd_length"
    ODD_COMMAND_BLANK_PADDING = "command_oddities_total", "", "kind=blank_padding"
    ODD_COMMAND_DATA_SET_TYPE = "command_oddities_total", "", "kind=data_set_type"
    OUTBOX_COLLECTED = "outbox_collected_total", "Files taken from watched folders."
    OUTBOX_REJECTED = "outbox_rejected_total", "Files of watched folders that cannot be sent."
    PREFETCH_MOVED = (
        "prefetch_instances_total",
        "Instances of related studies: moved here, here before, and promised in vain.",
        "result=moved",
    )
    PREFETCH_HERE = "prefetch_instances_total", "", "result=here"
    PREFETCH_MISSING = "prefetch_instances_total", "", "result=missing"
    PREFETCH_UNASKED = "prefetch_unasked_total", "Instances that archives sent without promise."
    PREFETCH_ENDED_DONE = "prefetch_ended_total", "Prefetches that ended, by state.", "state=done"
    PREFETCH_ENDED_INCOMPLETE = "prefetch_ended_total", "", "state=incomplete"
    PREFETCH_ENDED_FAILED = "prefetch_ended_total", "", "state=failed"
    HL7_UPDATE_AA = "hl7_messages_total", "HL7 messages answered, by kind.", "kind=update,answer=AA"
    HL7_UPDATE_AE = "hl7_messages_total", "", "kind=update,answer=AE"
    HL7_UPDATE_AR = "hl7_messages_total", "", "kind=update,answer=AR"
    HL7_MERGE_AA = "hl7_messages_total", "", "kind=merge,answer=AA"
    HL7_MERGE_AE = "hl7_messages_total", "", "kind=merge,answer=AE"
    HL7_MERGE_AR = "hl7_messages_total", "", "kind=merge,answer=AR"
    HL7_ORDER_AA = "hl7_messages_total", "", "kind=order,answer=AA"
    HL7_ORDER_AE = "hl7_messages_total", "", "kind=order,answer=AE"
    HL7_ORDER_AR = "hl7_messages_total", "", "kind=order,answer=AR"
    HL7_OTHER_AA = "hl7_messages_total", "", "kind=other,answer=AA"
    HL7_OTHER_AE = "hl7_messages_total", "", "kind=other,answer=AE"
    HL7_OTHER_AR = "hl7_messages_total", "", "kind=other,answer=AR"
    HL7_REPLAYED = "hl7_replayed_total", "HL7 messages that had been taken before."
    HL7_UNMATCHED = "hl7_unmatched_total", "HL7 messages about nothing that was here yet."
    HL7_CORRECTIONS = "hl7_corrections_total", "Attributes corrected when a message came."
    HL7_CONNECTIONS = (
        "hl7_connections_total",
        "HL7 connections by what came of them.",
        "result=taken",
    )
    HL7_HOSTS_REFUSED = "hl7_connections_total", "", "result=refused_host"
    HL7_CROWDED_OUT = "hl7_connections_total", "", "result=crowded_out"
    HL7_BROKEN = "hl7_connections_total", "", "result=broken"
    TLS_ON_PLAIN = "tls_on_plain_port_total", "Connections that began TLS on a port without it."


class Gauge(IntEnum):
    """A value that goes up and down."""

    row: Row

    def __new__(cls, family: str, text: str, label: str = "", resets: bool = False) -> Self:
        slot = _next_line(max(Counter) + 1) + len(cls.__members__)
        member = int.__new__(cls, slot)
        member._value_ = slot
        member.row = Row(family, text, label, resets)
        return member

    # Read by the supervisor: monotonic nanoseconds, the writer's pid, a ProcessState.
    HEARTBEAT = "", "When the process's loop last turned.", "", True
    PID = "", "Whose heartbeat it is.", "", True
    STATE = "process_state", "0 absent, 1 starting, 2 ready, 3 draining, 4 waiting.", "", True
    CONNECTIONS_PENDING = "connections_pending", "Connections without a request.", "", True
    ASSOCIATIONS_ACTIVE = "associations_active", "Associations accepted and open.", "", True
    VERIFICATIONS_ACTIVE = (
        "verifications_active",
        "Associations open that can only verify, in places of their own.",
        "",
        True,
    )
    ASSOCIATIONS_LIMIT = "associations_limit", "Associations that may be open at once."
    LAST_RECEIVED = "last_received_timestamp_seconds", "When an instance was last acknowledged."
    LAST_REFUSED = "last_refused_timestamp_seconds", "When a context was last refused."
    LAST_REFUSED_CLASS = "", "Its number in REFUSED_CLASSES."
    JOURNAL_DURABLE_SEQUENCE = "journal_durable_sequence", "Last durable record of the journal."
    # Ahead of it by sealed files that are acknowledged and get their records in a moment.
    JOURNAL_ACKNOWLEDGED_SEQUENCE = (
        "journal_acknowledged_sequence",
        "Record that the journal has when it has all that was acknowledged.",
    )
    # The one slot that somebody else writes: the indexer, in the block of the journal's receiver.
    JOURNAL_APPLIED_SEQUENCE = "journal_applied_sequence", "Last record indexed of the journal."
    STORE_FAULT = "store_fault_errno", "Error of the last store, 0 when it succeeded."
    JOURNAL_FAULT = "journal_fault_errno", "Error that keeps the journal from being read, or 0."
    JOURNAL_DAMAGE = "journal_damage_findings", "Damage found in journals and not looked after yet."
    INDEX_FAULT = "index_fault_errno", "Error that keeps the index from going on, or 0."
    INDEX_CUT = "index_cut", "1: the index's file is shorter than it says, or cannot be read."
    INDEX_MAP_BYTES = "index_map_bytes", "Size of the index's memory map."
    INDEX_USED_BYTES = "index_used_bytes", "Bytes of the map in use."
    INSTANCES = "instances", "Instances in the index."
    SERIES = "series", "Series in the index."
    STUDIES = "studies", "Studies in the index."
    PATIENTS = "patients", "Patients in the index."
    DISK_FREE_BYTES = "disk_free_bytes", "Free space where the data lies."
    DISK_LOW = "disk_low", "1 while new instances are refused for want of space."
    EVICTION_LACKING = (
        "evicted_lacking_bytes",
        "Bytes above the low watermark that are still to be freed, or cannot be.",
    )
    OUTBOX_WAITING = "outbox_deliveries", "Deliveries by state.", "state=waiting"
    OUTBOX_SENDING = "outbox_deliveries", "", "state=sending"
    OUTBOX_RETRYING = "outbox_deliveries", "", "state=retrying"
    OUTBOX_FAILED = "outbox_deliveries", "", "state=failed"
    OUTBOX_HELD = "outbox_deliveries", "", "state=held"
    OUTBOX_DELIVERED = "outbox_deliveries", "", "state=delivered"
    OUTBOX_FAULT = "outbox_fault_errno", "Error that keeps the outbox from being written, or 0."
    PREFETCH_WAITING = "prefetch_jobs", "Prefetches by state.", "state=waiting"
    PREFETCH_RUNNING = "prefetch_jobs", "", "state=running"
    PREFETCH_RETRYING = "prefetch_jobs", "", "state=retrying"
    PREFETCH_FAILED = "prefetch_jobs", "", "state=failed"
    PREFETCH_INCOMPLETE = "prefetch_jobs", "", "state=incomplete"
    PREFETCH_DONE = "prefetch_jobs", "", "state=done"
    PREFETCH_FETCHED = "prefetch_studies", "Studies fetched, and those used since.", "state=fetched"
    PREFETCH_USED = "prefetch_studies", "", "state=used"
    HL7_OPEN = "hl7_connections_open", "HL7 connections that are open.", "", True
    HL7_KEPT = "hl7_kept", "What messages said that is kept for studies to come."
    HL7_LAST = "hl7_last_message_timestamp_seconds", "When a message was last answered AA."
    HL7_LAG = "hl7_lag_seconds", "From what the last message tells of to its answer."
    HL7_FAULT = "hl7_fault_errno", "Error that keeps messages from being taken, or 0."
    RELOAD_REFUSED = (
        "reload_refused",
        "1 from a reload that was refused until the next good one.",
        "",
        True,
    )
    CERTIFICATE_END = (
        "certificate_expiry_timestamp_seconds",
        "When the first certificate of our own chain expires.",
    )


_fast = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_slow = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)


class Histogram(IntEnum):
    """Durations: a slot for each bucket, one for what lies above, one for the sum."""

    row: Row
    bounds: tuple[float, ...]

    def __new__(cls, family: str, text: str, bounds: tuple[float, ...]) -> Self:
        before = list(cls.__members__.values())
        start = before[-1] + len(before[-1].bounds) + 2 if before else max(Gauge) + 1
        member = int.__new__(cls, _next_line(start))
        member._value_ = int(member)
        member.row = Row(family, text)
        member.bounds = bounds
        return member

    STORE_DURATION = "store_duration_seconds", "From C-STORE-RQ to its response.", _slow
    COMMIT_DURATION = "commit_duration_seconds", "From a data set's end to durability.", _fast
    SENT_DURATION = "sent_duration_seconds", "One attempt that was delivered.", _slow
    PREFETCH_DURATION = (
        "prefetch_duration_seconds",
        "One attempt at a prefetch.",
        (0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1800.0),
    )
    HL7_DURATION = "hl7_duration_seconds", "From a message's end to its answer.", _fast
    INDEX_BATCH_DURATION = "index_batch_duration_seconds", "Placing and indexing a batch.", _fast
    ASSOCIATION_DURATION = (
        "association_duration_seconds",
        "From acceptance to the end.",
        (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0),
    )


# Refused presentation contexts by SOP class: one slot for each class of the standard's list, and
# one for all that is on no list, since no label may be what a peer chose.
REFUSED_CLASSES: Final = ("other", *STORAGE_SOP_CLASSES)
REFUSED_ROW: Final = Row("contexts_refused_total", "Presentation contexts refused, by SOP class.")
_last = max(Histogram)
REFUSED_FIRST_SLOT: Final = _next_line(_last + len(_last.bounds) + 2)
_REFUSED_NUMBERS: Final = {uid: number for number, uid in enumerate(REFUSED_CLASSES)}


def refused_number(sop_class_uid: str) -> int:
    """The class's place in REFUSED_CLASSES; 0: it is on no list."""
    return _REFUSED_NUMBERS.get(sop_class_uid, 0)


class ProcessState(IntEnum):
    ABSENT = 0
    STARTING = 1
    READY = 2
    DRAINING = 3
    WAITING = 4  # dead; its replacement is held back


# Shown too, made of other numbers by whoever shows them.
RESTARTS_ROW: Final = Row("worker_restarts_total", "Times the process was replaced.")
LAG_ROW: Final = Row("journal_lag_records", "Durable records that the index has not taken in yet.")
SILENCE_ROW: Final = Row("heartbeat_age_seconds", "Since the process's loop last turned.")
BUILD_ROW: Final = Row("build_info", "1; the label says which version runs.")
DESTINATION_ROW: Final = Row(
    "outbox_destination_deliveries", "Deliveries of a destination by state."
)
DESTINATION_AGE_ROW: Final = Row(
    "outbox_destination_oldest_seconds", "How long a destination's first waiting delivery waits."
)
DESTINATION_AWAY_ROW: Final = Row(
    "outbox_destination_away_seconds", "For how long a destination cannot be reached; 0: it can be."
)
DERIVED_ROWS: Final = (
    RESTARTS_ROW,
    LAG_ROW,
    SILENCE_ROW,
    BUILD_ROW,
    DESTINATION_ROW,
    DESTINATION_AGE_ROW,
    DESTINATION_AWAY_ROW,
    REFUSED_ROW,
)

# Two cache lines: the processor fetches neighbours in pairs.
BLOCK_SLOTS: Final = -(-(REFUSED_FIRST_SLOT + len(REFUSED_CLASSES)) // 16) * 16
BLOCK_BYTES: Final = BLOCK_SLOTS * SLOT_BYTES
RESETTING_GAUGES: Final = tuple(gauge for gauge in Gauge if gauge.row.resets)


def table_digest() -> bytes:
    """Sixteen bytes that differ whenever two builds would read a block differently."""
    rows = [(int(item), item.name, item.row.family) for item in (*Counter, *Gauge, *Histogram)]
    bounds = [item.bounds for item in Histogram]
    text = repr((HEADER_SLOTS, BLOCK_SLOTS, rows, bounds, REFUSED_CLASSES))
    return blake2b(text.encode(), digest_size=16).digest()


def labels_of(row: Row) -> dict[str, str]:
    pairs = (pair.partition("=")[::2] for pair in row.label.split(",") if pair)
    return dict(pairs)


def shown_names() -> frozenset[str]:
    """Every name a scrape can hold, without the prefix."""
    plain = [item.row.family for item in (*Counter, *Gauge)] + [row.family for row in DERIVED_ROWS]
    parts = [
        f"{item.row.family}_{part}" for item in Histogram for part in ("bucket", "sum", "count")
    ]
    return frozenset(name for name in (*plain, *parts) if name)
