"""What a load is, and its run: the images are cut, the native sender does the rest.

Promises: nothing is sent but to the addresses of the plan's targets, which are literal IP
addresses. The sender is ended when the run ends, however it ends.
"""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import numpy
from numpy.typing import NDArray

from benchmarks.instances import Instance
from benchmarks.load_wire import Image, associate_request, image_of
from benchmarks.native_build import program

RECORD: Final = numpy.dtype(
    [
        ("start_ns", "<u8"),
        ("latency_ns", "<u8"),
        ("counter", "<u4"),
        ("setup_us", "<u4"),
        ("link", "<u2"),
        ("image", "<u2"),
        ("status", "<u2"),
        ("reserved", "<u2"),
    ]
)


class LoadError(Exception):
    """The load could not be run; the text says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """One application entity that is sent to."""

    address: str
    port: int
    called: str = "SCP_AE"
    calling: str = "LOAD"
    associations: int = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """One load. `mix` names an image for each instance, in turn; either end may be left out."""

    targets: tuple[Target, ...]
    images: tuple[Instance, ...]
    mix: tuple[int, ...] = (0,)
    instances: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    think_seconds: float = 0.0
    timeout_seconds: float = 60.0
    association_per_instance: bool = False
    series_instances: int = 0
    counter_first: int = 0
    pdu_bytes: int = 16378
    core: int | None = None


@dataclass(slots=True)
class Progress:
    """How far a running load is."""

    acknowledged: int = 0
    acknowledged_bytes: int = 0
    refused: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class LoadOutcome:
    """What the sender brought home."""

    plan: Plan
    records: NDArray[numpy.void]
    failures: dict[str, int] = field(default_factory=dict)
    begun: int = 0
    seconds: float = 0.0
    sender_cpu_seconds: float = 0.0
    finished_at: float = 0.0  # time.monotonic() of the last answer, near enough


def contexts_of(images: Sequence[Instance]) -> dict[tuple[str, str], int]:
    """One presentation context for each pair of SOP class and transfer syntax."""
    pairs = dict.fromkeys((image.sop_class, image.transfer_syntax) for image in images)
    return {pair: 2 * index + 1 for index, pair in enumerate(pairs)}


def wire_images(plan: Plan) -> list[Image]:
    contexts = contexts_of(plan.images)
    return [
        image_of(one, contexts[one.sop_class, one.transfer_syntax], plan.pdu_bytes)
        for one in plan.images
    ]


def _image_lines(directory: Path, index: int, image: Image) -> Iterator[str]:
    names = []
    for part in ("head", "body", "tail"):
        path = directory / f"{part}.{index}"
        path.write_bytes(getattr(image, part))
        names.append(str(path))
    yield (
        f"image {image.context_id} {names[0]} {names[1]} {image.repeats} {names[2]}"
        f" {image.payload_bytes} {image.message_id_offset}"
    )
    for number, offsets in image.patches:
        yield f"patch {index} {number} {' '.join(map(str, offsets))}"


def _lines(plan: Plan, directory: Path) -> Iterator[str]:
    contexts = [(number, *pair) for pair, number in contexts_of(plan.images).items()]
    for index, target in enumerate(plan.targets):
        request = directory / f"associate.{index}"
        request.write_bytes(
            associate_request(target.called, target.calling, contexts, plan.pdu_bytes)
        )
        yield f"target {ip_address(target.address)} {target.port} {request}"
    for index, target in enumerate(plan.targets):
        yield from [f"association {index}"] * target.associations
    for index, image in enumerate(wire_images(plan)):
        yield from _image_lines(directory, index, image)
    yield f"order {' '.join(map(str, plan.mix))}"
    yield f"instances {plan.instances}"
    yield f"seconds {plan.seconds!r}"
    yield f"rate {plan.rate!r}"
    yield f"think {plan.think_seconds!r}"
    yield f"timeout {plan.timeout_seconds!r}"
    yield f"association_per_instance {int(plan.association_per_instance)}"
    yield f"series_instances {plan.series_instances}"
    yield f"counter_first {plan.counter_first}"
    yield f"pdu {plan.pdu_bytes}"
    yield f"records {directory / 'records'}"


@contextmanager
def _sender(plan_file: Path, core: int | None) -> Iterator[subprocess.Popen[str]]:
    pin = [] if core is None else ["taskset", "-c", str(core)]
    command = [*pin, str(program("sender")), str(plan_file)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def run(plan: Plan, tell: Callable[[Progress], None] | None = None) -> LoadOutcome:
    """Run the load to its end. `tell` hears of its progress five times a second."""
    outcome = LoadOutcome(plan, numpy.empty(0, dtype=RECORD))
    with tempfile.TemporaryDirectory(prefix="load-") as name:
        directory = Path(name)
        plan_file = directory / "plan"
        plan_file.write_text("\n".join(_lines(plan, directory)) + "\n")
        with _sender(plan_file, plan.core) as process:
            if process.stdout is None or process.stderr is None:
                raise LoadError("the sender has no pipes")
            for line in process.stdout:
                _hear(line, outcome, tell)
            complaint = process.stderr.read().strip()
            if process.wait() != 0:
                raise LoadError(complaint or f"the sender ended with {process.returncode}")
        outcome.records = numpy.fromfile(directory / "records", dtype=RECORD)
    return outcome


def _hear(line: str, outcome: LoadOutcome, tell: Callable[[Progress], None] | None) -> None:
    word, _, rest = line.strip().partition(" ")
    if word == "progress" and tell is not None:
        count, size, refused, seconds = rest.split()
        tell(Progress(int(count), int(size), int(refused), float(seconds)))
    elif word == "failure":
        times, _, reason = rest.partition(" ")
        outcome.failures[reason] = int(times)
    elif word == "done":
        begun, _, seconds, cpu = rest.split()
        outcome.begun, outcome.seconds = int(begun), float(seconds)
        outcome.sender_cpu_seconds = float(cpu)
        outcome.finished_at = time.monotonic()
