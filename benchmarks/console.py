"""Terminal output: a progress bar, tables, or one line of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.tables import TextTable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Tell", "console", "progress", "show", "write_json"]

Tell = Callable[[str, float], None]
WIDE_COLUMNS = 140


def write_json(path: Path, record: dict[str, Any]) -> Path:
    """Write a record as JSON that people can read, and return the file."""
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


@contextmanager
def progress(*, silent: bool) -> Iterator[Tell]:
    """Show a progress bar on a terminal.

    Without a terminal, each title appears once on stderr; stdout stays clean.
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    if silent:
        yield lambda _title, _fraction: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    screen = console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("benchmark", total=1.0)
        said: set[str] = set()

        def tell(title: str, fraction: float) -> None:
            bar.update(task, description=title, completed=fraction)
            if not screen.is_terminal and title not in said:
                said.add(title)
                screen.print(f"{fraction:4.0%}  {title}", highlight=False)

        yield tell


def console(*, stderr: bool = False) -> Console:
    """Return where to print."""
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True)


def show(
    tables: TextTable | tuple[TextTable, ...],
    record: dict[str, Any],
    files: tuple[Path, ...],
    json_line: bool,
) -> None:
    """Print tables with their foot, or one line of JSON, and which files were written."""
    if json_line:
        sys.stdout.write(
            json.dumps({**record, "files": [str(f) for f in files]}, ensure_ascii=False) + "\n"
        )
        return
    screen = console()
    for table in (tables,) if isinstance(tables, TextTable) else tables:
        _print(screen, table)
    for file in files:
        screen.print(f"wrote {file}", highlight=False, markup=False)


def _print(screen: Console, table: TextTable) -> None:
    from rich.table import Table

    if screen.width < WIDE_COLUMNS:
        table = table.narrow()
    shown = Table(title=table.title)
    for number, column in enumerate(table.header):
        shown.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in table.rows:
        shown.add_row(*row)
    screen.print(shown)
    for line in table.foot:
        screen.print(line, highlight=False, markup=False)
