"""The long proofs of this room, by hand: `python -m tests.service.hostile contest`.

fuzz     broken files for the re-encoder and the decompressing sender, an hour of them
index    damaged pages of an index, under every command that reads or changes it
contest  hostile hosts against scanners for the slots, simulated and against a real service
"""

import argparse
import tempfile
import time
from pathlib import Path

from tests.rigs.damaged_index import DamagedIndex
from tests.rigs.gateway import Gateway
from tests.rigs.sender_fuzz import run
from tests.rigs.slot_contest import ATTACKS, Contest, shares
from tests.rigs.slot_contestants import play, undisturbed

ENOUGH = 0.95


def contest(warm_up_s: float, measured_s: float, only: str) -> bool:
    """Each kind of attack and all together, or one of them, or none; a line each, with what the
    slowest scanner stored as a share of what its own pauses let it. Whether it had enough."""
    good = True
    print("| attack | simulated | real |\n|---|---|---|")
    for name in (only,) if only else (*ATTACKS, "all"):
        each = Contest(
            attacks=ATTACKS if name == "all" else (name,),
            hostile=0 if name == "none" else Contest.hostile,
            warm_up_s=warm_up_s,
            measured_s=measured_s,
        )
        with tempfile.TemporaryDirectory() as directory:
            gateway = Gateway(Path(directory), {"log": {"instances": False}})
            try:
                rates = play(gateway.start().address, each)
            finally:
                gateway.close()
        real = [rate / undisturbed(each) for rate in rates]
        good &= min(real) >= ENOUGH
        print(f"| {name} | {min(shares(each)):.2f} | {min(real):.2f} |", flush=True)
    return good


def fuzz(seconds: float, first: int) -> bool:
    """A line for each case that something is wrong with, and at the end how many there were."""
    done = wrong = 0
    number = first
    with tempfile.TemporaryDirectory() as directory:
        for one, found in run(seconds, first, Path(directory)):
            done += 1
            number = one.number
            if found:
                wrong += 1
                print(f"case {number} ({', '.join(one.steps)}): {found}", flush=True)
    print(f"{done} files, cases {first} to {number}: {wrong} findings")
    return not wrong


def index(seconds: float, first: int) -> bool:
    """A line for each command that a damaged index ends badly; at the end how many there were."""
    wrong, number, until = 0, first, time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as directory:
        damaged = DamagedIndex(Path(directory))
        while time.monotonic() < until:
            for fault in damaged.faults(number):
                wrong += 1
                print(fault, flush=True)
            number += 1
    print(f"{number - first} damaged indexes, from {first}: {wrong} findings")
    return not wrong


def main() -> int:
    """Exit status 1: it does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.service.hostile")
    parser.add_argument("what", choices=["contest", "fuzz", "index"])
    parser.add_argument("--warm-up", type=float, default=60.0, help="seconds before it counts")
    parser.add_argument("--seconds", type=float, help="of a contest that are measured, of fuzzing")
    parser.add_argument(
        "--attack", default="", choices=[*ATTACKS, "all", "none"], help="this alone"
    )
    parser.add_argument("--first", type=int, default=0, help="number of the first broken file")
    given = parser.parse_args()
    if given.what == "fuzz":
        return 0 if fuzz(given.seconds or 3600.0, given.first) else 1
    if given.what == "index":
        return 0 if index(given.seconds or 600.0, given.first) else 1
    return 0 if contest(given.warm_up, given.seconds or 60.0, given.attack) else 1


if __name__ == "__main__":
    raise SystemExit(main())
