"""The style guide as a test: what holds for every file of the tree, whoever wrote it.

Each rule is one function that answers with its offenders, so that a failure names them all at once.
What ruff already enforces (format, imports, blind excepts, line lengths of Python) is not repeated.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent.parent
THIS: Final = "tests/tree/test_tidy.py"
PRODUCT: Final = ("engine/", "workers/", "native/", "tools/")
CODE: Final = (".py", ".pyi", ".cpp", ".hpp", ".h", ".js", ".css", ".html", ".sh", ".toml")
CPLUSPLUS: Final = (".cpp", ".hpp")

FILE_LINES_MAX: Final = 500
FUNCTION_LINES_MAX: Final = 70
LINE_CHARACTERS_MAX: Final = 100

BANNED_NAMES: Final = re.compile(r"(?:^|_)(?:utils?|managers?|common|helpers?|misc)(?:_|$)", re.I)
PUT_OFF: Final = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
# Words of the place where the product was made; it speaks only of itself.
WORKPLACE: Final = re.compile(
    r"issue #?\d|/work/|\bsub-?agents?\b|\bCEO\b|\bthe brief\b|\bClaude\b|\bAnthropic\b|\bLLM\b",
    re.I,
)
# Each of these is the outermost frame of a process or a thread, or of one request among many, and
# reports what it catches.
PROCESS_BOUNDARIES: Final = frozenset(
    {"workers/__main__.py", "workers/frame/child.py", "tools/cli.py"}
)
# Started as programs, or by a build or test tool, and therefore imported by nobody.
ENTRIES: Final = frozenset(
    {
        "tools.cli",
        "tools.check",
        "tools.development.native_stub",
        "tools.development.reference",
        "workers.__main__",
        "native._core",
    }
)


@cache
def tree() -> tuple[str, ...]:
    """Every file of the project as git knows it, new ones included."""
    said = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if said.returncode != 0:  # an unpacked archive
        names = (str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file())
        return tuple(sorted(name for name in names if not name.startswith((".git/", "build/"))))
    return tuple(sorted(name for name in said.stdout.splitlines() if (ROOT / name).is_file()))


def named(*endings: str, under: tuple[str, ...] = ("",)) -> list[str]:
    """The files with one of these endings."""
    return [name for name in tree() if name.endswith(endings) and name.startswith(under)]


@cache
def text_of(name: str) -> str:
    """A file's text; what is not text has none."""
    try:
        return (ROOT / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


@cache
def parsed(name: str) -> ast.Module:
    """A Python file's tree."""
    return ast.parse(text_of(name), name)


def test_files_open_by_saying_what_they_are() -> None:
    silent = [
        name
        for name in named(".py", ".pyi")
        if text_of(name) and not ast.get_docstring(parsed(name))
    ]
    openings = {".sh": "#", ".toml": "#", ".cpp": "//", ".hpp": "//", ".js": "//", ".css": "/*"}
    for name in named(*openings, under=(*PRODUCT, "tests/", "benchmarks/", "pyproject.toml")):
        if not text_of(name).startswith(openings[Path(name).suffix]):
            silent.append(name)
    assert not silent


def test_files_fit_in_one_sitting() -> None:
    long = {name: text_of(name).count("\n") for name in named(*CODE)}
    assert not {name: lines for name, lines in long.items() if lines > FILE_LINES_MAX}


def test_lines_are_short() -> None:
    """Of C++ and the console's files; ruff looks after Python."""
    long = [
        f"{name}:{number}"
        for name in named(*CPLUSPLUS, ".js", ".css", ".sh")
        for number, line in enumerate(text_of(name).splitlines(), 1)
        if len(line) > LINE_CHARACTERS_MAX
    ]
    assert not long


def python_functions(name: str) -> Iterator[tuple[str, int]]:
    """(name, lines) of every function of a Python file."""
    for node in ast.walk(parsed(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def native_functions(name: str) -> Iterator[tuple[str, int]]:
    """(first line, lines) of every block of a C++ file that begins at the margin and is a function:
    the tree's C++ does not indent inside a namespace."""
    opening: tuple[int, str] | None = None
    head = 0
    for number, line in enumerate(text_of(name).splitlines(), 1):
        if line and not line[0].isspace() and line[0] not in "}#/":
            head = number if opening is None else head
            if opening is None and line.rstrip().endswith("{"):
                opening = (number, line)
        elif opening is None and line.startswith("    ") and line.rstrip().endswith("{") and head:
            opening = (head, text_of(name).splitlines()[head - 1])
        if line.startswith("}"):
            if opening and not re.match(r"(?:namespace|class|struct|enum|union)\b", opening[1]):
                yield opening[1], number - opening[0] + 1
            opening, head = None, 0
        elif opening and re.match(r"(?:namespace)\b", opening[1]):
            opening, head = None, 0


def test_functions_are_short() -> None:
    long = [
        (name, function, lines)
        for name in named(".py")
        for function, lines in python_functions(name)
        if lines > FUNCTION_LINES_MAX
    ]
    long += [
        (name, function, lines)
        for name in named(*CPLUSPLUS)
        for function, lines in native_functions(name)
        if lines > FUNCTION_LINES_MAX
    ]
    assert not long


def test_the_measure_of_native_functions_measures() -> None:
    """The reader of C++ above is a simple one; it must at least see what is there."""
    seen = dict(native_functions("native/src/spool/tag_scanner.cpp"))
    assert len(seen) >= 15
    assert any("TagScanner::feed" in first and 30 < lines < 45 for first, lines in seen.items())


def test_names_say_what_things_are() -> None:
    empty = [name for name in tree() if any(BANNED_NAMES.search(part) for part in _words(name))]
    for name in named(".py", ".pyi"):
        for node in ast.walk(parsed(name)):
            if isinstance(node, ast.ClassDef) and BANNED_NAMES.search(_snake(node.name)):
                empty.append(f"{name}: {node.name}")
    for name in named(*CPLUSPLUS):
        for declared in re.findall(r"^(?:class|struct) (\w+)", text_of(name), re.M):
            if BANNED_NAMES.search(_snake(declared)):
                empty.append(f"{name}: {declared}")
    assert not empty


def _words(name: str) -> list[str]:
    return [part.split(".")[0].replace("-", "_") for part in Path(name).parts]


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)


def test_nothing_is_put_off() -> None:
    assert not list(_found(PUT_OFF, named(*CODE, ".md")))


def test_the_product_speaks_of_itself() -> None:
    assert not list(_found(WORKPLACE, list(tree())))


def _found(pattern: re.Pattern[str], names: list[str]) -> Iterator[str]:
    for name in names:
        if name == THIS:
            continue
        for number, line in enumerate(text_of(name).splitlines(), 1):
            if pattern.search(line):
                yield f"{name}:{number}: {line.strip()[:80]}"


def test_nothing_is_swallowed() -> None:
    """`except Exception` and wider pass what they caught on, but for the process boundary."""
    swallowing = []
    for name in named(".py", under=PRODUCT):
        for node in ast.walk(parsed(name)):
            if not isinstance(node, ast.ExceptHandler) or not _is_wide(node.type):
                continue
            raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            if not raises and name not in PROCESS_BOUNDARIES:
                swallowing.append(f"{name}:{node.lineno}")
    assert not swallowing


def _is_wide(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    kinds = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(ast.unparse(kind) in ("Exception", "BaseException") for kind in kinds)


def imports(name: str) -> set[str]:
    """The modules that a Python file may import by what it writes; `from a import b` counts as a.b
    as well, since b may be a module."""
    found: set[str] = set()
    for node in ast.walk(parsed(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: a relative import"
            module = node.module or ""
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def test_every_file_has_a_use() -> None:
    product = named(".py", under=PRODUCT)
    # What is imported by a name in a string (a table of commands or of roles) is in use as well.
    used = {module for name in product for module in imports(name)}
    spoken = {
        node.value
        for name in product
        for node in ast.walk(parsed(name))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    idle = []
    for name in product:
        module = name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        if name.endswith("/__init__.py"):
            continue  # the first page of a room
        if module not in used | ENTRIES and module not in spoken:
            idle.append(name)
    assert not idle


def test_every_native_file_is_built() -> None:
    build = text_of("native/CMakeLists.txt")
    idle = [
        name
        for name in named(".cpp", under=("native/src/",))
        if name.removeprefix("native/") not in build
    ]
    text = "".join(map(text_of, named(*CPLUSPLUS)))
    included = set(re.findall(r'#include "([\w/]+\.hpp)"', text))
    idle += [
        name
        for name in named(".hpp")
        if name.removeprefix("native/src/") not in included and Path(name).name not in included
    ]
    assert not idle


# Who may include whom: a room's files include those of rooms named before it, and their own.
NATIVE_ROOMS: Final = ("base", "jpeg", "spool", "tls", "reception", "outgoing", "bindings")


def test_includes_go_one_way() -> None:
    backward = []
    for name in named(*CPLUSPLUS, under=("native/src/",)):
        room = Path(name).parent.name
        assert room in NATIVE_ROOMS, f"{name} stands in no room"
        for included in re.findall(r'#include "([^"]+)"', text_of(name)):
            other = included.split("/")[0]
            if other not in NATIVE_ROOMS or NATIVE_ROOMS.index(other) > NATIVE_ROOMS.index(room):
                backward.append(f"{name}: {included}")
    assert not backward


# What tests stand on, lowest first; the rooms of tests themselves come after all of these.
TEST_ROOMS: Final = ("material", "faults", "peers", "rigs")


def test_tests_stand_on_what_is_made_for_it() -> None:
    """No test imports a test, and what tests share is layered as the product is."""
    backward = []
    for name in named(".py", under=("tests/", "benchmarks/")):
        room = name.split("/")[1] if name.startswith("tests/") else ""
        for module in imports(name):
            parts = module.split(".")
            if parts[0] != "tests":
                continue
            if any(part.startswith("test_") for part in parts[1:]):
                backward.append(f"{name}: {module}")
            elif room in TEST_ROOMS and len(parts) > 1:
                above = parts[1] not in TEST_ROOMS[: TEST_ROOMS.index(room) + 1]
                if above and parts[1] != "native":
                    backward.append(f"{name}: {module}")
    assert not backward


def test_the_engine_says_where_it_reads_a_clock() -> None:
    """Protocol and rules take moments as arguments; `engine/__init__.py` says so of the room."""
    silent = []
    for name in named(".py", under=("engine/",)):
        imported = re.search(r"^\s*(?:import|from) (time|socket|subprocess)\b", text_of(name), re.M)
        words = {"time": "clock", "socket": "socket", "subprocess": "process"}
        if imported and words[imported[1]] not in (ast.get_docstring(parsed(name)) or ""):
            silent.append(name)
    assert not silent


def test_python_is_kept_out_of_the_native_files() -> None:
    """Only native/src/bindings knows Python, so that the rest is fuzzed and run under sanitizers
    alone."""
    knowing = [
        name
        for name in named(*CPLUSPLUS, under=("native/src/",))
        if re.search(r"nanobind|Python\.h|PyObject", text_of(name))
        and not name.startswith("native/src/bindings/")
    ]
    assert not knowing


@pytest.mark.parametrize(
    ("name", "banned"),
    [("utils", True), ("ring_helper", True), ("common_data", True), ("commonly", False)],
)
def test_the_banned_names_are_whole_words(name: str, banned: bool) -> None:
    assert bool(BANNED_NAMES.search(name)) is banned


_TEXTS: Final = (*CODE, ".c", ".md", ".txt")
_PATH: Final = re.compile(
    r"(?<![\w./<>-])((?:engine|workers|native|tools|tests|benchmarks|docs|ops)/[\w./-]*\w"
    r"\.(?:py|pyi|cpp|hpp|c|h|md|toml|service))\b"
)
_BARE: Final = re.compile(r'(?<![\w./*<>{}"-])(\w+\.(?:py|pyi|cpp|hpp))\b')
_MODULE: Final = re.compile(
    r"(?<![\w./-])((?:engine|workers|tools|tests|benchmarks)(?:\.[a-z]\w*)+)"
)
_LINK: Final = re.compile(r"\]\(([^)#\s:]*)(?:#([^)\s]+))?\)")


def test_what_a_text_points_to_is_there() -> None:
    """Files move; what names them is text that no compiler reads."""
    files = set(tree())
    bare = {name.rsplit("/", 1)[-1] for name in files}
    lost = []
    for name in named(*_TEXTS):
        for number, line in enumerate(text_of(name).splitlines(), 1):
            lost += [
                f"{name}:{number}: {said}"
                for said in (
                    *(path for path in _PATH.findall(line) if not {path, f"tests/{path}"} & files),
                    *(path for path in _BARE.findall(line) if path not in bare),
                    *(module for module in _MODULE.findall(line) if not _is_module(module, files)),
                )
            ]
    assert not lost, "\n".join(lost)


def _is_module(said: str, files: set[str]) -> bool:
    """A module, or a name inside one; a room, a file of it, or what stands in that file."""
    path = ""
    for part in said.split("."):
        path = f"{path}/{part}" if path else part
        if f"{path}.py" in files or f"{path}.pyi" in files:
            return True
        if f"{path}/__init__.py" not in files:
            return False
    return True


def test_links_lead_to_a_heading() -> None:
    lost = []
    for name in named(".md"):
        for path, heading in _LINK.findall(text_of(name)):
            target = (ROOT / name).parent / path if path else ROOT / name
            if not target.exists() or (heading and heading not in _headings(target)):
                lost.append(f"{name}: {path}#{heading}")
    assert not lost, "\n".join(lost)


def _headings(document: Path) -> set[str]:
    """As a link names them: small letters, hyphens for spaces, nothing else but words."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
