"""An index that a disk has cut short: nothing acknowledged is lost, and the log says what it is.

What docs/operations.md tells the operator to do then is done here, step by step.
"""

import os
from pathlib import Path

from tests.material import samples
from tests.material.waiting import eventually
from tests.rigs.dcmtk_store import store
from tests.rigs.gateway import Gateway


def test_an_index_cut_short_is_named_and_made_anew(gateway: Gateway, tmp_path: Path) -> None:
    ones = [
        samples.clone(samples.sample("ct-explicit"), tmp_path / f"{number}.dcm")
        for number in range(6)
    ]
    early, late = ones[:4], ones[4:]
    uids = {one.sop_instance for one in ones}
    store(gateway, *(one.path for one in early))
    assert set(gateway.find()) == {one.sop_instance for one in early}

    os.truncate(gateway.data / "index" / "data.mdb", 8192)  # what tells where the tables are
    store(gateway, *(one.path for one in late))

    def ended() -> bool:
        return any(
            line["event"] == "worker_ended" and "data.mdb is damaged or cut short" in line["text"]
            for line in gateway.log()
        )

    eventually(ended, 10, "the log names the cause")
    gateway.stop()
    os.rename(gateway.data / "index", gateway.directory / "index.damaged")
    gateway.start()
    assert {one.sop_instance for one in late} <= set(gateway.find())
    gateway.command("verify", "--repair")
    assert gateway.command("verify", "--content").returncode == 0
    assert set(gateway.find()) == uids
