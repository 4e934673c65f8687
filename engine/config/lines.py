"""Where in a TOML text each key stands, so that a message can name the line.

tomllib tells values, not places. A TOML document is a row of statements that each begin on a line
of their own. A statement's lines parse alone exactly when they are complete. So the text is cut
into statements with tomllib itself, and there is no second grammar that could disagree.
"""

import tomllib

Path = tuple[str | int, ...]

# Only an array or a long string goes over several lines, so only these can end one. Without this
# a list of thousands of hosts, one a line, would be parsed once for each of them.
_closing_marks = ("]", '"""', "'''")


def find_lines(text: str) -> dict[Path, int]:
    """The first line, from 1, of every key and table header of a text that tomllib accepts."""
    lines: dict[Path, int] = {}
    arrays: dict[Path, int] = {}  # how many [[headers]] of an array of tables were seen
    table: Path = ()
    for number, statement in _statements(text):
        content = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            table = _enter(content, statement.lstrip().startswith("[["), arrays)
            lines.setdefault(table, number)
        else:
            for path in _paths(content, table):
                lines.setdefault(path, number)
    return lines


def nearest_line(lines: dict[Path, int], path: Path) -> int | None:
    """The line of a path, or of the innermost thing around it that has one."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def _statements(text: str) -> list[tuple[int, str]]:
    """(line, text) of each statement; comments and empty lines are left out."""
    found: list[tuple[int, str]] = []
    begun: list[str] = []
    first = 0
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not begun:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            first = number
        begun.append(line)
        if len(begun) > 1 and not any(mark in line for mark in _closing_marks):
            continue
        statement = "\n".join(begun)
        try:
            tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue  # A value that goes on on the next line.
        found.append((first, statement))
        begun = []
    return found


def _enter(header: dict[str, object], is_array: bool, arrays: dict[Path, int]) -> Path:
    """The path of a [header], with the index wherever it passes through an array of tables."""
    keys: list[str] = []
    inner: object = header
    while isinstance(inner, dict) and inner:
        key = next(iter(inner))
        keys.append(key)
        inner = inner[key]
    path: Path = ()
    for position, key in enumerate(keys, 1):
        path = (*path, key)
        if is_array and position == len(keys):
            arrays[path] = arrays.get(path, 0) + 1
        if path in arrays:
            path = (*path, arrays[path] - 1)
    return path


def _paths(content: object, around: Path) -> list[Path]:
    """All paths in one key's value, inline tables and arrays included."""
    found: list[Path] = []
    if isinstance(content, dict):
        for key, value in content.items():
            found += [(*around, key), *_paths(value, (*around, key))]
    elif isinstance(content, list):
        for index, value in enumerate(content):
            found += [(*around, index), *_paths(value, (*around, index))]
    return found
