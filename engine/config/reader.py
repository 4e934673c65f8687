"""From a parsed TOML table to frozen structs, collecting every problem instead of the first.

Called by engine/config/loading.py. For the rest of the reading a value that is wrong is replaced by
its default, or by an empty one. So the others are still checked and keep their positions in a list.
The caller uses nothing if there is any problem.
"""

import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from engine import limits
from engine.config.lines import Path, nearest_line
from engine.dictionary.suggestion import suggestion
from engine.settings.entities import SECRET
from engine.settings.settings import Config
from engine.settings.values import KINDS

_shown_characters_max: Final = 80

# Words in an unknown key, and what of the statement's is "not configurable" there.
_fixed: Final = (
    ("pdu", f"the PDU size, {limits.pdu_bytes_advertised} bytes"),
    ("outstanding", f"the number of outstanding operations, {limits.operations_outstanding_max}"),
    ("async", f"the number of outstanding operations, {limits.operations_outstanding_max}"),
    ("implementation", "the implementation's identity"),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, what was found, and what would be right."""

    path: str
    text: str
    line: int | None = None
    value: str = ""  # as the operator wrote it, or nearly; empty where it does not matter

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line is not None else ""
        value = f" = {self.value}" if self.value else ""
        return f"{place}{self.path}{value}: {self.text}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from."""

    source: Literal["default", "file", "environment"]
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}" if self.line is not None else self.source


class Leaf(NamedTuple):
    """A field's type without its documentation, and the documentation."""

    type: Any
    meta: Meta


@dataclass(slots=True)
class Reading:
    """One reading of one file; the problems and origins it finds."""

    lines: dict[Path, int]
    problems: list[Problem] = field(default_factory=list)
    origins: dict[str, Origin] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)  # paths whose value is not what the file says

    def refuse(self, path: Path, text: str, value: str = "", others: Sequence[Path] = ()) -> None:
        """Record a problem; its line is that of the first of these paths the file speaks of."""
        name = path_text(path)
        self.broken.add(name)
        lines = (nearest_line(self.lines, place) for place in (path, *others))
        line = next((line for line in lines if line is not None), None)
        self.problems.append(Problem(name, text, line, value))

    def read_table(
        self, model: type[Struct], default: Struct | None, raw: object, path: Path
    ) -> Struct | None:
        """A struct from a table; `default` when it is none."""
        if not isinstance(raw, dict):
            self.refuse(path, "must be a table", shown(raw))
            return default
        fields = {info.name: info for info in msgspec.structs.fields(model)}
        for key in raw:
            if key not in fields:
                self.refuse((*path, key), _unknown(key, list(fields), path))
        values: dict[str, Any] = {}
        for name, info in fields.items():
            inner = (*path, name)
            standing = getattr(default, name) if default is not None else default_of(info)
            if name in raw:
                self.origins[path_text(inner)] = Origin("file", nearest_line(self.lines, inner))
                values[name] = self._read_value(leaf_of(info.type), standing, raw[name], inner)
            elif standing is msgspec.NODEFAULT:
                self.refuse(inner, "is missing; it is required")
                values[name] = standing
            else:
                values[name] = standing
            if values[name] is msgspec.NODEFAULT:
                values[name] = _nothing(leaf_of(info.type))
        return model(**values)

    def _read_value(self, leaf: Leaf, standing: Any, raw: object, path: Path) -> Any:
        """Any field's value: a table, a list or one value."""
        if isinstance(leaf.type, type) and issubclass(leaf.type, Struct):
            return self.read_table(leaf.type, standing, raw, path)
        if get_origin(leaf.type) is tuple:
            return self._read_list(leaf, standing, raw, path)
        if get_origin(leaf.type) is dict:
            if isinstance(raw, dict):
                return _as_data(raw)
            self.refuse(path, f"must be {allowed_text(leaf)}", shown(raw))
            return standing
        value = self._read_one(leaf, raw, path)
        return standing if value is msgspec.NODEFAULT else value

    def _read_list(self, leaf: Leaf, standing: Any, raw: object, path: Path) -> Any:
        """A list's items, each checked; the standing value when one is wrong."""
        element = get_args(leaf.type)[0]
        if not isinstance(raw, list):
            self.refuse(path, f"must be {allowed_text(leaf)}", shown(raw))
            return standing
        is_table = isinstance(element, type) and issubclass(element, Struct)
        items: list[Any] = []
        for index, item in enumerate(raw):
            inner = (*path, index)
            if is_table:
                read: Any = self.read_table(element, None, item, inner)
                read = msgspec.NODEFAULT if read is None else read
            else:
                read = self._read_one(Leaf(element, leaf.meta), item, inner)
            if read is msgspec.NODEFAULT:
                self.broken.add(path_text(path))
            else:
                items.append(read)
        return tuple(items)

    def _read_one(self, leaf: Leaf, raw: object, path: Path) -> Any:
        """One value of the right type, within its bounds and of its kind; NODEFAULT if not."""
        secret = bool((leaf.meta.extra or {}).get(SECRET))
        value_text = "(not shown)" if secret else shown(raw)
        try:
            value = msgspec.convert(raw, Annotated[leaf.type, leaf.meta])
        except msgspec.ValidationError:
            near = suggestion(raw, _choices(leaf.type)) if isinstance(raw, str) else ""
            self.refuse(path, f"must be {allowed_text(leaf)}{near}", value_text)
            return msgspec.NODEFAULT
        check = _check_of(leaf)
        if check is None or not isinstance(value, str):
            return value
        try:
            return check(value)
        except ValueError as problem:
            self.refuse(path, str(problem), value_text)
            return msgspec.NODEFAULT


def default_of(info: msgspec.structs.FieldInfo) -> Any:
    """What holds for a field that the file leaves out; NODEFAULT: it may not."""
    if info.default_factory is not msgspec.NODEFAULT:
        return info.default_factory()
    return info.default


def _nothing(leaf: Leaf) -> Any:
    """What stands for a required value that is missing or wrong: nobody gets to use it."""
    if get_origin(leaf.type) is tuple:
        return ()
    return 0 if int in _alternatives(leaf.type) else ""


def leaf_of(annotation: Any) -> Leaf:
    """A field's annotation taken apart; every field of a setting has its documentation."""
    arguments = get_args(annotation)
    assert get_origin(annotation) is Annotated, annotation
    assert isinstance(arguments[1], Meta), annotation
    return Leaf(arguments[0], arguments[1])


def _as_data(value: Any) -> Any:
    """A free table as plain data: TOML's dates and times become text as DICOM writes them."""
    if isinstance(value, dict):
        return {key: _as_data(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_as_data(inner) for inner in value]
    if isinstance(value, datetime):
        return value.strftime("%Y%m%d%H%M%S.%f%z")
    if isinstance(value, date):
        return value.strftime("%Y%m%d")
    return value.strftime("%H%M%S.%f") if isinstance(value, time) else value


def allowed_text(leaf: Leaf) -> str:
    """What a setting may be, in words; for messages and the reference."""
    if get_origin(leaf.type) is dict:
        return "a table"
    if get_origin(leaf.type) is tuple:
        element = get_args(leaf.type)[0]
        if isinstance(element, type) and issubclass(element, Struct):
            names = ", ".join(info.name for info in msgspec.structs.fields(element))
            return f"a list of tables ({names})"
        return f"a list, each {allowed_text(Leaf(element, leaf.meta))}"
    choices = _choices(leaf.type)
    parts = [f'"{choice}"' for choice in choices]
    meta = _bounds(leaf)
    if int in _alternatives(leaf.type):
        parts.insert(0, f"a whole number from {meta.ge} to {meta.le}")
    elif bool in _alternatives(leaf.type):
        parts.append("true or false")
    elif not choices:
        kind = str((leaf.meta.extra or {}).get("kind") or "text")
        parts.append(KINDS[kind].allowed)
    return f"one of {', '.join(parts)}" if len(choices) > 1 else " or ".join(parts)


def path_text(path: Path) -> str:
    """`remotes[0].port`; a key that is not plain is quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = part.isascii() and part.replace("_", "a").replace("-", "a").isalnum()
            text += ("." if text else "") + (part if plain else shown(part))
    return text


def shown(value: object) -> str:
    """A value in one short line without control characters."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, dict):
        text = "(a table)"
    elif isinstance(value, list):
        text = "(a list)"
    else:
        text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _shown_characters_max else text[: _shown_characters_max - 3] + "..."


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, without their documentation; anything else alone."""
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(a for part in get_args(annotation) for a in _alternatives(part))
    if get_origin(annotation) is Annotated:
        return (get_args(annotation)[0],)
    return (annotation,)


def _choices(annotation: Any) -> list[str]:
    """The words of a Literal."""
    return [
        str(choice)
        for alternative in _alternatives(annotation)
        if get_origin(alternative) is Literal
        for choice in get_args(alternative)
    ]


def _bounds(leaf: Leaf) -> Meta:
    """The bounds of a number: the field's own, or those of the number in a union."""
    for part in get_args(leaf.type):
        if get_origin(part) is Annotated:
            inner = get_args(part)[1]
            assert isinstance(inner, Meta), part
            return inner
    return leaf.meta


def _check_of(leaf: Leaf) -> Callable[[str], str] | None:
    """The check of a field's kind of text."""
    kind = (leaf.meta.extra or {}).get("kind")
    return KINDS[str(kind)].check if kind else None


def _unknown(key: str, known: list[str], path: Path) -> str:
    """What to say of a key that is no setting."""
    places = [place for place in _places(key) if place != path_text(path)]
    if "" in places:
        return "unknown here; it belongs to the top of the file, before the first [table]"
    if places:
        return f"unknown here; it belongs to {' or '.join(f'[{place}]' for place in places)}"
    for word, reason in _fixed:
        if word in key.lower():
            return f"is no setting: the conformance statement fixes {reason}"
    near = suggestion(key, known)
    return f"unknown setting{near or '; known here: ' + ', '.join(known)}"


def _places(key: str) -> list[str]:
    """The tables that have a setting of this name; "" is the top of the file."""
    top = msgspec.structs.fields(Config)
    found = [""] if key in {info.name for info in top} else []
    for info in top:
        model = leaf_of(info.type).type
        if isinstance(model, type) and issubclass(model, Struct):
            names = {inner.name for inner in msgspec.structs.fields(model)}
            found += [info.name] if key in names else []
    return found
