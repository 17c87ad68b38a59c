"""Write a table into the documentation, between two markers.

::

    <!-- begin sample -->
    …replaced…
    <!-- end sample -->
"""

from __future__ import annotations

from pathlib import Path

from zenhance.errors import WriteError

__all__ = ["DOCS_PAGE", "write_between_markers"]

DOCS_PAGE = Path("docs") / "benchmark.md"
"""Seen from the top of a checkout."""


def write_between_markers(page: str | Path, mark: str, text: str) -> Path:
    """Replace what stands between a page's markers.

    Parameters
    ----------
    page : str or Path
        A Markdown file with ``<!-- begin MARK -->`` and ``<!-- end MARK -->`` on lines of their
        own.
    mark : str
        Which of its tables.
    text : str
        Markdown.

    Raises
    ------
    WriteError
        The page or its markers are missing; nothing is changed then.
    """
    page = Path(page)
    begin, end = f"<!-- begin {mark} -->", f"<!-- end {mark} -->"
    if not page.is_file():
        raise WriteError(
            f'the page "{page}" does not exist; run the command at the top of a checkout, or '
            "leave --write-docs out"
        )
    old = page.read_text(encoding="utf-8")
    head, found_begin, rest = old.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not (found_begin and found_end):
        raise WriteError(
            f'"{page}" lacks the lines "{begin}" and "{end}"; put them where the table belongs'
        )
    page.write_text(f"{head}{begin}\n\n{text.strip()}\n\n{end}{tail}", encoding="utf-8")
    return page
