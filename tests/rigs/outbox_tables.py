"""Whether the outbox's tables agree: each is made again from the deliveries and compared."""

from collections import Counter

from engine.outbox import records
from engine.outbox.records import BLOCKED, NUMBER, PAIR, State
from engine.outbox.view import OutboxView


def check_tables(outbox: OutboxView) -> None:
    """Nothing is missing in any table, and nothing left behind."""
    places: set[bytes] = set()
    ranks: set[bytes] = set()
    studies: set[bytes] = set()
    files: set[bytes] = set()
    targets: dict[bytes, list[int]] = {}
    counted: Counter[tuple[str, State]] = Counter()
    for key, value in outbox.keys_from("deliveries", b""):
        each = records.decode_delivery(value)
        number = NUMBER.pack(each.number)
        assert key == number
        prefix = records.queue_prefix(each.state, each.destination)
        places.add(prefix + PAIR.pack(each.place, each.number))
        studies.add(records.study_prefix(each.study_uid) + number)
        counted[each.destination, each.state] += 1
        if each.file:
            files.add(records.file_prefix(each.file) + number)
        is_in_line = each.state is State.WAITING and each.place != BLOCKED
        if is_in_line or each.state is State.SENDING:
            assert each.place == each.rank
            ranks.add(
                records.rank_key(
                    each.destination, each.study_uid, each.sop_instance_uid, each.patient
                )
            )
        if each.state is not State.DELIVERED:
            target = records.target_key(each.destination, each.sop_instance_uid, each.patient)
            slots = targets.setdefault(target, [0, 0])
            slot = 1 if each.state is State.SENDING else 0
            assert slots[slot] == 0, "one open and one under way, no more"
            slots[slot] = each.number
    found = {
        table: dict(outbox.keys_from(table, b""))
        for table in ("delivery_queue", "delivery_ranks", "delivery_studies", "delivery_files")
    }
    assert set(found["delivery_queue"]) == places
    assert set(found["delivery_ranks"]) == ranks
    assert set(found["delivery_studies"]) == studies
    assert set(found["delivery_files"]) == files
    assert dict(outbox.keys_from("delivery_targets", b"")) == {
        key: PAIR.pack(*slots) for key, slots in targets.items()
    }
    assert outbox.counts() == dict(counted)
