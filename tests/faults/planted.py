"""A fault of ours inside a callback of the event loop, planted into real worker processes.

`planted()` gives what a service's environment needs: a `sitecustomize` that wraps one method in
every process of the service. The method raises once, in the first process that calls it after
`strike()`; what it raises carries the name of a patient, which no log may show.
"""

import os
import sys
import textwrap
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENT = "HIDDEN^PATIENT"
_METHOD, _MARK = "SCAI_TEST_FAULTY_METHOD", "SCAI_TEST_FAULT"


def planted(directory: Path, module: str, method: str) -> dict[str, str]:
    """The environment of a service with a fault in `module`'s `Class.method`."""
    (directory / "sitecustomize.py").write_text(
        textwrap.dedent(
            """
            from tests.faults.planted import plant
            plant()
            """
        )
    )
    return {
        "PYTHONPATH": f"{directory}:{ROOT}",
        _METHOD: f"{module}:{method}",
        _MARK: str(directory / "strike"),
    }


def strike(directory: Path, process: str = "") -> None:
    """The next call raises; of what has a `spec`, only in the process it names."""
    (directory / "new").write_text(process)
    (directory / "new").rename(directory / "strike")


def struck(directory: Path) -> bool:
    """Whether it has."""
    return not (directory / "strike").exists()


def plant() -> None:
    """In a process of the service, before anything else runs in it."""
    if not {"-m", "-c"} & set(sys.orig_argv):
        return
    module, _, path = os.environ[_METHOD].partition(":")
    owner, _, name = path.partition(".")
    kind = getattr(import_module(module), owner)
    setattr(kind, name, _faulty(getattr(kind, name), Path(os.environ[_MARK])))


def _faulty(method: Callable[..., Any], mark: Path) -> Callable[..., Any]:
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

    return call
