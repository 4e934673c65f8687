"""The guard of the benchmarks' pytest suites: ratios against what is stored, never absolute times.

Promises: a function's time is divided by that of a calibration measured right before it in the same
run: a copy in memory, a digest, a loop of Python, a synced write. So a slower or a busy machine
moves both. It fails when the ratio is worse than the stored one by more than its tolerance,
however often it is tried.
`pytest benchmarks/bench_*.py --write-baseline` stores what is measured.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final

import orjson
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

BASELINE: Final = Path(__file__).parent / "baseline.json"
_COPY_BYTES: Final = 16 << 20
_SYNC_BYTES: Final = 512 << 10
# How many times slower than the stored ratio is still taken for noise.
TOLERANCE: Final = {"copy": 1.6, "compute": 1.6, "python": 1.6, "disk": 2.5}
_TRIES: Final = 6


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-baseline", action="store_true", help="store the ratios measured")


def copy_seconds(_: Path) -> float:
    """16 MiB from one place in memory to another."""
    source, target = bytes(_COPY_BYTES), bytearray(_COPY_BYTES)
    times = []
    for _round in range(8):
        begun = perf_counter()
        target[:] = source
        times.append(perf_counter() - begun)
    return min(times)


def compute_seconds(_: Path) -> float:
    """A digest of 1 MiB that lies in the cache: instructions, no memory."""
    data = bytes(1 << 20)
    times = []
    for _round in range(8):
        begun = perf_counter()
        hashlib.sha256(data).digest()
        times.append(perf_counter() - begun)
    return min(times)


def python_seconds(_: Path) -> float:
    """What an interpreter does all day: calls, dictionaries, integers, slices of bytes."""
    data = bytes(range(256))
    times = []
    for _round in range(5):
        begun = perf_counter()
        found: dict[int, bytes] = {}
        for number in range(20_000):
            found[number & 1023] = data[number & 127 : 200]
        times.append(perf_counter() - begun)
    return min(times)


def disk_seconds(directory: Path) -> float:
    """The median of small files written and synced."""
    times = []
    content = os.urandom(_SYNC_BYTES)
    for number in range(20):
        begun = perf_counter()
        descriptor = os.open(directory / f"calibration-{number}", os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, content)
        os.fdatasync(descriptor)
        os.close(descriptor)
        times.append(perf_counter() - begun)
    return sorted(times)[len(times) // 2]


CALIBRATIONS: Final[dict[str, Callable[[Path], float]]] = {
    "copy": copy_seconds,
    "compute": compute_seconds,
    "python": python_seconds,
    "disk": disk_seconds,
}


class Guard:
    """Measures a function and holds its ratio against the stored one."""

    def __init__(
        self,
        benchmark: BenchmarkFixture,
        request: pytest.FixtureRequest,
        directory: Path,
        ratios: dict[str, float],
    ) -> None:
        self._benchmark = benchmark
        self._name = request.node.name.removeprefix("test_")
        self._writes = bool(request.config.getoption("--write-baseline"))
        self._directory = directory
        self._ratios = ratios

    def __call__(self, function: Callable[[], Any], calibration: str, rounds: int = 20) -> None:
        """`function` in units of the calibration; the best of each, or the median on a disk."""
        pedantic: Callable[..., Any] = self._benchmark.pedantic
        pedantic(function, rounds=rounds, warmup_rounds=2)
        if self._benchmark.stats is None:  # --benchmark-disable: it ran, that is all
            return
        calibrate = CALIBRATIONS[calibration]
        typical = median if calibration == "disk" else min
        stored = self._stored()
        units: list[float] = []
        times: list[float] = []
        ratio = float("inf")
        # Both are tried in turn until the best of each is undisturbed.
        for _ in range(_TRIES):
            units.append(calibrate(self._directory))
            times += self._seconds(function, rounds)
            ratio = typical(times) / typical(units)
            if stored is not None and ratio <= stored * TOLERANCE[calibration]:
                break
        self._ratios[self._name] = ratio
        self._benchmark.extra_info["ratio"] = ratio
        self._benchmark.extra_info["calibration"] = calibration
        if stored is not None:
            worst = stored * TOLERANCE[calibration]
            assert ratio <= worst, (
                f"{self._name} takes {ratio:.4g} times its calibration ({calibration});"
                f" stored is {stored:.4g}, allowed {worst:.4g}"
            )

    def _stored(self) -> float | None:
        if self._writes or not BASELINE.exists():
            return None
        found: float | None = orjson.loads(BASELINE.read_bytes()).get(self._name)
        assert found is not None, f"{self._name} has no stored ratio: --write-baseline"
        return found

    @staticmethod
    def _seconds(function: Callable[[], Any], rounds: int) -> list[float]:
        times = []
        for _ in range(rounds):
            begun = perf_counter()
            function()
            times.append(perf_counter() - begun)
        return times


@pytest.fixture(scope="session")
def measured_ratios(request: pytest.FixtureRequest) -> Iterator[dict[str, float]]:
    ratios: dict[str, float] = {}
    yield ratios
    if request.config.getoption("--write-baseline") and ratios:
        stored = orjson.loads(BASELINE.read_bytes()) if BASELINE.exists() else {}
        stored |= {name: float(f"{ratio:.4g}") for name, ratio in ratios.items()}
        options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
        BASELINE.write_bytes(orjson.dumps(stored, option=options))


@pytest.fixture
def guard(
    benchmark: BenchmarkFixture,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    measured_ratios: dict[str, float],
) -> Guard:
    """Called with a function and the name of its calibration."""
    return Guard(benchmark, request, tmp_path, measured_ratios)
