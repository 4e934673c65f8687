"""Writing what a random run found into the test's file: as `@example` of a function, or as a row
of the list `EXAMPLES` beside a state machine, which a test of that file goes through.

Only plain values are written. The text is Hypothesis's own: the call of the test function, or the
program of the machine's steps.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

SAID: Final = re.compile(r"(?:alsifying|ailing) (?:explicit )?(?:example|test case):")
_unspeakable = re.compile(r"<[^<>]* at 0x[0-9a-f]+>")
_machine = re.compile(r"^(?:from|state = )", re.M)


class NotPlainError(Exception):
    """What was found cannot be said in plain values."""


def write_down(path: Path, text: str) -> str:
    """Add the falsifying example in `text` to the file; where. Raises NotPlainError."""
    body = _unspeakable.sub("unspeakable", SAID.split(text, maxsplit=1)[-1]).strip()
    source = path.read_text()
    if _machine.search(body):
        changed, where = _with_steps(source, steps_of(body)), "EXAMPLES"
    else:
        name, values = call_of(body, _strategies(source))
        changed, where = _with_example(source, name, values), name
    path.write_text(changed)
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(path)], check=True)
    order = [sys.executable, "-m", "ruff", "check", "-q", "--select=I", "--fix", str(path)]
    subprocess.run(order, check=True)
    return f"{path}: {where}"


def call_of(body: str, given: dict[str, set[str]]) -> tuple[str, str]:
    """(test, its values as they are written in a call): without fixtures, by `given`."""
    call = _statements(body)[0]
    if not isinstance(call, ast.Call):
        raise NotPlainError("no call of a test function was found")
    name = ast.unparse(call.func).rpartition(".")[2]
    keywords = [each for each in call.keywords if each.arg in given.get(name, set())]
    _plain(each.value for each in keywords)
    return name, ", ".join(f"{each.arg}={ast.unparse(each.value)}" for each in keywords)


def steps_of(body: str) -> str:
    """The machine's rules with their values, as a row of EXAMPLES."""
    steps = []
    for call in _statements(body):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        if call.args:
            raise NotPlainError("a step has values without names")
        _plain(each.value for each in call.keywords)
        if call.keywords or not call.func.attr.startswith(("the_", "teardown")):
            values = ", ".join(f"{each.arg!r}: {ast.unparse(each.value)}" for each in call.keywords)
            steps.append(f"({call.func.attr!r}, {{{values}}})")
    return f"[{', '.join(steps)}]"


def _statements(body: str) -> list[ast.expr]:
    """The expressions at the head of a text that goes on with something else."""
    lines = body.splitlines()
    for end in range(len(lines), 0, -1):
        try:
            tree = ast.parse("\n".join(lines[:end]))
        except SyntaxError:
            continue
        found = [each.value for each in tree.body if isinstance(each, ast.Expr)]
        if found:
            return found
    raise NotPlainError("its values have no text that could be written")


def _plain(values: Iterable[ast.expr]) -> None:
    for value in values:
        try:
            ast.literal_eval(value)
        except ValueError:
            raise NotPlainError(f"{ast.unparse(value)[:60]} is no plain value") from None


def _functions(source: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(source)
    return {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef)}


def _strategies(source: str) -> dict[str, set[str]]:
    """{test: the arguments that Hypothesis gives it}; positional ones fill from the right."""
    given: dict[str, set[str]] = {}
    for name, function in _functions(source).items():
        for mark in function.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func).endswith("given"):
                own = [each.arg for each in function.args.args]
                right = own[len(own) - len(mark.args) :] if mark.args else []
                given[name] = {*right, *(each.arg or "" for each in mark.keywords)}
    return given


def _with_example(source: str, name: str, values: str) -> str:
    lines = source.splitlines(keepends=True)
    line = f"@example({values})\n"
    if line in lines:
        return source
    lines.insert(_functions(source)[name].lineno - 1, line)
    changed = "".join(lines)
    if re.search(r"^from hypothesis import .*\bexample\b", changed, re.M):
        return changed
    return re.sub(
        r"^from hypothesis import ",
        "from hypothesis import example, ",
        changed,
        count=1,
        flags=re.M,
    )


def _with_steps(source: str, row: str) -> str:
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "EXAMPLES":
            assert node.value is not None
            lines = source.splitlines(keepends=True)
            last = (node.value.end_lineno or 0) - 1
            at = (node.value.end_col_offset or 0) - 1
            lines[last] = f"{lines[last][:at]}{row},\n{lines[last][at:]}"
            return "".join(lines)
    raise NotPlainError("the file has no list EXAMPLES")
