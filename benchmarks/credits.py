"""Source and licence of a data file, from the table in the README of its folder."""

from __future__ import annotations

from pathlib import Path

__all__ = ["credit_of"]


def credit_of(path: Path) -> str:
    """Return source and licence of a file.

    Parameters
    ----------
    path : Path
        A file; ``README.md`` beside it may hold a table with the columns "file", "source …" and
        "licence".

    Returns
    -------
    str
        Empty where nothing is said.
    """
    page = path.with_name("README.md")
    if not page.is_file():
        return ""
    header: list[str] = []
    for line in page.read_text(encoding="utf-8", errors="replace").splitlines():
        cells = (
            [cell.strip() for cell in line.strip().strip("|").split("|")]
            if line.lstrip().startswith("|")
            else []
        )
        if cells and cells[0].lower() == "file":
            header = [cell.lower() for cell in cells]
        elif header and len(cells) == len(header) and cells[0].strip("`") == path.name:
            named = dict(zip(header, cells, strict=True))
            source = next((text for key, text in named.items() if key.startswith("source")), "")
            return ", ".join(text for text in (source, named.get("licence", "")) if text)
    return ""
