"""The settings of the HL7 listener: who may send what, and how it is meant."""

from typing import Annotated, Literal

from msgspec import Struct

from engine import limits
from engine.settings.entities import setting


class Hl7(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Messages of the hospital's systems about patients and orders (HL7 v2 over MLLP)."""

    enabled: Annotated[bool, setting("Whether messages are taken at all.")] = False
    address: Annotated[
        str, setting('Address to listen on; `""`: all interfaces, IPv4 and IPv6.', "address")
    ] = ""
    port: Annotated[int, setting("TCP port.", least=1, most=65535)] = 2575
    tls: Annotated[
        bool,
        setting("Whether connections are secured, with the keys and the profile of `[tls]`."),
    ] = False
    allowed_hosts: Annotated[
        tuple[str, ...],
        setting(
            "Addresses and networks that are let in; any other is hung up on. Empty: every one is "
            "let in.",
            "network",
        ),
    ] = ()
    senders: Annotated[
        tuple[str, ...],
        setting(
            'Sending applications (MSH-3), or `"application/facility"` (MSH-3 and MSH-4), whose '
            "messages are taken; any other is answered AR. Empty: every one is taken.",
            "name",
        ),
    ] = ()
    messages: Annotated[
        tuple[str, ...],
        setting(
            "Kinds of messages that are taken, of those in the default. Empty: all of them.",
            "hl7_message",
        ),
    ] = ()
    acknowledge_others: Annotated[
        bool,
        setting(
            "Whether messages of all other kinds are answered AA, and change nothing, instead of "
            "AR: for senders that stop at an AR."
        ),
    ] = False
    local_authorities: Annotated[
        tuple[str, ...],
        setting(
            "Assigning authorities (PID-3.4) whose identifiers images carry without an Issuer of "
            "Patient ID. Their messages mean images with that issuer and images with none.",
            "name",
        ),
    ] = ()
    character_set: Annotated[
        Literal["ASCII", "8859/1", "8859/15", "UNICODE UTF-8", "ISO IR87"],
        setting("Character set of messages that name none (MSH-18)."),
    ] = "ASCII"
    accession_field: Annotated[
        Literal["OBR-18", "OBR-2", "OBR-3", "OBR-19", "OBR-20", "ORC-2", "ORC-3"],
        setting("Where orders have the accession number. IPC-1 comes first wherever it is."),
    ] = "OBR-18"
    keep_unmatched_days: Annotated[
        int,
        setting(
            "How many days what a message says is kept for studies that come later.",
            least=1,
            most=limits.hl7_keep_unmatched_days_max,
        ),
    ] = limits.hl7_keep_unmatched_days_default
