"""What was here and was removed: a tombstone for each study, and a history of every removal.

    table           key                                          value
    tombstones      StudyInstanceUID, NUL, mark of the patient   Tombstone
    tombstone_ages  u64 of its last removal in ns, u32           key in `tombstones`
    removed         name of the order                            Removed

Both are written in the transaction that takes instances out of the index, and grow with each
portion of them. A tombstone is kept for a configured time, so that who looks for the study is told
until when it was here and where it had been delivered; and so that what an archive sends of it
again is not counted as a study that nobody knew. The history has no patient's name and is kept for
good, as that of corrections is. An instance without a Study Instance UID is a study of its own.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from engine.dictionary.patient_mark import MARK_CHARACTERS
from engine.index.batch import Batch
from engine.index.corrections import EDIT_KEY
from engine.index.environment import View
from engine.index.keys import lmdb_key
from engine.index.records import Study
from engine.limits import index_key_bytes_max, tombstone_prune_count

Delivered = dict[str, tuple[int, int]]  # remote AE: (instances, when the last of them, ns)


class Tombstone(msgspec.Struct, array_like=True):
    """Of a study: as it stood when its removal began, and what was removed of it. `whole`: nothing
    of it was left. `last_received_ns`: when the latest of what was removed had come. `earlier`:
    where it had been delivered when it was here the time before."""

    study: Study
    when_ns: int
    who: str
    why: str
    order: str  # of what asked for it last
    instances: int = 0
    file_bytes: int = 0
    last_received_ns: int = 0
    delivered: Delivered = {}
    earlier: Delivered = {}
    whole: bool = False
    fetched: bool = False  # a prefetch had brought it
    age: bytes = b""  # its key in `tombstone_ages`


class Removed(msgspec.Struct, array_like=True):
    """What an order has removed, for the history. Orders' names sort by the time they were given.
    `discarded`: deliveries that were open, and will not be made. What came after `up_to_ns` is not
    meant by it. `ended`: nothing is left of what is meant."""

    when_ns: int
    who: str
    why: str
    level: str  # of what was asked for: "study", "series" or "instance"
    uid: str
    patient: str  # the mark of whose it was
    instances: int = 0
    file_bytes: int = 0
    discarded: int = 0
    delivered: Delivered = {}
    up_to_ns: int = 0
    ended: bool = False


encode: Final = msgspec.msgpack.Encoder().encode
decode_tombstone: Final = msgspec.msgpack.Decoder(Tombstone).decode
decode_removed: Final = msgspec.msgpack.Decoder(Removed).decode


def tombstone_prefix(study_uid: str, alone: str = "") -> bytes:
    """Of the tombstones of all patients who had a study of this UID."""
    limit = index_key_bytes_max - 1 - MARK_CHARACTERS
    return lmdb_key(b"u", study_uid or "\0" + alone, limit) + b"\0"


def tombstone_key(study: Study) -> bytes:
    """Of the study of this patient."""
    return tombstone_prefix(study.uid, study.alone) + study.patient_mark.encode("ascii")


def tombstone_of(view: View, study: Study) -> Tombstone | None:
    """What was removed of this study before, as far as it is remembered."""
    stored = view.stored("tombstones", tombstone_key(study))
    return None if stored is None else decode_tombstone(stored)


def tombstones_of_uid(view: View, study_uid: str) -> list[Tombstone]:
    """Of each patient who had a study of this UID."""
    rows = view.keys_with_prefix("tombstones", tombstone_prefix(study_uid))
    return [decode_tombstone(value) for _, value in rows]


def latest_first(view: View) -> Iterator[Tombstone]:
    """All of them."""
    for _, key in sorted(view.keys_from("tombstone_ages", b""), reverse=True):
        stored = view.stored("tombstones", key)
        if stored is not None:
            yield decode_tombstone(stored)


def put_tombstone(batch: Batch, tombstone: Tombstone) -> None:
    """Remember it, in the place of what was remembered of that study."""
    key = tombstone_key(tombstone.study)
    drop_tombstone(batch, key)
    tombstone.age = batch.free_moment("tombstone_ages", tombstone.when_ns)
    batch.put_row("tombstone_ages", tombstone.age, key)
    batch.put_row("tombstones", key, encode(tombstone))


def drop_tombstone(batch: Batch, key: bytes) -> None:
    """Remember it no longer."""
    stored = batch.stored("tombstones", key)
    if stored is not None:
        batch.drop_row("tombstones", key)
        batch.drop_row("tombstone_ages", decode_tombstone(stored).age)


def prune_tombstones(batch: Batch, before_ns: int) -> int:
    """Forget up to a portion of those whose last removal was before a time; how many."""
    old: list[bytes] = []
    for age, key in batch.keys_from("tombstone_ages", b""):
        if EDIT_KEY.unpack(age)[0] >= before_ns or len(old) >= tombstone_prune_count:
            break
        old.append(key)
    for key in old:
        drop_tombstone(batch, key)
    return len(old)


def oldest_ns(view: View) -> int | None:
    """When the oldest removal was that is remembered."""
    for age, _ in view.keys_from("tombstone_ages", b""):
        when_ns: int = EDIT_KEY.unpack(age)[0]
        return when_ns
    return None


def removed_by(view: View, order: str) -> Removed | None:
    """What an order has removed so far."""
    stored = view.stored("removed", order.encode())
    return None if stored is None else decode_removed(stored)


def note_removed(batch: Batch, order: str, removed: Removed) -> None:
    """Write down how far it has come."""
    batch.put_row("removed", order.encode(), encode(removed))


def removals_so_far(view: View) -> Iterator[Removed]:
    """The history, the oldest first."""
    for _, value in view.keys_from("removed", b""):
        yield decode_removed(value)


def add_delivered(counted: Delivered, times: Mapping[str, int]) -> None:
    """One more instance that was delivered: {remote AE: when, ns}."""
    for remote, when_ns in times.items():
        count, last_ns = counted.get(remote, (0, 0))
        counted[remote] = count + 1, max(last_ns, when_ns)
