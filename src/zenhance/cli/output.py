"""What commands print: one line of JSON, or tables that fit the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["facts_table", "plain_table", "print_json", "show"]

LOG_WIDTH = 160
"""Columns where the output is not a terminal: a table cut at 80 columns would break paths."""


def print_json(record: Any) -> None:
    """Print one line of JSON on stdout.

    Non-ASCII text is escaped, so any terminal's encoding can show it.
    """
    print(json.dumps(record, ensure_ascii=True, default=str), flush=True)


def show(table: Table) -> None:
    """Print a table as wide as the terminal, or 160 columns wide into a file or pipe."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else LOG_WIDTH).print(table)


def plain_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table of plain text; its first column is bold and never wrapped."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for number, heading in enumerate(headings):
        if number:
            table.add_column(heading, overflow="fold")
        else:
            table.add_column(heading, style="bold", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(text) for text in row))
    return table


def facts_table(rows: Iterable[tuple[str, str]]) -> Table:
    """Return a table of two columns without headings: a bold name and its value, as markup."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column("what", style="bold", no_wrap=True)
    table.add_column("value", overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table
