"""Lanes that wait and keep an association count: no second one is opened beside them."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from engine.sending.schedule import Schedule
from tests.material.waiting import eventually
from workers.sender.lanes import Lanes


def test_an_association_that_a_waiting_lane_keeps_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lanes = Lanes(lambda: None, 3)
    asked: list[tuple[str, dict[str, int]]] = []

    def take(self: Schedule[Any], now: float, keep: str, kept: dict[str, int]) -> None:
        asked.append((keep, dict(kept)))

    monkeypatch.setattr(Schedule, "take", take)
    for number, held in enumerate(("pacs", "pacs", "")):
        sender = SimpleNamespace(
            held=held, release=lambda: None, stop_opening=lambda: None, interrupt=lambda: None
        )
        lanes._senders[number] = sender  # type: ignore[call-overload]
    threads = [threading.Thread(target=lanes.run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        # Once all wait, each is told of those that the other lanes keep, and not of its own.
        eventually(lambda: ("", {"pacs": 2}) in asked, 10, "both are counted by the third")
        eventually(lambda: ("pacs", {"pacs": 1}) in asked, 10, "the other is counted")
        assert ("pacs", {"pacs": 2}) not in asked
    finally:
        lanes.close()
        for thread in threads:
            thread.join()
