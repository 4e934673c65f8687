"""An instance of any size costs its ring and no more: the receiver's memory is watched."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.material import wire
from tests.peers.peer import Peer
from tests.rigs.gateway import Gateway, assert_memory_settles, resident_kib

pytestmark = pytest.mark.process
PIECE = 4 << 20
RING_KIB = 4096
SLACK_KIB = 2048  # the process itself: buffers of the allocator, a log line, the journal's record


def enhanced_ct(uid: str, pixel_bytes: int) -> Iterator[bytes]:
    """A multiframe data set of any size, made piece by piece."""
    head = wire.small_data_set(uid, sop_class=wire.ENHANCED_CT)[:-12]
    pixel_head = bytes.fromhex("e07f10004f570000") + pixel_bytes.to_bytes(4, "little")
    yield head + pixel_head
    frame = bytes(range(256)) * (PIECE // 256)
    for at in range(0, pixel_bytes, PIECE):
        yield frame[: min(PIECE, pixel_bytes - at)]


def receiver(gateway: Gateway) -> int:
    return gateway.pid("storage_scp")


def store_watched(gateway: Gateway, uid: str, pixel_bytes: int) -> int:
    """Store one; by how many KiB the receiver's memory had grown at its peak."""
    pid = receiver(gateway)
    with Peer(gateway.address, timeout=120) as peer:
        assert peer.associate().kind == wire.ASSOCIATE_AC
        assert peer.echo() == 0
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
        before = resident_kib(pid, "VmRSS")
        data_set = enhanced_ct(uid, pixel_bytes)
        assert peer.store(wire.ENHANCED_CT, uid, data_set) == 0
        peak = resident_kib(pid, "VmHWM")
        assert peer.release()
    return peak - before


def check_stored(gateway: Gateway, uid: str, pixel_bytes: int) -> None:
    """The stored data set is the sent one, compared without reading it whole."""
    expected = hashlib.sha256()
    size = 0
    for piece in enhanced_ct(uid, pixel_bytes):
        expected.update(piece)
        size += len(piece)
    path = gateway.stored_file(gateway.find("--sop-uid", uid)[uid])
    found = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(path.stat().st_size - size)
        while piece := file.read(PIECE):
            found.update(piece)
    assert found.hexdigest() == expected.hexdigest()


def test_a_quarter_of_a_gibibyte(gateway: Gateway) -> None:
    uid = "1.2.826.0.1.3680043.10.4.1"
    assert store_watched(gateway, uid, 256 << 20) <= RING_KIB + SLACK_KIB
    check_stored(gateway, uid, 256 << 20)


@pytest.mark.slow
def test_two_gibibytes(gateway: Gateway) -> None:
    uid = "1.2.826.0.1.3680043.10.4.2"
    assert store_watched(gateway, uid, 2 << 30) <= RING_KIB + SLACK_KIB
    check_stored(gateway, uid, 2 << 30)


def test_an_association_broken_off_leaves_no_memory(gateway: Gateway) -> None:
    """Again and again half an instance: the ring is used anew, nothing piles up."""

    def half() -> None:
        with Peer(gateway.address, timeout=30) as peer:
            if peer.associate().kind != wire.ASSOCIATE_AC:
                return
            context = peer.context_for(wire.CT_IMAGE, wire.EXPLICIT)
            peer.send(wire.p_data(context, wire.store_command(wire.CT_IMAGE, "1.2.3"), True))
            peer.send(wire.pdu(4, wire.pdv(context, bytes(16000), 0)) * 200)

    def five() -> None:
        threads = [threading.Thread(target=half) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def a_hundred_and_fifty() -> None:
        for _ in range(30):
            five()

    for _ in range(5):
        five()
    assert_memory_settles(
        receiver(gateway), a_hundred_and_fifty, rounds=5, back=1, slack_kib=SLACK_KIB
    )
    assert not list((gateway.data / "store").rglob("1.2.3.dcm"))
