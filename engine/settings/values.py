"""The kinds of text a setting may hold: what is allowed, in words, and the check that decides.

A check returns the value as it will be used (titles trimmed, addresses in their short form) or
raises ValueError saying what would be right. The words serve the messages and the reference alike.
"""

import difflib
import ipaddress
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from engine.dictionary.code_sets import ALONE_TERMS, EXTENSION_TERMS
from engine.dictionary.contexts import (
    STORAGE_EXCEPTIONS,
    STORAGE_PREFIXES,
    TRANSFER_SYNTAX_NAMES,
    TRANSFER_SYNTAXES_REFUSED,
)
from engine.dictionary.sop_class_names import sop_classes_named
from engine.dictionary.sop_classes import STORAGE_SOP_CLASSES
from engine.dictionary.suggestion import suggestion
from engine.dictionary.uids import verification
from engine.limits import ae_title_characters_max, uid_characters_max

# PS3.5 9.1: components of digits, none with a leading zero unless it is zero.
_uid_pattern = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+")
_label_pattern = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_host_characters_max: Final = 253  # RFC 1035
_name_characters_max: Final = 64
# "90 days", "18 months", "5 years".
PERIOD: Final = re.compile(r"([1-9]\d{0,3}) (day|month|year)s?")
# "85 %", "800 GiB".
WATERMARK: Final = re.compile(r"([1-9][0-9]?) ?%|([1-9][0-9]{0,6}) ?(MiB|GiB|TiB)")
UNDELIVERED: Final = re.compile(r"evict after ([1-9][0-9]{0,4}) days?")
_modality_pattern = re.compile(r"[A-Z0-9_](?:[A-Z0-9_ ]{0,14}[A-Z0-9_])?")


class SettingKind(NamedTuple):
    """One kind of text: the words for what is allowed, and the check."""

    allowed: str
    check: Callable[[str], str]


def check_ae_title(value: str) -> str:
    """PS3.5 6.2, VR AE: 16 characters of the default repertoire, no backslash, not only spaces."""
    title = value.strip(" ")
    if not title:
        raise ValueError("an AE title must not be empty or only spaces")
    if len(title) > ae_title_characters_max:
        raise ValueError(
            f"has {len(title)} characters; an AE title has at most {ae_title_characters_max}"
        )
    wrong = next((c for c in title if c == "\\" or not " " <= c <= "~"), None)
    if wrong is not None:
        raise ValueError(f"an AE title must not contain {wrong!r}; printable ASCII, no backslash")
    return title


def check_uid(value: str) -> str:
    """PS3.5 9.1."""
    if len(value) > uid_characters_max:
        raise ValueError(f"has {len(value)} characters; a UID has at most {uid_characters_max}")
    if not _uid_pattern.fullmatch(value):
        raise ValueError("is no UID: numbers joined by dots, none with a leading zero")
    return value


def check_abstract_syntax(value: str) -> str:
    """A storage SOP class, a private one too, or Verification."""
    check_uid(value)
    if value in STORAGE_SOP_CLASSES or value == verification:
        return value
    standard = value.startswith("1.2.840.10008.")
    if standard and (not value.startswith(STORAGE_PREFIXES) or value in STORAGE_EXCEPTIONS):
        raise ValueError("is neither a storage SOP class nor Verification (1.2.840.10008.1.1)")
    return value


def check_sop_classes(value: str) -> str:
    """One or more storage SOP classes: a UID, a name of the standard, a modality, or a group."""
    for uid in sop_classes_named(value):
        check_abstract_syntax(uid)
    return value


def check_transfer_syntax(value: str) -> str:
    """One that can be stored and indexed: little endian, not deflated."""
    if value in TRANSFER_SYNTAX_NAMES:
        return value
    if value in TRANSFER_SYNTAXES_REFUSED:
        raise ValueError(f"is not offered: {TRANSFER_SYNTAXES_REFUSED[value]}")
    uids = {_squeezed(name): uid for uid, name in TRANSFER_SYNTAX_NAMES.items()}
    named = difflib.get_close_matches(_squeezed(value), uids, n=1, cutoff=0.8)
    if named:
        uid = uids[named[0]]
        raise ValueError(f'is a name; write the UID "{uid}" ({TRANSFER_SYNTAX_NAMES[uid]})')
    raise ValueError(
        f"is no transfer syntax this product knows{suggestion(value, TRANSFER_SYNTAX_NAMES)}"
    )


def check_address(value: str) -> str:
    """A literal address of this machine; empty: all of them."""
    if not value:
        return value
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        hint = '; for this machine only write "127.0.0.1"' if value == "localhost" else ""
        raise ValueError(
            f'must be an IPv4 or IPv6 address, or "" for all interfaces{hint}'
        ) from None


def check_network(value: str) -> str:
    """An address or a network in prefix notation."""
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        pass  # The next two lines find out which of the two mistakes it is.
    try:
        whole = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(
            'must be an address or a network, such as "10.1.2.3" or "10.1.2.0/24"'
        ) from None
    raise ValueError(f'has bits set beyond its prefix; the network is "{whole}"')


def check_host(value: str) -> str:
    """A literal address, or a name as the resolver takes it."""
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        pass  # Not a literal: it must then be a name.
    if re.fullmatch(r"[0-9.]+", value) or ":" in value:
        raise ValueError("is no valid address; the port belongs into its own setting")
    labels = value.removesuffix(".").split(".")
    if len(value) > _host_characters_max or not all(map(_label_pattern.fullmatch, labels)):
        raise ValueError("must be a host name or an IPv4 or IPv6 address")
    return value


def check_path(value: str) -> str:
    """A path of this machine's file system."""
    if not value:
        raise ValueError("must not be empty")
    if "\0" in value:
        raise ValueError("must not contain a NUL character")
    if value.startswith("~"):
        raise ValueError("must be written out; ~ is not expanded")
    return value


def check_path_or_nothing(value: str) -> str:
    """As check_path(); empty: there is none."""
    return check_path(value) if value else value


def check_name(value: str) -> str:
    """What people call a remote AE by."""
    name = value.strip()
    if not name or len(name) > _name_characters_max or not name.isprintable():
        raise ValueError(f"must be 1 to {_name_characters_max} printable characters")
    return name


def check_password(value: str) -> str:
    """Printable ASCII: Java's keytool and the rest disagree about the encoding of anything else."""
    if not value.isascii() or not value.isprintable():
        raise ValueError("must be printable ASCII characters")
    return value


def check_period(value: str) -> str:
    """A span of time as people say it; empty: none."""
    if value and not PERIOD.fullmatch(value):
        raise ValueError('must be a number of days, months or years, such as "5 years"')
    return value


def check_modality(value: str) -> str:
    """PS3.5 6.2, VR CS: what may stand in Modality. No pattern: lists are matched by value."""
    if not _modality_pattern.fullmatch(value):
        raise ValueError('is no modality: 1 to 16 capital letters, digits, spaces, such as "CT"')
    return value


def check_character_set(value: str) -> str:
    """PS3.3 C.12.1.1.2: a term that corrected text may be declared by."""
    if value not in EXTENSION_TERMS and value not in ALONE_TERMS:
        known = (*ALONE_TERMS, *EXTENSION_TERMS)
        raise ValueError(f"is no character set that can be declared{suggestion(value, known)}")
    return value


# What the HL7 listener understands; engine/hl7/instructions.py has the same.
HL7_MESSAGES: Final = (
    *("ADT^A08", "ADT^A18", "ADT^A31", "ADT^A34", "ADT^A35", "ADT^A40", "ADT^A47"),
    *("OMG^O19", "OMI^O23", "ORM^O01"),
)


def check_hl7_message(value: str) -> str:
    """A kind of message that is understood."""
    if value not in HL7_MESSAGES:
        raise ValueError(f"is none of {', '.join(HL7_MESSAGES)}")
    return value


def check_watermark(value: str) -> str:
    """A share or a size of the file system."""
    if value and WATERMARK.fullmatch(value) is None:
        raise ValueError('should be as "85 %" or "800 GiB"')
    return value


def check_undelivered(value: str) -> str:
    """What becomes of what nobody got."""
    if value != "keep" and UNDELIVERED.fullmatch(value) is None:
        raise ValueError('should be "keep" or as "evict after 90 days"')
    return value


KINDS: Final[dict[str, SettingKind]] = {
    "text": SettingKind("text", str),
    "ae_title": SettingKind("an AE title (1 to 16 characters)", check_ae_title),
    "abstract_syntax": SettingKind(
        "the UID of a storage SOP class or of Verification", check_abstract_syntax
    ),
    "sop_classes": SettingKind(
        'a storage SOP class by UID or name, a modality, "all-images" or "all-storage"',
        check_sop_classes,
    ),
    "transfer_syntax": SettingKind("the UID of a transfer syntax", check_transfer_syntax),
    "character_set": SettingKind(
        'a character set, such as "ISO_IR 192" or "ISO 2022 IR 149"', check_character_set
    ),
    "address": SettingKind('an IPv4 or IPv6 address, or "" for all', check_address),
    "network": SettingKind("an IP address or network", check_network),
    "host": SettingKind("a host name or IP address", check_host),
    "path": SettingKind("a path", check_path),
    "path_or_nothing": SettingKind('a path, or "" for none', check_path_or_nothing),
    "name": SettingKind("1 to 64 printable characters", check_name),
    "password": SettingKind("printable ASCII text", check_password),
    "period": SettingKind('a number of days, months or years, or "" for any time', check_period),
    "watermark": SettingKind(
        'a share of the disk, such as "85 %", a size, such as "800 GiB", or "" for none',
        check_watermark,
    ),
    "undelivered": SettingKind(
        '"keep", or "evict after N days"',
        check_undelivered,
    ),
    "hl7_message": SettingKind("a kind of message, such as ADT^A08", check_hl7_message),
    "modality": SettingKind("a modality, such as CT", check_modality),
}


def _squeezed(name: str) -> str:
    """A name without what people write differently."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
