"""Size and order of a checkout: files, lines, longest function, complexity, import cycles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.house import Checkout, cycles, repeated
from benchmarks.runner import Experiment, Option, path
from benchmarks.tables import TextTable
from zenhance.errors import MethodError

__all__ = ["EXPERIMENT", "House", "house_table", "measure_house"]


@dataclass(frozen=True)
class House:
    """Measures of a checkout, as :class:`benchmarks.house.Checkout` defines them."""

    files: int
    lines: int
    longest: tuple[str, int]
    most_complex: tuple[str, int]
    cycles: tuple[tuple[str, ...], ...]
    repeated: tuple[tuple[str, str], ...]
    long_share: float
    weights_mb: float
    places: dict[str, tuple[str, ...]]

    def record(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "files": self.files,
            "lines": self.lines,
            "longest_body": list(self.longest),
            "worst_complexity": list(self.most_complex),
            "import_cycles": [list(group) for group in self.cycles],
            "repeated": [list(pair) for pair in self.repeated],
            "share_of_long_lines": self.long_share,
            "weights_mb": self.weights_mb,
            "places_that_name_a_method": {k: list(v) for k, v in self.places.items()},
        }


def measure_house(root: Path) -> House:
    """Measure a checkout.

    Raises
    ------
    MethodError
        The folder holds no checkout of zenhance.
    """
    checkout = Checkout(root)
    if not checkout.sources:
        raise MethodError(f'"{root}" holds no src/zenhance; give the top of a checkout')
    functions = checkout.functions
    longest = max(functions, key=lambda f: f.lines)
    complex_ = max(functions, key=lambda f: f.complexity)
    return House(
        len(checkout.sources),
        checkout.lines,
        (longest.place, longest.lines),
        (complex_.place, complex_.complexity),
        tuple(cycles(checkout.imports)),
        tuple(repeated(checkout.sources)),
        checkout.long_share,
        checkout.weights_mb,
        checkout.places_of_a_method(),
    )


def house_table(house: House) -> TextTable:
    """Return a row for each measure."""
    most = max(house.places.items(), key=lambda item: len(item[1]), default=("", ()))
    named = ", ".join(most[1]).replace("zenhance.", "")
    rows = (
        ("Python files in the wheel", f"{house.files}", ""),
        ("lines in the wheel", f"{house.lines:,}", ""),
        ("longest function body, lines", f"{house.longest[1]}", house.longest[0]),
        ("worst complexity (C901)", f"{house.most_complex[1]}", house.most_complex[0]),
        ("import cycles of any kind", f"{len(house.cycles)}", ""),
        ("pairs of places that share 6 lines", f"{len(house.repeated)}", ""),
        ("lines over 100 characters, %", f"{100 * house.long_share:.2f}", ""),
        ("weights in the wheel, MB", f"{house.weights_mb:.1f}", ""),
        ("modules that name one method", f"{len(most[1])}", f"{most[0]}: {named}"[:160]),
    )
    foot = tuple(f"Cycle: {', '.join(group)}." for group in house.cycles)
    return TextTable("House", ("measure", "value", "where"), rows, foot, ("where",))


EXPERIMENT = Experiment(
    measure=lambda options, _tell: measure_house(options.checkout),
    tables=lambda house: {"house": house_table(house)},
    page="architecture.md",
    options=(Option("checkout", "Top of the checkout to measure.", "DIR", Path(), path),),
)
