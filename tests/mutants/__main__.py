"""`python -m tests.mutants`: plants the faults of the lists beside this file, one at a time, in a
copy of the tree, and runs the tests that claim to notice each.

A fault that its tests do not notice is printed as a survivor: a test is missing, or the code is not
needed. Those in C++ are built anew each time. Exit status: 0 every fault was noticed, 1 one
survived or could not be planted.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.copied import CopiedTree
from tests.mutants.listed import Fault, listed
from tests.mutants.planting import Fate, try_fault, unplanted

_quick_seed = 20  # which ten the gate takes: the same in every run


def chosen_of(faults: Sequence[Fault], options: argparse.Namespace) -> list[Fault]:
    """What is to be planted; native ones in the order of their files, which spares building."""
    found = [
        fault
        for fault in faults
        if (not options.rooms or fault.room in options.rooms)
        and (not options.only or any(one in f"{fault.file} {fault.name}" for one in options.only))
        and not (options.python and fault.is_native)
    ]
    if options.quick:
        found = [fault for fault in found if fault.quick and not fault.is_native]
        found = random.Random(_quick_seed).sample(found, min(options.quick, len(found)))
    return sorted(found, key=lambda fault: (fault.is_native, fault.file))


def run(faults: Sequence[Fault], tree: CopiedTree) -> int:
    """Plant them all; the exit status."""
    told: Counter[Fate] = Counter()
    survivors: list[str] = []
    began = time.monotonic()
    failing = unplanted(tree, faults)
    for number, fault in enumerate(faults, 1):
        broken = [test for test in fault.tests if test in failing]
        outcome = Fate.UNSOUND if broken else try_fault(tree, fault)
        told[outcome] += 1
        line = f"{fault.room}: {fault.file}: {fault.name}"
        print(f"{number}/{len(faults)} {outcome.value}: {line}", flush=True)
        if outcome not in (Fate.NOTICED, Fate.WITHOUT_END):
            survivors.append(f"{outcome.value}: {line}\n    {' '.join(fault.tests)}")
    print("\n".join(["", *survivors]))
    figures = ", ".join(f"{count} {outcome.value}" for outcome, count in sorted(told.items()))
    print(f"{len(faults)} faults: {figures}; {time.monotonic() - began:.0f} s")
    return 1 if survivors else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("rooms", nargs="*", help="only these lists, e.g. outbox tls")
    parser.add_argument("--only", metavar="TEXT", action="append", help="whose file or name has it")
    parser.add_argument("--python", action="store_true", help="none that has to be built")
    parser.add_argument("--quick", type=int, metavar="N", help="a fixed sample of quick ones")
    parser.add_argument("--list", action="store_true", help="name them and end")
    options = parser.parse_args(arguments)
    faults = chosen_of(listed(), options)
    if options.list:
        print("\n".join(f"{fault.room}: {fault.file}: {fault.name}" for fault in faults))
        return 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        return run(faults, CopiedTree(Path(directory)))


if __name__ == "__main__":
    sys.exit(main())
