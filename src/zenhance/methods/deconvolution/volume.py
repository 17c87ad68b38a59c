"""What is solved of a volume: all of it, whose tiles are then cut out, or four probe blocks.

The blocks of a volume too large to be solved at once decide a schedule that each tile replays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import cast

import numpy as np
import torch

from zenhance.contract.spec import MethodContext, Prepared, PsfLike, TileGenerator
from zenhance.physics.blur import Blur, BlurOperator, PsfKernels
from zenhance.solvers.tensors import to_device, to_numpy
from zenhance.types import FloatArray, Region, Triple

__all__ = ["CutOut", "Replayed", "constant_blur", "is_whole", "probe_regions", "read_probes"]


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
    if math.prod(shape_px) <= whole_voxels:
        return (_region((0, 0, 0), shape_px),)
    share = whole_voxels // _BLOCKS
    depth = min(shape_px[0], _LARGEST_DEPTH, max(1, round(share ** (1 / 3))))
    height = min(shape_px[1], max(1, math.isqrt(share // depth)))
    width = min(shape_px[2], max(1, share // depth // height))
    block = (depth, height, width)
    axes = zip(shape_px, block, _CANDIDATES_PER_AXIS, strict=True)
    brightness = []
    for start in product(*(_starts(n, b, c) for n, b, c in axes)):
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


def read_probes(
    context: MethodContext,
) -> Generator[float, None, tuple[tuple[Region, ...], FloatArray]]:
    """Read the volume, or the blocks that stand for it, as (blocks, Z, Y, X), and where it is."""
    regions = yield from probe_regions(context.shape_px, context.read, context.whole_voxels)
    blocks = []
    for region in regions:
        blocks.append(context.read(region))
        yield 0.0
    return regions, np.stack(blocks)


def is_whole(context: MethodContext) -> bool:
    """Whether the volume is small enough to be solved at once."""
    return math.prod(context.shape_px) <= context.whole_voxels


def constant_blur(context: MethodContext, psf: PsfLike, y: torch.Tensor, ndim: int) -> BlurOperator:
    """Return the blur by one PSF of blocks (B, Z, Y, X), in 2-D or 3-D."""
    shape = (1 if ndim == 2 else max(2, y.shape[-3])), y.shape[-2], y.shape[-1]
    kernels = cast("PsfKernels", psf)
    return Blur.from_psf(kernels, context.voxel_size_um, shape, context.device)


@dataclass
class CutOut(Prepared):
    """A volume that is already solved. Its tiles are cut out of it and need no context."""

    solved: FloatArray

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        """Return a copy of the solved voxels."""
        yield 1.0
        return {"enhanced": self.solved[_region(origin_px, tile.shape)].copy()}


@dataclass
class Replayed(Prepared):
    """The same work on each tile, with numbers of the whole volume only.

    Parameters
    ----------
    solve : callable
        Takes a tile (Z, Y, X) and its region of the volume.
    device : str
        To compute on.
    """

    solve: Callable[[torch.Tensor, Region], Generator[float, None, torch.Tensor]]
    device: str

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        """Solve the tile with its halo."""
        region = _region(origin_px, tile.shape)
        enhanced = yield from self.solve(to_device(tile, self.device), region)
        return {"enhanced": to_numpy(enhanced)}
