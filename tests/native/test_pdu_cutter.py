"""The cutter: every cutting of a stream gives the same events and the same bytes in the file."""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from native import _core
from tests.material import wire
from tests.rigs.spools import HEAD, SpoolBox, new_cutter, pdv, store_stream


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpoolBox]:
    made = SpoolBox(tmp_path_factory.mktemp("spool"), durable=False)
    yield made
    made.close()


Event = tuple[object, ...]


def play(
    box: SpoolBox, step: Callable[[_core.PduCutter], int], attached: bool = True
) -> list[Event]:
    """Everything a cutter tells of a stream; each stored instance as its completion's facts."""
    cutter = new_cutter()
    if attached:
        cutter.attach(box.spool, 0)
    told: list[Event] = []
    sequences: list[int] = []
    storing = False
    while True:
        code = step(cutter)
        if code == _core.RECEIVED_EVENT:
            event = cutter.next_event()
            assert event is not None
            told.append(event)
            if event[0] == _core.EVENT_COMMAND:
                box.spool.begin(0, HEAD, b"p", True)
                storing = True
                cutter.expect_data(event[1])
            elif event[0] == _core.EVENT_DATASET:
                storing = False
                kind, _slot, error, size, sequence = box.wait()
                told.append(("stored", kind, error, size))
                if kind == _core.COMPLETION_STORED:
                    sequences.append(sequence)
        elif code == _core.RECEIVED_FULL:
            box.spool.completions()
            time.sleep(0.0002)
        elif code == _core.RECEIVED_END:
            break
    if storing and not box.spool.cancel(0):
        box.wait()
    for sequence in sequences:
        told.append(("bytes", box.stored_bytes(sequence, box.incoming / f"{sequence}.dcm")))
    return told


def fed(box: SpoolBox, stream: bytes, sizes: Iterator[int], attached: bool = True) -> list[Event]:
    position = 0
    pending = False

    def step(cutter: _core.PduCutter) -> int:
        nonlocal position, pending
        if pending:
            code = cutter.feed(b"")
        elif position >= len(stream):
            return _core.RECEIVED_END
        else:
            size = next(sizes)
            code = cutter.feed(stream[position : position + size])
            position += size
        pending = code != _core.RECEIVED_AGAIN
        return code

    return play(box, step, attached)


def received(box: SpoolBox, stream: bytes, pieces: Iterator[int]) -> list[Event]:
    """Through a real socket, so that reads are planned and guessed."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    def send() -> None:
        position = 0
        while position < len(stream):
            size = next(pieces)
            theirs.sendall(stream[position : position + size])
            position += size
        theirs.close()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        return play(box, lambda cutter: cutter.receive(ours.fileno(), 1 << 20))
    finally:
        sender.join()
        ours.close()


def forever(size: int) -> Iterator[int]:
    while True:
        yield size


def random_sizes(seed: int, largest: int) -> Iterator[int]:
    chance = random.Random(seed)
    while True:
        yield chance.randint(1, largest)


def random_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def mixed_fragments(data_set: bytes, seed: int) -> bytes:
    """Fragments of every size, several in one PDU, empty ones among them: every guess is wrong."""
    chance = random.Random(seed)
    stream = [wire.pdu(wire.P_DATA, pdv(5, 1, b"C" * 70) + pdv(5, 3, b"D" * 80))]
    position = 0
    while position < len(data_set):
        items = []
        for _ in range(chance.randint(1, 4)):
            size = chance.choice([0, 1, 2, 100, 4096, 16000, 30000])
            piece = data_set[position : position + size]
            position += len(piece)
            items.append(pdv(5, 0, piece))
        stream.append(wire.pdu(wire.P_DATA, b"".join(items)))
    stream.append(wire.pdu(wire.P_DATA, pdv(5, 2, b"")))
    return b"".join(stream)


SIZES = [1, 15000, 16372, 16373, 131072 - 400, 131072 - 399, 600_000, 3_000_000]


@pytest.mark.parametrize("size", SIZES)
def test_whole_and_cut_streams_are_the_same(box: SpoolBox, size: int) -> None:
    data_set = random_bytes(size)
    stream = store_stream(data_set)
    expected: list[Event] = [
        (_core.EVENT_COMMAND, 1, b"C" * 150),
        (_core.EVENT_DATASET, 1, size),
        ("stored", _core.COMPLETION_STORED, 0, size + len(HEAD)),
        ("bytes", HEAD + data_set),
    ]
    assert fed(box, stream, forever(len(stream))) == expected
    assert fed(box, stream, random_sizes(size, 40_000)) == expected
    assert received(box, stream, forever(len(stream))) == expected
    assert received(box, stream, random_sizes(size, 60_000)) == expected


@pytest.mark.parametrize("size", [0, 700, 20_000, 140_000])
def test_one_byte_at_a_time(box: SpoolBox, size: int) -> None:
    stream = store_stream(random_bytes(size)) + wire.pdu(wire.RELEASE_RQ, b"\0" * 4)
    assert fed(box, stream, forever(1)) == fed(box, stream, forever(len(stream)))


@pytest.mark.parametrize("pdu_bytes", [8, 500, 4096, 60_000, 131072])
def test_every_pdu_length(box: SpoolBox, pdu_bytes: int) -> None:
    data_set = random_bytes(300_000 if pdu_bytes > 100 else 3000)
    told = received(box, store_stream(data_set, pdu_bytes), forever(1 << 20))
    assert told[-1] == ("bytes", HEAD + data_set)


@pytest.mark.parametrize("seed", range(12))
def test_fragments_of_every_size(box: SpoolBox, seed: int) -> None:
    data_set = random_bytes(400_000)
    stream = mixed_fragments(data_set, seed)
    told = received(box, stream, random_sizes(seed, 200_000))
    assert told[0] == (_core.EVENT_COMMAND, 5, b"C" * 70 + b"D" * 80)
    assert told[-1] == ("bytes", HEAD + data_set)
    assert fed(box, stream, random_sizes(seed + 100, 50_000)) == told


def test_several_instances_behind_each_other(box: SpoolBox) -> None:
    sets = [random_bytes(size) for size in (10, 200_000, 1, 16372, 500_000)]
    stream = b"".join(store_stream(data_set) for data_set in sets)
    told = received(box, stream, random_sizes(1, 300_000))
    assert [told_bytes for kind, told_bytes in told[-5:] if kind == "bytes"] == [
        HEAD + data_set for data_set in sets
    ]


UNEXPECTED, INVALID = 5, 6
BAD_STREAMS = {
    "pdu longer than tolerated": (wire.pdu(wire.P_DATA, b"", 131073), INVALID),
    "pdu of 4 GiB": (wire.pdu(wire.P_DATA, b"", 0xFFFFFFFF), INVALID),
    "pdu without a PDV": (wire.pdu(wire.P_DATA, b""), INVALID),
    "pdv length 0": (wire.pdu(wire.P_DATA, pdv(1, 3, b"", 0)), INVALID),
    "pdv length 1": (wire.pdu(wire.P_DATA, pdv(1, 3, b"", 1)), INVALID),
    "pdv longer than its pdu": (wire.pdu(wire.P_DATA, pdv(1, 3, b"CC", 99)), INVALID),
    "pdv length that overflows": (wire.pdu(wire.P_DATA, pdv(1, 3, b"CC", 0xFFFFFFFC)), INVALID),
    "stray bytes behind a pdv": (wire.pdu(wire.P_DATA, pdv(1, 3, b"CC") + b"xyz"), INVALID),
    "data without a command": (wire.pdu(wire.P_DATA, pdv(1, 2, b"CC")), UNEXPECTED),
    "command too long": (
        b"".join(wire.pdu(wire.P_DATA, pdv(1, 1, b"C" * 8000)) for _ in range(3)),
        INVALID,
    ),
    "context changes within a command": (
        wire.pdu(wire.P_DATA, pdv(1, 1, b"CC") + pdv(3, 3, b"CC")),
        UNEXPECTED,
    ),
    "release of the wrong length": (wire.pdu(wire.RELEASE_RQ, b"\0" * 5), INVALID),
    "abort of length 0": (wire.pdu(wire.ABORT, b""), INVALID),
}


@pytest.mark.parametrize("name", BAD_STREAMS)
def test_faults_are_told_once_with_their_reason(box: SpoolBox, name: str) -> None:
    stream, reason = BAD_STREAMS[name]
    behind = b"anything that follows is dropped" * 10
    for sizes in (forever(1 << 20), forever(1)):
        told = fed(box, stream + behind, sizes)
        assert [event[:2] for event in told] == [(_core.EVENT_FAULT, reason)]


@pytest.mark.parametrize("length", [131073, 0xFFFFFFFF])
def test_a_pdu_longer_than_tolerated_is_told_by_its_header(box: SpoolBox, length: int) -> None:
    told = fed(box, wire.pdu(wire.P_DATA, b"", length), forever(1))
    assert told == [(_core.EVENT_FAULT, INVALID, f"P-DATA-TF of {length} bytes")]


def test_command_inside_a_data_set(box: SpoolBox) -> None:
    begin = wire.pdu(wire.P_DATA, pdv(1, 3, b"C" * 50)) + wire.pdu(wire.P_DATA, pdv(1, 0, b"dd"))
    told = fed(box, begin + wire.pdu(wire.P_DATA, pdv(1, 3, b"CC")), forever(1 << 20))
    assert told[-1][:2] == (_core.EVENT_FAULT, UNEXPECTED)


def test_data_set_changes_its_context(box: SpoolBox) -> None:
    begin = wire.pdu(wire.P_DATA, pdv(1, 3, b"C" * 50))
    told = fed(box, begin + wire.pdu(wire.P_DATA, pdv(7, 0, b"dd")), forever(1 << 20))
    assert told[-1][:2] == (_core.EVENT_FAULT, UNEXPECTED)


@pytest.mark.parametrize("kind", [0, 8, 0x47, 0xFF])
def test_unknown_pdu_is_told_by_its_header(box: SpoolBox, kind: int) -> None:
    told = fed(box, wire.pdu(kind, b"", 0x7FFFFFFF), forever(1))
    assert told == [(_core.EVENT_PDU, kind, b"")]


def test_before_acceptance(box: SpoolBox) -> None:
    body = random_bytes(3000)
    request = wire.pdu(wire.ASSOCIATE_RQ, body)
    assert fed(box, request, forever(1), False) == [(_core.EVENT_PDU, 1, body)]
    data = wire.pdu(wire.P_DATA, pdv(1, 3, b"CC"))
    assert fed(box, data, forever(1), False) == [(_core.EVENT_PDU, wire.P_DATA, b"")]
    huge = wire.pdu(wire.ASSOCIATE_RQ, b"", (256 << 10) + 1)
    assert fed(box, huge, forever(1), False)[0][:2] == (_core.EVENT_FAULT, INVALID)


def test_longer_than_advertised_is_counted(box: SpoolBox) -> None:
    cutter = new_cutter()
    cutter.attach(box.spool, 0)
    cutter.feed(wire.pdu(wire.P_DATA, pdv(1, 3, b"C" * 10)))
    assert cutter.pdata_pdus_oversized == 0
    cutter.next_event()
    cutter.feed(wire.pdu(wire.P_DATA, pdv(1, 1, b"C" * 10) + pdv(1, 1, b"C" * 16378)))
    assert cutter.pdata_pdus_oversized == 1


def test_a_full_ring_stops_the_reading_and_loses_nothing(tmp_path: Path) -> None:
    made = SpoolBox(tmp_path, slots=1, durable=False)
    try:
        data_set = random_bytes(20_000_000)
        told = received(made, store_stream(data_set), forever(1 << 20))
        assert told[-1] == ("bytes", HEAD + data_set)
    finally:
        made.close()


@pytest.mark.parametrize("pdu_bytes", [4096, 16378, 65000])
def test_pdus_of_one_size_are_never_copied(box: SpoolBox, pdu_bytes: int) -> None:
    """A peer that waits for each response, as all do, costs no copy at all."""
    stream = store_stream(random_bytes(1_000_000), pdu_bytes)
    for seed in range(3):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        cutters: list[_core.PduCutter] = []

        def send(pieces: Iterator[int], to: socket.socket) -> None:
            position = 0
            while position < len(stream):
                size = next(pieces)
                to.sendall(stream[position : position + size])
                position += size
            to.close()

        sender = threading.Thread(target=send, args=(random_sizes(seed, 90_000), theirs))
        sender.start()

        def step(
            cutter: _core.PduCutter,
            seen: list[_core.PduCutter] = cutters,
            source: socket.socket = ours,
        ) -> int:
            seen.append(cutter)
            return cutter.receive(source.fileno(), 1 << 20)

        play(box, step)
        sender.join()
        ours.close()
        assert cutters[-1].received_bytes == len(stream)
        assert cutters[-1].copied_bytes == 0
