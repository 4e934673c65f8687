"""A wall clock that is set while the service runs: nothing is lost, nothing waits for a year, and
nobody spins.
"""

import os
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from engine.index.environment import open_index_reader
from engine.outbox.records import State
from engine.outbox.view import OutboxView
from tests.faults.shims import WallClock, compiler
from tests.material.waiting import eventually, free_ports
from tests.peers.peer_scripts import Scp
from tests.peers.scripted_peer import ScriptedPeer
from tests.rigs.dcmtk_store import store
from tests.rigs.gateway import Gateway
from tests.rigs.sending import ct_files

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(compiler() is None, reason="needs a C compiler"),
]

DAY_S = 86_400.0
YEAR_S = 365 * DAY_S
BUSY = 0xA700
SETTINGS = {
    # Long enough that nothing is tried again within a test unless the clock makes it due.
    "send": {"retry_pause_s": 900, "give_up_after_hours": 1},
    "rules": [{"name": "all", "to": ["pacs"]}],
}
_SPAN_S = 3.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def used_s(pids: dict[str, int]) -> dict[str, float]:
    """Seconds of processor that each has used."""
    found = {}
    for name, pid in pids.items():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        found[name] = (int(fields[11]) + int(fields[12])) * _TICK_S
    return found


@pytest.mark.parametrize(
    "jumps_s",
    [(-DAY_S,), (-YEAR_S,), (YEAR_S,), (YEAR_S, 0.0), (-20 * YEAR_S, 0.0), (-YEAR_S, DAY_S, 0.0)],
    ids=["back a day", "back a year", "on a year", "on and right", "a dead battery", "to and fro"],
)
def test_what_is_to_be_tried_again_is(tmp_path: Path, jumps_s: tuple[float, ...]) -> None:
    """The peer is busy at each first attempt: the next would be due in a quarter of an hour."""
    files = ct_files(tmp_path / "in", len(jumps_s))
    clock = WallClock(tmp_path)
    with ScriptedPeer(Scp(statuses=[BUSY, 0] * len(files))) as peer:
        remote = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": peer.port}
        settings = {**SETTINGS, "remotes": [remote]}
        gateway = Gateway(tmp_path / "gateway", settings, environment=clock.environment)
        gateway.start()
        try:
            before = gateway.processes()
            for number, (image, off_s) in enumerate(zip(files, jumps_s, strict=True)):
                store(gateway, image)
                eventually(lambda: State.RETRYING in states(gateway), 20, "the peer was busy")
                clock.set(off_s)
                sent = number + 1
                eventually(lambda sent=sent: len(peer.stored) == sent, 20, "it is tried again")
                eventually(lambda: states(gateway).keys() <= {State.DELIVERED}, 20, "it is noted")
            assert gateway.ready()
            lines, used = len(gateway.log()), used_s(before)
            time.sleep(_SPAN_S)  # what is measured is what is done without being asked
            assert gateway.processes() == before, "nobody was replaced"
            spent = {name: at - used[name] for name, at in used_s(before).items()}
            assert max(spent.values()) < _SPAN_S / 4, spent
            assert len(gateway.log()) - lines < 20, gateway.log_tail()
            assert len(gateway.find()) == len(files)
            assert gateway.stop() == 0
            gateway.start()  # with the clock as it is now
            assert len(gateway.find()) == len(files)
        finally:
            gateway.close()


def states(gateway: Gateway) -> dict[State, int]:
    """How many deliveries there are in each state."""
    return dict(Counter(delivery.state for delivery in gateway.deliveries()))


def test_a_peer_that_is_away_is_not_given_up_for_it(tmp_path: Path) -> None:
    clock = WallClock(tmp_path)
    (port,) = free_ports(1)
    remote = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port}
    settings = {**SETTINGS, "remotes": [remote]}
    gateway = Gateway(tmp_path / "gateway", settings, environment=clock.environment)
    gateway.start()
    try:
        [image] = ct_files(tmp_path / "in", 1)
        store(gateway, image)
        eventually(lambda: asked(gateway) >= 1, 30, "nobody is there")
        for off_s in (YEAR_S, -YEAR_S, 0.0):
            clock.set(off_s)
            before = asked(gateway)
            eventually(lambda before=before: asked(gateway) >= before + 1, 40, "it is asked on")
            assert states(gateway) == {State.WAITING: 1}
        with ScriptedPeer(Scp(), port=port) as peer:
            eventually(lambda: len(peer.stored) == 1, 40, "it is back")
    finally:
        gateway.close()


def asked(gateway: Gateway) -> int:
    """How often the remote AE was asked in vain."""
    with closing(open_index_reader(gateway.data)) as reader, reader.view() as view:
        away = OutboxView.within(view).away()
    return away["pacs"].asked if away else 0
