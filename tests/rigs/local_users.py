"""Another user of the machine, for tests that run as root: what may he do to us?"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

OTHER = "nobody"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


def other_ids() -> tuple[int, int]:
    """User and group of somebody who has nothing here."""
    entry = pwd.getpwnam(OTHER)
    return entry.pw_uid, entry.pw_gid


def as_user(
    script: str, user: int, group: int, timeout_s: float = 30
) -> subprocess.CompletedProcess[str]:
    """A shell's commands, run by a user of that one group."""
    return subprocess.run(
        ["/bin/sh", "-c", script],
        user=user,
        group=group,
        extra_groups=[],
        umask=0o022,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def as_other(script: str) -> subprocess.CompletedProcess[str]:
    """A shell's commands, run by somebody who is neither in our group nor us."""
    return as_user(script, *other_ids())


@contextmanager
def open_to_all() -> Iterator[Path]:
    """A directory that others get to: pytest's own are closed to them."""
    made = Path(tempfile.mkdtemp(prefix="scai-users-"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
