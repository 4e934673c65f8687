"""What is installed with the product is what it imports, and the other way round."""

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
OURS: Final = ("engine", "workers", "native", "tools")
# Distributions that bring a module of another name.
MODULES: Final = {"pylibjpeg_libjpeg": "libjpeg"}
# Needed by what we import, not by us: the frame that the JPEG decoder is a plugin of.
INDIRECT: Final = frozenset({"pylibjpeg"})
# What the developers' programs of tools import; they run in a development environment.
DEVELOPMENT: Final = frozenset({"importlinter", "nanobind", "pytest"})


def _imported() -> set[str]:
    found: set[str] = set()
    for package in OURS:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    found.add((node.module or "").split(".")[0])
    return found - {*OURS, *DEVELOPMENT} - sys.stdlib_module_names


def test_dependencies_are_what_is_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = (re.split(r"[^\w-]", line)[0].replace("-", "_") for line in project["dependencies"])
    declared = {MODULES.get(name, name) for name in names} - INDIRECT
    assert declared == _imported()
