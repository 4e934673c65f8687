"""A configuration as TOML text, with a remark to each setting. Used by `scai config show` and by
the reference. What it writes can be read again, except for passwords, which are never written.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, get_args

import msgspec
from msgspec import Struct

from engine.config.loading import Config, Context
from engine.config.reader import leaf_of
from engine.dictionary.contexts import syntax_name
from engine.settings.entities import SECRET

_remark_column = 44

Remark = Callable[[str], str]


class Setting(NamedTuple):
    """One value of a configuration: its path, the last part of it, and whether it is secret."""

    path: str
    name: str
    value: Any
    secret: bool


def settings_of(config: Struct, prefix: str = "") -> Iterator[Setting]:
    """Every single value, in the order of the reference; contexts are one value, remotes and rules
    many."""
    for info in msgspec.structs.fields(config):
        value = getattr(config, info.name)
        path = f"{prefix}{info.name}"
        if isinstance(value, Struct):
            yield from settings_of(value, f"{path}.")
        elif isinstance(value, tuple) and list_of_tables(info.type):
            for index, inner in enumerate(value):
                yield from settings_of(inner, f"{path}[{index}].")
        else:
            secret = bool((leaf_of(info.type).meta.extra or {}).get(SECRET)) and bool(value)
            yield Setting(path, info.name, value, secret)


def list_of_tables(annotation: Any) -> type[Struct] | None:
    """What a setting is a list of that is written as [[tables]]: any structs but contexts."""
    element = (get_args(leaf_of(annotation).type) or (None,))[0]
    if isinstance(element, type) and issubclass(element, Struct) and element is not Context:
        return element
    return None


def toml_text(config: Config, remark: Remark) -> str:
    """The whole configuration; `remark(path)` is written behind each setting, if not empty."""
    lines: list[str] = []
    table = ""
    for setting in settings_of(config):
        current = setting.path.rpartition(".")[0]
        if current != table:
            header = f"[[{current.partition('[')[0]}]]" if "[" in current else f"[{current}]"
            lines += ["", header]
            table = current
        lines += _assignment(setting, remark(setting.path))
    return "\n".join(lines) + "\n"


def _assignment(setting: Setting, remark: str) -> list[str]:
    """The lines of one setting."""
    if setting.secret:
        return [_with_remark(f"# {setting.name} is set and not shown", remark)]
    if setting.value and isinstance(setting.value, tuple) and isinstance(setting.value[0], Context):
        rows = [_with_remark(f"{setting.name} = [", remark)]
        for context in setting.value:
            name = syntax_name(context.abstract_syntax)
            rows.append(f"  {_context(context)}," + (f"  # {name}" if name else ""))
        return [*rows, "]"]
    return [_with_remark(f"{setting.name} = {toml_value(setting.value)}", remark)]


def _with_remark(text: str, remark: str) -> str:
    """A line with its remark, the remarks below one another."""
    return f"{text:<{_remark_column}}  # {remark}" if remark else text


def _context(context: Context) -> str:
    """One presentation context as an inline table."""
    abstract = toml_value(context.abstract_syntax)
    transfer = toml_value(context.transfer_syntaxes)
    return f"{{ abstract_syntax = {abstract}, transfer_syntaxes = {transfer} }}"


def toml_value(value: object) -> str:
    """A value as TOML writes it; control characters are escaped."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{"".join(map(_escaped, value))}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, dict):
        pairs = ", ".join(f"{_key(key)} = {toml_value(inner)}" for key, inner in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return str(value)


def _key(key: str) -> str:
    """A key, in quotes if it must be."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml_value(key)


def _escaped(character: str) -> str:
    """One character of a TOML basic string."""
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"
