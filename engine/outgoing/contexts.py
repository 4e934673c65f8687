"""In which transfer syntaxes a stored instance may be offered, and in which one it then goes out.

Table 4.2-33 of the conformance statement is here as data. A remote AE may take more than the
table, by its settings. The original comes first, and is what is sent if the peer takes it. What
else is offered is only what the original can be turned into without loss: Explicit and Implicit VR
Little Endian into each other, JPEG images into both.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

from engine.dictionary.contexts import uid_with_name
from engine.dictionary.uids import explicit_vr_little_endian, implicit_vr_little_endian
from engine.pixels.transcode import JPEG_LOSSLESS, JPEG_LOSSY
from engine.settings.entities import Remote

JPEG_BASELINE: Final = "1.2.840.10008.1.2.4.50"
_ENHANCED_CT: Final = "1.2.840.10008.5.1.4.1.1.2.1"
_uncompressed: Final = (implicit_vr_little_endian, explicit_vr_little_endian)
# Table 4.2-33: SOP class -> transfer syntaxes.
SENT: Final[dict[str, tuple[str, ...]]] = {
    "1.2.840.10008.5.1.4.1.1.2": _uncompressed,  # CT Image
    "1.2.840.10008.5.1.4.1.1.4": _uncompressed,  # MR Image
    "1.2.840.10008.5.1.4.1.1.88.11": (implicit_vr_little_endian,),  # Basic Text SR
    "1.2.840.10008.5.1.4.1.1.11.1": (implicit_vr_little_endian,),  # Grayscale Softcopy PS
    "1.2.840.10008.5.1.4.1.1.66.4": (implicit_vr_little_endian,),  # Segmentation
    "1.2.840.10008.5.1.4.1.1.104.1": (implicit_vr_little_endian,),  # Encapsulated PDF
    "1.2.840.10008.5.1.4.1.1.7": (implicit_vr_little_endian, JPEG_BASELINE),  # Secondary Capture
}


class CannotSend(Exception):  # noqa: N818 (an answer to a question, not a fault of anybody)
    """This instance cannot go to this peer, however often it is tried. `reason` is for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Taken(NamedTuple):
    """What a remote AE takes beyond the table: transfer syntaxes, also for SOP classes that the
    table does not have, and SOP classes."""

    transfer_syntaxes: tuple[str, ...] = ()
    sop_classes: tuple[str, ...] = ()

    def syntaxes(self, sop_class_uid: str) -> tuple[str, ...]:
        """Those that instances of a class may go out in; none: it is not sent."""
        table = SENT.get(sop_class_uid, ())
        if not table and sop_class_uid in self.sop_classes:
            table = _uncompressed
        elif sop_class_uid == _ENHANCED_CT:
            return ()  # received only, unless somebody says so by its name
        return tuple(dict.fromkeys((*table, *self.transfer_syntaxes)))


_NOTHING_MORE: Final = Taken()


def taken_by(remote: Remote) -> Taken:
    """By its settings."""
    return Taken(remote.transfer_syntaxes, remote.sop_classes())


def proposals(
    sop_class_uid: str, stored_syntax: str, taken: Taken = _NOTHING_MORE
) -> list[tuple[str, ...]]:
    """The transfer syntaxes of the presentation contexts to propose, one context for each.

    `taken`: what this remote AE takes beyond the table.
    """
    allowed = taken.syntaxes(sop_class_uid)
    if not allowed and sop_class_uid == _ENHANCED_CT:
        raise CannotSend(
            "Enhanced CT Image Storage is received only and never sent, unless the remote AE has "
            'it among its abstract_syntaxes: "Enhanced CT"'
        )
    if not allowed:
        raise CannotSend(
            f"SOP class {uid_with_name(sop_class_uid)} is not among those that are sent; "
            "a remote AE that takes it needs it among its abstract_syntaxes"
        )
    possible = [syntax for syntax in _ways(stored_syntax) if syntax in allowed]
    if not possible:
        raise CannotSend(
            f"stored in {uid_with_name(stored_syntax)}, which cannot be turned into any of "
            f"{_listed(allowed)}; if the remote AE takes it, add it to its transfer_syntaxes"
        )
    return [(syntax,) for syntax in possible]


def choose(stored_syntax: str, accepted: Collection[str]) -> str:
    """The one of the accepted transfer syntaxes that costs least: the original if it is there."""
    for syntax in _ways(stored_syntax):
        if syntax in accepted:
            return syntax
    raise CannotSend(
        f"stored in {uid_with_name(stored_syntax)}; the remote AE accepted "
        f"{_listed(accepted) if accepted else 'no transfer syntax that was proposed'}"
    )


def _ways(stored_syntax: str) -> tuple[str, ...]:
    """What a stored syntax can be sent as, in the order of what it costs."""
    if stored_syntax == implicit_vr_little_endian:
        return (implicit_vr_little_endian, explicit_vr_little_endian)
    if stored_syntax == explicit_vr_little_endian:
        return (explicit_vr_little_endian, implicit_vr_little_endian)
    if stored_syntax in JPEG_LOSSLESS | JPEG_LOSSY:
        return (stored_syntax, explicit_vr_little_endian, implicit_vr_little_endian)
    return (stored_syntax,)


def _listed(uids: Collection[str]) -> str:
    return ", ".join(uid_with_name(uid) for uid in sorted(uids))
