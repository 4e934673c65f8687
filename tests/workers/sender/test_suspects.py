"""Suspects: one at a time beside the others, at last alone, and nobody waits for one that cannot be
tried now."""

import threading
import time
from collections.abc import Collection
from pathlib import Path

from engine.outbox.records import State
from engine.sending.schedule import Schedule
from engine.sending.verdict import Ending, Verdict
from tests.material.waiting import eventually, free_ports
from tests.peers.peer_scripts import Scp
from tests.peers.scripted_peer import ScriptedPeer
from tests.rigs.sending import ct_files, destination, office
from workers.sender.attempt import Errand
from workers.sender.suspects import Suspects


def errands(directory: Path, *deaths: int, to: str = "pacs") -> list[Errand]:
    """Deliveries that their sender died of so often."""
    with office(directory) as sending:
        paths = ct_files(directory / "in", len(deaths))
        numbers = sending.queue(paths, to)
        made = []
        for number, count in zip(numbers, deaths, strict=True):
            delivery = sending.delivery(number)
            delivery.deaths = count
            made.append(Errand(delivery, "", {}))
    return made


def anywhere(_: str) -> bool:
    return True


def nowhere(_: str) -> bool:
    return False


def test_one_at_a_time(tmp_path: Path) -> None:
    first, second = errands(tmp_path, 1, 1)
    suspects = Suspects()
    suspects.put([first, second])
    assert not suspects.holds_back(anywhere)
    assert suspects.take(4, anywhere) is first
    assert suspects.take(0, anywhere) is None
    assert not suspects.holds_back(anywhere), "others go on"
    suspects.ended(first)
    assert suspects.take(4, nowhere) is None
    assert suspects.returned(anywhere) == []
    assert suspects.returned(nowhere) == [second]
    assert suspects.take(0, anywhere) is None


def test_at_last_alone(tmp_path: Path) -> None:
    (last,) = errands(tmp_path, 2)
    suspects = Suspects()
    suspects.put([last])
    assert suspects.holds_back(anywhere), "nothing else is begun"
    assert not suspects.holds_back(nowhere), "unless it cannot be tried itself"
    assert suspects.take(1, anywhere) is None
    assert suspects.take(0, anywhere) is last
    assert suspects.holds_back(nowhere)
    suspects.ended(last)
    assert not suspects.holds_back(anywhere)


def test_the_schedule_counts_them() -> None:
    schedule: Schedule[str] = Schedule(2)
    schedule.open_for(["a"])
    assert not schedule.begin("b", 0.0)
    assert schedule.begin("a", 0.0)
    schedule.put("a", ["one", "two"])
    assert schedule.take(0.0) == ("a", "one")
    assert not schedule.begin("a", 0.0), "all lanes are taken"
    schedule.ended("a", Verdict(Ending.AWAY, is_trouble=True), 0.1, 1.0)
    assert not schedule.begin("a", 1.0), "it is away"
    assert not schedule.may_be_asked("a", 1.0)


class Hand:
    """Notes what is in hand together."""

    def __init__(self) -> None:
        self.now: dict[int, int] = {}
        self.together: list[frozenset[int]] = []
        self._lock = threading.Lock()

    def take(self, place: int, number: int) -> None:
        with self._lock:
            self.now[place] = number
            self.together.append(frozenset(self.now.values()))

    def put_down(self, place: int) -> None:
        with self._lock:
            del self.now[place]

    def with_one_of(self, numbers: Collection[int]) -> list[frozenset[int]]:
        return [each for each in self.together if each & {*numbers}]


def test_lanes_try_them_so(tmp_path: Path) -> None:
    """Of thirty, two died once and one twice; one of each goes to who is away."""
    (port,) = free_ports(1)
    with ScriptedPeer(Scp(slow_s=0.02)) as peer, office(tmp_path / "data") as sending:
        hand = Hand()
        sending.lanes.note_in(hand)  # type: ignore[arg-type]
        numbers = sending.queue(ct_files(tmp_path / "in", 30), "pacs")
        gone = sending.queue(ct_files(tmp_path / "gone", 2), "gone")
        writer = sending.ledger.writer
        once, twice = numbers[10:12], numbers[20]
        for blamed in ([*once, twice, *gone], [twice, gone[0]]):
            writer.commit(lambda outbox, blamed=blamed: outbox.died_with(blamed, 1))
        sending.run([destination(peer.port), destination(port, "gone")], away=1)
        assert sending.states()["pacs", State.DELIVERED] == 30
        assert {sending.delivery(number).attempts for number in gone} == {0}
    assert len(peer.stored) == 30
    assert hand.with_one_of([twice]) == [frozenset({twice})]
    assert all(len(each & {*once, twice, *gone}) == 1 for each in hand.with_one_of(once))
    assert any(len(each) > 1 for each in hand.with_one_of(once)), "the others go on"


def test_a_last_trial_waits_for_nobody_for_long(tmp_path: Path) -> None:
    """Of two destinations, the suspect's own answers late: others begin when it has ended."""
    go_on = threading.Event()
    with (
        ScriptedPeer(Scp(go_on=go_on)) as slow,
        ScriptedPeer(Scp()) as quick,
        office(tmp_path / "data") as sending,
    ):
        (suspect,) = sending.queue(ct_files(tmp_path / "in", 1), "slow")
        writer = sending.ledger.writer
        for _ in range(2):
            writer.commit(lambda outbox: outbox.died_with([suspect], 1))
        destinations = [destination(slow.port, "slow", timeout_s=20), destination(quick.port)]
        sending.lanes.open_for({one.peer.name: one for one in destinations})
        eventually(lambda: sending.turn() or slow.commands, 10, "it is under way")
        sending.queue(ct_files(tmp_path / "more", 3), "pacs")
        begun = time.monotonic()
        while time.monotonic() - begun < 0.3:
            sending.turn()
            time.sleep(0.01)
        assert not quick.stored
        go_on.set()
        sending.run(destinations)
        assert len(quick.stored) == 3
