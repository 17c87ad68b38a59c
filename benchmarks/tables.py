"""Reports as tables of text, with the same cells on the terminal and in the documentation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

__all__ = ["TextTable", "figure", "mean_sd"]


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of text; ``detail`` names columns that a narrow terminal leaves out.

    The first column is text, the others are figures; ``foot`` holds the lines below.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    foot: tuple[str, ...]
    detail: tuple[str, ...] = ()

    def narrow(self) -> TextTable:
        """Return the table without its detail columns, for a terminal of 80 columns."""
        kept = [n for n, column in enumerate(self.header) if column not in self.detail]
        rows = tuple(tuple(row[n] for n in kept) for row in self.rows)
        return replace(self, header=tuple(self.header[n] for n in kept), rows=rows, detail=())

    def markdown(self) -> str:
        """Return the table and its foot as Markdown."""
        rule = "|---|" + "---:|" * (len(self.header) - 1)
        lines = [_line(self.header), rule, *(_line(row) for row in self.rows), ""]
        return "\n".join([*lines, *(f"{text}  " for text in self.foot)]).rstrip() + "\n"


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def figure(value: float, digits: int = 2) -> str:
    """Return a number with so many digits, or a dash where it is not finite."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def mean_sd(values: Sequence[float], digits: int) -> str:
    """Return ``mean ± standard deviation`` (n - 1) of several values, or the only value.

    ∞ where all values are infinite, - where there is none or only some are finite.
    """
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return "∞" if values else "-"
    if len(finite) < len(values):
        return "-"
    mean = f"{np.mean(finite):.{digits}f}"
    return f"{mean} ± {np.std(finite, ddof=1):.{digits}f}" if len(finite) > 1 else mean
