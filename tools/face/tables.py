"""Tables of the commands: plain columns, and nothing in a cell that could steer a terminal.

In a terminal they fit its window; what goes through a pipe or into a file has no window to fit.
Cells are broken between words and never inside one. UIDs and paths, which have no blanks, are
folded. Where that does not fit, columns with nothing in them are left out; where that does not
help either, each row becomes lines of its own.
"""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from tools.face.terminal import one_line

if TYPE_CHECKING:
    from rich.console import Console

_piped_width: Final = 250  # nobody's window sets a bound
_folded_least: Final = 16  # characters of a UID on a line: shorter pieces are read by nobody
_FOLDABLE: Final = re.compile(r"[0-9.]{17,}|\S*/\S*")  # a UID, a path
_gap: Final = 2


class Column(NamedTuple):
    """`whole`: never broken over lines. `right`: numbers, aligned by their last digit."""

    heading: str
    whole: bool = False
    right: bool = False


class Row(NamedTuple):
    """A row's cells, of any type; None is an empty one. `bold`: to be seen first."""

    cells: Sequence[object]
    bold: bool = False


def print_table(columns: Iterable[Column], rows: Iterable[Row]) -> None:
    """Headings, and a line or more for each row."""
    from rich.table import Table
    from rich.text import Text

    console = window()
    listed, kept = list(columns), list(rows)
    texts = [[_text(cell) for cell in row.cells] for row in kept]
    widths = _fitted(listed, texts, console.width)
    if widths is None:
        told = [at for at in range(len(listed)) if any(row[at] for row in texts)]
        listed = [listed[at] for at in told]
        texts = [[row[at] for at in told] for row in texts]
        widths = _fitted(listed, texts, console.width)
    if widths is None:
        _print_blocks(console, [column.heading for column in listed], texts)
        return
    table = Table(box=None, pad_edge=False, padding=(0, _gap, 0, 0), header_style="bold")
    for column, width in zip(listed, widths, strict=True):
        justify = "right" if column.right else "left"
        table.add_column(column.heading, justify=justify, overflow="fold", width=width)  # type: ignore[arg-type]
    for row, cells in zip(kept, texts, strict=True):
        table.add_row(*map(Text, cells), style="bold" if row.bold else "")
    console.print(table)


def _text(cell: object) -> str:
    return "" if cell is None else one_line(str(cell))


def window() -> "Console":
    """Where tables and sentences are printed: as wide as the window, $COLUMNS if that is set."""
    from rich.console import Console  # a command that prints JSON does not need it

    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return Console(width=int(given))
    return Console(width=None if sys.stdout.isatty() else _piped_width)


def _fitted(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int
) -> list[int] | None:
    """The columns' widths, the widest being narrowed first; None: no word may be so narrow."""
    from rich.cells import cell_len

    widths, least = [], []
    for at, column in enumerate(columns):
        texts = [column.heading, *(row[at] for row in rows)]
        words = [word for text in texts for word in text.split()]
        widths.append(max(map(cell_len, texts)))
        least.append(widths[-1] if column.whole else max(map(_least, words), default=0))
    room -= _gap * (len(columns) - 1)
    if sum(least) > room:
        return None
    while sum(widths) > room:
        yielding = [at for at, width in enumerate(widths) if width > least[at]]
        widest = max(yielding, key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _least(word: str) -> int:
    """The narrowest that a word may be."""
    from rich.cells import cell_len

    return min(cell_len(word), _folded_least) if _FOLDABLE.fullmatch(word) else cell_len(word)


def _print_blocks(
    console: "Console", headings: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    """For a window that is too narrow: a line for each value, with an empty one between rows."""
    from rich.table import Table
    from rich.text import Text

    for number, row in enumerate(rows):
        if number:
            console.print()
        block = Table.grid(padding=(0, _gap, 0, 0))
        block.add_column(no_wrap=True, style="bold")
        block.add_column(overflow="fold")
        for heading, text in zip(headings, row, strict=True):
            if text:
                block.add_row(heading, Text(text))
        console.print(block)
