"""`python -m tests.corruptions`: random corruptions of a stopped data directory.

Each start has to take in everything acknowledged that is not itself damaged and to name what is, or
to be refused with the way on; it is never silent and dies of nothing. Most starts are those of the
receivers and the indexer in one process; each so many are a real `scai run`. Case K of a seed draws
the same numbers in every run; what it meets there is of the same kind, but names and times in it
differ, so the directory of a case that does not hold is kept (`--keep`) as it was before the start.
Exit status: 0 all kept, 1 not.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.corruptions.service import judge_service
from tests.corruptions.trial import Outcome, Verdict, damaged_copy, judge, material


class Tally:
    """The table by kind and outcome."""

    def __init__(self) -> None:
        self.cases: Counter[tuple[str, Outcome]] = Counter()
        self.refusals: Counter[str] = Counter()
        self.quiet: Counter[str] = Counter()
        self.real = 0
        self.failed = 0

    def take(self, kind: str, verdict: Verdict) -> None:
        """One more."""
        self.cases[kind, verdict.outcome] += 1
        self.failed += verdict.outcome is Outcome.WRONG
        if verdict.refused:
            self.refusals[verdict.refused[:100]] += 1
        if verdict.quiet:
            self.quiet[kind] += 1

    def text(self) -> str:
        """As Markdown."""
        lines = [f"| | {' | '.join(each.value for each in Outcome)} |", "|---" * 6 + "|"]
        for kind in sorted({kind for kind, _ in self.cases}):
            counts = [str(self.cases[kind, each]) for each in Outcome]
            lines.append(f"| {kind} | {' | '.join(counts)} |")
        lines += [f"{count} x {said}" for said, count in self.refusals.most_common()]
        if self.quiet:
            said = ", ".join(f"{count} {kind}" for kind, count in sorted(self.quiet.items()))
            lines.append(f"queue or correction another, and nothing says so: {said}")
        return "\n".join(lines)


def run(cases: Iterable[int], seed: int, real: int = 0, keep: Path | None = None) -> Tally:
    """Try them all, and print what did not hold. `real`: each so many, as `scai run`. `keep`: where
    the directories of cases go that did not hold."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="corruptions-") as room:
        makes = material(Path(room))
        for case in cases:
            copy = Path(room) / "copy" / "data"
            made, done = damaged_copy(makes, seed, case, copy)
            if real and case % real == real - 1:
                verdict = judge_service(made, copy, done)
                tally.real += 1
            else:
                verdict = judge(made, copy, done)
            tally.take(done.kind, verdict)
            if verdict.wrong:
                print(f"case {case}: {done.text}", *verdict.wrong[:4], sep="\n    ", flush=True)
                if keep is not None:
                    damaged_copy(makes, seed, case, keep / str(case))
            shutil.rmtree(copy.parent)
    return tally


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.corruptions", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--keep", type=Path, help="a directory for what does not hold")
    parser.add_argument("--real", type=int, default=250, help="each so many is a real service")
    parser.add_argument("--minutes", type=float, default=0, help="begin none after so long")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    cases = _until(range(options.first, options.first + options.count), 60 * options.minutes)
    tally = run(cases, options.seed, options.real, options.keep)
    count = sum(tally.cases.values())
    print(tally.text())
    took = time.monotonic() - began
    print(
        f"{count} corruptions, {tally.real} of them real starts, {tally.failed} not kept, ", end=""
    )
    print(f"{took:.0f} s")
    return 1 if tally.failed else 0


def _until(cases: range, seconds: float) -> Iterable[int]:
    began = time.monotonic()
    for case in cases:
        if seconds and time.monotonic() - began > seconds:
            return
        yield case


if __name__ == "__main__":
    sys.exit(main())
