"""Normal numbers that belong to places: the same voxel gets the same draw whichever tile asks for it, and however often.

Numbers come from Philox (Salmon, Moraes, Dror, Shaw, SC 2011), a generator whose state is a counter. The plane is cut into blocks; a
block's counter is its place and the number of the draw::

    key      seed, stream                counter   [ running | plane z | block row and column | draw ]
"""

from __future__ import annotations

import numpy as np

from zenhance.types import FloatArray

__all__ = ["BLOCK_PX", "noise_field"]


BLOCK_PX = 64
"""Edge of a block along y and x; part of what the numbers are, never to be changed."""


def noise_field(
    seed: int,
    stream: int,
    draw: int,
    channels: int,
    origin_px: tuple[int, int, int],
    shape_px: tuple[int, int, int],
) -> FloatArray:
    """Return independent standard normal numbers for a region of an endless volume.

    Parameters
    ----------
    seed : int
        Of the run, at least 0.
    stream : int
        Which of the method's noise fields (a level of a ladder, a step of a sampler), at least 0.
    draw : int
        Number of the sample, at least 0.
    channels : int
        Numbers per place. The first channels do not change when more are asked for of a place only if the block is the same, so ask
        for the same number each time.
    origin_px : tuple of int
        First place (z, y, x) of the region, none of them negative.
    shape_px : tuple of int
        (Z, Y, X) of the region.

    Returns
    -------
    float32 array (Z, channels, Y, X)
        The same numbers for the same place, whatever region it is asked for in.
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
