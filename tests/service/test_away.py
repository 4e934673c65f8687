"""A remote AE that is away while its instances arrive, and dies in the middle of them: on its
return it gets every one, study after study, and no attempt is used for the time between.

The long proof, 5,000 instances of 50 studies and a minute of absence, in which the remote AE is
asked in vain as often as it would be in as many pauses of an hour's end:
`python -m pytest tests/service/test_away.py -m slow`.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import pytest

from engine import limits
from engine.index.environment import open_index_reader
from engine.outbox.records import State
from engine.outbox.view import OutboxView
from tests.material import wire
from tests.material.waiting import eventually, free_ports, within
from tests.peers.peer import Peer
from tests.peers.peer_scripts import Scp
from tests.peers.scripted_peer import ScriptedPeer
from tests.rigs.gateway import Gateway

pytestmark = pytest.mark.process
_ROOT: Final = "1.2.826.0.1.3680043.10.8"


def store(gateway: Gateway, studies: int, each: int) -> Iterator[str]:
    """UIDs as they are acknowledged, study after study."""
    with Peer(gateway.address) as peer:
        assert peer.associate().kind == wire.ASSOCIATE_AC
        for study in range(studies):
            for number in range(each):
                uid = f"{_ROOT}.{study}.{number}"
                data_set = wire.small_data_set(uid, study=f"{_ROOT}.{study}")
                assert peer.store(wire.CT_IMAGE, uid, data_set) == 0
                yield uid
        assert peer.release()


def settings(port: int) -> dict[str, Any]:
    return {
        "retry_count": 1,
        "send": {"retry_pause_s": 1},
        "prefetch_scp": {"enabled": False},
        "remotes": [{"name": "pacs", "ae_title": "PEER", "host": "127.0.0.1", "port": port}],
        "rules": [{"name": "all", "to": ["pacs"]}],
    }


def prove(directory: Path, studies: int, each: int, absence_s: float) -> None:
    total = studies * each
    (port,) = free_ports(1)
    with ExitStack() as stack:
        dying = stack.enter_context(ExitStack())
        first = dying.enter_context(ScriptedPeer(Scp(), port=port))
        gateway = stack.enter_context(closing(Gateway(directory / "gateway", settings(port))))
        gateway.start()
        uids = []
        for uid in store(gateway, studies, each):
            uids.append(uid)
            if len(uids) == each // 2:
                eventually(lambda: len(first.stored) >= each // 4, 30, "some are delivered")
                dying.close()
        left_at = time.monotonic()
        eventually(lambda: "pacs is away" in gateway.command("status").stdout, 30, "it is known")
        (absence,) = json.loads(gateway.command("status", "--json").stdout)["away"]
        # What it took and could not answer any more waits too.
        unanswered = absence["waiting"] - (total - len(first.stored))
        assert absence["destination"] == "pacs"
        assert 0 <= unanswered <= limits.associations_sending_max
        assert "away since" in gateway.command("queue").stdout
        os.kill(
            gateway.processes()["sender"], signal.SIGKILL
        )  # what is known of the destination outlives it
        eventually(lambda: time.monotonic() - left_at > absence_s, absence_s + 5, "it is away")
        (later,) = json.loads(gateway.command("status", "--json").stdout)["away"]
        assert later["since"] == absence["since"]
        assert ("pacs", State.FAILED) not in gateway.delivery_counts()

        second = stack.enter_context(ScriptedPeer(Scp(), port=port))
        back_at = time.monotonic()
        eventually(lambda: second.stored, limits.trouble_pause_s_max + 5, "it is found")
        deliveries = gateway.wait_settled(within(60 + total / 50), total)
        took_s = time.monotonic() - back_at
        assert {one.state for one in deliveries} == {State.DELIVERED}
        assert max(one.attempts for one in deliveries) <= 2, "one attempt may have met its end"
        assert sum(one.attempts == 2 for one in deliveries) <= limits.associations_sending_max
        assert {*first.stored, *second.stored} == {*uids}
        # An instance is begun when all before it are begun, and each lane has one in hand: so those
        # before it that are not there yet are at most as many as there are other lanes. Whole
        # studies follow from that, however busy the machine is.
        order = [uids.index(uid) for uid in second.stored]
        for at, one in enumerate(order):
            overtaken = [other for other in order[at + 1 :] if other < one]
            assert len(overtaken) < limits.associations_sending_max, (one, overtaken)
        print(f"{total} instances within {took_s:.1f} s of its return")


def test_everything_arrives_when_it_is_back(tmp_path: Path) -> None:
    prove(tmp_path, studies=5, each=12, absence_s=3)


@pytest.mark.slow
def test_five_thousand_of_fifty_studies(tmp_path: Path) -> None:
    prove(tmp_path, studies=50, each=100, absence_s=60)


def test_a_retry_by_hand_is_at_once(tmp_path: Path) -> None:
    """The pause has grown to many seconds when the remote AE is back and somebody knows it."""
    (port,) = free_ports(1)
    with ExitStack() as stack:
        gateway = stack.enter_context(closing(Gateway(tmp_path / "gateway", settings(port))))
        gateway.start()
        uids = [*store(gateway, studies=1, each=3)]

        def pause_s() -> float:
            with closing(open_index_reader(gateway.data)) as reader, reader.view() as view:
                away = OutboxView.within(view).away().get("pacs")
            return 0.0 if away is None else (away.due_ns - time.time_ns()) / 1e9

        eventually(lambda: pause_s() > 6, 60, "the pause is long")
        peer = stack.enter_context(ScriptedPeer(Scp(), port=port))
        asked_at = time.monotonic()
        assert gateway.command("queue", "retry", "--all").returncode == 0
        eventually(lambda: {*peer.stored} == {*uids}, 20, "they are sent")
        assert time.monotonic() - asked_at < within(5), "not when the pause was over"
        deliveries = gateway.wait_settled(20, 3)
        assert {(each.state, each.attempts) for each in deliveries} == {(State.DELIVERED, 1)}
