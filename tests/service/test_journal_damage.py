"""The whole service on a damaged journal: it starts, receives, takes in the rest, and says so."""

import json
import urllib.request
from pathlib import Path

import pytest

from tests.material import wire
from tests.material.waiting import eventually
from tests.peers.peer import Peer
from tests.rigs import journal_records as records
from tests.rigs import ledger
from tests.rigs.gateway import Gateway

pytestmark = pytest.mark.process


def test_a_damaged_journal_is_mended_and_told(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    try:
        gateway.start()
        acknowledged = {}
        with Peer(gateway.address, timeout=15) as peer:
            assert peer.associate().kind == wire.ASSOCIATE_AC
            for number in range(6):
                uid, data_set = ledger.instance(6 * number)
                assert peer.store(wire.CT_IMAGE, uid, data_set) == 0
                acknowledged[uid] = ledger.digest(data_set)
            gateway.kill_everything()
        journal = gateway.data / "journal" / "storage_scp"
        (segment,) = journal.glob("0*.wal")
        records.destroy(segment, 3)
        for name in ("index", "store"):  # so that all of them are still to be taken in
            (gateway.data / name).rename(tmp_path / f"{name}.away")

        told = gateway.command("verify")
        assert told.returncode == 1
        assert "the journal of storage_scp is damaged" in told.stdout
        assert "records 3 lost" in told.stdout
        gateway.start()
        lost = [*acknowledged][2]
        rows = eventually(lambda: len(found := gateway.find()) == 5 and found, 20, "the rest")
        assert set(rows) == {*acknowledged} - {lost}
        named = {line["event"]: line for line in gateway.log() if "event" in line}
        assert named["journal_damaged"]["lost"] == 1
        assert (named["records_lost"]["first"], named["records_lost"]["last"]) == (3, 3)
        url = f"http://127.0.0.1:{gateway.stats_port}/readyz"
        with urllib.request.urlopen(url, timeout=5) as answer:
            (warning,) = json.load(answer)["warnings"]
        assert "journal of storage_scp" in warning
        told = gateway.command("verify", "--content")
        assert told.returncode == 1
        assert "the journal of storage_scp was damaged" in told.stdout
        assert "index and files agree" in told.stdout

        (journal / "damaged").rename(tmp_path / "looked-at")
        assert gateway.stop() == 0
        gateway.start()
        assert gateway.command("verify").returncode == 0
    finally:
        gateway.close()
