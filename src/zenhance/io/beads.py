"""A stack of beads as a measured point spread function: ``measured:FILE`` of ``--psf``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt

__all__ = ["read_beads"]


def read_beads(path: str) -> tuple[npt.NDArray[Any], tuple[float, float, float]]:
    """Read a bead stack for ``measured:FILE``.

    Parameters
    ----------
    path : str
        Of an image file that tells its voxel size.

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
    from zenhance.io.open import open_stack

    beads = open_stack(Path(path))
    return beads.read(), beads.voxel_size.require(beads.spatial_axes)
