"""Storage SOP classes as people name them: by UID, by name, by a modality, or many at once.

"1.2.840.10008.5.1.4.1.1.4"  the UID, a private one too "MR Image Storage"           the standard's
name; "MR Image" and "mrimagestorage" mean the same "MR"                         what a modality's
images come as, and its enhanced form by "Enhanced MR" "all-images"                 every class
whose instances are images "all-storage"                every storage class of the standard
"""

import re
from functools import cache
from typing import Final

from engine.dictionary.sop_classes import STORAGE_SOP_CLASSES
from engine.dictionary.suggestion import suggestion

_UID: Final = re.compile(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))+")
# Where the class is not called like the modality (PS3.3 C.7.3.1.1.1). A modality that has several
# classes means all of them.
_MODALITIES: Final[dict[str, tuple[str, ...]]] = {
    "CR": ("1.2.840.10008.5.1.4.1.1.1",),
    "DX": ("1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1.1"),
    "MG": ("1.2.840.10008.5.1.4.1.1.1.2", "1.2.840.10008.5.1.4.1.1.1.2.1"),
    "IO": ("1.2.840.10008.5.1.4.1.1.1.3", "1.2.840.10008.5.1.4.1.1.1.3.1"),
    "US": ("1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"),
    "SC": ("1.2.840.10008.5.1.4.1.1.7",),
    "XA": ("1.2.840.10008.5.1.4.1.1.12.1",),
    "RF": ("1.2.840.10008.5.1.4.1.1.12.2",),
    "NM": ("1.2.840.10008.5.1.4.1.1.20",),
    "PT": ("1.2.840.10008.5.1.4.1.1.128",),
    "ECG": ("1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.840.10008.5.1.4.1.1.9.1.2"),
    "KO": ("1.2.840.10008.5.1.4.1.1.88.59",),
    "PR": ("1.2.840.10008.5.1.4.1.1.11.1",),
    "SEG": ("1.2.840.10008.5.1.4.1.1.66.4",),
}
_IMAGE: Final = re.compile(r"\bImage Storage\b")


def sop_classes_named(word: str) -> tuple[str, ...]:
    """The UIDs that a UID, a name or a group means. ValueError: nothing is called so."""
    if _UID.fullmatch(word):
        return (word,)
    found = _named().get(_squeezed(word))
    if found is None:
        near = suggestion(word, [*STORAGE_SOP_CLASSES.values(), *_MODALITIES, *_GROUPS])
        raise ValueError(
            'is neither a UID nor a storage SOP class of the standard, such as "MR Image Storage" '
            f'or "MR", nor "all-images" or "all-storage"{near}'
        )
    return found


def sop_class_name(uid: str) -> str:
    """The standard's name; the UID itself, if it has none."""
    return STORAGE_SOP_CLASSES.get(uid, uid)


@cache
def _named() -> dict[str, tuple[str, ...]]:
    """Squeezed names. A modality's own meaning comes before what is left of a longer name."""
    found: dict[str, tuple[str, ...]] = {}
    # A retired class may be called like its successor, which has the later UID.
    for uid, name in reversed(STORAGE_SOP_CLASSES.items()):
        shorter = name.removesuffix(" Storage")
        for known in (name, shorter, shorter.removesuffix(" Image")):
            found.setdefault(_squeezed(known), (uid,))
    found |= {_squeezed(name): uids for name, uids in _MODALITIES.items()}
    return found | {_squeezed(name): uids for name, uids in _GROUPS.items()}


def _squeezed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


_GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "all-storage": tuple(STORAGE_SOP_CLASSES),
    "all-images": tuple(uid for uid, name in STORAGE_SOP_CLASSES.items() if _IMAGE.search(name)),
}
