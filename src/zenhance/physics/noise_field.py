"""Normal random numbers indexed by voxel: a voxel has the same draw in every tile.

The generator is Philox (Salmon, Moraes, Dror, Shaw, SC 2011), whose state is a counter. A plane is
divided into blocks; the counter of a block is its position and the number of the draw::

    key      seed, stream        counter   [ running | plane z | block row and column | draw ]
"""

from __future__ import annotations

import numpy as np

from zenhance.types import FloatArray

__all__ = ["BLOCK_PX", "noise_field"]


BLOCK_PX = 64
"""Edge of a block along y and x; the numbers depend on it, so that it must not change."""


def noise_field(
    seed: int,
    stream: int,
    draw: int,
    channels: int,
    origin_px: tuple[int, int, int],
    shape_px: tuple[int, int, int],
) -> FloatArray:
    """Return independent standard normal numbers for a region of an infinite volume.

    Parameters
    ----------
    seed : int
        Of the run, at least 0.
    stream : int
        Index of the method's noise field (a ladder's level, a sampler's step), at least 0.
    draw : int
        Number of the sample, at least 0.
    channels : int
        Numbers per voxel; another number of channels gives other numbers.
    origin_px : tuple of int
        First voxel (z, y, x) of the region, not negative.
    shape_px : tuple of int
        (Z, Y, X) of the region.

    Returns
    -------
    float32 array (Z, channels, Y, X)
        The numbers of a voxel do not depend on the region.
    """
    (z0, y0, x0), (depth, height, width) = origin_px, shape_px
    field = np.empty((depth, channels, height, width), np.float32)
    key = np.array([seed, stream], np.uint64)
    for z in range(depth):
        for row in range(y0 // BLOCK_PX, -(-(y0 + height) // BLOCK_PX)):
            for column in range(x0 // BLOCK_PX, -(-(x0 + width) // BLOCK_PX)):
                counter = np.array([0, z0 + z, (row << 32) | column, draw], np.uint64)
                block = np.random.Generator(
                    np.random.Philox(key=key, counter=counter)
                ).standard_normal((channels, BLOCK_PX, BLOCK_PX), np.float32)
                top, left = row * BLOCK_PX - y0, column * BLOCK_PX - x0
                rows = slice(max(0, -top), min(BLOCK_PX, height - top))
                columns = slice(max(0, -left), min(BLOCK_PX, width - left))
                field[
                    z,
                    :,
                    top + rows.start : top + rows.stop,
                    left + columns.start : left + columns.stop,
                ] = block[:, rows, columns]
    return field
