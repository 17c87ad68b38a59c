"""Files that an option names, and models that only the tables use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zenhance.errors import ReadError
from zenhance.io.names import images_in, is_image_folder
from zenhance.models.catalogue import SUFFIX, WeightsEntry, list_weights
from zenhance.models.header import read_card

__all__ = ["RECIPES", "WEIGHTS", "places_in", "real_stacks", "table_models", "weights"]

WEIGHTS = Path(__file__).parent / "weights"
"""Models for comparison: ablations, and models of one kind of specimen."""
RECIPES = Path(__file__).parent / "recipes"
"""Their trainings."""


def weights(name: str) -> str:
    """Return a model as a request takes it: the path of a comparison model, else the name."""
    path = WEIGHTS / f"{name}{SUFFIX}"
    return str(path) if path.is_file() else name


def table_models(method: str) -> tuple[WeightsEntry, ...]:
    """Return the models of a method in the tables: those that ship, then those in ``WEIGHTS``."""
    shipped = tuple(entry for entry in list_weights(method) if entry.ships)
    own = (
        WeightsEntry(path.stem, path, read_card(path), True)
        for path in sorted(WEIGHTS.glob(f"*{SUFFIX}"))
    )
    return (*shipped, *(entry for entry in own if entry.card.method == method))


def places_in(text: str | Path) -> tuple[Path, ...]:
    """Return the paths of an option: one, or several separated by commas.

    An existing path may itself contain a comma.
    """
    whole = Path(text).expanduser()
    if whole.exists():
        return (whole,)
    return tuple(Path(part.strip()).expanduser() for part in str(text).split(",") if part.strip())


def real_stacks(place: str | Path) -> Iterator[Path]:
    """Yield the image files of the given files and folders, separated by commas.

    Raises
    ------
    ReadError
        There is no such file or folder, or no image in it.
    """
    for path in places_in(place):
        if not path.exists():
            raise ReadError(path, "there is no such file or folder; give the stacks to measure")
        yield from images_in(path) if path.is_dir() and not is_image_folder(path) else [path]
