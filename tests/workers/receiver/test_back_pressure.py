"""A full ring and PDUs of changing size together: what was read already is never left lying.

Such a peer sends all it has and waits; when the ring has room again no new byte comes that would
wake the reader, so it has to go on by itself.
"""

import random
from collections.abc import Callable, Iterator

import pytest

from tests.material import wire
from tests.material.wire import CT_IMAGE
from tests.peers.peer import Peer
from tests.rigs.gateway import Gateway

pytestmark = pytest.mark.process

INSTANCES = 12


def pieces(seed: int) -> Iterator[bytes]:
    """About five megabytes, in pairs of one size: each pair makes a guess that the next breaks."""
    chance = random.Random(seed)
    yield b"\x10\x00\x10\x00" + b"LO" + (4).to_bytes(2, "little") + b"TEST"
    yield b"\xe0\x7f\x10\x00OB\x00\x00" + (0xFFFFFFFF).to_bytes(4, "little")
    total = 0
    while total < 5_000_000:
        size = 2 * chance.randint(500, 8000)
        for _ in range(2):
            yield chance.randbytes(size)
            total += size


def test_irregular_pdus_through_a_full_ring(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway({"ring_mib": 1})
    with Peer(gateway.address, timeout=20) as peer:
        assert peer.associate().kind == wire.ASSOCIATE_AC
        for number in range(INSTANCES):
            uid = f"1.2.826.0.1.3680043.10.7.{number}"
            data = [*pieces(number)]  # made beforehand: the peer must be faster than the disk
            assert peer.store(CT_IMAGE, uid, data) == 0
            row = gateway.find("--sop-uid", uid)[uid]
            assert gateway.stored_file(row).read_bytes().endswith(b"".join(data))
        assert peer.release()
    full = gateway.metrics()
    assert any("ring_full" in name for name in map(str, full))
