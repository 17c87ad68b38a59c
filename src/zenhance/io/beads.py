"""A stack of beads as a measured point spread function: ``measured:FILE`` of ``--psf``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy.typing as npt

from zenhance.errors import ReadError, StackError
from zenhance.io.open import open_stack

__all__ = ["bead_file", "read_beads"]

_SIZES = re.compile(r"(.+)@([0-9.eE,+ -]+)")


def bead_file(text: str) -> tuple[Path, list[float] | None]:
    """Split ``FILE@Z,Y,X`` into file and voxel size; a file of the whole name comes first.

    Raises
    ------
    StackError
        What follows the @ is not a list of numbers.
    """
    found = _SIZES.fullmatch(text)
    if found is None or Path(text).exists():
        return Path(text), None
    try:
        sizes = [float(part) for part in found.group(2).split(",")]
    except ValueError as error:
        raise StackError(
            f'"{found.group(2)[:40]}" after the PSF file is not a voxel size; '
            "write measured:FILE@Z,Y,X in µm"
        ) from error
    return Path(found.group(1)), sizes


def read_beads(text: str) -> tuple[npt.NDArray[Any], tuple[float, float, float]]:
    """Read a bead stack for ``measured:FILE`` or ``measured:FILE@Z,Y,X``.

    Parameters
    ----------
    text : str
        An image file; its voxel size in µm follows an @ if the file does not know it.

    Returns
    -------
    array (Z, Y, X)
        As stored.
    tuple of float
        Voxel size z, y, x in µm.

    Raises
    ------
    ReadError, StackError
        The file cannot be read, or its voxel size is not known.
    """
    path, sizes = bead_file(text)
    beads = open_stack(path, voxel_size_um=sizes)
    missing = [
        a.lower()
        for a, v in zip("ZYX", beads.voxel_size.zyx_um, strict=True)
        if v is None and a in beads.axes
    ]
    if missing:
        raise ReadError(
            path,
            f"this PSF file does not say its voxel size in {', '.join(missing)}; write "
            f"measured:{path.name[:60]}@Z,Y,X with its own voxel size in µm",
        )
    return beads.read(), beads.voxel_size.require(beads.spatial_axes)
