"""One method wrapped in every process of a real service, by a `sitecustomize` only tests set."""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
_METHOD: Final = "SCAI_TEST_WRAPPED_METHOD"

Method = Callable[..., Any]


def wrapped_by(planter: str, directory: Path, method: str) -> dict[str, str]:
    """The environment of a service whose processes call `plant()` of the module `planter` before
    anything else, for the method `module:Class.method`."""
    # Ours hides the one that keeps imports within a copy of the tree (tests/mutants/copied.py).
    hidden = ROOT / "sitecustomize.py"
    first = hidden.read_text() if hidden.exists() else ""
    text = f"{first}from {planter} import plant\nplant()\n"
    (directory / "sitecustomize.py").write_text(text)
    return {"PYTHONPATH": f"{directory}:{ROOT}", _METHOD: method}


def wrap(wrapper: Callable[[Method], Method]) -> None:
    """In a process of the service: put the wrapper's in the method's place."""
    if not {"-m", "-c"} & set(sys.orig_argv):
        return
    module, _, path = os.environ[_METHOD].partition(":")
    owner, _, name = path.partition(".")
    kind = getattr(import_module(module), owner)
    setattr(kind, name, wrapper(getattr(kind, name)))
