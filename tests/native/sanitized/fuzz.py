"""Feeds the native layer invented input: `python -m tests.native.sanitized.fuzz --seconds 60
[TARGET ...]`.

Begins with the inputs under `corpus/` (found by earlier runs) and those that seeds.py makes, and
keeps what it learns under `build/fuzz`. When a claim of a target or a sanitizer fails it ends with
status 1 and the path of the input. `--keep` adds the smallest covering set to `corpus/`.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.native.sanitized import sanitized
from tests.native.sanitized.seeds import seeds

CORPUS: Final = sanitized.ROOT / "tests" / "native" / "corpus"
LEARNT: Final = sanitized.ROOT / "build" / "fuzz"
INPUT_BYTES_MAX: Final = 4096
KEPT_INPUTS_MAX: Final = 40  # a corpus is for a start, not an archive


def made_inputs(target: str) -> Path:
    """The directory of the inputs of seeds.py, written anew."""
    made = LEARNT / target.removesuffix("_fuzz") / "made"
    made.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(seeds(target)):
        (made / f"{index:03}").write_bytes(seed)
    return made


def fuzz(target: str, seconds: int, generation: int = 0) -> subprocess.CompletedProcess[str]:
    """One run. `generation` 0 takes a random beginning, any other a repeatable one."""
    binary = sanitized.build(target)
    short = target.removesuffix("_fuzz")
    learnt, found = (LEARNT / short / name for name in ("learnt", "found"))
    for directory in (learnt, found):
        directory.mkdir(parents=True, exist_ok=True)
    stored = [CORPUS / short] if (CORPUS / short).is_dir() else []
    dictionary = CORPUS / f"{short}.dict"
    return sanitized.run(
        binary,
        f"-max_total_time={seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-seed={generation}",
        f"-artifact_prefix={found}/",
        *("-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-close_fd_mask=1"),
        *([f"-dict={dictionary}"] if dictionary.exists() else []),
        *map(str, [learnt, made_inputs(target), *stored]),
        timeout_s=seconds + 120,
    )


def keep(target: str) -> int:
    """Merge what was learnt into the stored corpus; how many inputs that has now."""
    short = target.removesuffix("_fuzz")
    (CORPUS / short).mkdir(parents=True, exist_ok=True)
    learnt = LEARNT / short / "learnt"
    merged = sanitized.run(
        sanitized.build(target),
        *("-merge=1", "-max_len=512", str(CORPUS / short), str(learnt)),
        timeout_s=600,
    )
    if merged.returncode != 0:
        raise RuntimeError(f"merging the corpus of {target} failed:\n{merged.stdout[-2000:]}")
    by_size = sorted((CORPUS / short).iterdir(), key=lambda path: path.stat().st_size)
    for path in by_size[KEPT_INPUTS_MAX:]:
        path.unlink()
    return min(len(by_size), KEPT_INPUTS_MAX)


def executions(output: str) -> int:
    """How many inputs a run tried, from libFuzzer's final statistics."""
    for line in output.splitlines():
        if line.startswith("stat::number_of_executed_units:"):
            return int(line.split()[1])
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.native.sanitized.fuzz", description=__doc__
    )
    parser.add_argument("targets", nargs="*", default=sanitized.fuzz_targets(), metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=30, help="for each target")
    parser.add_argument("--keep", action="store_true", help="add what was learnt to corpus/")
    chosen = parser.parse_args(arguments)
    failed = 0
    for target in chosen.targets:
        if target not in sanitized.fuzz_targets():
            parser.error(f"no target {target}; there are {', '.join(sanitized.fuzz_targets())}")
        result = fuzz(target, chosen.seconds)
        print(f"{target}: {executions(result.stdout)} inputs, status {result.returncode}")
        if result.returncode != 0:
            failed = 1
            print(result.stdout[-6000:])
        elif chosen.keep:
            print(f"{target}: {keep(target)} inputs kept in {Path('tests/native/corpus')}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
