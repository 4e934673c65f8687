"""Each process is called what it is where operators look: `ps` and `top`."""

from pathlib import Path

import pytest

from tests.rigs.gateway import Gateway

pytestmark = pytest.mark.process


def test_processes_carry_their_names(gateway: Gateway) -> None:
    assert gateway.process is not None
    found = {**gateway.processes(), "supervisor": gateway.process.pid}
    assert {"supervisor", "indexer", "storage_scp", "prefetch_scp", "stats"} <= found.keys()
    for name, pid in found.items():
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
        assert arguments == f"scai: {name}"
        # What `top` shows has fifteen bytes.
        assert Path(f"/proc/{pid}/comm").read_text().strip() == f"scai: {name}"[:15]
