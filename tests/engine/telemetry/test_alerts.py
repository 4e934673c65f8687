"""The alerts that come with the product fire when they should, as Prometheus itself judges."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

_RULES: Final = Path(__file__).parents[3] / "ops" / "prometheus"
_promtool: Final = shutil.which("promtool")


@pytest.mark.skipif(_promtool is None, reason="no promtool")
@pytest.mark.parametrize("command", ["check rules alerts.yml", "test rules alerts_test.yml"])
def test_the_rules_hold(command: str) -> None:
    done = subprocess.run(
        [str(_promtool), *command.split()], cwd=_RULES, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
