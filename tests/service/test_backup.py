"""A backup of a service that receives, restored elsewhere, where it serves, sends and goes on.

DCMTK's storescu brings the instances; a scripted peer takes what the restored service sends.
"""

import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.material.waiting import eventually
from tests.peers.peer_scripts import Scp
from tests.peers.scripted_peer import ScriptedPeer
from tests.rigs.gateway import Gateway
from tests.rigs.sending import ct_files
from tools.face.operators_log import orders

pytestmark = pytest.mark.process

_BATCH = 20


def store(gateway: Gateway, paths: list[Path]) -> None:
    command = ["/usr/bin/storescu", "-aec", "SCP_AE", "127.0.0.1", str(gateway.port)]
    subprocess.run([*command, *map(str, paths)], check=True, timeout=60)


def uid(number: int) -> str:
    """As ct_files() numbers them."""
    return f"1.2.826.0.1.3680043.10.1.{number + 1}"


class Feeding:
    """Batches of instances stored one after another, and how many are acknowledged."""

    def __init__(self, gateway: Gateway, paths: list[Path]) -> None:
        self.acknowledged = 0
        self.failed: BaseException | None = None
        self._gateway = gateway
        self._paths = paths
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            for start in range(0, len(self._paths), _BATCH):
                store(self._gateway, self._paths[start : start + _BATCH])
                self.acknowledged += _BATCH
        except (subprocess.SubprocessError, OSError) as error:
            self.failed = error

    def join(self) -> None:
        self._thread.join(120)
        assert self.failed is None
        assert not self._thread.is_alive()


def test_a_backup_under_load_is_restored_and_goes_on(
    make_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = make_gateway().start()
    paths = ct_files(tmp_path / "in", 600)
    feeding = Feeding(gateway, paths)
    backups = tmp_path / "backups"
    eventually(lambda: feeding.acknowledged >= 100, 60, "some are stored")
    study = next(iter(gateway.find().values()))["study_instance_uid"]
    assert (
        gateway.command("edit", "--study", study, "PatientName=Doe^Anna", "--yes").returncode == 0
    )
    before = feeding.acknowledged
    said = gateway.command("backup", "--json", str(backups), wait_s=120)
    assert said.returncode == 0, said
    made = json.loads(said.stdout)
    feeding.join()
    assert made["instances"] >= before
    assert made["lost"] == 0
    checked = gateway.command("backup", "--verify", str(backups), wait_s=120)
    assert checked.returncode == 0, checked
    assert "the backup is whole" in checked.stdout
    with ScriptedPeer(Scp()) as peer:
        remote = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": peer.port}
        other = make_gateway({"remotes": [remote]})
        restored = other.command("restore", str(backups), wait_s=120)
        assert restored.returncode == 0, restored
        given = [order["order"] for order in orders(other.data)]
        assert given == ["correct", "restore"]
        refused = other.command("restore", str(backups))
        assert (refused.returncode, "is not empty" in refused.stderr) == (2, True), refused
        other.start()
        rows = other.find()
        assert {uid(number) for number in range(before)} <= set(rows)
        assert len(rows) == made["instances"]
        assert {row["patient_name"] for row in rows.values()} == {"Doe^Anna"}
        sent = other.command("send", "--to", "pacs", "--instance", uid(3), wait_s=60)
        assert sent.returncode == 0, sent
        # What came since is sent again by who has it; the journal begins anew.
        store(other, paths)
        assert set(other.find()) == {uid(number) for number in range(600)}
    other.kill_everything()
    other.start()
    assert len(other.find()) == 600
    assert other.command("verify", "--content").returncode == 0


def test_what_waits_in_the_queue_is_restored_with_it(
    make_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    """The peer is away while the backup is made, and there when it has been restored."""
    with ScriptedPeer(Scp()) as peer:
        remote = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": peer.port}
        settings = {
            "remotes": [remote],
            "rules": [{"name": "all", "to": ["pacs"]}],
            "send": {"retry_pause_s": 1},
        }
        gateway = make_gateway(settings).start()
        assert gateway.command("queue", "pause", "pacs").returncode == 0
        paths = ct_files(tmp_path / "in", 5)
        store(gateway, paths)
        (given,) = ct_files(tmp_path / "given", 1, extra_bytes=64)
        queued = gateway.command("send", "--to", "pacs", "--no-wait", str(given))
        assert queued.returncode == 0, queued
        eventually(lambda: len(gateway.deliveries()) >= 5, 20, "all are queued")
        before = len(gateway.deliveries())
        said = gateway.command("backup", str(tmp_path / "backups"))
        assert said.returncode == 0, said
        gateway.kill_everything()
        other = make_gateway(settings)
        assert other.command("restore", str(tmp_path / "backups")).returncode == 0
        other.start()
        assert len(other.deliveries()) == before
        assert other.command("queue", "resume", "pacs").returncode == 0
        ended = other.wait_settled(30, before)
        assert {one.state.name for one in ended} == {"DELIVERED"}
        assert len(peer.commands) >= before


@pytest.mark.parametrize("where", ["data", "data/backups", "watched/backups", "open"])
def test_it_is_not_made_where_it_must_not_be(
    make_gateway: Callable[..., Gateway], tmp_path: Path, where: str
) -> None:
    (tmp_path / "watched").mkdir()
    remote = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 11112}
    watched = {"remotes": [remote | {"outgoing_directory": str(tmp_path / "watched")}]}
    gateway = make_gateway(watched).start()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    above = gateway.data.parent if where.startswith("data") else tmp_path
    said = gateway.command("backup", str(above / where))
    assert said.returncode == 2, said
    words = "can be changed by every user" if where == "open" else "overlaps with"
    assert words in said.stderr
    assert not (gateway.data / "backups").exists()
    assert not (tmp_path / "watched" / "backups").exists()


@pytest.mark.parametrize("what", ["above", "backup", "data"])
def test_nobody_else_may_exchange_what_is_restored(
    make_gateway: Callable[..., Gateway], tmp_path: Path, what: str
) -> None:
    gateway = make_gateway().start()
    store(gateway, ct_files(tmp_path / "in", 1))
    gateway.find()
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    backups = open_to_all / "backups"
    made = gateway.command("backup", str(backups))
    assert made.returncode == 0, made
    other = make_gateway()
    harmed = {"above": open_to_all, "backup": Path(made.stdout.splitlines()[0]), "data": other.data}
    other.data.mkdir()
    harmed[what].chmod(0o777)
    said = other.command("restore", str(backups))
    assert said.returncode == 2, said
    assert "Mend it: chmod go-w" in said.stderr
    assert not [*other.data.iterdir()]
    if what == "above":
        said = gateway.command("backup", str(backups))
        assert (said.returncode, "Mend it: chmod go-w" in said.stderr) == (2, True), said
