"""`scai reload`: what became of it is told to whoever asked, and remembered until a good one."""

from pathlib import Path

import pytest

from tests.rigs.gateway import Gateway

pytestmark = pytest.mark.process
_GAUGE = "scai_reload_refused{"


def _refused(gateway: Gateway) -> float:
    (value,) = (value for name, value in gateway.metrics().items() if name.startswith(_GAUGE))
    return value


def test_a_refused_reload_is_told_until_the_next_good_one(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path / "gateway")
    gateway.start()
    try:
        good = gateway.config_file.read_text()
        taken = gateway.command("reload")
        assert (taken.returncode, taken.stderr) == (0, "")
        assert f"SCP_AE on port {gateway.port}" in taken.stdout
        assert _refused(gateway) == 0

        gateway.config_file.write_text(good + "\n[storage_sc]\nport = 1\n")
        refused = gateway.command("reload")
        assert refused.returncode == 2
        assert "goes on with the settings it has" in refused.stderr
        assert refused.stderr.count("storage_sc") >= 1
        assert gateway.status()["reload_refused"] in refused.stderr
        assert "was refused" in gateway.command("status").stdout
        assert _refused(gateway) == 1

        gateway.config_file.write_text(
            good.replace("[storage_scp]", '[log]\nlevel = "debug"\n[storage_scp]')
        )
        assert gateway.command("reload").returncode == 0
        assert gateway.status()["reload_refused"] == ""
        assert "was refused" not in gateway.command("status").stdout
        assert _refused(gateway) == 0
    finally:
        gateway.close()
    alone = gateway.command("reload")
    assert alone.returncode == 1
    assert "no service runs" in alone.stderr


def test_the_unit_waits_for_the_answer() -> None:
    unit = Path("ops/systemd/scai.service").read_text()
    assert "\nExecReload=/opt/scai/venv/bin/scai reload -c /etc/scai/scai.toml\n" in unit
