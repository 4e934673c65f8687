"""The files that senders are compared with: distinct instances, made from what the load sends.

Promises: each file is a whole Part 10 file of its own instance; series of a hundred.
"""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.instances import INSTANCE_DIGITS, SERIES_DIGITS, STUDY_DIGITS, Instance, make
from engine.files.part10 import part10_head

SERIES_INSTANCES = 100


def numbered(instance: Instance, number: int) -> bytes:
    """The file of the instance of that number."""
    series = number // SERIES_INSTANCES + 1
    digits = (
        (INSTANCE_DIGITS, number + 100_000_000),
        (SERIES_DIGITS, series + 100_000_000),
        (STUDY_DIGITS, 100_000_001),
    )
    sop_instance, data = instance.sop_instance, instance.data
    for placeholder, value in digits:
        sop_instance = sop_instance.replace(placeholder, str(value))
        data = data.replace(placeholder.encode(), str(value).encode())
    head = part10_head(instance.sop_class, sop_instance, instance.transfer_syntax, "BENCHMARK")
    return head + data


def write_files(directory: Path, workload: str, count: int, run: int) -> Iterator[Path]:
    """`count` files of a workload, in order."""
    instance = make(workload, run, 1)
    for number in range(count):
        path = directory / f"{number:06d}.dcm"
        path.write_bytes(numbered(instance, number))
        yield path
