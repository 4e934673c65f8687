"""A sample of the random corruptions, the same in every run; and that the judge would notice."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.corruptions.__main__ import run
from tests.corruptions.corruption import Corruption
from tests.corruptions.material import Made
from tests.corruptions.trial import Outcome, judge, material

GATE_SAMPLE = 40


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Made:
    made, _ = material(tmp_path_factory.mktemp("made"))
    return made


@pytest.fixture
def copy(killed: Made, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "data"
    shutil.copytree(killed.directory, path)
    yield path
    shutil.rmtree(path)


def test_the_gates_sample_keeps_what_a_start_promises() -> None:
    tally = run(range(GATE_SAMPLE), seed=1)
    assert tally.failed == 0, tally.text()
    found = {outcome for _, outcome in tally.cases}
    assert found >= {Outcome.WHOLE, Outcome.TOLD, Outcome.NAMED}, "the sample damages something"


@pytest.mark.process
def test_a_real_start_keeps_it_too() -> None:
    tally = run([3], seed=1, real=1)
    assert tally.failed == 0, tally.text()
    assert tally.real == 1


def test_without_damage_all_is_there_and_nothing_said(killed: Made, copy: Path) -> None:
    assert judge(killed, copy, nothing()).outcome is Outcome.WHOLE


def test_what_was_not_touched_may_not_be_lost(killed: Made, copy: Path) -> None:
    (path, *_) = (copy / "store").rglob("*.dcm")
    path.unlink()
    verdict = judge(killed, copy, nothing())
    assert verdict.wrong == [f"{path.stem} is lost although it was not touched"]


def test_a_loss_that_nobody_tells_is_noticed(killed: Made, copy: Path) -> None:
    acknowledged = {**killed.acknowledged, "1.2.3.999": "a digest"}
    more = Made(killed.directory, acknowledged, killed.records, killed.routed, killed.older)
    assert judge(more, copy, nothing()).wrong == ["1.2.3.999 is lost and nobody says so"]


def test_a_correction_or_delivery_that_is_lost_is_noticed(killed: Made, copy: Path) -> None:
    shutil.rmtree(copy / "index")
    wrong = judge(killed, copy, nothing()).wrong
    assert "a correction is lost" in wrong
    assert any("not queued" in line for line in wrong)


def nothing() -> Corruption:
    """None: whatever is lacking then was not touched."""
    return Corruption("bit", "reached", 0, 0, frozenset())
