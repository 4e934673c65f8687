"""The measurements of the data path's candidates run, compare round by round, and clean up."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.candidates import GROUPS, Figures, main, ratio

SLOW = ("large", "journal", "receive")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in GROUPS],
)
def test_a_group_is_measured_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    arguments = ["--rounds", "1", "--units", "10", "--only", name, "--directory", str(tmp_path)]
    said = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert said.exit_code == 0
    rows = [line.split(" | ") for line in said.output.splitlines() if line.startswith("| ")][1:]
    measured = [row for row in rows if row[1] != "-"]
    assert len(measured) >= 3
    assert measured[0][2] == "1.00 (1.00 to 1.00)"  # the product's way against itself
    assert all(float(row[1]) > 0 and float(row[3]) > 0 for row in measured)
    assert not list(tmp_path.iterdir())


def test_ratios_are_made_within_a_round() -> None:
    """A machine that was three times slower in one round changes nothing."""
    spread = ratio([50.0, 150.0, 60.0], [100.0, 300.0, 100.0])
    assert (spread.median, spread.least, spread.most) == (0.5, 0.5, 0.6)


def test_the_first_round_is_not_counted() -> None:
    said = "now\t0\t900\t90\nnew\t0\t1\t1\nold\tskip\tnot here\nnew\t1\t50\t5\nnow\t1\t100\t20\n"
    figures = Figures.parse(said)
    assert figures.skipped == {"old": "not here"}
    (now, new) = figures.rows()
    assert (now[0], now[1]) == ("now", 0.1)
    assert (new[0], new[2].median, new[4].median) == ("new", 0.5, 0.25)


def test_too_much_is_not_written(tmp_path: Path) -> None:
    arguments = ["--rounds", "1000", "--directory", str(tmp_path)]
    said = CliRunner().invoke(main, arguments)
    assert said.exit_code == 2
    assert "GB would be written" in said.output
    assert not list(tmp_path.iterdir())
