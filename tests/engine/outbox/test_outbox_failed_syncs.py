"""Syncs of the outbox fail as Linux makes them fail, then the power: what was promised to a person,
or for whose sake a file was taken away, is still to be sent."""

from pathlib import Path

import pytest

from engine.outbox.writer import OutboxWriter
from tests.faults import shims

pytestmark = pytest.mark.skipif(shims.compiler() is None, reason="no C compiler")

_ASKS = """
import os, sys
from contextlib import suppress
from pathlib import Path
from engine.index.environment import INDEX_FAULTS
from engine.outbox.writer import OutboxWriter
from tests.faults.shims import fail_own_sync
from tests.rigs.outbox_deliveries import ask, new
writer = OutboxWriter(Path(sys.argv[1]))
fail_own_sync(int(sys.argv[2]), int(sys.argv[3]))
for count in range(12):
    for _ in range(5):
        with suppress(*INDEX_FAULTS):
            ask(writer, new(f"1.{count}"))
            writer.sync()
            break
    else:
        raise SystemExit("it never took it")
os._exit(0)
"""


@pytest.mark.parametrize(("number", "every"), [(number, 0) for number in range(1, 9)] + [(2, 5)])
def test_a_sync_fails_and_what_was_promised_stays(tmp_path: Path, number: int, every: int) -> None:
    cut = shims.PowerCut(tmp_path, tmp_path / "live")
    cut.run(_ASKS, str(number), str(every))
    assert cut.failed_syncs > 0
    writer = OutboxWriter(cut.disk(tmp_path / "disk"))
    try:
        with writer.view() as outbox:
            kept = {delivery.sop_instance_uid for delivery in outbox.deliveries()}
    finally:
        writer.close()
    assert kept == {f"1.{count}" for count in range(12)}
