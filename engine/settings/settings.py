"""Every setting of the product with its default, its range and its documentation, in one place.

The configuration file is read into these structs (engine/config/reader.py), docs/configuration.md
is generated from them (tools/development/reference.py). The order of the fields is the order of the
reference. What the conformance statement calls "not configurable" is no field here; see
engine/limits.py.
"""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Struct

from engine import limits
from engine.settings.entities import Core, Remote, StorageAe, StorageEntity, setting
from engine.settings.hl7 import Hl7
from engine.settings.prefetch import Prefetch, QueryRetrieveScu
from engine.settings.retention import Retention
from engine.settings.send import Rule, Send
from engine.settings.timeouts import Timeouts
from engine.settings.tls import Tls


class Stats(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Metrics and health over HTTP."""

    enabled: Annotated[bool, setting("Whether `/metrics`, `/livez` and `/readyz` are served.")] = (
        True
    )
    address: Annotated[str, setting("Address to listen on.", "address")] = "127.0.0.1"
    port: Annotated[int, setting("TCP port.", least=1, most=65535)] = 9104
    allow_remote: Annotated[
        bool,
        setting(
            "Must be true for an address other than loopback: what is served there has neither "
            "password nor encryption."
        ),
    ] = False


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The log: one JSON object a line, on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], setting("The least grave that is logged.")
    ] = "info"
    instances: Annotated[
        bool, setting("One line for each stored instance (UIDs, never patient data).")
    ] = True


class Index(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The process that places files and keeps the index."""

    core: Annotated[Core, setting('Processor it is pinned to; `"auto"`: chosen.')] = "auto"


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration."""

    data_directory: Annotated[
        str,
        setting(
            "Where everything is kept. A relative path counts from the configuration file's own "
            "directory (so that every command given that file finds the same data), without a "
            "file from the working directory. `$SCAI_DATA` is used if the file does not say.",
            "path",
        ),
    ] = "./data"
    durability: Annotated[
        Literal["sync", "os"],
        setting(
            '`"sync"`: an instance is acknowledged once it would survive a power cut. `"os"`: once '
            "the operating system has it, as most other products do; it survives a crash of ours, "
            "not of the machine."
        ),
    ] = "sync"
    calling_ae_title: Annotated[
        str,
        setting(
            "Calling AE title of the local application's own associations: verifying and sending.",
            "ae_title",
            "4.4",
        ),
    ] = "SCP_AE"
    application_timeout_s: Annotated[
        int,
        setting(
            "Seconds to wait for an association request after a connect, and for the peer to close "
            "after a rejection or abort; of our own associations, for their acceptance.",
            "",
            "4.4-2",
            least=limits.application_timeout_s_min,
            most=limits.application_timeout_s_max,
        ),
    ] = limits.application_timeout_s_default
    connect_timeout_s: Annotated[
        int,
        setting(
            "Seconds that each of name, connection and TLS may take when we open an association.",
            least=limits.application_timeout_s_min,
            most=limits.application_timeout_s_max,
        ),
    ] = limits.connect_timeout_s_default
    response_timeout_s: Annotated[
        int,
        setting(
            "Seconds to wait for the response to an instance that was sent, and to a verification; "
            "and for a peer to go on taking data. After it the instance is sent once more, though "
            "the peer may have taken it, so it is better long. A remote AE may have its own.",
            least=1,
            most=limits.response_timeout_s_max,
        ),
    ] = limits.response_timeout_s_default
    release_timeout_s: Annotated[
        int,
        setting(
            "Seconds to wait for the release of an association of ours to be granted; what was "
            "answered before stands in any case.",
            least=limits.application_timeout_s_min,
            most=limits.application_timeout_s_max,
        ),
    ] = limits.release_timeout_s_default
    retry_count: Annotated[
        int,
        setting(
            "How often a failed sending is tried again before it stays in the queue as failed.",
            "",
            "4.4-3",
            least=limits.retry_count_min,
            most=limits.retry_count_max,
        ),
    ] = limits.retry_count_default
    idle_timeout_s: Annotated[
        int,
        setting(
            "Seconds without a byte after which an established association is aborted, so that a "
            "vanished modality does not hold its slot.",
            least=1,
            most=limits.idle_timeout_s_max,
        ),
    ] = limits.idle_timeout_s_default
    message_timeout_s: Annotated[
        int,
        setting(
            "Seconds that a whole message may take to come, command and data set each, and one "
            "more for each KiB of it; then the association is aborted. `idle_timeout_s` is about "
            "silence: this is for a peer that sends a byte now and then.",
            least=1,
            most=limits.idle_timeout_s_max,
        ),
    ] = limits.message_timeout_s_default
    drain_timeout_s: Annotated[
        int,
        setting(
            "Seconds that associations may go on when the service is asked to stop; 0: none.",
            least=0,
            most=limits.drain_timeout_s_max,
        ),
    ] = limits.drain_timeout_s_default
    reserve_mib: Annotated[
        int,
        setting(
            "MiB of free disk below which new instances are refused (`out_of_resources_status`), "
            "while those under way still find room.",
            least=0,
            most=limits.reserve_mib_max,
        ),
    ] = limits.reserve_mib_default
    out_of_resources_status: Annotated[
        Literal["A700", "0110"],
        setting(
            "The status of the C-STORE response when there is no room for an instance: `A700` "
            "(refused: out of resources) or `0110` (processing failure). With `A700` most senders "
            "keep the instance and try again later."
        ),
    ] = "A700"
    ring_mib: Annotated[
        int,
        setting(
            "MiB of memory that one association's bytes pass through on their way to the disk.",
            least=limits.ring_bytes_min // limits.MIB,
            most=limits.ring_bytes_max // limits.MIB,
        ),
    ] = limits.ring_bytes_default // limits.MIB
    confine: Annotated[
        bool,
        setting(
            "Whether workers give up what they do not need before they look at a peer's first "
            "byte: capabilities, files outside their own directories (Landlock), starting programs "
            "and making sockets (seccomp). Where the kernel lacks a part, the log says so."
        ),
    ] = True
    storage_scp: Annotated[
        StorageAe, setting("ECHO-SCP and STORAGE-SCP: where modalities send to.")
    ] = StorageAe()
    prefetch_scp: Annotated[
        StorageAe,
        setting("ECHO-SCP and STORAGE-SCP for C-MOVE: where retrieved prior studies arrive."),
    ] = StorageAe(
        ae_title="PrefetchAP",
        port=3840,
        associations=limits.associations_prefetch_max,
        verifications=limits.associations_prefetch_max,
    )
    secured_scp: Annotated[
        StorageAe,
        setting(
            "Secured ECHO-SCP and STORAGE-SCP: the same over TLS, with the keys and the profile of "
            "`[tls]`, in a process of its own."
        ),
    ] = StorageAe(enabled=False, port=2762)
    tls: Annotated[
        Tls,
        setting("Keys, trust and profile of secured connections, ours and those to remote AEs."),
    ] = Tls()
    query_retrieve_scu: Annotated[
        QueryRetrieveScu,
        setting("QUERY-RETRIEVE-SCU, which asks archives for prior studies and has them moved."),
    ] = QueryRetrieveScu()
    hl7: Annotated[
        Hl7,
        setting(
            "Messages of the hospital's systems about patients and orders (HL7 v2 over MLLP), "
            "which become corrections.",
            "",
            "4.2.3.4.1.3.1",
        ),
    ] = Hl7()
    stats: Annotated[Stats, setting("Metrics and health over HTTP.")] = Stats()
    log: Annotated[Log, setting("The log: one JSON object a line, on standard error.")] = Log()
    index: Annotated[Index, setting("The process that places files and keeps the index.")] = Index()
    remotes: Annotated[
        tuple[Remote, ...],
        setting(
            "Remote AEs, one `[[remotes]]` table each: whom instances are sent to.",
            "",
            "4.4",
        ),
    ] = ()
    prefetch: Annotated[
        tuple[Prefetch, ...],
        setting(
            "Prefetch rules, one `[[prefetch]]` table each: what arriving studies have which "
            "archive asked for. All rules that match count. What is fetched arrives at "
            "`prefetch_scp` and stays here, unless the rule says where `to` besides.",
            "",
            "4.2-45",
        ),
    ] = ()
    rules: Annotated[
        tuple[Rule, ...],
        setting(
            "Routing rules, one `[[rules]]` table each: which instances go where. All rules that "
            "match apply; a remote AE that several of them name gets an instance once.",
            "",
            "4.2.4",
        ),
    ] = ()
    send: Annotated[Send, setting("The queue of deliveries to remote AEs.")] = Send()
    retention: Annotated[
        Retention,
        setting("How long what was received is kept, and what is remembered of what was removed."),
    ] = Retention()

    @property
    def data_path(self) -> Path:
        """The data directory; absolute in what load_config() returns."""
        return Path(self.data_directory)

    @property
    def timeouts(self) -> Timeouts:
        """Of the steps of our own associations, for remote AEs that have none of their own."""
        return Timeouts(
            self.connect_timeout_s,
            self.application_timeout_s,
            self.response_timeout_s,
            self.release_timeout_s,
        )

    @property
    def ring_bytes(self) -> int:
        """The size of one association's ring."""
        return self.ring_mib * limits.MIB

    def storage_aes(self) -> list[StorageEntity]:
        """The storage AEs that are enabled."""
        kinds = (
            ("storage_scp", self.storage_scp),
            ("prefetch_scp", self.prefetch_scp),
            ("secured_scp", self.secured_scp),
        )
        return [
            StorageEntity(
                name=f"{settings.ae_title}:{settings.port}",
                table=table,
                settings=settings,
            )
            for table, settings in kinds
            if settings.enabled
        ]
