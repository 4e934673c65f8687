"""Requests in a directory: answered once, withdrawn in time, and kept over a crash."""

import os
import time
from pathlib import Path

import pytest

from engine.errors import OperatorError
from engine.files import letterbox


def test_a_request_is_answered(tmp_path: Path) -> None:
    box = tmp_path / "box"
    assert letterbox.waiting(box) == []
    first = letterbox.leave(box, b"one")
    second = letterbox.leave(box, b"two")
    assert letterbox.waiting(box) == sorted([first, second])
    assert first.read_bytes() == b"one"
    letterbox.answer(first, b"done")
    assert letterbox.waiting(box) == [second]
    assert letterbox.answer_to(first, lambda: False, "it") == b"done"
    assert list(box.iterdir()) == [second]


def test_a_request_that_nobody_takes_is_withdrawn(tmp_path: Path) -> None:
    request = letterbox.leave(tmp_path / "box", b"one")
    with pytest.raises(OperatorError, match="did not take up the order"):
        letterbox.answer_to(request, lambda: False, "the order")
    assert letterbox.waiting(tmp_path / "box") == []


def test_a_crash_between_answer_and_end_leaves_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = letterbox.leave(tmp_path / "box", b"one")
    with monkeypatch.context() as patched:

        def dies(path: Path, missing_ok: bool = False) -> None:
            raise KeyboardInterrupt

        patched.setattr(Path, "unlink", dies)
        with pytest.raises(KeyboardInterrupt):
            letterbox.answer(request, b"done")
    assert letterbox.waiting(tmp_path / "box") == [request], "it is answered again"
    assert letterbox.answer_to(request, lambda: False, "it") == b"done"


def test_what_nobody_fetched_goes_after_an_hour(tmp_path: Path) -> None:
    box = tmp_path / "box"
    request = letterbox.leave(box, b"one")
    letterbox.answer(request, b"done")
    (result,) = box.iterdir()
    letterbox.waiting(box)
    assert result.exists()
    old = time.time() - 3601
    os.utime(result, (old, old))
    letterbox.waiting(box)
    assert not result.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives things away")
def test_what_root_asks_for_first_is_the_services(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    letterbox.leave(tmp_path / "box", b"one")
    assert (tmp_path / "box").stat().st_uid == 12345
