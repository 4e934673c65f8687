"""The settings of application entities, ours and remote ones, and how a setting documents itself.

engine/settings/settings.py puts them together; nothing here knows where a value comes from.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from engine import limits
from engine.dictionary.code_sets import ALONE_TERMS, EXTENSION_TERMS
from engine.dictionary.contexts import DEFAULT_CONTEXTS, IMAGE_SYNTAXES
from engine.dictionary.sop_class_names import sop_classes_named
from engine.settings.timeouts import Timeouts

SECRET = "secret"


def setting(
    description: str,
    kind: str = "",
    table: str = "",
    *,
    least: int | None = None,
    most: int | None = None,
    secret: bool = False,
) -> Meta:
    """A field's documentation and bounds. `table` is the conformance statement's."""
    extra: dict[str, object] = {"kind": kind, "table": table, SECRET: secret}
    return Meta(description=description, extra=extra, ge=least, le=most)


Core = Annotated[int, Meta(ge=0, le=4095)] | Literal["auto"]


class Context(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One SOP class that is accepted, and the transfer syntaxes it is accepted in."""

    abstract_syntax: Annotated[
        str, setting("UID of a storage SOP class, or of Verification.", "abstract_syntax")
    ]
    transfer_syntaxes: Annotated[
        tuple[str, ...],
        setting(
            "UIDs of transfer syntaxes. A peer's order of preference decides, not this one.",
            "transfer_syntax",
        ),
    ]


def default_contexts() -> tuple[Context, ...]:
    """Tables 4.2-24 and 4.2-65."""
    return tuple(
        Context(abstract_syntax=abstract, transfer_syntaxes=transfer)
        for abstract, transfer in DEFAULT_CONTEXTS
    )


class StorageAe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A storage AE: Storage SCP and Verification SCP on one port."""

    enabled: Annotated[bool, setting("Whether this AE listens at all.")] = True
    ae_title: Annotated[
        str,
        setting(
            "The AE title. A peer that calls another one is let in, but can only verify the "
            "association; `called_ae_titles` is stricter.",
            "ae_title",
            "4.4-1",
        ),
    ] = "SCP_AE"
    address: Annotated[
        str, setting('Address to listen on; `""`: all interfaces, IPv4 and IPv6.', "address")
    ] = ""
    port: Annotated[
        int,
        setting(
            "TCP port. One below 1024 needs a privilege; the message at start names the ways.",
            "",
            "4.4-1",
            least=1,
            most=65535,
        ),
    ] = 104
    called_ae_titles: Annotated[
        tuple[str, ...],
        setting(
            "Called AE titles that are let in; any other is rejected (1, 1, 7). Empty: every one "
            "is let in.",
            "ae_title",
        ),
    ] = ()
    calling_ae_titles: Annotated[
        tuple[str, ...],
        setting(
            "Calling AE titles that are let in; any other is rejected (1, 1, 3). Empty: every one "
            "is let in.",
            "ae_title",
        ),
    ] = ()
    allowed_hosts: Annotated[
        tuple[str, ...],
        setting(
            "Addresses and networks that are let in; any other is rejected (1, 1, 3). Empty: "
            "every one is let in.",
            "network",
        ),
    ] = ()
    replace: Annotated[
        Literal["always", "same-sender", "never"],
        setting(
            "Which instances may replace one of the same SOP Instance UID and patient: all, as the "
            "conformance statement has it; those whose calling AE title is that of what is there; "
            "or none. What may not is acknowledged all the same, kept in `set_aside/` and named in "
            "the log; it is neither found nor sent. What an AE acknowledged before it was taken "
            "out of the configuration is read by the last choice that was made for it.",
        ),
    ] = "always"
    associations: Annotated[
        int,
        setting(
            "How many associations may be open at once. The conformance statement has five, and "
            "one for `prefetch_scp`; more are a choice of the operator, and a ring of memory each.",
            "",
            "4.2-4, 4.2-20, 4.2-52, 4.2-61",
            least=1,
            most=limits.associations_most,
        ),
    ] = limits.associations_storage_max
    verifications: Annotated[
        int,
        setting(
            "How many associations that can only verify (by another called title, or with no other "
            "context) may be open at once. They have these places of their own beside "
            "`associations`, so that nobody who cannot store keeps out who can.",
            "",
            "4.2-4",
            least=1,
            most=limits.verifications_most,
        ),
    ] = limits.associations_storage_max
    associations_per_host: Annotated[
        int,
        setting(
            "How many of `associations` one host may keep while others ask; 0: all but one. As "
            "long as nobody asks it may have them all. What it has beyond that number then gives "
            'way, with an A-ABORT: see "Who gives way" in docs/security.md. The same number holds '
            "for `verifications`.",
            least=0,
            most=limits.associations_most,
        ),
    ] = 0
    core: Annotated[
        Core,
        setting(
            "Processor that this AE's worker is pinned to; `\"auto\"`: chosen from the machine's "
            "topology, `scai status` tells which and why."
        ),
    ] = "auto"
    contexts: Annotated[
        tuple[Context, ...],
        setting(
            "The presentation contexts that are accepted. Given, it replaces the whole table: "
            "list Verification (1.2.840.10008.1.1) too if peers are to verify.",
            "",
            "4.2-24, 4.2-65",
        ),
    ] = field(default_factory=default_contexts)
    abstract_syntaxes: Annotated[
        tuple[str, ...],
        setting(
            "Storage SOP classes that are accepted besides those of `contexts`: by UID, by the "
            'standard\'s name (`"MR Image Storage"`), by modality (`"US"`), or many at once '
            '(`"all-images"`, `"all-storage"`). Each is accepted in `transfer_syntaxes`.',
            "sop_classes",
        ),
    ] = ()
    transfer_syntaxes: Annotated[
        tuple[str, ...],
        setting(
            "UIDs of the transfer syntaxes that `abstract_syntaxes` are accepted in.",
            "transfer_syntax",
        ),
    ] = IMAGE_SYNTAXES

    def accepted(self) -> tuple[Context, ...]:
        """`contexts`, and behind them what `abstract_syntaxes` adds."""
        listed = {context.abstract_syntax for context in self.contexts}
        added = dict.fromkeys(
            uid
            for name in self.abstract_syntaxes
            for uid in sop_classes_named(name)
            if uid not in listed
        )
        return (
            *self.contexts,
            *(
                Context(abstract_syntax=uid, transfer_syntaxes=self.transfer_syntaxes)
                for uid in added
            ),
        )


class Remote(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One remote AE."""

    name: Annotated[str, setting("What people and rules call it; unique.", "name")]
    ae_title: Annotated[str, setting("Its AE title.", "ae_title")]
    host: Annotated[str, setting("Host name or IP address.", "host")]
    port: Annotated[int, setting("TCP port.", least=1, most=65535)]
    tls: Annotated[
        bool,
        setting(
            "Whether it is spoken to over TLS, with the settings of `[tls]`; never without, if it "
            "cannot."
        ),
    ] = False
    transfer_syntaxes: Annotated[
        tuple[str, ...],
        setting(
            "Transfer syntaxes it takes beyond those of the conformance statement.",
            "transfer_syntax",
            "4.2-33",
        ),
    ] = ()
    character_sets: Annotated[
        tuple[str, ...],
        setting(
            "Character sets that corrected values may be sent to it in, and Patient IDs asked for, "
            'beyond those of the conformance statement: `"ISO_IR 192"` (UTF-8), `"GB18030"`, or a '
            'code extension such as `"ISO 2022 IR 149"`. A correction that not every remote AE can '
            "be told is refused.",
            "character_set",
            "6",
        ),
    ] = ()
    original_attributes: Annotated[
        bool,
        setting(
            "Whether instances that are corrected tell it what the corrected elements said before, "
            "with when, by whom and why they were replaced: the Original Attributes Sequence "
            "(0400,0561) of PS3.3 C.12.1.1.9. An earlier value may be another patient's name.",
            "",
            "4.2.3.4.1.3.1",
        ),
    ] = False
    abstract_syntaxes: Annotated[
        tuple[str, ...],
        setting(
            "SOP classes that it is sent besides those of the conformance statement: by UID, by "
            'the standard\'s name (`"Enhanced CT Image Storage"`), by modality (`"US"`), or many '
            'at once (`"all-images"`, `"all-storage"`), Enhanced CT among them. They go out as '
            "Implicit or Explicit VR Little Endian, and in its `transfer_syntaxes`.",
            "sop_classes",
            "4.2-33",
        ),
    ] = ()
    associations: Annotated[
        Literal["each", "reuse"],
        setting(
            '`"each"`: a new association for each instance. `"reuse"`: many instances on one, for '
            "peers that prefer it.",
            "",
            "4.2.4",
        ),
    ] = "each"
    response_timeout_s: Annotated[
        int,
        setting(
            "Seconds to wait for each of its responses, to C-STORE, C-ECHO and C-FIND; 0: as for "
            "all (`response_timeout_s`, and `query_timeout_s` of `[query_retrieve_scu]`).",
            least=0,
            most=limits.response_timeout_s_max,
        ),
    ] = 0
    paused: Annotated[
        bool,
        setting(
            "Whether nothing is sent to it for now: its deliveries wait. `scai queue pause` does "
            "the same without the file; either is enough."
        ),
    ] = False
    outgoing_directory: Annotated[
        str,
        setting(
            "A folder that is watched: DICOM files moved into it are sent to this AE. A relative "
            "path counts from the configuration file's directory.",
            "path_or_nothing",
        ),
    ] = ""

    def sop_classes(self) -> tuple[str, ...]:
        """UIDs of the SOP classes that it is sent besides the statement's."""
        named = (uid for name in self.abstract_syntaxes for uid in sop_classes_named(name))
        return tuple(dict.fromkeys(named))

    def timeouts(self, general: Timeouts) -> Timeouts:
        """Of the steps of our associations with it; `general`: those for all."""
        if not self.response_timeout_s:
            return general
        return general._replace(response_s=self.response_timeout_s)


def character_sets_of_all(remotes: Sequence[Remote]) -> tuple[str, ...]:
    """What every remote AE takes beyond the statement's; anything, while there is none."""
    if not remotes:
        return (*EXTENSION_TERMS, *ALONE_TERMS)
    first, *others = (remote.character_sets for remote in remotes)
    return tuple(term for term in first if all(term in each for each in others))


class StorageEntity(Struct, frozen=True, kw_only=True):
    """A storage AE that is enabled: its settings, and how it is called."""

    name: str  # unique: AE title and port, as people name it
    table: str  # where its settings stand: "storage_scp", "prefetch_scp"
    settings: StorageAe
