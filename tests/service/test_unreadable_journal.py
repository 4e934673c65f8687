"""A journal that cannot be read stops the indexing of its own AE: it refuses instances and /readyz
says why, while what the others receive is indexed. Once it is mended all of it is indexed."""

import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import lmdb
import pytest

from engine.index.environment import INDEX_DIRECTORY, open_index_reader
from tests.material import wire
from tests.material.waiting import eventually
from tests.peers.peer import Peer
from tests.rigs.gateway import Gateway

pytestmark = pytest.mark.process

PROCESSING_FAILURE = 0x0110
FAULT = 'scai_journal_fault_errno{ae="SCP_AE",process="storage_scp"}'


def store(peer: Peer, number: int) -> tuple[int, str]:
    uid = f"1.2.3.{number}"
    data_set = wire.small_data_set(uid, pixels=b"pixels of %02d" % number)
    return peer.store_with_comment(wire.CT_IMAGE, uid, data_set)


def placed(gateway: Gateway) -> int:
    return sum(1 for _ in (gateway.data / "store").rglob("*.dcm"))


def indexed(gateway: Gateway) -> set[int]:
    """Which of the instances the index has."""
    with closing(open_index_reader(gateway.data)) as reader, reader.view() as view:
        return {number for number in (1, 2, 4) if [*view.instances_of_uid(f"1.2.3.{number}")]}


def readiness(gateway: Gateway) -> str:
    """What /readyz says when it is not well; "" when it is."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{gateway.stats_port}/readyz", timeout=5).close()
    except urllib.error.HTTPError as answer:
        return answer.read().decode()
    return ""


def spoil(segment: Path, number: int) -> tuple[int, bytes]:
    """Change a byte of an instance in the journal: where it is, and what it was."""
    content = segment.read_bytes()
    at = content.index(b"pixels of %02d" % number)
    write_at(segment, at, b"?")
    return at, content[at : at + 1]


def write_at(segment: Path, at: int, byte: bytes) -> None:
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(byte)


def test_only_its_own_ae_refuses_and_only_until_it_is_mended(gateway: Gateway) -> None:
    with closing(Peer(gateway.address)) as peer, closing(Peer(gateway.prefetch_address)) as other:
        assert peer.associate().kind == wire.ASSOCIATE_AC
        request = wire.associate_request(wire.storage_contexts(), "PrefetchAP")
        assert other.associate(request).kind == wire.ASSOCIATE_AC
        index = lmdb.open(str(gateway.data / INDEX_DIRECTORY), map_size=0, max_dbs=1)
        with closing(index), index.begin(write=True):
            # The indexer has read the first record, and cannot commit it before we let it.
            assert store(peer, 1) == (0, "")
            eventually(lambda: placed(gateway) == 1, 10)
            assert store(peer, 2) == (0, "")
            [segment] = (gateway.data / "journal" / "storage_scp").glob("0*.wal")
            at, byte = spoil(segment, 2)
        eventually(lambda: gateway.metrics()[FAULT], 10, "the journal cannot be read")
        eventually(lambda: store(peer, 3)[0] == PROCESSING_FAILURE, 10)
        status, comment = store(peer, 3)
        assert (status, comment[:26]) == (PROCESSING_FAILURE, "The journal cannot be read")
        assert "the journal of storage_scp cannot be read" in readiness(gateway)
        assert store(other, 4) == (0, ""), "the other AE has a journal of its own"
        eventually(lambda: indexed(gateway) == {1, 4}, 10)

        write_at(segment, at, byte)
        eventually(lambda: indexed(gateway) == {1, 2, 4}, 20)
        eventually(lambda: store(peer, 5) == (0, ""), 10)
        eventually(gateway.ready, 10)
    names = [line["event"] for line in gateway.log() if "journal_" in str(line.get("event"))]
    assert names == ["journal_unreadable", "journal_readable"], "told once"
