"""`scai rebuild`, as an operator gives it whose index is lost, damaged, or merely suspected."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.rigs.gateway import Gateway
from tests.rigs.sending import ct_files

pytestmark = pytest.mark.process

# What a file does not say.
_UNKNOWN = {"received", "calling_ae_title", "called_ae_title", "peer"}


@pytest.fixture
def stopped(make_gateway: Callable[..., Gateway], tmp_path: Path) -> Gateway:
    """A service that has received twelve instances, and was stopped."""
    gateway = make_gateway().start()
    paths = ct_files(tmp_path / "in", 12)
    command = ["/usr/bin/storescu", "-aec", "SCP_AE", "127.0.0.1", str(gateway.port)]
    subprocess.run([*command, *map(str, paths)], check=True, timeout=30)
    assert len(gateway.find()) == 12
    return gateway


def known(gateway: Gateway) -> dict[str, dict[str, Any]]:
    return {
        uid: {key: value for key, value in row.items() if key not in _UNKNOWN}
        for uid, row in gateway.find().items()
    }


@pytest.mark.parametrize("harm", ["none", "lost", "cut", "overwritten"])
def test_the_index_is_as_it_was(stopped: Gateway, harm: str) -> None:
    before = known(stopped)
    refused = stopped.command("rebuild", "--yes")
    assert refused.returncode == 2, refused
    assert "already runs on this data. Stop it first" in refused.stderr
    stopped.stop()
    index = stopped.data / "index" / "data.mdb"
    if harm == "lost":
        index.unlink()
    elif harm == "cut":
        index.write_bytes(index.read_bytes()[:10_000])
    elif harm == "overwritten":
        index.write_bytes(b"\xff" * index.stat().st_size)
    done = stopped.command("rebuild", "--yes", wait_s=120)
    assert done.returncode == 0, done
    assert "12 instances are in the new index" in done.stdout
    assert known(stopped) == before
    assert len([*stopped.data.glob("index.replaced-*")]) == 1
    assert not (stopped.data / "rebuilding").exists()
    stopped.start()
    assert known(stopped) == before
    assert stopped.command("verify", "--content").returncode == 0


def test_what_was_removed_does_not_come_again(stopped: Gateway) -> None:
    """The journal has it still."""
    gone = next(iter(stopped.find()))
    said = stopped.command("remove", "--instance", gone, "--yes", "--force")
    assert said.returncode == 0, said
    stopped.stop()
    done = stopped.command("rebuild", "--yes", "--json", wait_s=120)
    assert done.returncode == 0, done
    told = json.loads(done.stdout)
    assert (told["instances"], told["left"], len(told["kept"])) == (11, 0, 1)
    assert gone not in stopped.find()
    assert len(stopped.start().find()) == 11


def test_a_rebuild_that_was_cut_short_is_begun_anew(stopped: Gateway) -> None:
    stopped.stop()
    stage = stopped.data / "rebuilding" / "index"
    stage.mkdir(parents=True)
    (stage / "data.mdb").write_bytes(b"half")
    done = stopped.command("rebuild", "--yes", wait_s=120)
    assert done.returncode == 0, done
    assert len(stopped.find()) == 12


def test_copies_in_the_outbox_are_kept(stopped: Gateway, tmp_path: Path) -> None:
    stopped.stop()
    (stopped.data / "outbox").mkdir(exist_ok=True)
    (stopped.data / "outbox" / "given").write_bytes(b"copy")
    done = stopped.command("rebuild", "--yes", wait_s=120)
    assert "files that were given to be sent are in" in done.stdout, done
    (kept,) = (stopped.data / "set_aside").glob("outbox-*/given")
    assert kept.read_bytes() == b"copy"


def test_nothing_is_changed_unasked(stopped: Gateway) -> None:
    stopped.stop()
    said = stopped.command("rebuild")
    assert said.returncode == 2, said
    assert "nobody answers; --yes answers beforehand" in said.stderr
    assert not [*stopped.data.glob("index.replaced-*")]
