"""An index whose file is cut short: commands, status and health say so, and name what to do."""

import json
import os
import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from engine.index.damage import INDEX_CUT
from tests.material.waiting import eventually
from tests.rigs.gateway import Gateway

pytestmark = pytest.mark.process

_REMOTE = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}


def cut(data: Path) -> None:
    """All pages but the two that say how many there should be."""
    with (data / "index" / "data.mdb").open("r+b") as file:
        file.truncate(8192)


def health(gateway: Gateway) -> list[str]:
    """Why it is not ready."""
    try:
        url = f"http://127.0.0.1:{gateway.stats_port}/readyz"
        with urllib.request.urlopen(url, timeout=5) as answer:
            content = answer.read()
    except urllib.error.HTTPError as error:
        content = error.read()
    except OSError:
        return []
    return list(json.loads(content)["reasons"])


def test_a_cut_index_is_told_everywhere(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, {"remotes": [_REMOTE]})
    gateway.start()
    try:
        # As after a first instance: the tables are there.
        eventually(lambda: (gateway.data / "index" / "data.mdb").exists(), 10, "an index")
        assert gateway.command("find").returncode in (0, 1)
        cut(gateway.data)
        done = gateway.command("find")
        assert (done.returncode, done.stderr) == (2, f"scai: {INDEX_CUT}\n")
        os.kill(gateway.pid("indexer"), signal.SIGKILL)  # it reads on from the start
        eventually(lambda: INDEX_CUT in health(gateway), 20, "/readyz says so")
        assert gateway.metrics(), "and goes on answering"
        eventually(lambda: INDEX_CUT in health(gateway), 20, "/readyz still says so")
        told = gateway.command("status")
        assert told.returncode == 0
        assert "scai rebuild" in " ".join(told.stdout.split())
        assert json.loads(gateway.command("status", "--json").stdout)["index_cut"] is True
        ends = [line for line in gateway.log() if line["event"] == "worker_ended"]
        assert any(INDEX_CUT in line["text"] for line in ends)
    finally:
        gateway.close()
    for arguments in (["find"], ["verify"], ["queue"], ["verify", "--repair"]):
        done = gateway.command(*arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert done.stderr.endswith(f"scai: {INDEX_CUT}\n")
        assert "Traceback" not in done.stderr
    # What the words say is what helps.
    (gateway.data / "index").rename(gateway.data / "index-cut")
    gateway.start()
    gateway.close()
    assert gateway.command("verify", "--repair").returncode == 0
