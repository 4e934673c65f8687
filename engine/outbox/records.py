"""What the outbox holds: the deliveries, their states, their keys, and when to try again.

    table             key                                    value
    deliveries        u64                                    Delivery
    delivery_queue    state, destination, place, u64         empty
    delivery_targets  destination, SOPInstanceUID, NUL,      u64 of the open one, u64 of the one
                      mark of the patient                    being sent; 0: there is none
    delivery_studies  StudyInstanceUID, NUL, u64             empty
    delivery_ranks    destination, StudyInstanceUID, NUL,    u64: the study's place in the queue
                      whose study it is
    delivery_files    file, NUL, u64                         empty
    outbox            "number", "paused\\0" destination,     u64, empty,
                      "count\\0" state, destination,         u64,
                      "taken\\0" file                       path of the folder,
                      "away\\0" destination,               Away,
                      "asked\\0" destination               u64: when the user wanted it asked

What is remembered of instances that were delivered is told in engine/outbox/delivered.py.

Each delivery stands once in `delivery_queue`, at a place that depends on its state. A waiting one
stands at its study's rank, and so does one that is being sent; one that is tried again stands at
the time it is due, a delivered one at the time of its delivery. A study's rank is the number of its
first delivery that waits; it keeps it until none waits or is being sent, so that a study begun is
finished before the next. `delivery_ranks` has it only for so long. A delivery remembers it: what is
tried again goes where it stood.

Whose instance is meant is part of what a delivery says: another patient's of the same UIDs is never
sent in its place, nor waits as its newer version. What 0.2.0 queued names no patient, and its keys
end before the NUL.
"""

from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from engine.errors import OperatorError
from engine.index.damage import IndexDamagedError
from engine.index.keys import lmdb_key
from engine.index.rows import Packing, decoder, text_of
from engine.limits import (
    destination_bytes_max,
    index_key_bytes_max,
    retry_due_s_max,
    retry_pause_s_default,
    retry_pause_s_max,
)

NUMBER: Final = Packing(">Q")
PAIR: Final = Packing(">QQ")  # (open, being sent), and (place, number)
BLOCKED: Final = 2**64 - 1  # the place of one whose predecessor is being sent: after all others
NEXT_NUMBER: Final = b"number"
PAUSED: Final = b"paused\0"
COUNT: Final = b"count\0"
TAKEN: Final = b"taken\0"
AWAY: Final = b"away\0"
ASKED: Final = b"asked\0"
_SECOND_NS: Final = 1_000_000_000


class State(IntEnum):
    """Where a delivery stands."""

    WAITING = 1  # for its turn; also when its first attempts failed and the next one is due
    SENDING = 2  # leased by the sender
    RETRYING = 3  # an attempt failed, the next one is not due yet
    FAILED = 4  # no attempts are left, or none could help; stays until somebody decides
    DELIVERED = 5  # history, kept for a while
    HELD = 6  # by the user, until released


class NewDelivery(NamedTuple):
    """What shall be sent where. `origin`: the rule's name, "user" or "folder". `file`: the name of
    a copy below the outbox directory; "" for the stored instance of that SOP Instance UID, of the
    patient of that mark (engine/dictionary/patient_mark.py; "": whoever's it is)."""

    destination: str
    sop_instance_uid: str
    sop_class_uid: str
    study_uid: str
    series_uid: str
    transfer_syntax_uid: str
    file_bytes: int
    origin: str
    file: str = ""
    patient: str = ""


class Delivery(msgspec.Struct, array_like=True):
    """One instance on its way to one destination.

    `attempts` are those that ended, `reason` and `status` tell of the last one (-1: no status came
    back), `warning` of one that was delivered all the same. Times are in ns since 1970: `queued_ns`
    when it was asked for, `due_ns` before which it is not tried, `changed_ns` of its state.
    """

    number: int
    destination: str
    sop_instance_uid: str
    sop_class_uid: str
    study_uid: str
    series_uid: str
    transfer_syntax_uid: str
    file_bytes: int
    origin: str
    file: str
    state: State
    attempts: int
    queued_ns: int
    due_ns: int
    changed_ns: int
    reason: str = ""
    status: int = -1
    warning: bool = False
    place: int = 0
    patient: str = ""
    deaths: int = 0  # of the sender while this was in hand, one after another
    rank: int = (
        0  # that its study had when it last stood in line; 0: it never did, or 0.2.0 wrote it
    )


# What an association is asked for: SOP class, and stored transfer syntax.
InstanceKind = tuple[str, str]


def instance_kind(delivery: Delivery) -> InstanceKind:
    return delivery.sop_class_uid, delivery.transfer_syntax_uid


class Away(msgspec.Struct, array_like=True, frozen=True):
    """A destination that cannot be reached: since when, how often it was asked in vain and when
    last, when it is asked again, and what came of the last time. Times are in ns since 1970."""

    since_ns: int
    asked: int
    asked_ns: int
    due_ns: int
    reason: str


encode: Final = msgspec.msgpack.Encoder().encode
decode_delivery: Final = decoder(Delivery)
decode_away: Final = decoder(Away)


# --- keys ----------------------------------------------------------------------------------------
@lru_cache(maxsize=1024)
def destination_key(destination: str) -> bytes:
    """The name as part of a key; it ends where no name goes on, so it serves as a prefix."""
    key = destination.encode("utf-8", "surrogatepass")
    if not key or len(key) > destination_bytes_max or b"\0" in key:
        raise OperatorError(f"{destination!r} cannot be the name of a remote AE")
    return key + b"\0"


def destination_of(key: bytes, start: int) -> str:
    """The name that stands in a key from `start` on."""
    return text_of(key[start:].partition(b"\0")[0])


def state_in(key: bytes) -> State:
    """The state that stands in the key of a count."""
    try:
        return State(key[len(COUNT)])
    except (ValueError, IndexError) as fault:
        raise IndexDamagedError("a state that is none") from fault


def queue_prefix(state: State, destination: str) -> bytes:
    return bytes((state,)) + destination_key(destination)


def target_key(destination: str, sop_instance_uid: str, patient: str = "") -> bytes:
    return lmdb_key(destination_key(destination), _whose(sop_instance_uid, patient))


def rank_key(
    destination: str, study_uid: str, sop_instance_uid: str = "", patient: str = ""
) -> bytes:
    """An instance without a Study Instance UID is a study of its own."""
    study = study_uid if study_uid or not patient else _whose("", sop_instance_uid)
    return lmdb_key(destination_key(destination), _whose(study, patient))


def _whose(uid: str, patient: str) -> str:
    return f"{uid}\0{patient}" if patient else uid


def study_prefix(study_uid: str) -> bytes:
    return _numbered_prefix(study_uid)


def file_prefix(file: str) -> bytes:
    return _numbered_prefix(file)


def _numbered_prefix(text: str) -> bytes:
    """The letter makes the key of an empty text a legal one."""
    return lmdb_key(b"u", text, index_key_bytes_max - 1 - NUMBER.size) + b"\0"


def count_key(state: State, destination: str) -> bytes:
    return COUNT + queue_prefix(state, destination)


# --- trying again --------------------------------------------------------------------------------
def retry_due_ns(
    attempt: int, now_ns: int, jitter: float, pause_s: int = retry_pause_s_default
) -> int:
    """When to try again after failed attempt number `attempt` (1 is the first).

    `pause_s` is the first pause; it doubles each time, to a bound. `jitter`, evenly from [0, 1),
    takes up to a quarter away, so that what failed together is not tried again together.
    """
    exponent = min(max(attempt, 1) - 1, 30)
    pause = min(pause_s * 2**exponent, retry_pause_s_max) * (1 - jitter / 4)
    return now_ns + int(pause * _SECOND_NS)


def far_ns(now_ns: int) -> int:
    """Later than any pause that begins now: what is due then was put there by a wrong clock."""
    return now_ns + retry_due_s_max * _SECOND_NS


def is_due(due_ns: int, now_ns: int) -> bool:
    """Whether to try again: its time has come, or is one that no pause could have set."""
    return due_ns <= now_ns or due_ns > far_ns(now_ns)


def due_after_failure(
    delivery: Delivery,
    retry_count: int,
    now_ns: int,
    jitter: float,
    pause_s: int = retry_pause_s_default,
) -> int | None:
    """When to try a leased delivery again whose attempt just failed; None: no attempts are left.

    `retry_count` is how many attempts follow a first one that failed.
    """
    if delivery.attempts >= retry_count:
        return None
    return retry_due_ns(delivery.attempts + 1, now_ns, jitter, pause_s)
