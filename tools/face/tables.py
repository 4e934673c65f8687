"""Tables of the commands: plain columns, and nothing in a cell that could steer a terminal.

In a terminal they fit its window; what goes through a pipe or into a file has no window to fit.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from tools.face.terminal import one_line

_piped_width: Final = 250  # nobody's window sets a bound


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
    from rich.console import Console  # a command that prints JSON does not need it
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column.heading,
            justify="right" if column.right else "left",
            no_wrap=column.whole,
            overflow="fold",
        )
    for row in rows:
        cells = ("" if cell is None else one_line(str(cell)) for cell in row.cells)
        table.add_row(*map(Text, cells), style="bold" if row.bold else "")
    Console(width=None if sys.stdout.isatty() else _piped_width).print(table)
