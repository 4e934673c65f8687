"""A spool over a temporary directory: the native receive path without a network."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine import limits
from native import _core
from tests.material import wire
from tests.rigs.gateway import under_way

RING_BYTES = 1 << 20
INLINE_BYTES = 128 << 10
SEGMENT_BYTES = 1 << 20
HEAD = b"H" * 400
TAGS = [0x00080018, 0x00100020, 0x0020000D]


class SpoolBox:
    """A spool with its directories and its ring memory."""

    def __init__(
        self,
        directory: Path,
        slots: int = 2,
        durable: bool = True,
        tags: Sequence[int] | None = None,
        **more: Any,
    ) -> None:
        self.incoming = directory / "incoming"
        self.journal = directory / "journal"
        for made in (self.incoming, self.journal):
            made.mkdir(parents=True, exist_ok=True)
        self.slots = slots
        self.tags = tags  # None: what TAGS says when it is opened
        self.head = HEAD  # of the files to come
        self.durable = durable
        self.more = {
            "segment_bytes": SEGMENT_BYTES,
            "segments_max": 64,
            "journal_wait_ms_max": 200,
            **more,
        }
        self.memory = os.memfd_create("ring")
        os.ftruncate(self.memory, _core.ring_segment_bytes(slots, RING_BYTES))
        self.spool = self.open()

    def instances_under_way(self) -> list[str]:
        """Names in the incoming directory but for the stock of empty files made ahead."""
        return [path.name for path in under_way(self.incoming)]

    def open(self) -> _core.Spool:
        self.spool = _core.Spool(
            str(self.incoming),
            str(self.journal),
            self.memory,
            self.slots,
            RING_BYTES,
            INLINE_BYTES,
            durable=self.durable,
            wanted_tags=TAGS if self.tags is None else self.tags,
            limits=limits,
            **self.more,
        )
        return self.spool

    def close(self) -> None:
        self.spool.close()
        os.close(self.memory)

    def reader(self, next_sequence: int = 0) -> _core.JournalReader:
        return _core.JournalReader(str(self.journal), next_sequence)

    def wait(self, slot: int = 0, seconds: float = 10.0) -> tuple[int, int, int, int, int]:
        """The next completion of the slot that is not about space."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.spool.flush()
            for completion in self.spool.completions():
                if completion[0] not in (_core.COMPLETION_SPACE, _core.COMPLETION_SETTLED):
                    assert completion[1] == slot
                    return completion
            time.sleep(0.0005)
        raise AssertionError("no completion came")

    def settle(self, seconds: float = 10.0) -> int:
        """Sealed files have their records, or not: errno."""
        if not self.spool.settle():
            return 0  # they have been given them meanwhile
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for kind, _, code, *_ in self.spool.completions():
                assert kind == _core.COMPLETION_SETTLED
                return code
            time.sleep(0.0005)
        raise AssertionError("it never settled")

    def store(self, data_set: bytes, slot: int = 0, prologue: bytes = b"p") -> tuple[int, ...]:
        """One instance through cutter and spool, until it has its record; its completion."""
        kind, slot, code, file_bytes, sequence = self.acknowledge(data_set, slot, prologue)
        if kind == _core.COMPLETION_STORED and sequence == 0:
            assert self.settle() == 0
            sequence = self.spool.durable_sequence
        return kind, slot, code, file_bytes, sequence

    def acknowledge(
        self, data_set: bytes, slot: int = 0, prologue: bytes = b"p"
    ) -> tuple[int, int, int, int, int]:
        """As store(), but until the peer would be answered: its sequence may be 0."""
        cutter = new_cutter()
        cutter.attach(self.spool, slot)
        stream = store_stream(data_set)
        code = cutter.feed(stream)
        while True:
            if code == _core.RECEIVED_EVENT:
                event = cutter.next_event()
                assert event is not None
                if event[0] == _core.EVENT_DATASET:
                    return self.wait(slot)
                assert event[0] == _core.EVENT_COMMAND
                head = HEAD if self.head is None else self.head
                self.spool.begin(slot, head, prologue, True)
                cutter.expect_data(event[1])
            else:
                assert code == _core.RECEIVED_FULL
                time.sleep(0.0005)
                self.spool.completions()
            code = cutter.feed(b"")

    def stored_bytes(self, sequence: int, target: Path) -> bytes:
        """The Part-10 bytes of one journal record, wherever they lie."""
        reader = self.reader(sequence)
        record = reader.read(sequence, 1)[0]
        assert record[0] == sequence
        if record[3]:
            # Its seal lies behind it.
            return (self.incoming / record[3]).read_bytes()[: record[4]]
        reader.place_inline(record[6], record[4], str(target), False)
        return target.read_bytes()


def new_cutter() -> _core.PduCutter:
    return _core.PduCutter(256 << 10, 16 << 10, 131072, 16378, 64)


def pdv(context: int, control: int, data: bytes, length: int | None = None) -> bytes:
    size = len(data) + 2 if length is None else length
    return size.to_bytes(4, "big") + bytes((context, control)) + data


def store_stream(data_set: bytes, pdu_bytes: int = 16378, context: int = 1) -> bytes:
    """A command (opaque here) and its data set, cut into P-DATA-TF PDUs."""
    step = pdu_bytes - 6
    fragments = [data_set[at : at + step] for at in range(0, len(data_set), step)] or [b""]
    stream = [wire.pdu(wire.P_DATA, pdv(context, 3, b"C" * 150))]
    for index, fragment in enumerate(fragments):
        control = 2 if index == len(fragments) - 1 else 0
        stream.append(wire.pdu(wire.P_DATA, pdv(context, control, fragment)))
    return b"".join(stream)
