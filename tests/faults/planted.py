"""A fault of ours inside a callback of the event loop, planted into real worker processes.

`planted()` gives what a service's environment needs: a `sitecustomize` that wraps one method in
every process of the service. The method raises once, in the first process that calls it after
`strike()`; what it raises carries the name of a patient, which no log may show.
"""

import os
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

from tests.faults.wrapping import Method, wrap, wrapped_by

PATIENT = "HIDDEN^PATIENT"
_MARK = "SCAI_TEST_FAULT"


def planted(directory: Path, module: str, method: str) -> dict[str, str]:
    """The environment of a service with a fault in `module`'s `Class.method`."""
    mark = str(directory / "strike")
    return wrapped_by(__name__, directory, f"{module}:{method}") | {_MARK: mark}


def strike(directory: Path, process: str = "") -> None:
    """The next call raises; of what has a `spec`, only in the process it names."""
    (directory / "new").write_text(process)
    (directory / "new").rename(directory / "strike")


def struck(directory: Path) -> bool:
    """Whether it has."""
    return not (directory / "strike").exists()


def plant() -> None:
    """In a process of the service, before anything else runs in it."""
    wrap(lambda method: _faulty(method, Path(os.environ[_MARK])))


def _faulty(method: Method, mark: Path) -> Method:
    def call(self: Any, *arguments: Any) -> Any:
        try:
            process = mark.read_text()
        except FileNotFoundError:
            return method(self, *arguments)
        spec = getattr(self, "spec", None)
        if spec is not None and process not in ("", spec.name):
            return method(self, *arguments)
        try:
            mark.unlink()
        except FileNotFoundError:  # another process was first
            return method(self, *arguments)
        raise RuntimeError(PATIENT)

    async def wait(self: Any, *arguments: Any) -> Any:
        return await call(self, *arguments)

    # A coroutine's fault comes in its task, not where the task is made.
    return wait if iscoroutinefunction(method) else call
