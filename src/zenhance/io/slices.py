"""Open a folder of numbered TIFF slices as one stack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.errors import ReadError
from zenhance.io.names import IMAGE_SUFFIXES, numbered
from zenhance.io.source import LazyArray, Source, pick_series
from zenhance.io.tiff import read_tiff

__all__ = ["read_slices", "slices_in"]

MAX_SLICES = 100_000


def slices_in(folder: Path) -> list[Path]:
    """Return the numbered slices that are all the images of a folder, or nothing."""
    found = [
        p
        for p in sorted(folder.iterdir())
        if p.name.lower().endswith(IMAGE_SUFFIXES) and not p.name.startswith(".")
    ]
    return found if len(found) <= MAX_SLICES and numbered(found) else []


def read_slices(folder: Path, series: int = 0) -> Source:
    """Open numbered slices; the first says what all of them are.

    Raises
    ------
    ReadError
        The slices are not single planes of one size and type.
    """
    pick_series(folder, series, 1)
    files = slices_in(folder)
    first = read_tiff(files[0])
    shape, dtype = tuple(first.data.shape), np.dtype(first.data.dtype)
    if first.axes != "YX" or first.series != 1:
        raise ReadError(
            folder,
            f'it holds {len(files)} numbered files, the first of which, "{files[0].name}", is not '
            "a single plane; name one file in it, or several",
        )

    def read(index: int) -> npt.NDArray[Any]:
        source = first if index == 0 else read_tiff(files[index])
        found = (tuple(source.data.shape), np.dtype(source.data.dtype))
        if found != (shape, dtype):
            raise ReadError(
                folder,
                f'its slice "{files[index].name}" is {found[1]} {found[0]}, but the first is '
                f"{dtype} {shape}; move it elsewhere",
            )
        return np.asarray(source.data[...])

    note = (
        f"{len(files)} numbered files were taken as one stack; name the files to use each by itself"
    )
    metadata = {**first.metadata, "parts": tuple(str(p) for p in files), "warnings": (note,)}
    return replace(
        first,
        data=LazyArray(folder, (len(files),), shape, dtype.newbyteorder("="), read),
        axes=(numbered(files) or "Z") + "YX",
        format="TIFF slices",
        metadata=metadata,
    )
