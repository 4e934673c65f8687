"""The developers' one command: `python -m tools.check`, before every commit and in CI.

Runs format, lint, types, import contracts, the native layer's stub, the generated reference and the
tests. Each has one line with its seconds; what failed is shown in full at the end. Exit status: 0
all is well, 1 something failed. It builds nothing, but says so when the native module is missing or
old.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
BUILD_COMMAND: Final = f'{sys.executable} -m pip install -e ".[dev]"'
# No step may hang a build for ever; the whole is to stay below fifteen minutes without the long
# proofs, which take twenty minutes by themselves.
STEP_SECONDS_MAX: Final = 1200
PROOFS_SECONDS_MAX: Final = 5400


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step said; `failed` carries the text that is shown at the end."""

    failed: bool
    text: str


Step = tuple[str, Callable[[], Outcome]]


def command(*arguments: str, seconds_max: int = STEP_SECONDS_MAX) -> Callable[[], Outcome]:
    """A step that is `python -m ...` of the environment this runs in."""

    def run() -> Outcome:
        try:
            done = subprocess.run(
                [sys.executable, *arguments],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=seconds_max,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            said = late.stdout or b""
            text = said.decode(errors="replace") if isinstance(said, bytes) else said
            return Outcome(True, f"{text}\nno end after {seconds_max} s")
        return Outcome(done.returncode != 0, done.stdout)

    return run


def native_is_built() -> Outcome:
    """The native module is there and not older than what it is made of."""
    found = importlib.util.find_spec("native._core")
    if found is None or found.origin is None:
        return Outcome(True, f"the native module is not built; build it: {BUILD_COMMAND}")
    built = Path(found.origin).stat().st_mtime
    sources = [*(ROOT / "native" / "src").rglob("*.?pp"), ROOT / "native" / "CMakeLists.txt"]
    newer = sorted(path.name for path in sources if path.stat().st_mtime > built)
    if newer:
        names = ", ".join(newer)
        return Outcome(True, f"{found.origin} is older than {names}; build it: {BUILD_COMMAND}")
    return Outcome(False, found.origin)


def steps(slow: bool, pytest_arguments: list[str]) -> list[Step]:
    """All steps, cheapest first."""
    # Most tests wait for a service most of the time, so one more of them than there are cores run
    # at once, those of a file in one process. The long proofs load the machine by themselves.
    quick = ["-m", "not slow", "-n", str((os.cpu_count() or 1) + 1), "--dist", "loadfile"]
    proofs = command(
        "-m", "pytest", "-m", "slow", *pytest_arguments, seconds_max=PROOFS_SECONDS_MAX
    )
    imports = "from importlinter.cli import lint_imports_command as run; run()"
    return [
        ("native module", native_is_built),
        ("format", command("-m", "ruff", "format", "--check", ".")),
        ("lint", command("-m", "ruff", "check", ".")),
        ("import contracts", command("-c", imports, "--no-cache")),
        ("types", command("-m", "mypy")),
        ("native stub", command("-m", "tools.development.native_stub")),
        ("reference", command("-m", "tools.development.reference", "--check")),
        ("tests", command("-m", "pytest", *quick, *pytest_arguments)),
        *([("long proofs", proofs)] if slow else []),
    ]


def run(chosen: list[Step]) -> int:
    """Run them all, whatever fails; the exit status."""
    failures: list[tuple[str, Outcome]] = []
    began = time.monotonic()
    for name, step in chosen:
        print(f"{name:<18}", end="", flush=True)
        step_began = time.monotonic()
        outcome = step()
        seconds = time.monotonic() - step_began
        lines = outcome.text.strip().splitlines()
        note = "" if outcome.failed or not lines else lines[-1]
        print(f"{'FAILED' if outcome.failed else 'ok':<8}{seconds:7.1f} s  {note}".rstrip())
        if outcome.failed:
            failures.append((name, outcome))
    for name, outcome in failures:
        print(f"\n--- {name}\n{outcome.text.strip()}")
    verdict = f"failed: {', '.join(name for name, _ in failures)}" if failures else "all is well"
    print(f"\n{verdict}, {time.monotonic() - began:.1f} s")
    return 1 if failures else 0


def main(arguments: list[str] | None = None) -> int:
    """The command; what it does not know goes to pytest."""
    parser = argparse.ArgumentParser(prog="python -m tools.check", description=__doc__)
    parser.add_argument("--slow", action="store_true", help="the long proofs as well: half an hour")
    parser.add_argument("--only", metavar="STEP", help="one step, or several, by commas")
    parser.add_argument("--list", action="store_true", help="name the steps and end")
    known, others = parser.parse_known_args(arguments)
    chosen = steps(known.slow, others)
    if known.only:
        names = known.only.split(",")
        unknown = set(names) - {name for name, _ in chosen}
        if unknown:
            parser.error(f"no step {', '.join(sorted(unknown))}; see --list")
        chosen = [step for step in chosen if step[0] in names]
    if known.list:
        print("\n".join(name for name, _ in chosen))
        return 0
    return run(chosen)


if __name__ == "__main__":
    sys.exit(main())
