"""What a process is told: one frozen struct, sent once as one message over its letterbox.

The supervisor makes them, `workers/frame/child.py` reads them. Everything a worker needs is in its
spec; it reads neither configuration nor environment. Descriptors named here are inherited under the
same number. A reload sends a whole new spec; the fields named in `CHANGEABLE` may differ in it, any
other difference makes the supervisor replace the process.
"""

from typing import Final, Literal

import msgspec

from engine.settings.entities import Remote
from engine.settings.hl7 import Hl7
from engine.settings.prefetch import Prefetch
from engine.settings.retention import Retention
from engine.settings.send import Rule
from engine.settings.timeouts import Timeouts

MODULES: Final = {
    "receiver": "workers.receiver.receiver",
    "indexer": "workers.indexer",
    "sender": "workers.sender.sender",
    "retriever": "workers.retriever.retriever",
    "hl7": "workers.hl7.listener",
    "stats": "tools.stats.stats",
}


class ContextSpec(msgspec.Struct, frozen=True):
    """One presentation context: an abstract syntax and what is taken for it."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


class JournalSpec(msgspec.Struct, frozen=True):
    """A journal the indexer reads, and the counters block its writer publishes positions in."""

    name: str
    directory: str
    counters_block: int
    replace: Literal["always", "same-sender", "never"] = "always"  # what came through it


class ProcessSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What every process is told."""

    name: str  # of the process; in logs, metrics and the names of its directories
    role: str
    module: str  # its `async def run(child)` is the process's work
    cores: tuple[int, ...]  # empty: wherever the kernel likes
    counters_descriptor: int
    counters_block: int
    counters_blocks: dict[str, int]  # of all processes, by name
    data_directory: str
    log_level: str
    confine: bool = True  # whether it gives up what it does not need (workers/frame/confinement.py)
    version: str


class ReceiverSpec(ProcessSpec, frozen=True, kw_only=True, tag="receiver"):
    """One storage AE on one port."""

    listen_descriptors: tuple[int, ...]  # IPv4 and IPv6 of one port
    port: int
    ring_descriptor: int  # a memfd of ring_slots * ring_bytes
    ring_slots: int  # both limits and the spare ones
    ring_bytes: int
    doorbell_descriptor: int  # an eventfd: written when records became durable
    indexer_block: int  # whose INDEX_FAULT and DISK_LOW are heeded
    journal_directory: str
    incoming_directory: str
    durability: str  # "sync" or "os"
    reserve_bytes: int
    out_of_resources_status: int  # what a peer is told when there is no room
    ae_title: str
    called_ae_titles: tuple[str, ...]
    calling_ae_titles: tuple[str, ...]
    allowed_hosts: tuple[str, ...]
    contexts: tuple[ContextSpec, ...]
    association_limit: int
    verification_limit: int  # of what can only verify, besides
    host_limit: int  # of either, for one host while others ask; 0: all but one
    known_peers: tuple[tuple[str, str], ...]  # AE title and address of remote AEs
    application_timeout_s: float  # ARTIM: how long the association request may take
    idle_timeout_s: float
    message_timeout_s: float
    log_instances: bool  # a line for each stored instance
    tls_descriptor: int = -1  # a memfd with what TLS is made of (tls_handover.py); -1: plain
    tls_digest: str = ""  # of its content: a new one says that it is to be read again
    extra_tags: tuple[int, ...] = ()  # cut out for rules, besides what the index keeps


class IndexerSpec(ProcessSpec, frozen=True, kw_only=True, tag="indexer"):
    """The one process that writes the index."""

    doorbell_descriptor: int
    durability: str
    reserve_bytes: int
    journals: tuple[JournalSpec, ...]
    rules: tuple[Rule, ...] = ()
    prefetch: tuple[Prefetch, ...] = ()
    extra_tags: tuple[int, ...] = ()  # as the receivers are told
    retention: Retention = Retention()


class SenderSpec(ProcessSpec, frozen=True, kw_only=True, tag="sender"):
    """STORAGE-SCU: the process that delivers what stands in the outbox."""

    calling_ae_title: str
    timeouts: Timeouts
    retry_count: int
    retry_pause_s: int
    delivered_days: int
    associations: int  # open at once, to all remote AEs together
    give_up_after_hours: int
    remotes: tuple[Remote, ...]
    log_instances: bool  # a line for each instance that was sent
    tls_descriptor: int = -1  # as the receivers'; -1: no remote AE is spoken to over TLS
    tls_digest: str = ""


class RetrieverSpec(ProcessSpec, frozen=True, kw_only=True, tag="retriever"):
    """QUERY-RETRIEVE-SCU: the process that has prior studies moved here."""

    calling_ae_title: str
    destination_ae_title: str  # PrefetchAP's
    receiving_block: int  # whose numbers tell what arrives there
    timeouts: Timeouts
    query_timeout_s: float
    retrieve_timeout_s: float
    retry_count: int
    retry_pause_s: int
    history_days: int
    remotes: tuple[Remote, ...]
    tls_descriptor: int = -1  # as the sender's
    tls_digest: str = ""


class Hl7Spec(ProcessSpec, frozen=True, kw_only=True, tag="hl7"):
    """The listener of HL7 messages."""

    listen_descriptors: tuple[int, ...]
    address: str
    port: int
    settings: Hl7
    outgoing_sets: tuple[str, ...]  # character sets that every remote AE takes
    tls_descriptor: int = -1  # as the receivers'; -1: connections are plain
    tls_digest: str = ""


class StatsSpec(ProcessSpec, frozen=True, kw_only=True, tag="stats"):
    """The HTTP endpoint of metrics and health; reads counters, owns nothing."""

    listen_descriptors: tuple[int, ...]
    address: str
    port: int


AnySpec = ReceiverSpec | IndexerSpec | SenderSpec | RetrieverSpec | Hl7Spec | StatsSpec

_common: Final = {"log_level", "counters_blocks", "version"}
CHANGEABLE: Final[dict[str, frozenset[str]]] = {
    "receiver": frozenset(
        _common
        | {
            "reserve_bytes",
            "out_of_resources_status",
            "ae_title",
            "called_ae_titles",
            "calling_ae_titles",
            "allowed_hosts",
            "contexts",
            "application_timeout_s",
            "idle_timeout_s",
            "message_timeout_s",
            "host_limit",
            "known_peers",
            "log_instances",
            "tls_digest",
        }
    ),
    "indexer": frozenset(
        _common | {"journals", "reserve_bytes", "rules", "prefetch", "extra_tags", "retention"}
    ),
    "sender": frozenset(
        _common
        | {
            "calling_ae_title",
            "timeouts",
            "retry_count",
            "retry_pause_s",
            "delivered_days",
            "give_up_after_hours",
            "remotes",
            "log_instances",
            "tls_digest",
        }
    ),
    "retriever": frozenset(
        _common
        | {
            "calling_ae_title",
            "destination_ae_title",
            "timeouts",
            "query_timeout_s",
            "retrieve_timeout_s",
            "retry_count",
            "retry_pause_s",
            "history_days",
            "remotes",
            "tls_digest",
        }
    ),
    "hl7": frozenset(_common | {"settings", "outgoing_sets", "tls_digest"}),
    "stats": frozenset(_common),
}


def may_change_to(old: AnySpec, new: AnySpec) -> bool:
    """Whether a running process can take the new spec without being replaced."""
    if type(old) is not type(new):
        return False
    changeable = CHANGEABLE[old.role]
    return all(
        getattr(old, field) == getattr(new, field)
        for field in old.__struct_fields__
        if field not in changeable
    )
