"""A background process asks for its slices, and is nice where the kernel knows none."""

import os
import subprocess
import sys

SCRIPT = """
import os
from workers.frame.yielding import yield_to_others
print(yield_to_others(10, 100), os.nice(0), os.sched_getscheduler(0))
"""


def kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(filter(str.isdigit, minor)))


def test_gives_way() -> None:
    """In a process of its own: niceness is not taken back."""
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=30
    ).stdout.split()
    before = os.nice(0)
    assert told[1] == str(min(before + 10, 19))
    assert told[2] == str(os.SCHED_OTHER)
    if kernel() >= (6, 12) and os.uname().machine == "x86_64":
        assert told[0] == "True"
