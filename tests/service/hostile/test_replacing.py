"""Somebody else sends an instance under a SOP Instance UID that is there already."""

from pathlib import Path

import pytest

from tests.material.waiting import eventually
from tests.rigs.dcmtk_store import run
from tests.rigs.gateway import Gateway
from tests.rigs.sending import ct_files

pytestmark = pytest.mark.process


@pytest.mark.parametrize("policy", ["always", "same-sender", "never"])
def test_what_is_there_stays_as_the_operator_chose(tmp_path: Path, policy: str) -> None:
    [image] = ct_files(tmp_path / "in", 1)
    gateway = Gateway(tmp_path / "gateway", {"storage_scp": {"replace": policy}})
    gateway.start()
    try:
        for title in ("SCANNER", "SCANNER", "STRANGER"):
            # DCMTK fails unless the answer is 0000: what is set aside is kept as well.
            address = ("-aet", title, "-aec", "SCP_AE", "localhost", str(gateway.port))
            run("/usr/bin/storescu", "-xe", *address, image)
        told = [
            (line["event"], line["before"], line["calling_ae_title"])
            for line in _replacements(gateway, 2)
        ]
        may = {"always": 2, "same-sender": 1, "never": 0}[policy]
        asked = [("SCANNER", "SCANNER"), ("SCANNER", "STRANGER")]
        events = ["instance_replaced"] * may + ["replacement_refused"] * (2 - may)
        assert told == [(event, *pair) for event, pair in zip(events, asked, strict=True)]
        refused = [line for line in _replacements(gateway, 2) if "path" in line]
        for line in refused:
            kept = gateway.data / line["path"]
            assert kept.stat().st_mode & 0o077 == 0
            assert kept.read_bytes()[128:132] == b"DICM"
        metrics = gateway.metrics()
        assert _sum(metrics, "scai_index_replacements_refused_total") == len(refused)
        assert _sum(metrics, "scai_index_duplicates_total") == may
        before = [one.read_bytes() for one in gateway.data.glob("store/*/*/*/*.dcm")]
        gateway.kill_everything()
        gateway.start()
        after = [one.read_bytes() for one in gateway.data.glob("store/*/*/*/*.dcm")]
        assert before == after
        assert all((gateway.data / line["path"]).exists() for line in refused)
        assert len(_replacements(gateway, 2)) == 2, "a restart tells nothing anew"
        for line in refused:  # the running service takes back what it set aside
            again = ("aside", "take-back", "--replace", line["path"])
            assert gateway.command(*again).returncode == 0
            assert not (gateway.data / line["path"]).exists()
            [stored] = gateway.find().values()
            assert (gateway.data / "store" / stored["path"]).is_file()
        assert gateway.command("aside").returncode == 1, "nothing is left"
        assert gateway.command("verify").returncode == 0
    finally:
        gateway.close()


def _replacements(gateway: Gateway, count: int) -> list[dict[str, str]]:
    events = ("instance_replaced", "replacement_refused")

    def told() -> list[dict[str, str]]:
        return [line for line in gateway.log() if line["event"] in events]

    eventually(lambda: len(told()) >= count, 20, "the indexer has told")
    return told()


def _sum(metrics: dict[str, float], family: str) -> float:
    return sum(value for name, value in metrics.items() if name.startswith(family + "{"))
