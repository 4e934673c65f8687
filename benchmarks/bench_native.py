"""Guards the native loops that touch every byte: PDU scanner with ring, tag scanner, checksum."""

from pathlib import Path

import pytest

from benchmarks.conftest import Guard
from benchmarks.instances import make
from benchmarks.load_wire import Image, image_of
from engine.dictionary.attributes import WANTED_TAGS
from engine.limits import attribute_bytes_max, attributes_bytes_max, sequence_depth_max
from native import _core
from tests.rigs.spools import SpoolBox, new_cutter

INSTANCES = 16

SCAN_BOUNDS = (attribute_bytes_max, attributes_bytes_max, sequence_depth_max)


def wire_of(image: Image) -> bytes:
    return image.head + image.body * image.repeats + image.tail


@pytest.mark.parametrize("name", ["ct", "tiny"])
def test_pdu_scanner_and_ring(guard: Guard, tmp_path: Path, name: str) -> None:
    """Instances cut out of their PDUs through the ring and dropped: no disk, no socket."""
    stream = wire_of(image_of(make(name, 1), 1, 16378))
    box = SpoolBox(tmp_path, slots=1, durable=False)
    cutter = new_cutter()
    cutter.attach(box.spool, 0)

    def one() -> None:
        code = cutter.feed(stream)
        whole = False
        while code == _core.RECEIVED_EVENT:
            event = cutter.next_event()
            assert event is not None
            if event[0] == _core.EVENT_COMMAND:
                box.spool.discard(0)
                cutter.expect_data(event[1])
            else:
                assert event[0] == _core.EVENT_DATASET
                whole = True
                cutter.expect_command()
            code = cutter.feed(b"")
        assert whole

    def feed() -> None:
        for _ in range(INSTANCES):
            one()

    try:
        guard(feed, "copy", rounds=40)
    finally:
        box.close()


def test_tag_scanner(guard: Guard) -> None:
    """The index attributes of a CT data set."""
    data = make("ct", 1).data[:16384]
    row, _ = _core.scan_tags(data, True, WANTED_TAGS, *SCAN_BOUNDS)
    assert len(row) > 300

    def scan() -> None:
        for _ in range(100):
            _core.scan_tags(data, True, WANTED_TAGS, *SCAN_BOUNDS)

    guard(scan, "compute", rounds=40)


def test_checksum(guard: Guard) -> None:
    data = bytes(range(256)) * 65536

    def checksum() -> None:
        _core.crc32c(data)

    guard(checksum, "copy", rounds=20)
