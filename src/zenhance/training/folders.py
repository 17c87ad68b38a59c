"""Training data from a folder: measured files, and beside each the sharp one of the same name with ``_truth`` added."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from zenhance.errors import RecipeError
from zenhance.training.recipe import Pair

__all__ = ["TRUTH", "pairs_in", "stacks_in"]

TRUTH = "_truth"
# What follows a name: .tif, .ome.tif, .ome.zarr, .inr.gz; a dot before a digit belongs to the name (plant_0.5um.tif).
_ENDING = re.compile(r"(\.ome)?\.[A-Za-z][A-Za-z0-9]*(\.gz)?$")


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise RecipeError(f'there is no folder "{folder}"; choose the one that holds your stacks')
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _stem(path: Path) -> str:
    return _ENDING.sub("", path.name)


def pairs_in(folder: Path) -> tuple[Pair, ...]:
    """Return the pairs NAME.* and NAME_truth.* of a folder; an OME-Zarr folder counts as a file.

    Raises
    ------
    RecipeError
        There is no such folder, no pair in it, or a truth without exactly one measurement.
    """
    entries = _entries(folder)
    pairs = []
    for truth in (path for path in entries if _stem(path).endswith(TRUTH)):
        name = _stem(truth).removesuffix(TRUTH)
        found = [path for path in entries if _stem(path) == name]
        if len(found) != 1:
            several = ", ".join(path.name for path in found[:3]) or "none"
            raise RecipeError(f'"{truth.name}" needs one measured file {name}.* beside it, found {several}; rename or remove files')
        pairs.append(Pair(measured=str(found[0]), truth=str(truth)))
    if not pairs:
        raise RecipeError(f'the folder "{folder}" holds no pairs; put each measured NAME.tif beside its sharp NAME{TRUTH}.tif')
    return tuple(pairs)


def stacks_in(folder: Path, suffixes: Sequence[str]) -> tuple[str, ...]:
    """Return the measured stacks of a folder: files with one of these endings, truths left out.

    Raises
    ------
    RecipeError
        There is no such folder, or no stack in it.
    """
    endings = tuple(suffix.lower() for suffix in suffixes)
    found = tuple(str(path) for path in _entries(folder) if path.name.lower().endswith(endings) and not _stem(path).endswith(TRUTH))
    if not found:
        raise RecipeError(f'the folder "{folder}" holds no stacks; allowed are files ending in {", ".join(endings[:4])} and others')
    return found
