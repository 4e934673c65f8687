"""A few hundred frames that nobody would encode, of every JPEG kind, through the helper: none hangs
it for longer than allowed, none makes it or us grow, and a good one is decoded after each.

`python -m tests.randomised.frames --seconds 3600` goes on for as long as one likes.
"""

from pathlib import Path

import pytest

from engine import limits
from tests.randomised.frames import KINDS, Trial, seeds
from workers.decoding.decoders import Decoders

_frames = 300


@pytest.mark.parametrize("number", [1, 2])
def test_frames_of_every_kind_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(limits, "decoding_cpu_s_base", 1)
    known = seeds(tmp_path)
    assert {seed.kind for seed in known} >= KINDS.keys()
    trial = Trial(known, number)
    with Decoders() as decoders:
        trial.run(decoders, iter(range(_frames)))
    assert trial.outcomes.total() == _frames
    assert {"is decoded", "is refused"} <= trial.outcomes.keys(), trial.outcomes
    assert any(words.startswith("its decoder") for words in trial.outcomes), "none was killed"
