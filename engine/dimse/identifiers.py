"""The identifiers of C-FIND and C-MOVE: what is asked of an archive, and what it answered.

Keys and kinds of matching are those of tables 4.2-45 and 4.2-48: single value, universal, range and
list, never a wildcard. Identifiers are flat and small, so they are written here; what came from an
archive is read by the native tag scanner, which is made for hostile bytes. Text is encoded in the
character set that it came in if that can hold it, else in the least one of those that the statement
names, else in one that the archive's settings allow. If there is none, nothing is asked.
"""

import struct
from collections.abc import Iterable, Mapping
from typing import Final

from engine.dictionary import attributes
from engine.dictionary.attributes import BY_TAG, Attribute, Level
from engine.dictionary.character_sets import encode
from engine.dictionary.code_sets import declared_by
from engine.dictionary.query_level import QueryLevel
from engine.dictionary.saying import said
from engine.errors import OperatorError
from engine.limits import attribute_bytes_max, attributes_bytes_max, sequence_depth_max
from native import _core

study_root_find: Final = "1.2.840.10008.5.1.4.1.2.2.1"
study_root_move: Final = "1.2.840.10008.5.1.4.1.2.2.2"

QUERY_RETRIEVE_LEVEL: Final = 0x00080052
MODALITIES_IN_STUDY: Final = 0x00080061
SOP_INSTANCE_UID: Final = 0x00080018
SERIES_DATE: Final = 0x00080021
SERIES_TIME: Final = 0x00080031

_own: Final = {
    SOP_INSTANCE_UID: Attribute(SOP_INSTANCE_UID, "SOPInstanceUID", "UI", Level.INSTANCE),
    QUERY_RETRIEVE_LEVEL: Attribute(QUERY_RETRIEVE_LEVEL, "QueryRetrieveLevel", "CS", Level.STUDY),
    MODALITIES_IN_STUDY: Attribute(MODALITIES_IN_STUDY, "ModalitiesInStudy", "CS", Level.STUDY),
}
# Everything that is asked for, and what comes back with it.
KNOWN: Final[Mapping[int, Attribute]] = _own | {
    tag: BY_TAG[tag]
    for tag in (
        attributes.SPECIFIC_CHARACTER_SET,
        attributes.STUDY_DATE,
        attributes.MODALITY,
        attributes.PATIENT_ID,
        attributes.STUDY_INSTANCE_UID,
        attributes.SERIES_INSTANCE_UID,
        SERIES_DATE,
        SERIES_TIME,
    )
}
_WANTED_TAGS: Final = tuple(sorted(KNOWN))


# The keys of each level beside the unique ones above it, all universal unless a value is given.
LEVEL_KEYS: Final[Mapping[QueryLevel, tuple[int, ...]]] = {
    QueryLevel.STUDY: (
        attributes.STUDY_DATE,
        MODALITIES_IN_STUDY,
        attributes.PATIENT_ID,
        attributes.STUDY_INSTANCE_UID,
    ),
    QueryLevel.SERIES: (
        SERIES_DATE,
        SERIES_TIME,
        attributes.MODALITY,
        attributes.SERIES_INSTANCE_UID,
    ),
    QueryLevel.IMAGE: (SOP_INSTANCE_UID,),
}

_ELEMENT: Final = struct.Struct("<HH")
_EXPLICIT: Final = struct.Struct("<2sH")
_IMPLICIT: Final = struct.Struct("<I")
# Values of a VR with the character set in it; the rest is ASCII by definition.
_text_vrs: Final = frozenset({"LO", "SH", "PN"})
UNSAYABLE: Final = (
    "the Patient ID cannot be said in a character set that the archive may be asked in: "
    "ISO_IR 100, ISO 2022 IR 87, or one of its `character_sets`"
)


def find_keys(level: QueryLevel, given: Mapping[int, str]) -> dict[int, str]:
    """All keys of a C-FIND on this level: those given, and universal ones for the rest."""
    return dict.fromkeys(LEVEL_KEYS[level], "") | dict(given)


def keyword_of(tag: int) -> str:
    return KNOWN[tag].keyword


def kind_of_matching(tag: int, value: str) -> str:
    """How a key is matched, in the words of table 4.2-45."""
    if KNOWN[tag].vr == "UI":
        return "unique key" if value else "unique key, universal"
    if not value:
        return "universal"
    if tag == attributes.STUDY_DATE and "-" in value:
        return "range"
    return "list" if "\\" in value else "single value"


def character_set_for(text: str, preferred: str = "", allowed: Iterable[str] = ()) -> str | None:
    """The (0008,0005) under which `text` can be sent; "" while the default repertoire does, None if
    there is none.

    `preferred` is the one the text came in: some archives compare bytes, not characters. `allowed`:
    what the archive takes beyond the statement's.
    """
    if text.isascii():
        return ""
    if preferred and _encoded(text, preferred) is not None:
        return preferred
    found = said({attributes.PATIENT_ID: ("LO", text)}, b"", allowed)
    return None if found is None else found[0].decode("latin-1")


def _encoded(text: str, character_set: str, vr: str = "LO") -> bytes | None:
    """`text` under a character set; None when that cannot hold it, or is not known here."""
    declared = declared_by(character_set.encode("latin-1", "replace"))
    try:
        return None if declared.unknown else encode(text, declared, vr)
    except UnicodeError:
        return None


def encode_identifier(
    level: QueryLevel,
    keys: Mapping[int, str],
    explicit_vr: bool,
    preferred: str = "",
    allowed: Iterable[str] = (),
) -> bytes:
    """The data set of a request: level, keys, and the character set where a value needs one.

    `preferred`: the character set that values came in; `allowed`: see character_set_for(). Every
    tag must be one of `KNOWN`. OperatorError when no character set may be declared that has them.
    """
    text = "".join(value for tag, value in keys.items() if KNOWN[tag].vr in _text_vrs)
    character_set = character_set_for(text, preferred, allowed)
    if character_set is None:
        raise OperatorError(UNSAYABLE)
    elements = dict(keys) | {QUERY_RETRIEVE_LEVEL: level.name}
    if character_set:
        elements[attributes.SPECIFIC_CHARACTER_SET] = character_set
    parts: list[bytes] = []
    for tag in sorted(elements):
        vr = KNOWN[tag].vr
        of_text = character_set if vr in _text_vrs else ""
        value = _encoded(elements[tag], of_text, vr)
        assert value is not None, "the character set was chosen so that it holds the value"
        if len(value) & 1:
            value += b"\0" if vr == "UI" else b" "
        length = (
            _EXPLICIT.pack(vr.encode("ascii"), len(value))
            if explicit_vr
            else _IMPLICIT.pack(len(value))
        )
        parts += (_ELEMENT.pack(tag >> 16, tag & 0xFFFF), length, value)
    return b"".join(parts)


def decode_identifier(data: bytes, explicit_vr: bool) -> dict[int, str]:
    """{tag: text} of what is known here, decoded by the data set's own character set.

    Bytes that make no sense end the reading; what came before them holds.
    """
    row, _ = _core.scan_tags(
        data,
        explicit_vr,
        _WANTED_TAGS,
        attribute_bytes_max,
        attributes_bytes_max,
        sequence_depth_max,
    )
    raw = dict(attributes.read_row(row))
    character_set = raw.get(attributes.SPECIFIC_CHARACTER_SET, b"")
    return {
        tag: attributes.decode_value(KNOWN[tag], value, character_set)[0]
        for tag, value in raw.items()
    }
