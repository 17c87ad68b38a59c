"""Probe blocks of a volume too large to solve at once, so that one schedule fits all tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from itertools import product

import numpy as np

from zenhance.types import FloatArray, Region, Triple

__all__ = ["probe_regions"]


_BLOCKS = 4
_CANDIDATES_PER_AXIS = (3, 4, 4)
_LARGEST_DEPTH = 128


def probe_regions(
    shape_px: Triple, read: Callable[[Region], FloatArray], whole_voxels: int
) -> Generator[float, None, tuple[Region, ...]]:
    """Choose blocks that represent a volume, one from each quarter of their brightness ranking.

    The blocks do not depend on the tiles: one volume and one limit always give the same blocks.

    Parameters
    ----------
    shape_px : tuple of int
        (Z, Y, X) of the volume.
    read : callable
        Gives a region as float32.
    whole_voxels : int
        Most voxels that may be worked on at once.

    Yields
    ------
    float
        0, after each block that is looked at, so that reading can be interrupted.

    Returns
    -------
    tuple of Region
        The whole volume if it has at most `whole_voxels`; else four blocks of one shape,
        `whole_voxels` in all, deep before wide, but no deeper than wide.
    """
    if shape_px[0] * shape_px[1] * shape_px[2] <= whole_voxels:
        return (_region((0, 0, 0), shape_px),)
    share = whole_voxels // _BLOCKS
    depth = min(shape_px[0], _LARGEST_DEPTH, max(1, round(share ** (1 / 3))))
    height = min(shape_px[1], max(1, math.isqrt(share // depth)))
    width = min(shape_px[2], max(1, share // depth // height))
    block = (depth, height, width)
    places = list(
        product(
            *(
                _starts(n, b, c)
                for n, b, c in zip(shape_px, block, _CANDIDATES_PER_AXIS, strict=True)
            )
        )
    )
    brightness = []
    for start in places:
        brightness.append((float(read(_region(start, block)).mean(dtype=np.float64)), start))
        yield 0.0
    ranked = [start for _, start in sorted(brightness)]
    chosen = [
        ranked[min(len(ranked) - 1, (2 * i + 1) * len(ranked) // (2 * _BLOCKS))]
        for i in range(_BLOCKS)
    ]
    return tuple(_region(start, block) for start in sorted(set(chosen)))


def _starts(length: int, block: int, count: int) -> list[int]:
    return sorted({round(i * (length - block) / (count - 1)) for i in range(count)})


def _region(start: Sequence[int], size: Sequence[int]) -> Region:
    z, y, x = (slice(a, a + n) for a, n in zip(start, size, strict=True))
    return z, y, x
