"""Where the tables find things: files that an option names, and models that only tables use."""

from __future__ import annotations

from pathlib import Path

from zenhance.models.catalogue import SUFFIX, WeightsEntry, list_weights
from zenhance.models.header import read_card

__all__ = ["RECIPES", "WEIGHTS", "places_in", "table_models", "weights"]

WEIGHTS = Path(__file__).parent / "weights"
"""Models for comparison: ablations, and models of one kind of specimen."""
RECIPES = Path(__file__).parent / "recipes"
"""How they were trained."""


def weights(name: str) -> str:
    """Return what a request takes for a model: its path where only tables use it, else its name."""
    path = WEIGHTS / f"{name}{SUFFIX}"
    return str(path) if path.is_file() else name


def table_models(method: str) -> tuple[WeightsEntry, ...]:
    """Return the models of a method that tables show: those that ship, then those in ``WEIGHTS``."""
    shipped = tuple(entry for entry in list_weights(method) if entry.ships)
    own = (
        WeightsEntry(path.stem, path, read_card(path), True)
        for path in sorted(WEIGHTS.glob(f"*{SUFFIX}"))
    )
    return (*shipped, *(entry for entry in own if entry.card.method == method))


def places_in(text: str | Path) -> tuple[Path, ...]:
    """Return the places that an option names: one, also if its own name has a comma, or several separated by commas."""
    whole = Path(text).expanduser()
    if whole.exists():
        return (whole,)
    return tuple(Path(part.strip()).expanduser() for part in str(text).split(",") if part.strip())
