"""`scai status`: legible on a narrow terminal, nothing cut off, all that is at work named."""

from pathlib import Path

import pytest

from tests.gateway import Gateway
from tests.sending import ct_files

pytestmark = pytest.mark.process

_SETTINGS = """
[[remotes]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = 1
paused = true

[[prefetch]]
name = "priors"
archive = "pacs"
"""


def test_legible_on_eighty_columns(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path / "gateway")
    gateway.config_file.write_text(gateway.config_file.read_text() + _SETTINGS)
    gateway.start()
    try:
        (path,) = ct_files(tmp_path / "in", 1)
        assert gateway.command("send", "--to", "pacs", str(path)).returncode == 0
        said = gateway.command("status")
        counted = gateway.status()
        names = gateway.processes()
    finally:
        gateway.close()
    assert said.returncode == 0, said.stderr
    assert "\N{HORIZONTAL ELLIPSIS}" not in said.stdout
    assert max(map(len, said.stdout.splitlines())) <= 80
    rows = {line.split()[0]: line for line in said.stdout.splitlines() if line.strip()}
    assert {"sender", "retriever", "prefetch_scp", "SCP_AE", "PrefetchAP"} <= rows.keys()
    assert names.keys() - {"supervisor"} <= rows.keys()
    assert "0 of 5" in rows["SCP_AE"]
    assert rows["outbox:"] == "outbox: 1 waiting"
    assert rows["prefetches:"] == "prefetches: none"
    assert counted["outbox"]["waiting"] == 1
    assert set(counted["prefetch"].values()) == {0}
