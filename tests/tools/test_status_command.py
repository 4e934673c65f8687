"""`scai status`: legible on a narrow terminal, nothing cut off, all that is at work named."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.errors import OperatorError
from tests.rigs.gateway import Gateway
from tests.rigs.sending import ct_files
from tools.commands.status import command

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
    gateway = Gateway(tmp_path / "gateway", environment={"COLUMNS": "80"})
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
    words = set(said.stdout.split())
    assert {"physical", "shared", "prefetch_scp"} <= words, "no word is broken"
    rows = {line.split()[0]: line for line in said.stdout.splitlines() if line.strip()}
    assert {"sender", "retriever", "prefetch_scp", "SCP_AE", "PrefetchAP"} <= rows.keys()
    assert names.keys() - {"supervisor"} <= rows.keys()
    assert "0 of 5" in rows["SCP_AE"]
    assert rows["outbox:"] == "outbox: 1 waiting"
    assert rows["prefetches:"] == "prefetches: none"
    assert counted["outbox"]["waiting"] == 1
    assert set(counted["prefetch"].values()) == {0}


def test_what_runs_is_told_though_its_file_is_no_longer_good(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path / "gateway")
    gateway.start()
    good = gateway.config_file.read_text()
    try:
        gateway.config_file.write_text(good + "\n[storage_sc]\nport = 1\n")
        said = gateway.command("status")
        told = gateway.command("status", "--json")
        gateway.config_file.write_text(good + "\n[storage_scp\n")
        unread = gateway.command("status")
        named = gateway.command("status", "--data-directory", str(gateway.data))
    finally:
        gateway.close()
    assert said.returncode == 0, said.stderr
    assert "scai " in said.stdout
    assert "storage_sc: unknown setting; did you mean storage_scp?" in said.stderr
    assert "what runs goes on with the settings it has" in said.stderr
    assert json.loads(told.stdout)["data_directory"] == str(gateway.data)
    assert unread.returncode == 2
    assert unread.stderr.strip().endswith("or name its data: --data-directory DIR")
    assert (named.returncode, named.stderr) == (0, "")
    assert str(gateway.data) in named.stdout.replace("\n", "")


def test_a_data_directory_that_is_wrong_itself_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "scai.toml"
    file.write_text('data_directory = ""\n')
    said = CliRunner().invoke(command, ["-c", str(file)], standalone_mode=False)
    assert isinstance(said.exception, OperatorError)
    assert "data_directory" in str(said.exception)
    file.write_text("durability = 7\n")
    said = CliRunner().invoke(command, ["-c", str(file)], standalone_mode=False)
    assert (said.return_value, said.exception) == (1, None)
    assert f"no service runs on {tmp_path / 'data'}" in said.stderr
