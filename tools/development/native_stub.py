"""Compares native/_core.pyi, which people read and mypy believes, with the compiled module.

Names, parameters, defaults and which names are properties must agree; types are the stub's to say,
because the binding knows less of them. `python -m tools.development.native_stub` prints the
differences.
"""

import ast
import importlib
import sys
from pathlib import Path
from typing import Final

from nanobind.stubgen import StubGen  # type: ignore[import-untyped, unused-ignore]

STUB: Final = Path(__file__).resolve().parent.parent.parent / "native" / "_core.pyi"


def described(source: str) -> dict[str, str]:
    """Every public name of a stub with what can be compared of it."""
    found: dict[str, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = "class"
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    found[f"{node.name}.{member.name}"] = _function(member)
        elif isinstance(node, ast.FunctionDef):
            found[node.name] = _function(node)
        elif (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and ast.unparse(node.annotation) != "TypeAlias"  # for the stub's own readers
        ):
            found[node.target.id] = "constant"
    return {
        name: text
        for name, text in found.items()
        if not name.split(".")[-1].startswith("__") or name.endswith(".__init__")
    }


def _function(node: ast.FunctionDef) -> str:
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    if "property" in decorators:
        return "property"
    parameters = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
    names = [parameter.arg for parameter in parameters if parameter.arg != "self"]
    defaults = [ast.unparse(default) for default in node.args.defaults]
    return f"({', '.join(names)}) defaults [{', '.join(defaults)}]"


def differences(stub: str, generated: str) -> list[str]:
    """One line for each name that differs; empty when the stub tells the truth."""
    said, real = described(stub), described(generated)
    return [
        f"{name}: the stub says {said.get(name, 'nothing')}, the module has "
        f"{real.get(name, 'nothing')}"
        for name in sorted(said.keys() | real.keys())
        if said.get(name) != real.get(name)
    ]


def generated_stub() -> str:
    """What nanobind itself would write for the module."""
    module = importlib.import_module("native._core")
    generator = StubGen(module)
    generator.put(module)
    return str(generator.get())


def main() -> int:
    """The command: 0 when stub and module agree."""
    found = differences(STUB.read_text(encoding="utf-8"), generated_stub())
    print("\n".join(found) if found else "stub and module agree")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
