"""What a process had in hand is known after it was killed, and after nothing else."""

import os
import signal
from pathlib import Path

import pytest

from workers.frame import in_hand
from workers.frame.in_hand import InHand


def test_it_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "hand"
    pid = os.fork()
    if not pid:
        hand = InHand(path, 3)
        hand.take(0, 7)
        hand.take(2, 2**63)
        hand.take(1, 8)
        hand.put_down(1)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert InHand(path, 3).left == (7, 0, 2**63)
    assert InHand(path, 3).left == (0, 0, 0), "it is told once"


def test_it_says_nothing_after_another_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hand"
    InHand(path, 1).take(0, 7)
    (tmp_path / "boot").write_text("another\n")
    monkeypatch.setattr(in_hand, "_BOOT_ID", tmp_path / "boot")
    assert InHand(path, 1).left == (0,)
    monkeypatch.setattr(in_hand, "_BOOT_ID", tmp_path / "none")
    InHand(path, 1).take(0, 9)
    assert InHand(path, 1).left == (9,)


@pytest.mark.parametrize("content", [b"", b"nonsense", bytes(1000), b"SCAIHND1"])
def test_whatever_lies_there_is_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hand"
    path.write_bytes(content)
    assert InHand(path, 2).left == (0, 0)
    InHand(path, 2).take(1, 5)
    assert InHand(path, 2).left == (0, 5)


def test_more_places_and_fewer(tmp_path: Path) -> None:
    path = tmp_path / "hand"
    hand = InHand(path, 2)
    hand.take(0, 1)
    hand.take(1, 2)
    hand = InHand(path, 4)
    assert hand.left == (1, 2, 0, 0)
    hand.take(0, 3)
    hand.take(3, 4)
    assert InHand(path, 1).left == (3,)
