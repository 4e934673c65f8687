"""From a configuration to the processes it asks for: one spec each, and where they sit.

`Resources` holds what outlives every process: rings, doorbell, counters, listening sockets.
`plan` is called at start and at every reload, with the same resources.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

import msgspec

from engine import limits
from engine.config.loading import Config, StorageEntity
from engine.dictionary.elements import extra_tags
from engine.errors import OperatorError
from engine.prefetch.rules import PrefetchRules
from engine.rules.routing import Rules
from engine.settings.entities import character_sets_of_all
from engine.telemetry.counters import CounterSegment
from engine.tls.traces import without_traces
from workers.frame.placement import Assignment, Seat, place
from workers.frame.spec import (
    AnySpec,
    ContextSpec,
    Hl7Spec,
    IndexerSpec,
    JournalSpec,
    ProcessSpec,
    ReceiverSpec,
    RetrieverSpec,
    SenderSpec,
    StatsSpec,
)
from workers.frame.tls_handover import Handover
from workers.supervision.machine import read_topology
from workers.supervision.sockets import Listeners

INDEXER = "indexer"
SENDER = "sender"
RETRIEVER = "retriever"
HL7 = "hl7"
STATS = "stats"
SECURED = "secured_scp"
SUPERVISOR = "supervisor"
_OWN_ROLES = (INDEXER, SENDER, RETRIEVER, HL7, STATS)  # called as their processes are


class Resources:
    """What the supervisor owns and its children inherit."""

    def __init__(self, version: str, modules: Mapping[str, str]) -> None:
        self.version = version
        self.modules = modules
        self.counters = CounterSegment.create()
        self.own_block = self.counters.claim(SUPERVISOR, SUPERVISOR)
        self.doorbell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.listeners = Listeners()
        self.journals: dict[str, JournalSpec] = {}  # all there ever were: they may hold records
        self.handover = Handover()  # of key, certificates and suites
        self.tls_digest = ""
        self.tls_warnings: tuple[str, ...] = ()
        self.certificate_ends_ns = 0
        self._rings: dict[tuple[str, int], int] = {}

    def secure(self, config: Config) -> None:
        """Read the stores, if anything is secured, and have OpenSSL try what they hold.

        OperatorError: something is wrong with it. Nothing running hears of it before
        `handover.publish()`."""
        material, digest = None, ""
        hl7 = config.hl7.enabled and config.hl7.tls
        if config.secured_scp.enabled or hl7 or any(remote.tls for remote in config.remotes):
            from engine.tls.material import material_of  # cryptography takes long to import

            with without_traces():
                material = material_of(config)
                if material is not None:
                    try:
                        digest = self.handover.stage(material)
                    finally:
                        material.wipe()
        self.tls_digest = digest
        self.tls_warnings = material.warnings if material is not None else ()
        ends = material.not_after.timestamp() if material is not None else 0
        self.certificate_ends_ns = int(ends) * 10**9

    def ring(self, name: str, size: int) -> int:
        """A memfd of this size for the rings of this receiver."""
        key = (name, size)
        if key not in self._rings:
            descriptor = os.memfd_create(f"scai-ring-{name}", os.MFD_CLOEXEC)
            os.ftruncate(descriptor, size)
            self._rings[key] = descriptor
        return self._rings[key]


@dataclass(frozen=True, slots=True)
class Planned:
    spec: AnySpec
    reason: str


def wanted_places(config: Config) -> dict[tuple[str, int], str]:
    """(address, port) -> whom to name in a message about it."""
    places = {
        (entity.settings.address, entity.settings.port): entity.name
        for entity in config.storage_aes()
    }
    if config.hl7.enabled:
        places[config.hl7.address, config.hl7.port] = HL7
    return places | stats_places(config)


def stats_places(config: Config) -> dict[tuple[str, int], str]:
    """As `wanted_places`: what is listened on until the end, when no association is taken."""
    if not config.stats.enabled:
        return {}
    return {(config.stats.address, config.stats.port): STATS}


def seat_everybody(config: Config) -> list[Assignment]:
    """Which process sits where on this machine."""
    entities = config.storage_aes()
    seats = [
        Seat(entity.table, "receiver", entity.settings.associations, _wish(entity.settings.core))
        for entity in entities
    ]
    seats.append(Seat(INDEXER, "indexer", 0, _wish(config.index.core)))
    if config.remotes:
        seats.append(Seat(SENDER, SENDER))
    if config.prefetch:
        seats.append(Seat(RETRIEVER, RETRIEVER))
    if config.hl7.enabled:
        seats.append(Seat(HL7, HL7))
    if config.stats.enabled:
        seats.append(Seat(STATS, STATS))
    return place(os.sched_getaffinity(0), read_topology(), seats)


def plan(config: Config, resources: Resources) -> dict[str, Planned]:
    """What is to run, by process name. The places in `wanted_places` must be open."""
    resources.secure(config)
    entities = config.storage_aes()
    counters = resources.counters
    blocks = {SUPERVISOR: resources.own_block, INDEXER: counters.claim(INDEXER, INDEXER)}
    for entity in entities:
        blocks[entity.table] = counters.claim(entity.table, "receiver", entity.settings.ae_title)
    if config.remotes:
        blocks[SENDER] = counters.claim(SENDER, SENDER, config.calling_ae_title)
    if config.prefetch:
        title = config.query_retrieve_scu.ae_title
        blocks[RETRIEVER] = counters.claim(RETRIEVER, RETRIEVER, title)
    if config.hl7.enabled:
        blocks[HL7] = counters.claim(HL7, HL7)
    if config.stats.enabled:
        blocks[STATS] = counters.claim(STATS, STATS)
    for entity in entities:
        resources.journals[entity.table] = JournalSpec(
            name=entity.table,
            directory=str(config.data_path / "journal" / entity.table),
            counters_block=blocks[entity.table],
            replace=entity.settings.replace,
        )
    planned = {}
    for sits in seat_everybody(config):
        name = sits.name
        role = name if name in _OWN_ROLES else "receiver"
        common = ProcessSpec(
            name=name,
            role=role,
            module=resources.modules[role],
            cores=sits.cores,
            counters_descriptor=counters.descriptor,
            counters_block=blocks[name],
            counters_blocks=blocks,
            data_directory=str(config.data_path),
            log_level=config.log.level,
            confine=config.confine,
            version=resources.version,
        )
        spec = _specify(common, config, resources)
        if len(msgspec.json.encode(spec)) > limits.letter_bytes_max - limits.KIB:
            raise OperatorError(
                "its settings are too many for one message to its process: shorten `contexts`, "
                "`allowed_hosts`, the lists of AE titles or the rules",
                name,
            )
        planned[name] = Planned(spec, sits.reason)
    return planned


def wanted_extra_tags(config: Config) -> tuple[int, ...]:
    """What rules look at that the index does not keep."""
    return extra_tags(Rules.compile(config.rules).tags | PrefetchRules(config.prefetch).tags)


def _wish(core: int | str) -> int | None:
    return core if isinstance(core, int) else None


def _specify(common: ProcessSpec, config: Config, resources: Resources) -> AnySpec:
    fields = {name: getattr(common, name) for name in common.__struct_fields__}
    reserve_bytes = config.reserve_mib * limits.MIB
    if common.role == INDEXER:
        return IndexerSpec(
            **fields,
            doorbell_descriptor=resources.doorbell,
            durability=config.durability,
            reserve_bytes=reserve_bytes,
            journals=tuple(resources.journals.values()),
            rules=config.rules,
            prefetch=config.prefetch,
            extra_tags=wanted_extra_tags(config),
            retention=config.retention,
        )
    if common.role == SENDER:
        return _sender(fields, config, resources)
    if common.role == RETRIEVER:
        return _retriever(fields, config, resources)
    if common.role == HL7:
        return _hl7(fields, config, resources)
    if common.role == STATS:
        place_of_stats = (config.stats.address, config.stats.port)
        return StatsSpec(
            **fields,
            listen_descriptors=resources.listeners.descriptors(place_of_stats),
            address=config.stats.address,
            port=config.stats.port,
        )
    entity = next(entity for entity in config.storage_aes() if entity.table == common.name)
    return _receiver(fields, entity, config, resources)


def _sender(fields: dict[str, object], config: Config, resources: Resources) -> SenderSpec:
    secured = any(remote.tls for remote in config.remotes)
    return SenderSpec(
        **fields,  # type: ignore[arg-type]  # as in _receiver()
        calling_ae_title=config.calling_ae_title,
        timeouts=config.timeouts,
        retry_count=config.retry_count,
        retry_pause_s=config.send.retry_pause_s,
        delivered_days=config.send.delivered_days,
        associations=config.send.associations,
        give_up_after_hours=config.send.give_up_after_hours,
        remotes=config.remotes,
        log_instances=config.log.instances,
        tls_descriptor=resources.handover.descriptor if secured else -1,
        tls_digest=resources.tls_digest if secured else "",
    )


def _retriever(fields: dict[str, object], config: Config, resources: Resources) -> RetrieverSpec:
    secured = any(remote.tls for remote in config.remotes)
    blocks = fields["counters_blocks"]
    assert isinstance(blocks, dict)
    return RetrieverSpec(
        **fields,  # type: ignore[arg-type]  # as in _receiver()
        calling_ae_title=config.query_retrieve_scu.ae_title,
        destination_ae_title=config.prefetch_scp.ae_title,
        receiving_block=blocks["prefetch_scp"],
        timeouts=config.timeouts,
        query_timeout_s=config.query_retrieve_scu.query_timeout_s,
        retrieve_timeout_s=config.query_retrieve_scu.retrieve_timeout_s,
        retry_count=config.retry_count,
        retry_pause_s=config.send.retry_pause_s,
        history_days=config.query_retrieve_scu.history_days,
        remotes=config.remotes,
        tls_descriptor=resources.handover.descriptor if secured else -1,
        tls_digest=resources.tls_digest if secured else "",
    )


def _hl7(fields: dict[str, object], config: Config, resources: Resources) -> Hl7Spec:
    settings = config.hl7
    return Hl7Spec(
        **fields,  # type: ignore[arg-type]  # as in _receiver()
        listen_descriptors=resources.listeners.descriptors((settings.address, settings.port)),
        address=settings.address,
        port=settings.port,
        settings=settings,
        outgoing_sets=character_sets_of_all(config.remotes),
        tls_descriptor=resources.handover.descriptor if settings.tls else -1,
        tls_digest=resources.tls_digest if settings.tls else "",
    )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _receiver(
    fields: dict[str, object], entity: StorageEntity, config: Config, resources: Resources
) -> ReceiverSpec:
    settings = entity.settings
    slots = settings.associations + settings.verifications + limits.ring_slots_spare
    blocks = fields["counters_blocks"]
    assert isinstance(blocks, dict)
    return ReceiverSpec(
        **fields,  # type: ignore[arg-type]  # the fields of the base, whose types mypy has seen
        listen_descriptors=resources.listeners.descriptors((settings.address, settings.port)),
        port=settings.port,
        ring_descriptor=resources.ring(
            entity.table, slots * (limits.ring_header_bytes + config.ring_bytes)
        ),
        ring_slots=slots,
        ring_bytes=config.ring_bytes,
        doorbell_descriptor=resources.doorbell,
        indexer_block=blocks[INDEXER],
        journal_directory=str(config.data_path / "journal" / entity.table),
        incoming_directory=str(config.data_path / "incoming" / entity.table),
        durability=config.durability,
        reserve_bytes=config.reserve_mib * limits.MIB,
        out_of_resources_status=int(config.out_of_resources_status, 16),
        ae_title=settings.ae_title,
        called_ae_titles=settings.called_ae_titles,
        calling_ae_titles=settings.calling_ae_titles,
        allowed_hosts=settings.allowed_hosts,
        contexts=tuple(
            ContextSpec(context.abstract_syntax, context.transfer_syntaxes)
            for context in settings.accepted()
        ),
        association_limit=settings.associations,
        verification_limit=settings.verifications,
        host_limit=settings.associations_per_host,
        known_peers=tuple(
            (remote.ae_title, remote.host) for remote in config.remotes if _is_address(remote.host)
        ),
        application_timeout_s=config.application_timeout_s,
        idle_timeout_s=config.idle_timeout_s,
        message_timeout_s=config.message_timeout_s,
        log_instances=config.log.instances,
        tls_descriptor=resources.handover.descriptor if entity.table == SECURED else -1,
        tls_digest=resources.tls_digest if entity.table == SECURED else "",
        extra_tags=wanted_extra_tags(config),
    )
