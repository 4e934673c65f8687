"""`scai verify` beside the running service: it agrees, and its repairs go through the indexer."""

import json
from pathlib import Path

from tests.material import samples
from tests.rigs.dcmtk_store import store
from tests.rigs.gateway import Gateway


def test_verify_while_the_service_runs(gateway: Gateway, tmp_path: Path) -> None:
    ones = [
        samples.clone(samples.sample("ct-explicit"), tmp_path / f"{number}.dcm")
        for number in range(4)
    ]
    store(gateway, *(one.path for one in ones))
    rows = gateway.find()
    assert len(rows) == len(ones)
    agreed = gateway.command("verify", "--content")
    assert agreed.returncode == 0, agreed.stdout + agreed.stderr
    assert "index and files agree" in agreed.stdout

    lost, moved = (gateway.stored_file(rows[one.sop_instance]) for one in ones[:2])
    lost.unlink()
    foreign = moved.with_name("9.9.dcm")
    foreign.write_bytes(b"no DICOM")
    repaired = gateway.command("verify", "--repair")
    assert repaired.returncode == 1, repaired.stdout + repaired.stderr
    assert "repaired 2, left 0" in repaired.stdout
    assert set(gateway.find()) == {one.sop_instance for one in ones[1:]}
    assert gateway.command("verify", "--content").returncode == 0

    store(gateway, ones[0].path)
    assert set(gateway.find()) == {one.sop_instance for one in ones}
    assert gateway.command("verify", "--content").returncode == 0


def test_find_as_json_is_for_programs(gateway: Gateway) -> None:
    answer = gateway.command("find", "--format", "json", "--level", "series")
    rows = [json.loads(line) for line in answer.stdout.splitlines()]
    assert all(row["modality"] == "CT" and row["instances"] >= 1 for row in rows)
