"""A watched folder that everybody may write to, under the running service and under a fuzz."""

import os
import shutil

import pytest

from tests.material.waiting import eventually
from tests.peers.peer_scripts import Scp
from tests.peers.scripted_peer import ScriptedPeer
from tests.rigs.gateway import Gateway
from tests.rigs.local_users import as_other, needs_root, open_to_all
from tests.rigs.sending import ct_files
from tests.service.hostile.folder_fuzz import run

pytestmark = [pytest.mark.process, needs_root]


def test_stored_instances_cannot_be_had_through_the_folder() -> None:
    """The two attacks that once worked: `.taken` becomes a link to a series, or to the index."""
    with open_to_all() as directory, ScriptedPeer(Scp()) as peer:
        folder = directory / "outgoing"
        folder.mkdir()
        folder.chmod(0o777)
        remote = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": peer.port}
        remotes = [{**remote, "outgoing_directory": str(folder)}]
        gateway = Gateway(directory / "gateway", {"remotes": remotes})
        gateway.start()
        try:
            files = ct_files(directory / "in", 3)
            series = gateway.data / "store" / "ab" / "1.2" / "1.3"
            series.mkdir(parents=True)
            for path in files:
                shutil.copy(path, series)
            eventually((folder / ".taken").is_dir, 10, "it is watched")
            for target in (series, gateway.data / "index"):
                faults = _faults(gateway)
                done = as_other(f"cd {folder} && mv .taken x$$ && ln -s {target} .taken")
                assert done.returncode == 0, done.stderr
                eventually(lambda before=faults: _faults(gateway) > before, 10, "it says so")
                (folder / ".taken").unlink()
                shutil.copy(files[0], folder / "mine.dcm")
                eventually(lambda: not (folder / "mine.dcm").exists(), 15, "it goes on")
            assert len(list(series.iterdir())) == 3
            assert (gateway.data / "index" / "data.mdb").exists()
            eventually(lambda: bool(peer.stored), 10, "what was brought is sent")
            assert set(peer.stored) == {"1.2.826.0.1.3680043.10.1.1"}
        finally:
            gateway.close()


def _faults(gateway: Gateway) -> int:
    return sum(
        line["event"] == "folder_fault" and "is not ours alone" in line["text"]
        for line in gateway.log()
    )


def test_a_file_system_that_changes_between_look_and_use() -> None:
    """A few seconds of what `python -m tests.service.hostile.folder_fuzz` does for an hour."""
    outcome = run(6, int(os.environ.get("SCAI_FUZZ_SEED", "1")))
    assert outcome.looks > 5
    assert outcome.collected + outcome.rejected > 0
