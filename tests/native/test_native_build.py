"""The native layer as it is built: its stub, its constants, and its files under sanitizers.

The programs of tests/native are compiled from the product's own sources with address, undefined
behaviour and thread sanitizers; a few seconds each here, longer by `python -m
tests.native.sanitized.fuzz`.
"""

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from engine import limits
from tests.native.sanitized import fuzz, sanitized
from tools.development import native_stub

FUZZ_SECONDS: Final = 5
STRESS_SECONDS: Final = 3


def built(name: str) -> Path:
    """The program, or a skipped test where there is no clang."""
    try:
        return sanitized.build(name)
    except sanitized.MissingCompilerError as missing:
        pytest.skip(str(missing))
    except subprocess.CalledProcessError as failed:
        pytest.fail(f"{name} does not compile:\n{failed.stderr[:4000]}")


@pytest.mark.slow
@pytest.mark.parametrize("target", sanitized.fuzz_targets())
def test_fuzzing_finds_nothing(target: str) -> None:
    built(target)
    result = fuzz.fuzz(target, FUZZ_SECONDS)
    assert result.returncode == 0, result.stdout[-4000:]
    assert fuzz.executions(result.stdout) > 100, "the target does not get anywhere"


@pytest.mark.slow
@pytest.mark.parametrize("target", sanitized.fuzz_targets())
def test_what_fuzzing_found_before_stays_mended(target: str) -> None:
    directory = fuzz.CORPUS / target.removesuffix("_fuzz")
    stored = sorted(directory.iterdir()) if directory.is_dir() else []
    inputs = [*stored, *sorted(fuzz.made_inputs(target).iterdir())]
    assert inputs, "no input to begin with"
    result = sanitized.run(built(target), *map(str, inputs), timeout_s=120)
    assert result.returncode == 0, result.stdout[-4000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in sanitized.PROGRAMS if "_stress_" in name])
def test_the_threads_under_load(name: str) -> None:
    try:
        result = sanitized.run(built(name), str(STRESS_SECONDS), timeout_s=120)
    except sanitized.MissingCompilerError as missing:
        pytest.skip(str(missing))
    assert result.returncode == 0, result.stdout[-8000:]
    stored = re.search(r"^(\d+) stored", result.stdout, re.M)
    assert stored is not None
    assert int(stored[1]) >= 100, "too little went through to mean anything"


def test_the_sanitizers_would_say_so(tmp_path: Path) -> None:
    """A sanitizer that is not linked in, or whose finding does not count, would prove nothing."""
    source = tmp_path / "wrong.cpp"
    source.write_text(
        "#include <vector>\n"
        "int main(int count, char**) { std::vector<char> two(2); return two.data()[count + 1]; }\n"
    )
    try:
        command = [sanitized.compiler(), *sanitized.ADDRESS, str(source), "-o", f"{tmp_path}/wrong"]
    except sanitized.MissingCompilerError as missing:
        pytest.skip(str(missing))
    subprocess.run(command, check=True)
    result = sanitized.run(tmp_path / "wrong", timeout_s=20)
    assert result.returncode != 0
    assert "heap-buffer-overflow" in result.stdout


def test_the_stub_agrees_with_the_module() -> None:
    stub = native_stub.STUB.read_text(encoding="utf-8")
    assert native_stub.differences(stub, native_stub.generated_stub()) == []


@pytest.mark.parametrize(
    ("said", "real"),
    [
        (
            "def crc32c(data: bytes, seed: int = 0) -> int: ...",
            "def crc32c(data: bytes) -> int: ...",
        ),
        ("def crc32c(data: bytes) -> int: ...", "def crc32c(bytes: bytes) -> int: ..."),
        ("A: int", "B: int"),
        ("class C:\n    def f(self) -> int: ...", "class C:\n    def g(self) -> int: ..."),
        ("class C:\n    @property\n    def f(self) -> int: ...", "class C:\n    def f(self): ..."),
        ("class C:\n    def __init__(self, a: int): ...", "class C:\n    def __init__(self): ..."),
    ],
)
def test_a_drifting_stub_is_noticed(said: str, real: str) -> None:
    assert native_stub.differences(said, real)
    assert not native_stub.differences(said, said)


@pytest.mark.parametrize(
    ("file", "constant", "value"),
    [
        ("base/base.hpp", "page_bytes", limits.page_bytes),
    ],
)
def test_native_constants_are_the_limits(file: str, constant: str, value: int) -> None:
    """What is known at compile time for speed is still only said in engine/limits.py."""
    text = (sanitized.SOURCES / file).read_text(encoding="utf-8")
    found = re.search(rf"\b{constant} = ([\d'u <]+);", text)
    assert found is not None, f"{constant} is not in {file}"
    factor, _, shift = found[1].replace("u", "").replace("'", "").partition("<<")
    assert int(factor) << int(shift or 0) == value
