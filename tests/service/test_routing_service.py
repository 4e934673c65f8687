"""Rules in the running service: DCMTK sends, the queue has it, through reloads and sudden death."""

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from engine.index.environment import open_index_reader
from engine.outbox.view import OutboxView
from tests.material.samples import clone, sample
from tests.material.waiting import eventually
from tests.rigs.gateway import Gateway

pytestmark = pytest.mark.process

# Paused: what is queued stays to be looked at.
_REMOTES = "".join(
    f'[[remotes]]\nname = "{name}"\nae_title = "{name.upper()}"\nhost = "127.0.0.1"\nport = 9\n'
    "paused = true\n"
    for name in ("archive", "viewer")
)


def rules(**conditions: str) -> str:
    return _REMOTES + "".join(
        f'[[rules]]\nname = "to {remote}"\nto = ["{remote}"]\nwhen = {when}\n'
        for remote, when in conditions.items()
    )


@pytest.fixture
def gateway(make_gateway: Callable[..., Gateway]) -> Gateway:
    return make_gateway()


def configure(gateway: Gateway, text: str) -> None:
    own = gateway.config_file.read_text().split("[[remotes]]")[0]
    gateway.config_file.write_text(own + text)


def reload(gateway: Gateway, event: str = "reloaded") -> None:
    assert gateway.process is not None
    before = sum(line.get("event") == event for line in gateway.log())
    os.kill(gateway.process.pid, signal.SIGHUP)
    eventually(
        lambda: sum(line.get("event") == event for line in gateway.log()) > before, 20, event
    )


def send(gateway: Gateway, path: Path, calling: str = "CT_1") -> None:
    command = ["/usr/bin/storescu", "-aet", calling, "-aec", "SCP_AE", "127.0.0.1"]
    subprocess.run([*command, str(gateway.port), str(path)], check=True, timeout=30)


def queued(gateway: Gateway) -> list[tuple[str, str, str]]:
    with closing(open_index_reader(gateway.data)) as reader, reader.view() as view:
        found = OutboxView.within(view).deliveries()
        return [(each.sop_instance_uid, each.destination, each.origin) for each in found]


def test_rules_follow_reloads_and_survive_a_sudden_death(gateway: Gateway, tmp_path: Path) -> None:
    configure(gateway, rules(archive='{ Modality = "CT", calling_ae_title = "CT_?" }'))
    gateway.start()
    uids = []
    for number in range(4):
        path = tmp_path / f"{number}.dcm"
        uids.append(clone(sample("ct-explicit"), path).sop_instance)
    send(gateway, tmp_path / "0.dcm")
    send(gateway, tmp_path / "1.dcm", calling="OTHER")
    first = [(uids[0], "archive", "to archive")]
    eventually(lambda: queued(gateway) == first, 10, "the first delivery")

    configure(gateway, rules(nowhere='{ KVP = "x" }'))
    reload(gateway, "reload_refused")
    # An attribute that the index does not keep: the receivers are told of it as well.
    configure(gateway, rules(viewer="{ KVP = { from = 100 } }", archive='{ Modality = "MR" }'))
    receiver, indexer = gateway.pid("storage_scp"), gateway.pid("indexer")
    reload(gateway)
    eventually(lambda: gateway.processes().get("storage_scp", receiver) != receiver, 20, "replaced")
    gateway.wait_ready()
    assert gateway.pid("indexer") == indexer, "new rules reach the indexer as it runs"
    send(gateway, tmp_path / "2.dcm", calling="OTHER")
    both = [*first, (uids[2], "viewer", "to viewer")]
    eventually(lambda: queued(gateway) == both, 10, "the delivery by the new rule")

    send(gateway, tmp_path / "3.dcm")
    gateway.kill_everything()
    gateway.start()
    everything = [*both, (uids[3], "viewer", "to viewer")]
    eventually(lambda: queued(gateway) == everything, 10, "what was acknowledged is queued")
    row = gateway.command("remotes", "--json").stdout.splitlines()[1]
    assert '"name": "viewer"' in row
    assert '"waiting": 2' in row
