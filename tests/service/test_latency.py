"""A client that leaves Nagle's algorithm on waits for no acknowledgement of ours."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.material import samples
from tests.rigs.gateway import Gateway

pytestmark = pytest.mark.process

INSTANCES = 40
# What a delayed acknowledgement costs an instance: TCP_DELACK_MIN of Linux.
DELAYED_S = 0.040


def test_storescu_as_it_comes_is_not_held_up(gateway: Gateway, tmp_path: Path) -> None:
    """DCMTK's storescu without TCP_NODELAY: far below a delayed acknowledgement an instance."""
    files = [
        str(samples.clone(samples.sample("ct-explicit"), tmp_path / f"{number}.dcm").path)
        for number in range(INSTANCES)
    ]
    environment = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
    command = ["/usr/bin/storescu", "-aec", "SCP_AE", "localhost", str(gateway.port), *files]
    best = float("inf")
    for _ in range(5):  # on a busy machine the least is what tells
        began = time.monotonic()
        subprocess.run(command, env=environment, check=True, timeout=60)
        best = min(best, time.monotonic() - began)
    assert best < INSTANCES * DELAYED_S / 2
