"""Feeds the native layer invented input: `python -m tests.native.fuzz --seconds 60 [TARGET ...]`.

Begins with the inputs under `corpus/` (found by earlier runs) and the hostile ones the tests know,
keeps what it learns under `build/fuzz`, and ends with status 1 and the path of the input when a
claim of a target or a sanitizer fails. `--keep` adds the smallest covering set to `corpus/`.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.native import hostile, sanitized

CORPUS: Final = sanitized.HERE / "corpus"
LEARNT: Final = sanitized.ROOT / "build" / "fuzz"
INPUT_BYTES_MAX: Final = 4096
KEPT_INPUTS_MAX: Final = 40  # a corpus is for a start, not an archive

# Programs for intake_fuzz.cpp: accepted, seed, then a command that stores (2) or discards (1),
# data fragments of every kind, their repetition, and what ends or breaks the stream.
COMMAND: Final = bytes([1, 1, 40, 2])
DATA: Final = bytes([2, 1, 0x3F, 0xF4, 5])
LAST: Final = bytes([3, 1, 0x10, 0x01, 9])
INTAKE_SEEDS: Final = [
    bytes([1, 3]) + COMMAND + LAST + COMMAND + LAST + bytes([6, 0]),
    bytes([1, 8]) + COMMAND + DATA + bytes([14, 20]) + LAST + COMMAND + DATA + LAST,
    bytes([1, 9]) + COMMAND + DATA + bytes([14, 150, 2, 1, 1, 1, 7, 14, 90]) + LAST,
    bytes([1, 4]) + COMMAND + bytes([2, 1, 0, 1, 5, 14, 159]) + LAST + COMMAND + LAST,
    bytes([1, 5]) + COMMAND[:3] + bytes([1]) + DATA + bytes([14, 9]) + LAST + COMMAND + LAST,
    bytes([0, 6, 5, 80, 0]) + COMMAND + LAST + bytes([6, 2]),
    bytes([1, 7]) + COMMAND + DATA + bytes([15, 0, 70, 255]) + LAST,
    bytes([1, 2]) + COMMAND + bytes([4, 3, 1, 0, 200, 1, 0, 100, 1, 2, 9]) + COMMAND + LAST,
]


# Programs for tls_session_fuzz.cpp: TLS 1.3 or 1.2, reading ahead or not, then for each write what
# is done to its records (0 changed, 1 cut, 2 repeated, above: nothing), its size, and where.
TLS_SEEDS: Final = [
    bytes([how, 0]) + bytes([3, 200, 0, 0]) * 3 + bytes([wrong, 200, 90, 16])
    for how in (0, 2, 4, 6)
    for wrong in (0, 1, 2, 3)
]


# For seal_fuzz.cpp: kind, prologue, attributes, place and change of a byte, then the file.
SEAL_SEEDS: Final = [
    bytes([1, 60, 9, *place, change]) + b"instance" * count
    for place in ((0, 0), (0, 5), (15, 250))
    for change in (0, 1)
    for count in (1, 400)
]
# For fragments_fuzz.cpp: begin, cut, most items, then items and their delimiter (PS3.5 A.4).
_ITEM: Final = bytes([0xFE, 0xFF, 0x00, 0xE0])
_END: Final = bytes([0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0])
FRAGMENTS_SEEDS: Final = [
    bytes([0, 0, 9]) + (_ITEM + bytes([4, 0, 0, 0]) + b"data") * count + _END
    for count in (0, 1, 3, 10)
]


def seeds(target: str) -> list[bytes]:
    """Inputs to begin with that are made and not stored."""
    if target == "seal_fuzz":
        return SEAL_SEEDS
    if target == "fragments_fuzz":
        return FRAGMENTS_SEEDS
    if target == "intake_fuzz":
        return INTAKE_SEEDS
    if target == "tls_session_fuzz":
        return TLS_SEEDS
    if target == "element_run_fuzz":
        # Choices, depth, value_max, how much is at hand: see the target's head.
        return [
            bytes([choices, 0, 255, index % 256]) + case.data[:2048]
            for index, case in enumerate(hostile.cases())
            if case.explicit
            for choices in (2, 4)
        ]
    if target != "tag_scanner_fuzz":
        return []
    choices = [(0, 64, 255), (2, 8, 16)]  # which tags, value_max, row_max: see the target's head
    return [
        bytes([which | case.explicit, value_max, row_max, index % 256]) + case.data[:2048]
        for index, case in enumerate(hostile.cases())
        for which, value_max, row_max in choices
    ]


def fuzz(target: str, seconds: int, generation: int = 0) -> subprocess.CompletedProcess[str]:
    """One run. `generation` 0 takes a random beginning, any other a repeatable one."""
    binary = sanitized.build(target)
    short = target.removesuffix("_fuzz")
    learnt, made, found = (LEARNT / short / name for name in ("learnt", "made", "found"))
    for directory in (learnt, made, found):
        directory.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(seeds(target)):
        (made / f"{index:03}").write_bytes(seed)
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
        *map(str, [learnt, made, *stored]),
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
    parser = argparse.ArgumentParser(prog="python -m tests.native.fuzz", description=__doc__)
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
