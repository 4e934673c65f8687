"""The environment that our processes are started in."""

import os
import site
from pathlib import Path

import workers


def environment_of_children() -> dict[str, str]:
    """Ours, and the way to our packages where they are not installed in site-packages."""
    environment = dict(os.environ)
    # Children must not take the service manager's words for theirs.
    for name in ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"):
        environment.pop(name, None)
    root = str(Path(workers.__file__).resolve().parent.parent)
    if root not in site.getsitepackages():
        paths = [root, *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment
