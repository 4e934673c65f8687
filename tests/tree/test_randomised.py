"""Random runs: what they find is in the test's file afterwards, and fails there ever after."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.randomised.found import NotPlainError, steps_of, write_down

ROOT = Path(__file__).resolve().parent.parent.parent

FUNCTION = '''"""A property that does not hold."""

from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(0, 1000), st.binary(max_size=3))
def test_small(tmp_path_factory, number: int, data: bytes) -> None:
    assert number < 100
'''

MACHINE = '''"""A machine."""

EXAMPLES: list[object] = [
    [("add", {"number": 1})],
]
'''


def test_what_a_random_run_finds_is_written_into_the_test(tmp_path: Path) -> None:
    path = tmp_path / "test_small.py"
    path.write_text(FUNCTION)
    command = [sys.executable, "-m", "tests.randomised", "-p", "tests.conftest", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"written into {path}: test_small" in done.stdout
    written = path.read_text()
    assert "import example, given" in written
    assert '@example(number=100, data=b"")\ndef test_small' in written
    again = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", str(path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "explicit" in again.stdout
    assert again.returncode == 1


def test_a_machines_steps_become_a_row(tmp_path: Path) -> None:
    path = tmp_path / "test_machine.py"
    path.write_text(MACHINE)
    text = (
        "Falsifying example:\nstate = Machine()\nstate.the_sum_holds()\n"
        "state.add(number=7)\nstate.reopen()\nstate.teardown()\n"
    )
    assert write_down(path, text).endswith("EXAMPLES")
    names: dict[str, list[object]] = {}
    exec(path.read_text(), names)
    assert names["EXAMPLES"] == [[("add", {"number": 1})], [("add", {"number": 7}), ("reopen", {})]]


@pytest.mark.parametrize("step", ["state.add(number=data(...))", "state.add(7)"])
def test_what_is_not_plain_is_left_to_a_person(step: str) -> None:
    with pytest.raises(NotPlainError):
        steps_of(f"state = Machine()\n{step}\nstate.teardown()")
