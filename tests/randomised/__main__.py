"""`python -m tests.randomised [PATHS]`: the property tests with fresh random examples.

The gate runs them derandomised; this is for finding what nobody thought of. Whatever fails is
written into the test's own file as an explicit example, so that the gate has it from then on; what
cannot be written as plain values is printed to be turned into a test by hand. Exit status: 0
nothing was found, 1 something was.
"""

import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.randomised.found import SAID, NotPlainError, write_down

ROOT: Final = Path(__file__).resolve().parent.parent.parent


class Collector:
    """Runs only the property tests, and keeps what Hypothesis says of those that fail."""

    def __init__(self) -> None:
        self.found: list[tuple[Path, str, str]] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [each for each in items if is_property(each)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if call.excinfo is not None and call.when == "call":
            for text in notes_of(call.excinfo.value):
                self.found.append((item.path, item.nodeid, text))
        return report


def is_property(item: pytest.Item) -> bool:
    """Whether Hypothesis makes its examples: a function, or the case of a state machine."""
    function = getattr(item, "obj", None)
    return getattr(function, "is_hypothesis_test", False) or hasattr(
        getattr(function, "__self__", None), "settings"
    )


def notes_of(error: BaseException) -> list[str]:
    """The falsifying examples that Hypothesis wrote on an error, or on each of a group."""
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    notes = getattr(error, "__notes__", [])
    own = ["\n".join(notes)] if any(SAID.search(note) for note in notes) else []
    return own + [text for each in inner for text in notes_of(each)]


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = list(sys.argv[1:] if arguments is None else arguments) or [str(ROOT / "tests")]
    collector = Collector()
    said = pytest.main(["--hypothesis-profile=randomised", *chosen], plugins=[collector])
    for path, node, text in collector.found:
        try:
            print(f"written into {write_down(path, text)}")
        except NotPlainError as reason:
            print(f"{node}: {reason}; make a test of it by hand:\n{text}")
    return int(said)


if __name__ == "__main__":
    sys.exit(main())
