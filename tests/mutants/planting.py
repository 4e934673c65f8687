"""Planting one fault in a copy of the tree and seeing what its tests say; then taking it out."""

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from tests.mutants.listed import Fault

# Far beyond what the tests of any fault take; most faults that make them wait are noticed by that.
_tests_s_max: Final = 180
_failed: Final = 1  # pytest: some tests failed
_passed: Final = 0


class Fate(StrEnum):
    """What became of a fault."""

    NOTICED = "noticed"
    WITHOUT_END = "noticed by time alone"  # its tests did not end: believe it of a quiet machine
    SURVIVED = "SURVIVED"
    MISPLACED = "MISPLACED"  # its text does not stand in the file exactly once
    UNBUILT = "DOES NOT BUILD"
    UNSOUND = "UNSOUND"  # its tests fail without it, or could not be run


class Tree(Protocol):
    """Where faults are planted."""

    root: Path

    def restore_module(self) -> None: ...
    def build(self) -> bool: ...
    def pytest(self, arguments: list[str], seconds_max: float) -> int | None: ...


def unplanted(tree: Tree, faults: Iterable[Fault]) -> set[str]:
    """The tests that do not pass without any fault: they say nothing."""
    tests = sorted({test for fault in faults for test in fault.tests})
    if not tests or tree.pytest(tests, len(tests) * _tests_s_max) == _passed:
        return set()
    return {test for test in tests if tree.pytest([test], _tests_s_max) != _passed}


def try_fault(tree: Tree, fault: Fault) -> Fate:
    """Plant it, run its tests, take it out. The tree is afterwards as it was."""
    path = tree.root / fault.file
    text = path.read_text() if path.is_file() else ""
    if text.count(fault.before) != 1 or fault.before == fault.after:
        return Fate.MISPLACED
    path.write_text(text.replace(fault.before, fault.after))
    try:
        if fault.is_native and not tree.build():
            return Fate.UNBUILT
        ended = tree.pytest(["-x", *fault.tests], _tests_s_max)
    finally:
        path.write_text(text)
        if fault.is_native:
            tree.restore_module()
    if ended is None:
        return Fate.WITHOUT_END
    if ended == _failed:
        return Fate.NOTICED
    return Fate.SURVIVED if ended == _passed else Fate.UNSOUND
