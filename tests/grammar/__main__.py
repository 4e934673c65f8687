"""`python -m tests.grammar --count N --seed S`: so many data sets, and what became of them.

Exit status 1: something was found; each with its number, which makes it again (`--first N`).
"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.grammar.cases import case
from tests.grammar.trials import Shelf, Trial, try_case


def main() -> int:
    """Cases one after the other, and a table at the end."""
    parser = argparse.ArgumentParser(prog="python -m tests.grammar")
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first data set")
    given = parser.parse_args()
    told: Counter[str] = Counter()
    found = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        shelf = Shelf(Path(directory))
        for number in range(given.first, given.first + given.count):
            trial = try_case(case(given.seed, number), shelf)
            count(trial, told)
            for fault in trial.faults:
                found += 1
                print(f"{number} ({', '.join(trial.case.oddities)}): {fault}", flush=True)
    for name, many in sorted(told.items()):
        print(f"| {name} | {many} |")
    print(f"{given.count} data sets in {time.monotonic() - began:.0f} s: {found} findings")
    return 1 if found else 0


def count(trial: Trial, told: Counter[str]) -> None:
    """Add what became of one."""
    told["data sets"] += 1
    told["read by pydicom"] += trial.reading.is_one
    told["read by pydicom as they were written"] += trial.reading.is_as_written
    if trial.reading.is_one:
        for each in trial.passages:
            told[f"{each.name}: {each.verdict}"] += 1


if __name__ == "__main__":
    raise SystemExit(main())
