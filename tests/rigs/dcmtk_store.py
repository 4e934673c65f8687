"""Storing in a running service by DCMTK's storescu."""

import subprocess
from pathlib import Path

from tests.rigs.gateway import Gateway


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """A foreign tool; its output is in the message when it fails."""
    answer = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, f"{command}\n{answer.stdout}\n{answer.stderr}"
    return answer


def store(gateway: Gateway, *paths: str | Path) -> None:
    """By DCMTK, as explicit VR; each is acknowledged."""
    address = ("-aec", "SCP_AE", "localhost", str(gateway.port))
    run("/usr/bin/storescu", "-xe", *address, *paths)
